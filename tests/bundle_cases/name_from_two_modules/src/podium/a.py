"""A: the first."""

from json import loads
