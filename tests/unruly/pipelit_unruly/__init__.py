"""A node type that misbehaves."""
