# a comment first
"""B: the second."""
