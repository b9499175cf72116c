"""B: the second."""
