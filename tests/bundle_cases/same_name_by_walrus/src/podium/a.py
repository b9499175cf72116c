"""A: the first."""

STATE = 1
