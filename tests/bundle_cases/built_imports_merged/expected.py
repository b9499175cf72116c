"""Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → pixels → folds → augment → backbones → model → train → predict → submit → report

      21  Settings: the block to edit on Kaggle.
      53  Config: names that many sections use.
      71  Runtime: the machine.
      80  Libraries
      94  Folds: every image is validated once.
     108  Main: the stages in order.

Sources: sha256 ea47b6b59e9f63a731d4acbfa66c04001a0393f3617c045fb59a64a17a69bc78
"""

# ==================================================================================================
# Settings: the block to edit on Kaggle.
# ==================================================================================================

SETTINGS: dict[str, object] = {}

# The sources
SOURCE = "ea47b6b59e9f63a731d4acbfa66c04001a0393f3617c045fb59a64a17a69bc78"


import os
import os.path
import string
import sys
import xml.etree.ElementTree as ET
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import e, pi
from string import ascii_letters, digits

# ==================================================================================================
# Config: names that many sections use.
# ==================================================================================================


@dataclass(frozen=True)
class Config:
    """The settings."""

    given: Mapping[str, object]


def list_names() -> Iterator[str]:
    """The names of the settings, and of this folder."""
    yield os.path.sep
    yield from SETTINGS


# ==================================================================================================
# Runtime: the machine.
# ==================================================================================================

CORES = os.cpu_count()
ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else []
os.environ.setdefault("PODIUM_GOLDEN", "1")


# ==================================================================================================
# Libraries
# ==================================================================================================
# Imported only now: Keras reads its backend once, when it is imported, and Runtime chose it.

import h5py
import keras
import numpy as np
import PIL.Image
from keras import ops
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.model_selection import KFold, StratifiedKFold

# ==================================================================================================
# Folds: every image is validated once.
# ==================================================================================================

Split = tuple[NDArray[np.int64], Callable[[Iterable[int]], Sequence[int]]]
NUMBERS = (e, pi, ascii_letters, digits)


def split(config: Config, *, kept: MutableMapping[str, MutableSequence[int]]) -> Mapping[str, str]:
    """Splits."""
    seen: AbstractSet[str] = set(list_names())
    return OrderedDict(a=str(Tally(seen)), b=str((ET, kept, StratifiedKFold, config)))


# ==================================================================================================
# Main: the stages in order.
# ==================================================================================================


def run(values: Sequence[Hashable]) -> None:
    """Runs."""
    print(os.sep, string, h5py, keras, np, PIL.Image, ops, metrics, KFold, values)
    print(split(Config({}), kept={}), NUMBERS)


if __name__ == "__main__":
    run([])
