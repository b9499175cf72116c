"""A: the first."""

with open("x"):
    import json
