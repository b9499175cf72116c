"""A: the first."""


def early():
    return __name__
