"""B: the second."""

from .a import early
