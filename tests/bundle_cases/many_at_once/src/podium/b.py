"""B: the second."""

from podium.a import x, y

X = __file__
