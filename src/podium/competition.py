"""Competition: from its files to one image table

The sample submission is the judge: it decides the ids, the columns, the order of the classes and
whether a label or probabilities are asked for. What was understood is printed and reported.

Shapes: N training images, T test images, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.config import DataConfig
from podium.inputs import (
    CompetitionError,
    ImageIndex,
    find_competition_folder,
    find_sample,
    read_table,
)
from podium.labels import read_labels

NAMES_SHOWN = 5  # ids in a note


@dataclass(frozen=True)
class Competition:
    """Images, classes, and what is to be submitted."""

    train: pd.DataFrame  # [N] id, path: str; label: int64, index into classes; group: str if asked
    test: pd.DataFrame  # [T] id: str; path: str or None; label: int64 if known; as in the sample
    classes: tuple[str, ...]  # [C]
    sample: pd.DataFrame  # [T] the sample submission as text
    kind: Literal["label", "probabilities"]
    notes: tuple[str, ...]  # what was understood, a line each


class Parts(NamedTuple):
    """Training and test images, labels still as text, and the sample that says what is asked."""

    train: pd.DataFrame
    test: pd.DataFrame
    sample: pd.DataFrame
    notes: list[str]


def read_competition(config: DataConfig, seed: int) -> Competition:
    """Understands a competition's folder; raises CompetitionError naming the setting that helps."""
    folder = find_competition_folder(config)
    parts = read_parts(folder, config, seed)
    classes = list_classes(parts)
    train = draw_train(parts.train, config, seed).sort_values("id", ignore_index=True)
    test = draw_test(parts.test, config, seed)
    notes = [f"folder: {folder}", *parts.notes, *describe_classes(parts.train, classes)]
    if len(train) < len(parts.train):
        notes.append(f"data.limit: {len(train)} of {len(parts.train)} training images are used")
    if test["path"].notna().sum() < parts.test["path"].notna().sum():
        count = test["path"].notna().sum()
        notes.append(f"data.test_limit: {count} test images are predicted, the rest by the prior")
    return Competition(
        index_classes(train, classes, folder),
        index_classes(test, classes, folder),
        tuple(classes),
        parts.sample,
        "label" if parts.sample.shape[1] == 2 else "probabilities",
        tuple(notes),
    )


def read_parts(folder: Path, config: DataConfig, seed: int) -> Parts:
    """Finds the training images with their labels, and the test images that the sample asks for."""
    index = ImageIndex(folder)
    path = find_sample(folder, config)
    sample = None if path is None else read_sample(path)
    set_aside = {Path(one) for one in (path, config.solution) if one is not None}
    labels = read_labels(index, config, sample, set_aside)
    train, missing = drop_missing(labels.table, folder)
    if path is None or sample is None:
        notes = [*labels.notes, *missing]
        return hold_out(train, notes, config.holdout, folder, seed)
    test = pd.DataFrame({"id": sample.iloc[:, 0]})
    test["path"] = [index.find(image_id, "test") for image_id in test["id"]]
    check_test(train, test, path)
    if config.solution is not None:
        test["label"] = read_solution(Path(config.solution), test["id"])
    asked = "a label" if sample.shape[1] == 2 else "probabilities"
    notes = [f"asked for: {asked} for each of {len(test)} ids, as in {path.name}"]
    absent = test["id"][test["path"].isna()].tolist()
    if absent:
        notes.append(f"{name_some(absent, 'test id')} no file and will be predicted by the prior")
    return Parts(train, test, sample, labels.notes + missing + notes)


def read_sample(path: Path) -> pd.DataFrame:
    """Reads the sample submission and checks that its ids are ids; all cells are text."""
    sample = read_table(path)
    if sample.shape[1] < 2 or len(sample) == 0:
        raise CompetitionError(f"{path.name} must have ids, at least one more column, and rows")
    ids = sample.iloc[:, 0]
    if (ids == "").any() or ids.duplicated().any():
        odd = "" if (ids == "").any() else ids[ids.duplicated()].iloc[0]
        raise CompetitionError(f"the ids of {path.name} are not unique; see {odd!r}")
    cells = pd.to_numeric(sample.iloc[:, 1], errors="coerce")
    if sample.shape[1] == 2 and (cells.notna() & (cells % 1 != 0)).all():
        raise CompetitionError(
            f"{path.name} asks for one probability in column {sample.columns[1]!r}; "
            f"Podium cannot do that yet: it gives labels, or a probability for each class"
        )
    return sample


def drop_missing(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Leaves out training ids that have no file, with a note; too many are an error."""
    missing = table["id"][table["path"].isna()].tolist()
    if len(missing) > len(table) / 2:
        raise CompetitionError(
            f"{len(missing)} of {len(table)} training ids have no image in {folder}, "
            f"e.g. {missing[0]!r}; see data.folder and data.id_column"
        )
    found = table[table["path"].notna()].reset_index(drop=True)
    left_out = f"{name_some(missing, 'training id')} no file and are left out"
    return found, [left_out] if missing else []


def name_some(ids: Sequence[str], what: str) -> str:
    """Says how many ids there are and names the first: `3 test ids (a, b, c) have`."""
    shown = ", ".join(ids[:NAMES_SHOWN]) + (", …" if len(ids) > NAMES_SHOWN else "")
    return f"{len(ids)} {what}s ({shown}) have"


def hold_out(
    images: pd.DataFrame, notes: list[str], share: float, folder: Path, seed: int
) -> Parts:
    """Without a sample submission, sets a share of the labelled images aside as the test part."""
    if share == 0:
        raise CompetitionError(
            f"found no sample submission in {folder}, where its name would be like "
            f"sample_submission.csv; name it with data.sample_submission, or hold labelled "
            f"images back as a test part for a rehearsal with data.holdout 0.2"
        )
    held = images.index[draw_held(images, share, seed)]
    test = images.loc[sorted(held), ["id", "path", "label"]].reset_index(drop=True)
    train = images.drop(index=held).reset_index(drop=True)
    sample = pd.DataFrame({"id": test["id"], "label": images["label"].min()})
    note = f"no sample submission: {len(test)} labelled images are held back as the test part"
    return Parts(train, test, sample, [*notes, note])


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
    """Rows in an order whose every beginning holds the classes in proportion.

    Depends on ids and seed, not on the order of rows.
    """
    rng = np.random.default_rng(seed)
    by_id = table["id"].argsort(kind="stable").to_numpy()
    shuffled = by_id[rng.permutation(len(table))]
    labels = table["label"].iloc[shuffled]
    share = (labels.groupby(labels).cumcount() + 0.5) / labels.map(labels.value_counts())
    return np.asarray(shuffled[share.argsort(kind="stable").to_numpy()], np.int64)


def draw_train(table: pd.DataFrame, config: DataConfig, seed: int) -> pd.DataFrame:
    """At most data.limit training images, class by class, at least one of each that fits."""
    if config.limit is None or config.limit >= len(table):
        return table
    order = table.iloc[draw_order(table, seed)]
    first = order[~order["label"].duplicated()]
    return pd.concat([first, order.drop(index=first.index)]).iloc[: config.limit]


def draw_test(table: pd.DataFrame, config: DataConfig, seed: int) -> pd.DataFrame:
    """The test images, with a path for at most data.test_limit of them."""
    present = table["id"][table["path"].notna()].sort_values()
    if config.test_limit is None or config.test_limit >= len(present):
        return table
    kept = np.random.default_rng(seed).choice(present, config.test_limit, replace=False)
    return table.assign(path=table["path"].where(table["id"].isin(kept), None))


def check_test(train: pd.DataFrame, test: pd.DataFrame, sample: Path) -> None:
    """Raises CompetitionError if no test id has a file, or a test image is also trained on."""
    if test["path"].isna().all():
        raise CompetitionError(
            f"none of the {len(test)} ids of {sample.name} has an image, "
            f"e.g. {test['id'].iloc[0]!r}; see data.folder"
        )
    shared = set(train["path"]) & set(test["path"].dropna())
    if shared:
        raise CompetitionError(
            f"{len(shared)} images are both training and test, e.g. {min(shared)}; "
            f"see data.id_column and data.sample_submission"
        )


def read_solution(path: Path, ids: "pd.Series[str]") -> list[str]:
    """The true labels of the test ids, from the first two columns of a CSV."""
    if not path.is_file():
        raise CompetitionError(f"data.solution is {path}, which is not a file")
    solution = read_table(path)
    truth = dict(zip(solution.iloc[:, 0], solution.iloc[:, 1], strict=True))
    missing = [image_id for image_id in ids if image_id not in truth]
    if missing:
        raise CompetitionError(f"data.solution: {name_some(missing, 'test id')} no label in {path}")
    return [truth[image_id] for image_id in ids]


def list_classes(parts: Parts) -> list[str]:
    """The classes: the sample's columns if it has several, else the labels in natural order."""
    present = set(parts.train["label"])
    if len(present) < 2:
        raise CompetitionError(
            f"all {len(parts.train)} training images have the label {min(present)!r}; "
            f"see data.label_column"
        )
    if parts.sample.shape[1] > 2:
        classes = [str(column) for column in parts.sample.columns[1:]]
        unknown = sorted(present - set(classes))
        if unknown:
            raise CompetitionError(
                f"label {unknown[0]!r} is not among the sample submission's columns "
                f"{', '.join(classes[:NAMES_SHOWN])}…; see data.label_column"
            )
        return classes
    whole = all(label.lstrip("-").isdecimal() for label in present)
    return sorted(present, key=(lambda label: (int(label), label)) if whole else None)


def describe_classes(train: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """How many images and classes there are, and which classes are too rare to be sure of."""
    sizes = train["label"].value_counts().reindex(list(classes), fill_value=0)
    notes = [
        f"{len(train)} training images, {len(classes)} classes of {sizes.min()} to {sizes.max()}: "
        + ", ".join(classes[:12])
        + (", …" if len(classes) > 12 else "")
    ]
    for name, size in sizes[sizes < 2].items():
        fate = "in one fold it is validated without having been trained on"
        notes.append(
            f"class {name!r} has 1 image: {fate}"
            if size
            else f"class {name!r} has no training image: it will hardly be predicted"
        )
    return notes


def index_classes(table: pd.DataFrame, classes: Sequence[str], folder: Path) -> pd.DataFrame:
    """Turns labels from text to index, and paths from relative to whole."""
    table = table.reset_index(drop=True)
    whole = [None if pd.isna(path) else str(folder / path) for path in table["path"]]
    table["path"] = pd.Series(whole, dtype=object)
    if "label" not in table:
        return table
    rows = {name: row for row, name in enumerate(classes)}
    unknown = set(table["label"]) - set(rows)
    if unknown:
        raise CompetitionError(f"data.solution holds {min(unknown)!r}, which is no training label")
    return table.assign(label=table["label"].map(rows).astype(np.int64))
