"""A: the first."""

from podium.settings import SETTING

print(1)
