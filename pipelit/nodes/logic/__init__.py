"""Node types that decide, shape and repeat."""
