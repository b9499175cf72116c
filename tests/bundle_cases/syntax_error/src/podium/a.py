"""A: the first."""


def early(:
    pass
