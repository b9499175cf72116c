"""Split: training images to folds, near-duplicates together, and what may leak across"""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.config import Config
from podium.duplicates import (
    SAME,
    Clusters,
    Pairs,
    cluster_images,
    find_duplicates,
    merge_groups,
)
from podium.events import Reporter
from podium.folds import describe_reuse, make_folds
from podium.leaks import Audited, Leak, audit_leaks
from podium.pixels import Images

SECONDS_A_PAIR = 1e-8  # of one core: bench/duplicates.py
WORTH_TELLING = 30.0  # seconds

Tables = tuple[pd.DataFrame, pd.DataFrame]


class Split(NamedTuple):
    """The fold of each training image, and what was found on the way."""

    folds: NDArray[np.int64]  # [N]
    leaks: list[Leak]
    pairs: Pairs | None  # of nearly the same images, also of the test part; None: not looked for


def split_images(
    config: Config, others: Tables | None, train: Images, test: Images, report: Reporter
) -> Split:
    """Deals the training images to folds, and says what the audit of the split found.

    `others` are the columns of the competition's tables besides the label. Raises FoldError if the
    images cannot be split as asked.
    """
    for note in describe_reuse(train.table, config.folds):
        report.say(f"  {note}")
    table, pairs = train.table, None
    if config.folds.near_duplicates == "together":
        seconds = SECONDS_A_PAIR * (len(train.table) + len(test.table)) ** 2 / (os.cpu_count() or 1)
        if seconds > WORTH_TELLING:
            report.say(f"  looking for near-duplicates: about {seconds / 60:.0f} minutes")
        pairs = find_duplicates(train.pixels, test.pixels)
        clusters = cluster_images(pairs, len(table), config.folds.count)
        table = group_images(table, clusters, report)
        if clusters.note:  # what is alike by nature is no leak
            pairs = pairs.select(pairs.cosine >= SAME)
    folds = make_folds(table, config.folds, config.runtime.seed)
    columns, test_columns = others or (pd.DataFrame(), pd.DataFrame())
    audited = Audited(train.table, test.table, folds, pairs, columns, test_columns)
    leaks = audit_leaks(audited)
    for leak in leaks:
        if leak.serious:
            report.warn(leak.text)
        else:
            report.say(f"  {leak.text}")
    return Split(folds, leaks, pairs)


def group_images(table: pd.DataFrame, clusters: Clusters, report: Reporter) -> pd.DataFrame:
    """The table with a group for images that are nearly the same, joined to the groups it has."""
    if clusters.serious:
        report.warn(clusters.note)
    elif clusters.note:
        report.say(f"  {clusters.note}")
    repeated = len(table) - len(np.unique(clusters.numbers))
    if repeated == 0:
        return table
    report.say(f"  {repeated} training images are nearly the same as others: kept together")
    given = table["group"].tolist() if "group" in table else None
    return table.assign(group=merge_groups(given, clusters.numbers))
