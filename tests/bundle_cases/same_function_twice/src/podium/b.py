"""B: the second."""


def lookup(): ...
