"""A: the first."""

STATE, BASE, MARK = 1, object, 3
INSIDE = 4
