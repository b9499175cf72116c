"""Competition: from its files to one image table

The sample submission is the judge: it decides the ids, the columns, the order of the classes and
what is asked of each image. What was understood is printed and reported.

Shapes: N training images, T test images, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from podium.archives import open_images
from podium.asked import ANSWERS, read_task
from podium.config import DataConfig
from podium.draws import draw_held, draw_test, draw_train
from podium.inputs import (
    NAMES_SHOWN,
    CompetitionError,
    ImageIndex,
    find_competition_folder,
    find_sample,
    name_some,
)
from podium.labels import read_labels
from podium.sample import check_images, check_test, find_test, read_sample
from podium.solution import read_solution
from podium.task import Task


@dataclass(frozen=True)
class Competition:
    """Images, and what is to be submitted."""

    # [N] id, path: str; label: int64, index into classes, or a tuple of them where classes do not
    # exclude each other; group: str if there are groups
    train: pd.DataFrame
    test: pd.DataFrame  # [T] id: str; path: str or None; label if known; as in the sample
    task: Task
    sample: pd.DataFrame  # [T] the sample submission as text
    notes: tuple[str, ...]  # what was understood, a line each
    # What tables tell of training and test images besides the label: text, by id.
    others: tuple[pd.DataFrame, pd.DataFrame] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes: [C]."""
        return self.task.classes


def read_competition(config: DataConfig, seed: int) -> Competition:
    """Understands a competition's folder; raises CompetitionError naming the setting that helps."""
    folder = find_competition_folder(config)
    index, opened = open_images(folder)
    sample_path = find_sample(index.folder, config)
    sample = None if sample_path is None else read_sample(sample_path, index)
    aside = {Path(one).resolve() for one in (sample_path, config.solution) if one is not None}
    check_images(index, sample, aside)
    labels = read_labels(index, config, sample, aside)
    images, missing = drop_missing(labels.table, folder)
    asked = read_task(sample, images["label"].tolist(), config)
    images["label"] = pd.Series(asked.names, dtype=object)
    if sample is None or sample_path is None:
        images, test, sample = hold_out(images, asked.task, config.holdout, folder, seed)
        found = [
            f"no sample submission: {len(test)} labelled images are held back as the test part"
        ]
    else:
        test = find_test(index, sample)
        check_test(images, test, sample, sample_path, index)
        found = describe_test(test, asked.task, sample_path)
        if config.solution is not None:
            truth = read_solution(Path(config.solution), test["id"].tolist(), asked.task)
            test["label"] = pd.Series(truth, dtype=object)
    train = draw_train(images, config, seed).sort_values("id", ignore_index=True)
    drawn = draw_test(test, config, seed)
    notes = [f"folder: {folder}", *opened, *labels.notes, *missing, *found, *asked.notes]
    notes += describe_classes(images, asked.task.classes)
    notes += describe_rest(index, images, test) + describe_limits(images, train, test, drawn)
    return Competition(
        index_labels(train, asked.task, index.folder),
        index_labels(drawn, asked.task, index.folder),
        asked.task,
        sample,
        tuple(notes),
        labels.others,
    )


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


def hold_out(
    images: pd.DataFrame, task: Task, share: float, folder: Path, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Without a sample submission, sets a share of the labelled images aside as the test part.

    Returns training part, test part, and a sample that asks for the task's kind of answer.
    """
    if share == 0:
        raise CompetitionError(
            f"found no sample submission in {folder}, where its name would be like "
            f"sample_submission.csv; name it with data.sample_submission, or hold labelled "
            f"images back as a test part for a rehearsal with data.holdout 0.2"
        )
    held = images.index[draw_held(images, share, seed)]
    test = images.loc[sorted(held), ["id", "path", "label"]].reset_index(drop=True)
    train = images.drop(index=held).reset_index(drop=True)
    blank = {"ranking": " ".join(task.classes[: task.ranks]), "probability": "0.5"}
    columns = task.classes if task.answer == "probabilities" else ("label",)
    cell = "0.5" if len(columns) > 1 else blank.get(task.answer, task.classes[0])
    return train, test, pd.DataFrame({"id": test["id"]} | dict.fromkeys(columns, cell))


def describe_test(test: pd.DataFrame, task: Task, sample: Path) -> list[str]:
    """What is asked for, and which test images are not there."""
    asked = f"asked for: {ANSWERS[task.answer]} for each of {len(test)} ids, as in {sample.name}"
    absent = test["id"][test["path"].isna()].tolist()
    note = f"{name_some(absent, 'test id')} no file and will be predicted by the prior"
    return [asked, note] if absent else [asked]


def describe_classes(train: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """How many images and classes there are, and which classes are too rare to be sure of."""
    counts = Counter(name for names in train["label"] for name in names)
    sizes = {name: counts[name] for name in classes}
    notes = [
        f"{len(train)} training images, {len(classes)} classes of {min(sizes.values())} to "
        f"{max(sizes.values())}: " + ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
    ]
    rare = {name: size for name, size in sizes.items() if size < 2}
    for name, size in list(rare.items())[:NAMES_SHOWN]:
        fate = "in one fold it is validated without having been trained on"
        notes.append(
            f"class {name!r} has 1 image: {fate}"
            if size
            else f"class {name!r} has no training image: it will hardly be predicted"
        )
    if len(rare) > NAMES_SHOWN:
        notes.append(f"{len(rare) - NAMES_SHOWN} more classes have at most 1 image")
    return notes


def describe_rest(index: ImageIndex, train: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """What is there and not used: images that no table names, and copies in other formats."""
    rest = sorted(set(index.paths) - set(train["path"]) - set(test["path"].dropna()))
    notes = []
    if rest:
        notes.append(
            f"not used: {len(rest)} images that are neither labelled nor asked for, e.g. {rest[0]}"
        )
    if index.twins:
        twins = ", ".join(f"{count} {suffix}" for suffix, count in sorted(index.twins.items()))
        notes.append(f"not used: {twins} files, as there are images")
    return notes


def describe_limits(
    images: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, drawn: pd.DataFrame
) -> list[str]:
    """What the settings leave out."""
    notes, count = [], drawn["path"].notna().sum()
    if len(train) < len(images):
        notes.append(f"data.limit: {len(train)} of {len(images)} training images are used")
    if count < test["path"].notna().sum():
        notes.append(f"data.test_limit: {count} test images are predicted, the rest by the prior")
    return notes


def index_labels(table: pd.DataFrame, task: Task, folder: Path) -> pd.DataFrame:
    """Turns labels from names to indices, and paths from relative to whole."""
    table = table.reset_index(drop=True)
    whole = [None if pd.isna(path) else str(folder / path) for path in table["path"]]
    table["path"] = pd.Series(whole, dtype=object)
    if "label" not in table:
        return table
    rows = {name: row for row, name in enumerate(task.classes)}
    unknown = {name for names in table["label"] for name in names} - set(rows)
    if unknown:
        raise CompetitionError(f"data.solution holds {min(unknown)!r}, which is no training label")
    indices = [tuple(sorted(rows[name] for name in names)) for names in table["label"]]
    if not task.exclusive:
        return table.assign(label=pd.Series(indices, dtype=object))
    return table.assign(label=np.array([first for (first,) in indices], np.int64))
