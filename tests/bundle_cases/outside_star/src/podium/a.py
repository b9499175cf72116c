"""A: the first."""

from math import *
