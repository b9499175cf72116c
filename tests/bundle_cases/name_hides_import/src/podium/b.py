"""B: the second."""

np = 1
