"""B: the second."""

Row = tuple[int, int]
