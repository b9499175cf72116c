"""A: the first."""


def early(one, one):
    pass
