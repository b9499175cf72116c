"""B: the second."""

from pickle import loads
