"""B: the second."""

from podium.aa import early
