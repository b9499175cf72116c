"""B: the second."""

X = (1
