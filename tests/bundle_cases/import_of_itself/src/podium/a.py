"""A: the first."""

from podium.a import early


def early(): ...
