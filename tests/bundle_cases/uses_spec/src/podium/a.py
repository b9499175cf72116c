"""A: the first."""


def early():
    return __spec__.name
