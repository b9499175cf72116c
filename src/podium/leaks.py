"""Leaks: what would make a score look better than the network is

Columns that only the train table has, copies of test images, images of one object on both sides
of a split, files that give the label away. Each finding states a figure, and none stops a run.

Shapes: N training images, T test images.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from podium.attempt import describe_error
from podium.duplicates import SAME, Pairs
from podium.folds import format_label
from podium.tells import follow_majority, is_group, measure_agreement, share_split

FILES = 3000  # images whose files are looked at
ERRORS_ABOVE, GAIN = 4.0, 0.05  # standard errors, and accuracy, above the most frequent label


class Audited(NamedTuple):
    """What the audit looks at; rows are those of the decoded images."""

    train: pd.DataFrame  # [N] id, path, label; group, where a column was given for it
    test: pd.DataFrame  # [T] id, path
    folds: NDArray[np.int64]  # [N]
    pairs: Pairs | None  # of nearly the same images, where they were looked for
    columns: pd.DataFrame  # the train table's but id and label: text, by id
    test_columns: pd.DataFrame  # the test table's but the id: text, by id

    @property
    def labels(self) -> NDArray[np.int64]:
        """A number for each label, or for each set of labels: [N]."""
        names = [format_label(label) for label in self.train["label"]]
        return np.asarray(pd.factorize(np.array(names, np.object_))[0], np.int64)

    def column(self, name: str) -> NDArray[np.object_]:
        """A column of the train table, by row: [N] text, empty where it has no cell."""
        cells = self.columns[name]
        found = cells[~cells.index.duplicated()].reindex(self.train["id"].tolist())
        return np.asarray(found.fillna(""), np.object_)


class Leak(NamedTuple):
    """One finding."""

    check: str  # what was looked for
    subject: str  # where: a column, a property of the files
    figure: float  # a share or an accuracy, which the words name
    text: str
    serious: bool  # a warning; else a note


def audit_leaks(audited: Audited) -> list[Leak]:
    """Looks for leaks, warnings first; a check that fails is a finding, not an error."""
    checks: tuple[Callable[[Audited], Iterator[Leak]], ...] = (
        find_straddling_groups,
        find_straddling_copies,
        find_disagreeing_copies,
        find_copies_in_test,
        find_hidden_groups,
        find_shared_groups,
        find_train_only_columns,
        find_telling_files,
    )
    leaks = list[Leak]()
    for check in checks:
        name = check.__name__.removeprefix("find_").replace("_", " ")
        try:
            leaks += check(audited)
        except Exception as error:  # an audit must not cost the run
            text = f"{name} could not be looked for ({describe_error(error)})"
            leaks.append(Leak(name, "audit", float("nan"), text, True))
    return sorted(leaks, key=lambda leak: not leak.serious)


def find_straddling_groups(audited: Audited) -> Iterator[Leak]:
    """Groups that were given and are in several folds, as those of folds.file may be."""
    if "group" in audited.train:
        groups = audited.train["group"].to_numpy(np.object_)
        share, split = share_split(groups, audited.folds)
        if split:
            text = (
                f"{split} groups ({share:.1%}) are in more than one fold, so that scores are too "
                f"good; unset folds.file"
            )
            yield Leak("straddling groups", "group", share, text, True)


def find_straddling_copies(audited: Audited) -> Iterator[Leak]:
    """Nearly the same images in different folds."""
    pairs = select_train(audited)
    apart = pairs.select(audited.folds[pairs.first] != audited.folds[pairs.second])
    if len(apart.first):
        share = len(apart.first) / len(pairs.first)
        text = (
            f"{len(apart.first)} of {len(pairs.first)} pairs of nearly the same images are in "
            f"different folds{name_pairs(audited, apart)}; see folds.near_duplicates, folds.file"
        )
        yield Leak("straddling copies", "images", share, text, True)


def find_disagreeing_copies(audited: Audited) -> Iterator[Leak]:
    """Nearly the same training images with different labels: one of them is wrong."""
    pairs = select_train(audited)
    wrong = pairs.select(audited.labels[pairs.first] != audited.labels[pairs.second])
    if len(wrong.first):
        share = len(wrong.first) / len(pairs.first)
        text = (
            f"{len(wrong.first)} of {len(pairs.first)} pairs of nearly the same training images "
            f"have different labels{name_pairs(audited, wrong)}; look at them"
        )
        yield Leak("disagreeing copies", "labels", share, text, True)


def find_copies_in_test(audited: Audited) -> Iterator[Leak]:
    """Test images that are training images too."""
    if audited.pairs is None:
        return
    copies = audited.pairs.select(audited.pairs.second >= len(audited.train))
    if len(copies.first):
        count, same = (
            len(np.unique(one.second)) for one in (copies, copies.select(copies.cosine >= SAME))
        )
        share = count / len(audited.test)
        text = (
            f"{count} of {len(audited.test)} test images ({share:.1%}) are nearly the same as a "
            f"training image{name_pairs(audited, copies)}, {same} of them but for compression, "
            f"size or a mirror; the test score is too good by what they add"
        )
        yield Leak("copies in test", "images", share, text, True)


def select_train(audited: Audited) -> Pairs:
    """The pairs within the training part."""
    if audited.pairs is None:
        return Pairs(*(np.zeros(0, np.int64),) * 2, np.zeros(0, np.float32))
    return audited.pairs.select(audited.pairs.second < len(audited.train))


def name_pairs(audited: Audited, pairs: Pairs) -> str:
    """An example, the clearest one."""
    ids = [*audited.train["id"], *audited.test["id"]]
    best = int(pairs.cosine.argmax())
    return f", such as {ids[pairs.first[best]]!r} and {ids[pairs.second[best]]!r}"


def find_hidden_groups(audited: Audited) -> Iterator[Leak]:
    """Columns that look like groups, are not used as such, and straddle folds."""
    for name in map(str, audited.columns):
        values = audited.column(name)
        if is_used(audited, values) or not is_group(name, values, audited.labels):
            continue
        agreement, base = measure_agreement(values, audited.labels)
        split = share_split(values, audited.folds)[1]
        if split:
            text = (
                f"two images with the same {name!r} have the same label in {agreement:.1%} of all "
                f"cases (any two images: {base:.1%}), and {split} of its values are in more than "
                f"one fold; if it says whom or what an image shows, set data.group_column to it"
            )
            yield Leak("hidden groups", name, agreement, text, True)


def find_shared_groups(audited: Audited) -> Iterator[Leak]:
    """Groups of the train table that are in the test table too, or expressly not."""
    for name in map(str, audited.columns.columns.intersection(audited.test_columns.columns)):
        values = audited.column(name)
        if not is_used(audited, values) and not is_group(name, values, audited.labels):
            continue
        share = float(audited.test_columns[name].isin(set(values)).mean())
        advice = "a split by it is like that of the test part"
        if share > 0.5:
            advice = "a split by it is harder than the test part"
        text = f"{share:.1%} of the test rows have a {name!r} that training images have: {advice}"
        yield Leak("shared groups", name, share, text, False)


def find_train_only_columns(audited: Audited) -> Iterator[Leak]:
    """Columns that only the train table has, and how well each tells the label."""
    train_only = audited.columns.columns.difference(audited.test_columns.columns, sort=False)
    for name in map(str, train_only):
        accuracy, base = follow_majority(audited.column(name), audited.labels, audited.folds)
        text = (
            f"column {name!r} is in the train table only; alone it tells the label of "
            f"{accuracy:.1%} of images (the most frequent label: {base:.1%}), so that nothing "
            f"made from it may be an input"
        )
        yield Leak("train-only columns", name, accuracy, text, False)


def find_telling_files(audited: Audited) -> Iterator[Leak]:
    """Properties of the files that tell the label above chance, as where classes were saved apart.

    Texture makes files large as well, so that their size is a note, and their dimensions a warning.
    """
    rows = np.unique(np.linspace(0, len(audited.train) - 1, FILES).astype(np.int64))
    paths = audited.train["path"].iloc[rows]
    names = [Path(name).name for name in audited.train["id"].iloc[rows]]
    properties = {
        "dimensions": np.array([read_size(path) for path in paths], np.object_),
        "file size": np.array([Path(path).stat().st_size for path in paths], np.object_),
        "number in the id": np.array([re.sub(r"\D", "", name) for name in names], np.object_),
    }
    for name, values in properties.items():
        labels, folds = audited.labels[rows], audited.folds[rows]
        accuracy, base = follow_majority(values, labels, folds)
        error = np.sqrt(base * (1 - base) / len(rows)) or 1.0
        if accuracy - base > max(GAIN, ERRORS_ABOVE * error):
            text = (
                f"the {name} alone tells the label of {accuracy:.1%} of {len(rows)} images (the "
                f"most frequent label: {base:.1%}); see whether the classes were taken or saved "
                f"in different ways, which the network may learn in place of what they show"
            )
            yield Leak("telling files", name, accuracy, text, name == "dimensions")


def read_size(path: str) -> str:
    """Width and height, as text, from the header of a file."""
    with Image.open(path) as image:
        return f"{image.width}×{image.height}"


def is_used(audited: Audited, values: NDArray[np.object_]) -> bool:
    """Whether a column is the one that was given as group."""
    return "group" in audited.train and bool((audited.train["group"] == values).all())
