"""A: the first."""


def early():
    return __path__
