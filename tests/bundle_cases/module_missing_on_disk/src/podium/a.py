"""A: the first."""
