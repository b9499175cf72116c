"""Folds: every training image is validated once, by a model that never saw it

Stratified by class; images of one group (patient, location, …) stay together where a group column
is given. The split depends on ids and seed alone, not on the order of rows, and is kept in
folds.csv.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold, StratifiedKFold

from podium.config import FoldsConfig


class FoldError(ValueError):
    """The images cannot be split as asked."""


def make_folds(images: pd.DataFrame, config: FoldsConfig, seed: int) -> NDArray[np.int64]:
    """Assigns a fold to each row of the image table: [N] int64 in 0 … folds.count − 1.

    Reads columns id and label and, where there is one, group. Raises FoldError if there are fewer
    images (or groups) than folds, or if a fold would get none.
    """
    grouped = "group" in images
    units = images["group"].nunique() if grouped else len(images)
    if units < config.count:
        raise FoldError(
            f"folds.count is {config.count}, but there are only {units} "
            f"{'groups' if grouped else 'images'}; set folds.count to {max(2, units)} or fewer"
        )
    order = images["id"].argsort(kind="stable").to_numpy()
    rows = images.iloc[order]
    folds = np.empty(len(images), np.int64)
    for fold, validated in enumerate(split_rows(rows, config.count, seed)):
        if len(validated) == 0:  # StratifiedGroupKFold may, where groups are few and uneven
            raise FoldError(
                f"folds.count is {config.count}, but {units} groups fill fewer folds; set "
                f"folds.count to {max(2, config.count - 1)} or fewer"
            )
        folds[order[validated]] = fold
    return folds


def split_rows(rows: pd.DataFrame, count: int, seed: int) -> list[NDArray[np.int64]]:
    """The row positions that each fold validates."""
    splitter: BaseCrossValidator
    groups = rows.get("group")
    if groups is not None:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    strata = merge_rare_classes(rows["label"].to_numpy(), count)
    return [validated for _, validated in splitter.split(rows, strata, groups)]


def merge_rare_classes(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Puts classes with fewer images than folds into one stratum, as none can be in every fold.

    If even together they are fewer than the folds, they join the most frequent class.
    """
    sizes = np.bincount(labels)
    rare = np.flatnonzero((sizes > 0) & (sizes < count))
    if len(rare) == 0:
        return labels
    together = int(sizes[rare].sum()) >= count
    target = rare[0] if together else int(sizes.argmax())
    return np.where(np.isin(labels, rare), target, labels)


def write_folds(images: pd.DataFrame, folds: NDArray[np.int64], path: Path) -> None:
    """Writes id, label and fold of every training image."""
    images[["id", "label"]].assign(fold=folds).to_csv(path, index=False)
