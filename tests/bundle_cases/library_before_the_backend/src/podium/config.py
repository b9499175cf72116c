"""A: the first."""

import numpy as np


def early():
    import keras
