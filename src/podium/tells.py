"""Tells: how well the values of a column alone tell the labels of images

Shapes: N images.
"""

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

GROUP_NAME = re.compile(
    r"patient|subject|person|user|site|location|place|camera|scene|seq|video|series|study|case"
    r"|session|group|lesion|plant|animal|individual",
    re.IGNORECASE,
)
BINS = 20  # a number with more values than that is cut into so many equal parts


def is_group(name: str, values: NDArray[np.object_], labels: NDArray[np.int64]) -> bool:
    """Whether a column is called like a group, or has nearly one label for each of many values."""
    unique = len(set(values))
    if not 1 < unique <= len(values) / 2:
        return False
    if GROUP_NAME.search(name):
        return True
    agreement, base = measure_agreement(values, labels)
    return unique > 2 * len(set(labels)) and agreement > max(0.9, (1 + base) / 2)


def measure_agreement(
    values: NDArray[np.object_], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """The share of equal labels in pairs of images with one value, and in all pairs."""
    table = pd.DataFrame({"value": values, "label": labels})
    within, both = count_pairs(table, ["value"]), count_pairs(table, ["value", "label"])
    every = len(table) * (len(table) - 1)
    return both / max(within, 1), count_pairs(table, ["label"]) / max(every, 1)


def count_pairs(table: pd.DataFrame, columns: list[str]) -> int:
    """How many ordered pairs of rows are equal in these columns."""
    sizes = table.groupby(columns).size().to_numpy(np.int64)
    return int((sizes * (sizes - 1)).sum())


def share_split(values: NDArray[np.object_], folds: NDArray[np.int64]) -> tuple[float, int]:
    """The share and number of values whose images are in more than one fold; empty is no value."""
    held = pd.Series(folds)[values != ""].groupby(values[values != ""]).nunique()
    split = int((held > 1).sum())
    return split / max(len(held), 1), split


def follow_majority(
    values: NDArray[np.object_], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> tuple[float, float]:
    """The accuracy of the most frequent label of each value, out of fold, and of one for all.

    The labels of the other folds count; a value that they lack gets the most frequent of all.
    """
    table = pd.DataFrame({"value": cut_numbers(values), "label": labels})
    right = 0
    for fold in np.unique(folds):
        known, asked = table[folds != fold], table[folds == fold]
        if len(known) == 0:
            continue
        usual = known["label"].mode()[0]
        counts = known.groupby(["value", "label"]).size().reset_index(name="count")
        best = counts.sort_values("count", kind="stable").drop_duplicates("value", keep="last")
        told = asked["value"].map(best.set_index("value")["label"]).fillna(usual)
        right += int((told == asked["label"]).sum())
    return right / len(table), int(np.bincount(labels).max()) / len(table)


def cut_numbers(values: NDArray[np.object_]) -> NDArray[np.object_]:
    """Numbers of many values as BINS equal parts, anything else as it is: [N]."""
    numbers = pd.to_numeric(pd.Series(values), errors="coerce")
    if numbers.nunique() <= BINS or numbers.isna().mean() > 0.5:
        return values
    parts = np.floor(numbers.rank(pct=True) * BINS * (1 - 1e-9)).fillna(-1)
    return np.asarray(parts, np.object_)
