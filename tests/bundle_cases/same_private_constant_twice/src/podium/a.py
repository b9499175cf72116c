"""A: the first."""

_SIZE: int = 1
