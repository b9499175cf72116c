"""B: the second."""

_SIZE = 2
