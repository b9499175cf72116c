"""A: the first."""

import math
import random
from pathlib import Path


class Row:
    size = len("abc")


FINE = (Path("x"), math.sqrt(2), Row(), dict[str, int](), lambda: random.random())
WRONG = (random.random(), open("x"))
