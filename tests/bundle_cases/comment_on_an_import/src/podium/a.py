"""A: the first."""

import json  # noqa: F401
from math import (
    e,
    # not tau
    pi,
)

# Numbers
import numpy as np

# Kept: below an empty line.

import os
