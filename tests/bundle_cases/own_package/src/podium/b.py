"""B: the second."""

from podium import a
