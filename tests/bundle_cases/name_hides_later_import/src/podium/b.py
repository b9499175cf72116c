"""B: the second."""

from json import dumps
