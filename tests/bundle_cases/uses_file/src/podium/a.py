"""A: the first."""


def early():
    return __file__
