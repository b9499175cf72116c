"""Tables: which one is about training images, and what its columns are

The id column is known by its values, which name images; the label by the sample submission, else
by its name. A column called like a patient or a place is a group: its images stay in one fold.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from podium.config import DataConfig
from podium.inputs import CompetitionError, ImageIndex, read_clean_table

LABEL_NAMES = re.compile(r"label|class|category|target|species|breed|diagnosis", re.IGNORECASE)
# What keeps images alike, from the widest: a sequence is taken in one place.
GROUP_WORDS = ("patient", "subject", "location", "site", "sequence", "seq")
GROUP_NAMES = [re.compile(rf"{word}[ _-]?(id|no|number|name)?", re.I) for word in GROUP_WORDS]
GROUPS_LEAST = 5  # fewer would not fill the folds
ID_SHARE = 0.5  # of a column's cells must name images for it to be the id column


class LabelTable(NamedTuple):
    """A table about training images, and which of its columns names them."""

    path: Path
    table: pd.DataFrame  # text cells
    id_column: str

    @property
    def others(self) -> list[str]:
        """The columns that do not name images."""
        return [str(column) for column in self.table if column != self.id_column]

    def check_column(self, setting: str, column: str) -> None:
        """Raises CompetitionError if a column that a setting names is not there."""
        if column not in self.table:
            raise CompetitionError(
                f"{setting} is {column!r}, but the columns of {self.path.name} are "
                f"{', '.join(self.table.columns)}"
            )


def read_tables(
    folder: Path, set_aside: set[Path]
) -> tuple[list[tuple[Path, pd.DataFrame]], list[str]]:
    """All tables below a folder but those set aside, and notes on those that cannot be read.

    Spaces around names and cells are dropped. Raises CompetitionError if a table that cannot be
    read calls itself a train table.
    """
    tables, notes = [], []
    for path in sorted(folder.rglob("*.csv")):
        if path.resolve() in set_aside or path.name.startswith("."):
            continue
        try:
            tables.append((path, read_clean_table(path)))
        except CompetitionError as error:
            if is_called_train(path):
                raise
            notes.append(f"left aside: {error}")
    return tables, notes


def is_called_train(path: Path) -> bool:
    """Does a table's name say that it is about training images?"""
    name = path.name.lower()
    return ("train" in name or "label" in name) and "test" not in name


def list_asked(sample: pd.DataFrame | None) -> list[str]:
    """The columns that a sample submission asks for, without spaces around their names."""
    return [] if sample is None else [str(column).strip() for column in sample.columns[1:]]


def find_label_tables(
    index: ImageIndex,
    config: DataConfig,
    sample: pd.DataFrame | None,
    tables: Sequence[tuple[Path, pd.DataFrame]],
) -> list[LabelTable]:
    """Tables that are about training images, each with its id column.

    Of several, those with the label column of the settings, then those called train, then those
    with a column that is asked for, then those with one row for each image. A table of the ids
    that are asked for is about test images, unless it is called train or holds annotations: both
    parts may be numbered alike.
    """
    test_ids = set() if sample is None else set(sample.iloc[:, 0].str.strip())
    found, asked = [], list_asked(sample)
    for path, table in tables:
        column = find_id_column(index, config, sample, table)
        if column is None or table.shape[1] == 1:
            continue
        of_training = is_called_train(path) or path.suffix == ".json"
        if of_training or table[column].isin(test_ids).mean() <= ID_SHARE:
            found.append(LabelTable(path, table, column))
    found = [one for one in found if config.label_column in one.table] or found
    found = [one for one in found if is_called_train(one.path)] or found
    found = [one for one in found if set(asked) & set(one.others)] or found
    return [one for one in found if one.table[one.id_column].is_unique] or found


def find_id_column(
    index: ImageIndex, config: DataConfig, sample: pd.DataFrame | None, table: pd.DataFrame
) -> str | None:
    """The column that names images: the one of the settings, else the best of those that do.

    Small numbers may name images by chance: of equals, it is the one called as in the sample, then
    the one with more different values.
    """
    if config.id_column is not None:
        return config.id_column if config.id_column in table else None
    asked_by = "" if sample is None else str(sample.columns[0]).strip()
    ranks = {
        str(column): (index.share(table[column]), column == asked_by, table[column].nunique())
        for column in table
    }
    best = max(ranks, key=lambda column: ranks[column], default=None)
    return best if best is not None and ranks[best][0] >= ID_SHARE else None


def find_label_columns(
    config: DataConfig, found: LabelTable, sample: pd.DataFrame | None
) -> list[str]:
    """The label's column, or one for each class: of the settings, or as the sample has them.

    Else it is the only column, the one whose cells are the sample's columns, the one called so, or,
    where there is no sample, the columns of zeros and ones.
    """
    asked, others = list_asked(sample), found.others
    if config.label_column is not None:
        found.check_column("data.label_column", config.label_column)
        return [config.label_column]
    if asked and set(asked) <= set(others):
        return asked
    cells = {name: found.table[name].str.split() for name in others if len(asked) > 1}
    among_asked = [
        name
        for name in cells
        if found.table[name].isin(asked).all() or cells[name].explode().isin(asked).all()
    ]
    called_so = [name for name in others if LABEL_NAMES.search(name)]
    for fitting in (others, among_asked, called_so):
        if len(fitting) == 1:
            return fitting
    flags = [name for name in others if sample is None and found.table[name].isin(("0", "1")).all()]
    if len(flags) > 1:
        return flags
    raise CompetitionError(
        f"any of the columns {', '.join(others)} could be the label; set data.label_column"
    )


def find_group_column(
    config: DataConfig, found: LabelTable, labels: Sequence[str]
) -> tuple[str | None, list[str]]:
    """The column whose equal values stay in one fold, with a note; None if there is none."""
    if config.group_column is None:
        return None, []
    if config.group_column != "auto":
        found.check_column("data.group_column", config.group_column)
        return config.group_column, [f"groups: column {config.group_column!r} of {found.path.name}"]
    for pattern in GROUP_NAMES:
        for name in found.others:
            groups = found.table[name].nunique()
            if name in labels or not pattern.fullmatch(name):
                continue
            if GROUPS_LEAST <= groups < len(found.table) and (found.table[name] != "").all():
                note = f"groups: column {name!r} of {found.path.name}, for its name: {groups} of "
                return name, [note + "them, each in one fold; data.group_column none lets it go"]
    return None, []


def read_others(
    found: LabelTable, labels: Sequence[str], tables: Sequence[tuple[Path, pd.DataFrame]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What tables tell of training and of test images besides the label: text, by id.

    The test part's are those of the first table that is called so and has the same id column.
    """
    name = found.id_column
    others = found.table.set_index(name).drop(columns=list(labels), errors="ignore")
    tests = [
        table.set_index(name) for path, table in tables if is_called_test(path) and name in table
    ]
    return others, tests[0] if tests else pd.DataFrame(index=others.index[:0])


def is_called_test(path: Path) -> bool:
    """Does a table's name say that it is about test images?"""
    return "test" in path.name.lower()


def list_train_only(
    found: LabelTable, labels: Sequence[str], tables: Sequence[tuple[Path, pd.DataFrame]]
) -> list[str]:
    """A note on columns that are known of training images alone: no label, and nothing to use."""
    tests = [table for path, table in tables if is_called_test(path)]
    known = {str(column) for table in tests for column in table} | set(labels)
    only = [name for name in found.others if name not in known]
    if not tests or not only:
        return []
    return [
        f"known of training images alone: {', '.join(only)}; nothing but the image is learned from"
    ]


def describe_grouped_ids(
    sample: pd.DataFrame, tables: Sequence[tuple[Path, pd.DataFrame]]
) -> str | None:
    """Says what the sample's ids stand for if a table has them in a column of their own, or None.

    It names the columns that make up such an id, as patient and laterality make up 10008_L.
    """
    ids = set(sample.iloc[:, 0].str.strip())
    for path, table in tables:
        for column in [name for name in table if ids <= set(table[name])]:
            others = [name for name in table if name != column]
            made_of = [
                f"{one} and {other}"
                for one in others
                for other in others
                if (table[one] + "_" + table[other] == table[column]).all()
            ]
            if made_of or table[column].duplicated().any():
                what = made_of[0] if made_of else column
                return f"{what} of {path.name}, which has {len(table)} images of {len(ids)} such"
    return None
