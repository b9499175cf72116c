"""A: the first."""


def early():
    return __import__("json")
