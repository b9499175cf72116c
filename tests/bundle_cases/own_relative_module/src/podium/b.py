"""B: the second."""

from . import a
