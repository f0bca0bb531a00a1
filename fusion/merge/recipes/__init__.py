"""A merge as a file."""
