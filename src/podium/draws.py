"""Draws: a part of the images for rehearsals, and a test part where there is none

Drawn by id and seed, so that the order of rows does not matter; every draw holds the classes in
proportion.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.config import DataConfig


def draw_held(images: pd.DataFrame, share: float, seed: int) -> NDArray[np.int64]:
    """Rows to hold back: that share, class by class; of groups, whole ones, at least one."""
    wanted, order = max(1, round(share * len(images))), draw_order(images, seed)
    if "group" not in images:
        return order[:wanted]
    drawn = images["group"].iloc[order].drop_duplicates()
    reached = drawn.map(images["group"].value_counts()).cumsum()
    chosen = drawn[(reached <= wanted) | (reached == reached.min())]
    return np.flatnonzero(images["group"].isin(chosen))


def draw_order(table: pd.DataFrame, seed: int) -> NDArray[np.int64]:
    """Rows in an order whose every beginning holds the labels in proportion.

    Depends on ids and seed, not on the order of rows.
    """
    rng = np.random.default_rng(seed)
    by_id = table["id"].argsort(kind="stable").to_numpy()
    shuffled = by_id[rng.permutation(len(table))]
    labels = table["label"].iloc[shuffled].astype(str)
    share = (labels.groupby(labels).cumcount() + 0.5) / labels.map(labels.value_counts())
    return np.asarray(shuffled[share.argsort(kind="stable").to_numpy()], np.int64)


def draw_train(table: pd.DataFrame, config: DataConfig, seed: int) -> pd.DataFrame:
    """At most data.limit training images, class by class, at least one of each that fits."""
    if config.limit is None or config.limit >= len(table):
        return table
    order = table.iloc[draw_order(table, seed)]
    first = order[~order["label"].astype(str).duplicated()]
    return pd.concat([first, order.drop(index=first.index)]).iloc[: config.limit]


def draw_test(table: pd.DataFrame, config: DataConfig, seed: int) -> pd.DataFrame:
    """The test images, with a path for at most data.test_limit of them."""
    present = table["id"][table["path"].notna()].sort_values()
    if config.test_limit is None or config.test_limit >= len(present):
        return table
    kept = np.random.default_rng(seed).choice(present, config.test_limit, replace=False)
    return table.assign(path=table["path"].where(table["id"].isin(kept), None))
