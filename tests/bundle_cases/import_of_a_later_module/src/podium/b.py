"""B: the second."""


def late(): ...
