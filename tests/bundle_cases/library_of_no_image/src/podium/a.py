"""A: the first."""

from imagehash import phash
