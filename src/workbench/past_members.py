"""Past members: runs as members of a blend, their images in one order"""

import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.predictions import Predictions, read_predictions, select_probs
from podium.task import Task
from workbench.paired import OutOfFold, PairError, check_same, read_out_of_fold
from workbench.past_runs import PastRun


class BlendError(Exception):
    """Runs that cannot be blended; the message says why, and what can be done."""


class PastMembers(NamedTuple):
    """M runs' probabilities of the same N training images, out of fold, and T test images.

    `folds` are the first run's.
    """

    names: tuple[str, ...]
    task: Task
    ids: NDArray[np.str_]  # [N]
    targets: NDArray[np.uint8]  # [N, C]
    folds: NDArray[np.int64]  # [N]
    oof: NDArray[np.float32]  # [M, N, C]
    test_ids: NDArray[np.str_]  # [T]
    test: NDArray[np.float32]  # [M, T, C]
    notes: tuple[str, ...]


def read_members(runs: Sequence[PastRun]) -> PastMembers:
    """Reads what runs foretold; raises BlendError where they were not asked the same."""
    first, *others = (read_part(run) for run in runs)
    for run, other in zip(runs[1:], others, strict=True):
        try:
            check_same(first, other)
        except PairError as reason:
            raise BlendError(f"{runs[0].name} and {run.name} cannot be blended: {reason}") from None
    tests = [read_test(run, len(first.task.classes)) for run in runs]
    ids = tests[0].ids
    return PastMembers(
        tuple(run.name for run in runs),
        first.task,
        np.array(first.ids, np.str_),
        first.targets,
        first.folds,
        np.stack([first.probs, *(other.probs for other in others)]),
        ids,
        np.stack([align_test(runs, place, one, ids) for place, one in enumerate(tests)]),
        tuple(note_folds(runs, [first, *others])),
    )


def read_part(run: PastRun) -> OutOfFold:
    """What a run foretold of its training images; raises BlendError where it cannot be read."""
    try:
        return read_out_of_fold(run)
    except PairError as reason:
        raise BlendError(str(reason)) from None


def read_test(run: PastRun, classes: int) -> Predictions:
    """What a run foretold of the test images; raises BlendError where it cannot be read."""
    try:
        test = read_predictions(run.folder / "test.npz")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BlendError(
            f"{run.name} has no test.npz that can be read, of which the submission is made "
            f"({error}); pull the run again, or leave it out"
        ) from error
    if test.probs.shape[1:] != (classes,):
        raise BlendError(f"test.npz of {run.name} is not of {classes} classes; leave the run out")
    return test


def align_test(
    runs: Sequence[PastRun], place: int, test: Predictions, ids: NDArray[np.str_]
) -> NDArray[np.float32]:
    """A run's probabilities of the first run's test images; raises BlendError if it had others."""
    if set(test.ids.tolist()) != set(ids.tolist()):
        shared = len(set(test.ids.tolist()) & set(ids.tolist()))
        raise BlendError(
            f"{runs[0].name} and {runs[place].name} answered {len(ids)} and {len(test.ids)} test "
            f"images, of which {shared} are the same; blend runs of one competition"
        )
    return select_probs(test, ids)


def note_folds(runs: Sequence[PastRun], held: Sequence[OutOfFold]) -> list[str]:
    """Says which runs had other folds than the first."""
    apart = [
        run.name
        for run, other in zip(runs, held, strict=True)
        if not np.array_equal(other.folds, held[0].folds)
    ]
    words = (
        f"{' and '.join(apart)} had other folds than {runs[0].name}, whose folds are used to "
        f"choose the weights; every image was out of fold in every run"
    )
    return [words] if apart else []
