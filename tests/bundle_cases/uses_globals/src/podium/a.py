"""A: the first."""


def early():
    return globals()["x"]
