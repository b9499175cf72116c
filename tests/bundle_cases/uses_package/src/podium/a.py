"""A: the first."""


def early():
    return __package__
