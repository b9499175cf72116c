"""A: the first."""


def filter(): ...
