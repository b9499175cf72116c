"""A: the first."""


def early(): ...
