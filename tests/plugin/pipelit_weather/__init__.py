"""Node types about the weather."""
