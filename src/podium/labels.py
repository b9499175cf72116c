"""Labels: what each training image shows

Three layouts, in this order: a table beside the images, a folder for each class, the class in the
file's name. Where a table and folders both name the class, they must agree.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from podium.config import DataConfig
from podium.inputs import CompetitionError, ImageIndex, part_of, read_table

LABEL_NAMES = re.compile(r"label|class|category|target|species|breed|diagnosis", re.IGNORECASE)
CLASS_IN_NAME = re.compile(r"(.*?)[._\- ]*\d+")
ID_SHARE = 0.5  # of a column's cells must name images for it to be the id column


class Labels(NamedTuple):
    """Training images with their class as text, and how that was understood."""

    table: pd.DataFrame  # id, path (None: no file), label, and group where asked; all str
    notes: list[str]


def read_labels(
    index: ImageIndex, config: DataConfig, sample: pd.DataFrame | None, set_aside: set[Path]
) -> Labels:
    """Finds the labels of the training images.

    `set_aside` are tables that are not about training. Raises CompetitionError if no layout fits.
    """
    test_ids = set() if sample is None else set(sample.iloc[:, 0])
    tables, unread = read_tables(index.folder, set_aside)
    fitting = find_label_tables(index, config, test_ids, tables)
    if fitting:
        found = read_label_table(index, config, fitting, sample)
        return found._replace(notes=found.notes + unread)
    if config.group_column is not None:
        raise CompetitionError("data.group_column needs a train table, and there is none")
    asked = {index.find(image_id, "test") for image_id in test_ids}
    paths = [path for path in index.paths if path not in asked and part_of(path) != "test"]
    for what, labels in (
        ("folder", label_by_folder(paths)),
        ("file name", label_by_name(paths)),
    ):
        if labels:
            table = pd.DataFrame({"id": paths, "path": paths, "label": labels})
            return Labels(table, [f"labels: from each image's {what}", *unread])
    raise CompetitionError(
        f"found no labels in {index.folder}: no table with image ids and a label, no folder for "
        f"each class, no class in the file names of {len(paths)} images; see data.folder"
    )


def read_tables(
    folder: Path, set_aside: set[Path]
) -> tuple[list[tuple[Path, pd.DataFrame]], list[str]]:
    """All tables below a folder but those set aside, and notes on those that cannot be read.

    Raises CompetitionError if one of these calls itself a train table.
    """
    tables, notes = [], []
    for path in sorted(folder.rglob("*.csv")):
        if path in set_aside or path.name.startswith("."):
            continue
        try:
            tables.append((path, read_table(path)))
        except CompetitionError as error:
            if is_called_train(path):
                raise
            notes.append(f"left aside: {error}")
    return tables, notes


def is_called_train(path: Path) -> bool:
    """Does a table's name say that it is about training images?"""
    name = path.name.lower()
    return ("train" in name or "label" in name) and "test" not in name


def find_label_tables(
    index: ImageIndex,
    config: DataConfig,
    test_ids: set[str],
    tables: Sequence[tuple[Path, pd.DataFrame]],
) -> list[tuple[Path, pd.DataFrame, str]]:
    """Tables that are about training images, each with its id column.

    Of several, those with the label column of the settings, then those called train. A table of
    the ids that are asked for is about test images, unless it is called train: both parts may be
    numbered alike.
    """
    found = []
    for path, table in tables:
        column = find_id_column(index, config, table)
        about_test = bool(column) and table[column].isin(test_ids).mean() > ID_SHARE
        if column and table.shape[1] > 1 and (is_called_train(path) or not about_test):
            found.append((path, table, column))
    found = [one for one in found if config.label_column in one[1]] or found
    return [one for one in found if is_called_train(one[0])] or found


def find_id_column(index: ImageIndex, config: DataConfig, table: pd.DataFrame) -> str | None:
    """The column that names images: the one of the settings, else the best of those that do."""
    if config.id_column is not None:
        return config.id_column if config.id_column in table else None
    shares = {str(column): index.share(table[column]) for column in table}
    best = max(shares, key=lambda column: shares[column], default=None)
    return best if best is not None and shares[best] >= ID_SHARE else None


def read_label_table(
    index: ImageIndex,
    config: DataConfig,
    tables: Sequence[tuple[Path, pd.DataFrame, str]],
    sample: pd.DataFrame | None,
) -> Labels:
    """Reads ids, labels and groups from the one table that has them."""
    if len(tables) > 1:
        names = ", ".join(path.name for path, _, _ in tables)
        raise CompetitionError(
            f"{index.folder} holds several tables of training images ({names}); name a column that "
            f"only one of them has with data.label_column or data.id_column"
        )
    path, table, id_column = tables[0]
    label_column = find_label_column(config, table, id_column, sample)
    repeated = table[id_column][table[id_column].duplicated()]
    if len(repeated):
        raise CompetitionError(
            f"{path.name} lists image {repeated.iloc[0]!r} more than once in column {id_column!r}"
        )
    images = pd.DataFrame({"id": table[id_column], "label": table[label_column]})
    images.insert(1, "path", [index.find(image_id, "train") for image_id in images["id"]])
    notes = [f"labels: column {label_column!r} of {path.name}, ids in {id_column!r}"]
    if config.group_column is not None:
        check_column(table, "data.group_column", config.group_column, path)
        images["group"] = table[config.group_column]
        notes.append(f"groups: column {config.group_column!r} of {path.name}")
    images, unlabelled = drop_unlabelled(images, label_column, path)
    check_folders_agree(images, path)
    return Labels(images, notes + unlabelled)


def drop_unlabelled(
    images: pd.DataFrame, column: str, path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Leaves out rows whose label is empty, with a note; too many are an error."""
    empty = images["label"].str.strip() == ""
    ids = images["id"][empty].tolist()
    if len(ids) > len(images) / 2:
        raise CompetitionError(
            f"{len(ids)} of {len(images)} cells of column {column!r} of {path.name} are empty, "
            f"e.g. that of {ids[0]!r}; see data.label_column"
        )
    left_out = (
        f"{len(ids)} rows of {path.name} have no label and are left out: {', '.join(ids[:3])}"
    )
    return images[~empty].reset_index(drop=True), [left_out] if ids else []


def find_label_column(
    config: DataConfig, table: pd.DataFrame, id_column: str, sample: pd.DataFrame | None
) -> str:
    """The label's column: of the settings, as in the sample, the only one, or called like one."""
    others = [str(column) for column in table if column != id_column]
    if config.label_column is not None:
        check_column(table, "data.label_column", config.label_column, None)
        return config.label_column
    asked = [str(column) for column in sample.columns[1:]] if sample is not None else []
    if len(asked) == 1 and asked[0] in others:
        return asked[0]
    among_asked = [name for name in others if len(asked) > 1 and table[name].isin(asked).all()]
    called_so = [name for name in others if LABEL_NAMES.search(name)]
    for fitting in (others, among_asked, called_so):
        if len(fitting) == 1:
            return fitting[0]
    raise CompetitionError(
        f"any of the columns {', '.join(others)} could be the label; set data.label_column"
    )


def check_column(table: pd.DataFrame, setting: str, column: str, path: Path | None) -> None:
    """Raises CompetitionError if a column that a setting names is not there."""
    if column not in table:
        where = f" of {path.name}" if path else ""
        raise CompetitionError(
            f"{setting} is {column!r}, but the columns{where} are {', '.join(table.columns)}"
        )


def check_folders_agree(images: pd.DataFrame, path: Path) -> None:
    """Raises CompetitionError if images lie in folders named like the labels, but another's."""
    present = images[images["path"].notna()]
    folders = present["path"].map(lambda text: PurePosixPath(text).parent.name)
    if set(folders) != set(present["label"]):
        return
    wrong = present[folders != present["label"]]
    if len(wrong):
        first = wrong.iloc[0]
        raise CompetitionError(
            f"{path.name} says that {first['id']} is {first['label']!r}, but it lies in "
            f"{first['path']}; {len(wrong)} images contradict their folder"
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
