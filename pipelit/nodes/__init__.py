"""Node types, one file each, independent of one another; this package is the entry point of the built-in ones."""
