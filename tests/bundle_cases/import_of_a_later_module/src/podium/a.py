"""A: the first."""

from podium.b import late
