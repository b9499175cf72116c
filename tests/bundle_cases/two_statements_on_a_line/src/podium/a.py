"""A: the first."""

import json; X = 1
