"""Main: the stages in order."""

import os
import string
from collections.abc import Hashable, Sequence

import h5py
import keras
import numpy as np
import PIL.Image
from keras import ops
from sklearn import metrics
from sklearn.model_selection import KFold

from podium.config import Config
from podium.folds import NUMBERS, split


def run(values: Sequence[Hashable]) -> None:
    """Runs."""
    print(os.sep, string, h5py, keras, np, PIL.Image, ops, metrics, KFold, values)
    print(split(Config({}), kept={}), NUMBERS)


if __name__ == "__main__":
    run([])
