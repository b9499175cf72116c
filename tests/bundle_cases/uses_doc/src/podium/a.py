"""A: the first."""


def early():
    return __doc__
