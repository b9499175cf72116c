"""A: the first."""


def lookup(): ...
