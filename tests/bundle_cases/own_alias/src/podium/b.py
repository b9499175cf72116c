"""B: the second."""

from podium.a import early as soon
