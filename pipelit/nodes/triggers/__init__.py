"""Node types that start executions."""
