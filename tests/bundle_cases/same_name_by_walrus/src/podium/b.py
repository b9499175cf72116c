"""B: the second."""

OTHER = (STATE := 2)
