"""Node types that wait, ask and check."""
