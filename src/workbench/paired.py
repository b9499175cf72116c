"""Paired: whether one run is better than another, on the images that both answered.

The folder knows the truth: folds.csv holds labels, summary.json classes and metric. Each image is
answered out of fold by a rule that was fitted on the other folds, as in the run itself.
"""

import zipfile
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.decide import fit_nested
from podium.evidence import Comparison, compare_answers
from podium.folds import FoldError, read_folds
from podium.metrics import METRICS
from podium.predictions import read_predictions
from podium.task import AnswerKind, Task, encode_targets
from workbench.past_runs import PastRun


class PairError(Exception):
    """Two runs that cannot be compared image by image; the message says why."""


class Answered(NamedTuple):
    """A run's answers out of fold: ids [N] sorted, targets [N, C], answers [N, C], folds [N]."""

    task: Task
    ids: list[str]
    targets: NDArray[np.uint8]
    answers: NDArray[np.float32]
    folds: NDArray[np.int64]


class OutOfFold(NamedTuple):
    """A run's probabilities out of fold: ids [N] sorted, targets, probs [N, C], folds [N]."""

    task: Task
    ids: list[str]
    targets: NDArray[np.uint8]
    probs: NDArray[np.float32]
    folds: NDArray[np.int64]


def describe_pair(run: PastRun, other: PastRun) -> str:
    """What the evidence says of another run against this one, or why there is none."""
    try:
        found = compare_pair(run, other)
    except PairError as reason:
        return f"{other.name} and {run.name} are not compared image by image: {reason}"
    verdict = "is better" if found.adopted else "is not shown to be better"
    if found.high < 0:
        verdict = "is worse"
    assert run.metric  # noqa: S101  # else it could not have been compared
    return (
        f"{other.name} {verdict} than {run.name}: {METRICS[run.metric].title} gain "
        f"{found.difference:+.4f}, one-sided 95 % bounds {found.low:+.4f} and {found.high:+.4f}, "
        f"p {found.p:.3g}, on the same {found.n} images"
    )


def compare_pair(run: PastRun, other: PastRun) -> Comparison:
    """What the other run gains over this one; raises PairError."""
    one, two = read_answered(run), read_answered(other)
    check_same(one, two)
    return compare_answers(one.task, one.targets, one.answers, two.answers)


def read_answered(run: PastRun) -> Answered:
    """Reads what a run answered, and the truth of it; raises PairError."""
    task, ids, targets, probs, folds = read_out_of_fold(run)
    return Answered(task, ids, targets, fit_nested(task, targets, probs, folds).answers, folds)


def check_same(one: Answered | OutOfFold, other: Answered | OutOfFold) -> None:
    """Raises PairError unless both were asked the same of the same images."""
    if one.task != other.task:
        raise PairError("their metric, classes or kind of answer differ")
    if one.ids != other.ids:
        shared = len(set(one.ids) & set(other.ids))
        raise PairError(
            f"they answered {len(one.ids)} and {len(other.ids)} images, of which {shared} are the "
            f"same; a run that is finished, with the same training images, can be"
        )
    if not np.array_equal(one.targets, other.targets):
        raise PairError("their folds.csv label the same images differently")


def read_out_of_fold(run: PastRun) -> OutOfFold:
    """Reads what a run foretold of its training images, and the truth; raises PairError."""
    try:
        table = read_folds(str(run.folder)).set_index("id")
        oof = read_predictions(run.folder / "oof.npz")
        known = table.reindex(oof.ids.tolist())
        if len(oof.ids) == 0 or known["label"].isna().any():
            raise PairError(f"folds.csv of {run.name} does not know all images of its oof.npz")
        labels = [tuple(map(int, str(label).split())) for label in known["label"]]
        task = find_task(run, labels)
        targets = encode_targets(labels, len(task.classes))
        if oof.probs.shape != targets.shape:
            raise ValueError(f"oof.npz has {oof.probs.shape[1]} classes, not {targets.shape[1]}")
    except (FoldError, OSError, ValueError, IndexError, KeyError, zipfile.BadZipFile) as error:
        raise PairError(f"{run.name} lacks what is needed ({error})") from error
    order = np.argsort(oof.ids)
    folds = known["fold"].to_numpy(np.int64)
    return OutOfFold(task, oof.ids[order].tolist(), targets[order], oof.probs[order], folds[order])


def find_task(run: PastRun, labels: list[tuple[int, ...]]) -> Task:
    """What was asked, as far as the summary says; raises PairError where it does not suffice."""
    answer, classes = run.summary.get("answer"), run.summary.get("classes")
    if run.metric is None or not answer or not classes:
        raise PairError(f"{run.name} has no summary.json with metric, answer and classes")
    exclusive = answer != "labels" and all(len(label) == 1 for label in labels)
    names: Any = tuple(map(str, classes))
    ranks = count_ranks(run) if answer == "ranking" else Task._field_defaults["ranks"]
    return Task(cast(AnswerKind, answer), names, exclusive, run.metric, ranks)


def count_ranks(run: PastRun) -> int:
    """How many labels each ranking of a run's submission has; raises PairError without one."""
    try:
        cells = pd.read_csv(run.folder / "submission.csv", dtype=str).iloc[:, 1]
        (ranks,) = set(cells.str.split().str.len())
        return int(ranks)
    except (OSError, ValueError, IndexError) as error:
        raise PairError(
            f"how many labels a ranking has is told by submission.csv alone, and {run.name} has "
            f"none that does ({error})"
        ) from error
