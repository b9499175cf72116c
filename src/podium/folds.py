"""Folds: every training image is validated once, by a model that never saw it

Every fold gets its share of each class, or of each label where an image has several; images of
one group (patient, location, near-duplicates, …) stay together. The split depends on ids and seed
alone, not on the order of rows, and is kept in folds.csv, from which another run may take it.

Shapes: N images, U units (groups, or single images), K folds, C classes.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from podium.config import FoldsConfig


class FoldError(ValueError):
    """The images cannot be split as asked."""


def make_folds(images: pd.DataFrame, config: FoldsConfig, seed: int) -> NDArray[np.int64]:
    """Assigns a fold to each row of the image table: [N] int64 in 0 … folds.count − 1.

    Reads columns id and label (int, or a tuple of ints) and, where there is one, group. Images that
    folds.file knows keep its fold; the others are dealt. Raises FoldError if there are fewer images
    (or groups) than folds, if a fold would get none, or if the file is of other images or folds.
    """
    units = number_units(images)
    check_units(int(units.max(initial=-1)) + 1, "group" in images, config.count)
    kept = np.full(len(images), -1)
    if config.file is not None:
        kept = match_folds(images, read_folds(config.file), config)
    labels = count_labels(images["label"], units)
    sizes = np.bincount(units)
    # Not the order of the table but dice decide between units of one size; the largest go first,
    # as they leave the least choice.
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    dealt = np.empty_like(order)
    known = most_frequent_folds(units, kept, config.count)
    dealt[order] = deal_units(labels[order], sizes[order], known[order], config.count)
    folds = np.where(kept < 0, dealt[units], kept)
    check_filled(folds, config)
    return folds


def number_units(images: pd.DataFrame) -> NDArray[np.int64]:
    """What is dealt as one: the group of each image, or itself, numbered by smallest id: [N]."""
    order = images["id"].argsort(kind="stable").to_numpy()
    names = images["group"] if "group" in images else images["id"]
    units = np.empty(len(images), np.int64)
    units[order] = pd.factorize(names.iloc[order])[0]
    return units


def check_units(units: int, grouped: bool, count: int) -> None:
    """Raises FoldError if there are fewer groups or images than folds."""
    if units >= count:
        return
    fix = f"set folds.count to {units} or fewer"
    if units < 2:
        fix = "set data.group_column to another or none, or folds.near_duplicates to ignore"
    raise FoldError(
        f"folds.count is {count}, but there are only {units} {'groups' if grouped else 'images'}; "
        f"{fix if grouped or units > 1 else 'see data.folder'}"
    )


def count_labels(labels: Iterable[Any], units: NDArray[np.int64]) -> csr_array:
    """How many images of each unit have each label: [U, C] int64."""
    lists = [label if isinstance(label, tuple) else (label,) for label in labels]
    rows = np.repeat(units, [len(one) for one in lists])
    columns = np.array([label for one in lists for label in one], np.int64)
    shape = (int(units.max()) + 1, int(columns.max(initial=0)) + 1)
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape)


def deal_units(
    labels: csr_array, sizes: NDArray[np.int64], dealt: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Deals units to folds, so that each fold gets its share of every label and of the images: [U].

    `dealt` holds the folds of the units that have one, else −1. Iterative stratification (Sechidis,
    Tsoumakas and Vlahavas 2011, On the stratification of multi-label data): the rarest label first,
    each unit to the fold that lacks that label most, then to the one that lacks images most. No
    fold stays empty while there are units for it: an empty one lacks most of everything.
    """
    dealt = dealt.copy()
    # What each fold lacks, in images times folds, so that shares are whole numbers and ties exact.
    lacks = np.tile(labels.sum(0), (count, 1))
    room = np.full(count, sizes.sum())
    for fold in range(count):
        lacks[fold] -= count * labels[dealt == fold].sum(0)
        room[fold] -= count * sizes[dealt == fold].sum()

    left = labels[dealt < 0].sum(0)  # images of each label that are not dealt yet
    by_label = labels.tocsc()
    queue = [(int(images), label) for label, images in enumerate(left) if images]
    heapify(queue)
    while queue:
        images, label = heappop(queue)
        if images != left[label]:
            continue  # some were dealt for a rarer label; the queue has a later entry
        for unit in by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]:
            if dealt[unit] >= 0:
                continue
            fold = dealt[unit] = max(range(count), key=lambda k: (lacks[k, label], room[k]))
            row = slice(labels.indptr[unit], labels.indptr[unit + 1])
            held, times = labels.indices[row], labels.data[row]
            lacks[fold, held] -= count * times
            room[fold] -= count * sizes[unit]
            left[held] -= times
            for other in held[left[held] > 0]:
                heappush(queue, (int(left[other]), int(other)))
    for unit in np.flatnonzero(dealt < 0):  # without any label
        dealt[unit] = fold = int(room.argmax())
        room[fold] -= count * sizes[unit]
    return dealt


def most_frequent_folds(
    units: NDArray[np.int64], kept: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The fold in which most images of each unit are already, −1 where none is: [U] int64."""
    held = np.zeros((int(units.max()) + 1, count), np.int64)
    np.add.at(held, (units[kept >= 0], kept[kept >= 0]), 1)
    return np.where(held.any(1), held.argmax(1), -1)


def check_filled(folds: NDArray[np.int64], config: FoldsConfig) -> None:
    """Raises FoldError if a fold of the file lost all its images and none came for it."""
    empty = np.setdiff1d(np.arange(config.count), folds)
    if len(empty):
        raise FoldError(
            f"folds.file is {config.file}, but none of the images of its fold {empty[0]} is here; "
            f"use the images of that run (data.limit, data.folder), or unset folds.file"
        )


def write_folds(images: pd.DataFrame, folds: NDArray[np.int64], path: Path) -> None:
    """Writes id, label and fold of every training image."""
    labels = [format_label(label) for label in images["label"]]
    pd.DataFrame({"id": images["id"], "label": labels, "fold": folds}).to_csv(path, index=False)


def format_label(label: Any) -> str:
    """A label as folds.csv holds it: 3, or 0 3 7 where an image may have several."""
    return " ".join(map(str, label)) if isinstance(label, tuple) else str(int(label))


def find_folds(file: str) -> Path:
    """The folds.csv that folds.file names: itself, or the one in a run's folder."""
    return Path(file) / "folds.csv" if Path(file).is_dir() else Path(file)


def read_folds(file: str) -> pd.DataFrame:
    """The id and label, as text, and the fold, int64, of each image in folds.csv.

    `file` is that file, or the folder of its run. Raises FoldError if it is not what a run writes.
    """
    try:
        table = pd.read_csv(
            find_folds(file), dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:  # not there, no text, no table
        raise FoldError(f"folds.file is {file}, which cannot be read: {error}") from error
    right = {"id", "label", "fold"} <= set(table) and table["fold"].str.fullmatch(r"\d{1,2}").all()
    if not right or table["id"].duplicated().any():
        raise FoldError(
            f"folds.file is {file}, but a table of folds has columns id, label and fold, each id "
            f"once, and whole numbers as folds; name the folds.csv of an earlier run"
        )
    return table[["id", "label", "fold"]].astype({"fold": np.int64})


def match_folds(
    images: pd.DataFrame, table: pd.DataFrame, config: FoldsConfig
) -> NDArray[np.int64]:
    """The fold that a table of folds gives each image, −1 where it knows none: [N] int64.

    Raises FoldError if the table has another number of folds, other labels, or none of the images.
    """
    count = int(table["fold"].max()) + 1 if len(table) else 0
    if count != config.count:
        raise FoldError(
            f"folds.file is {config.file}, which has {count} folds, but folds.count is "
            f"{config.count}; set folds.count to {count}, or unset folds.file"
        )
    known = table.set_index("id").reindex(images["id"].tolist())
    found = known["fold"].notna().to_numpy()
    if not found.any():
        raise FoldError(
            f"folds.file is {config.file}, but it knows none of the {len(images)} images; its ids "
            f"are such as {table['id'].iloc[0]!r}, those here such as {images['id'].iloc[0]!r}"
        )
    labels = np.array([format_label(label) for label in images["label"]], np.object_)
    other = np.flatnonzero(found & (known["label"].to_numpy() != labels))
    if len(other):
        row = other[0]
        raise FoldError(
            f"folds.file is {config.file}, where image {images['id'].iloc[row]!r} has label "
            f"{known['label'].iloc[row]!r}, but here {labels[row]!r}, and {len(other)} in all "
            f"differ; the classes or the labels changed since: unset folds.file"
        )
    return known["fold"].fillna(-1).to_numpy(np.int64)


def describe_reuse(images: pd.DataFrame, config: FoldsConfig) -> list[str]:
    """Says how the images and those of folds.file differ; empty without that setting."""
    if config.file is None:
        return []
    ids, known = set(images["id"]), set(read_folds(config.file)["id"])
    notes = [f"folds.file: {len(ids & known)} images keep the fold of {config.file}"]
    if ids - known:
        notes.append(f"folds.file: {len(ids - known)} images are new and were dealt to its folds")
    if known - ids:
        example = min(known - ids)
        notes.append(f"folds.file: {len(known - ids)} of its images are gone, such as {example!r}")
    return notes
