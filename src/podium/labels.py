"""Labels: what each training image shows

Four sources, in this order: a table beside the images, annotations in COCO's JSON, a folder for
each class, the class in the file's name. Where a table and folders or names both tell the class,
they must agree. Annotations name their images one by one, and so go before folders, which may be
mere numbers.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from podium.annotations import read_annotations
from podium.config import DataConfig
from podium.inputs import CompetitionError, ImageIndex, part_of
from podium.tables import (
    LabelTable,
    find_group_column,
    find_label_columns,
    find_label_tables,
    list_train_only,
    read_others,
    read_tables,
)

CLASS_IN_NAME = re.compile(r"(.*?)[._\- ]*\d+")
NO_LABEL = ""


class Labels(NamedTuple):
    """Training images with what they show, and how that was understood."""

    # id: str; path: str, or None: no file; group: str where there is one;
    # label: the cell as text, or of a column for each class a tuple of the classes that are there
    table: pd.DataFrame
    notes: list[str]
    others: tuple[pd.DataFrame, pd.DataFrame] | None = None  # as `read_others` gives them


def read_labels(
    index: ImageIndex, config: DataConfig, sample: pd.DataFrame | None, set_aside: set[Path]
) -> Labels:
    """Finds the labels of the training images.

    `set_aside` are tables that are not about training. Raises CompetitionError if no layout fits.
    """
    tables, unread = read_tables(index.folder, set_aside)
    fitting = find_label_tables(index, config, sample, tables)
    if not fitting:
        annotated = read_annotations(index.folder)
        fitting = find_label_tables(index, config, sample, annotated)
    if fitting:
        found = choose_table(index, fitting)
        labels = read_label_table(index, config, found, sample, tables)
        return labels._replace(notes=labels.notes + unread)
    if config.group_column not in (None, "auto"):
        raise CompetitionError("data.group_column needs a train table, and there is none")
    test_ids = [] if sample is None else sample.iloc[:, 0].tolist()
    asked = {index.find(image_id, "test") for image_id in test_ids}
    paths = [path for path in index.paths if path not in asked and part_of(path) != "test"]
    for what, names in (
        ("folder", label_by_folder(paths)),
        ("file name", label_by_name(paths)),
    ):
        if names:
            table = pd.DataFrame({"id": paths, "path": paths, "label": names})
            return Labels(table, [f"labels: from each image's {what}", *unread])
    raise CompetitionError(
        f"found no labels in {index.folder}: no table with image ids and a label, no annotations, "
        f"no folder for each class, no class in the file names of {len(paths)} images; "
        f"see data.folder"
    )


def choose_table(index: ImageIndex, fitting: Sequence[LabelTable]) -> LabelTable:
    """The one table of training images; raises CompetitionError if there are several."""
    if len(fitting) > 1:
        names = ", ".join(one.path.name for one in fitting)
        raise CompetitionError(
            f"{index.folder} holds several tables of training images ({names}); name a column that "
            f"only one of them has with data.label_column or data.id_column"
        )
    return fitting[0]


def read_label_table(
    index: ImageIndex,
    config: DataConfig,
    found: LabelTable,
    sample: pd.DataFrame | None,
    tables: Sequence[tuple[Path, pd.DataFrame]],
) -> Labels:
    """Reads ids, labels and groups from a table."""
    path, table, id_column = found
    columns = find_label_columns(config, found, sample)
    group, grouped = find_group_column(config, found, columns)
    repeated = table[id_column][table[id_column].duplicated()]
    if len(repeated):
        raise CompetitionError(
            f"{path.name} lists image {repeated.iloc[0]!r} more than once in column {id_column!r}"
        )
    paths = [index.find(image_id, "train") for image_id in table[id_column]]
    labels = table[columns[0]] if len(columns) == 1 else read_one_hot(found, columns)
    images = pd.DataFrame({"id": table[id_column], "path": paths, "label": labels})
    if group is not None:
        images["group"] = table[group]
    what = f"column {columns[0]!r}" if len(columns) == 1 else f"{len(columns)} columns"
    notes = [f"labels: {what} of {path.name}, ids in {id_column!r}", *grouped]
    notes += list_train_only(found, columns, tables)
    images, unlabelled = drop_unlabelled(images, what, path)
    check_places_agree(images, path)
    return Labels(images, notes + unlabelled, read_others(found, columns, tables))


def read_one_hot(found: LabelTable, columns: Sequence[str]) -> "pd.Series[Any]":
    """The classes whose columns hold a 1, for each row; no label where a cell is empty.

    Raises CompetitionError if a cell is neither empty nor 0 nor 1.
    """
    cells = found.table[list(columns)]
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    for name in columns:
        for row in cells.index[~numbers[name].isin((0, 1)) & (cells[name] != NO_LABEL)][:1]:
            raise CompetitionError(
                f"{found.path.name} has {cells.at[row, name]!r} in column {name!r}, of image "
                f"{found.table.at[row, found.id_column]!r}, where 0 or 1 should be: 1 for a class "
                f"that is there; see data.label_column"
            )
    names, empty = np.array(columns, object), numbers.isna().any(axis=1)
    there = (numbers == 1).to_numpy()
    labels = [
        NO_LABEL if none else tuple(names[row]) for none, row in zip(empty, there, strict=True)
    ]
    return pd.Series(labels, index=cells.index, dtype=object)


def drop_unlabelled(images: pd.DataFrame, what: str, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Leaves out rows whose label is empty, with a note; too many are an error."""
    empty = images["label"].map(lambda label: label == NO_LABEL)
    ids = images["id"][empty].tolist()
    if len(ids) > len(images) / 2:
        raise CompetitionError(
            f"{len(ids)} of {len(images)} cells of {what} of {path.name} are empty, "
            f"e.g. that of {ids[0]!r}; see data.label_column"
        )
    left_out = (
        f"{len(ids)} rows of {path.name} have no label and are left out: {', '.join(ids[:3])}"
    )
    return images[~empty].reset_index(drop=True), [left_out] if ids else []


def check_places_agree(images: pd.DataFrame, path: Path) -> None:
    """Raises CompetitionError if folders or file names tell the same classes, but another's."""
    present = images[images["path"].notna()]
    paths = present["path"].tolist()
    folders = [PurePosixPath(text).parent.name for text in paths]
    for place, told in (("folder", folders), ("file name", label_by_name(paths))):
        if set(told) != set(present["label"]):
            continue
        wrong = present[[one != other for one, other in zip(told, present["label"], strict=True)]]
        if len(wrong):
            first = wrong.iloc[0]
            raise CompetitionError(
                f"{path.name} says that {first['id']} is {first['label']!r}, but it lies in "
                f"{first['path']}; {len(wrong)} images contradict their {place}"
            )


def label_by_folder(paths: Sequence[str]) -> list[str]:
    """The folder of each image, if these are two or more classes side by side; else nothing.

    The classes may lie in several places, such as train and valid, of which one has them all.
    """
    places = defaultdict[PurePosixPath, set[str]](set)
    for parent in {PurePosixPath(path).parent for path in paths}:
        places[parent.parent].add(parent.name)
    classes = max(places.values(), key=len, default=set())
    alike = len({len(place.parts) for place in places}) == 1  # and none lies beside the folders
    if len(classes) < 2 or "" in classes or not alike:
        return []
    if not all(names <= classes for names in places.values()):
        return []
    return [PurePosixPath(path).parent.name for path in paths]


def label_by_name(paths: Sequence[str]) -> list[str]:
    """What stands before the number in each file's name, if that makes two or more classes.

    All must lie in one folder: where there are several, names may be numbered by something else.
    """
    if len({PurePosixPath(path).parent for path in paths}) > 1:
        return []
    matches = [CLASS_IN_NAME.fullmatch(PurePosixPath(path).stem) for path in paths]
    labels = [match.group(1) for match in matches if match and match.group(1)]
    return labels if len(labels) == len(paths) and len(set(labels)) > 1 else []
