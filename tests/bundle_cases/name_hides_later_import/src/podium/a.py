"""A: the first."""


def dumps(): ...
