"""Submission: answers laid out as the sample is

An image that could not be predicted gets the prior: each class's share of the training images.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.competition import Competition
from podium.predictions import Predictions, select_probs
from podium.storage import write_whole
from podium.tallies import rank_classes
from podium.task import Task
from podium.validate import SubmissionError, class_prior


def make_submission(competition: Competition, predictions: Predictions) -> pd.DataFrame:
    """Lays answers out as the sample is; all cells are text.

    They are probabilities [T, C], or what a rule has decided by them: ones and zeros. Where several
    labels may be given, those of at least a half are, and the first of all if none is.
    """
    ids, task = competition.sample.iloc[:, 0], competition.task
    prior = class_prior(competition)
    answers = np.tile(prior, (len(ids), 1))
    predicted = ids.isin(predictions.ids.tolist()).to_numpy()
    answers[predicted] = select_probs(predictions, ids[predicted].tolist())
    submission = competition.sample.copy()
    if task.answer in ("probability", "probabilities"):
        lay_probabilities(submission, answers, task)
    else:
        submission.isetitem(1, list_labels(answers, prior, task))
    return submission


def lay_probabilities(submission: pd.DataFrame, answers: NDArray[np.float32], task: Task) -> None:
    """Writes the columns of probabilities: of the last of two classes, or of each."""
    probs = answers[:, -1:] if task.answer == "probability" else answers
    if task.answer == "probabilities" and task.exclusive:  # a rule may have clipped them
        probs = probs / probs.sum(axis=1, keepdims=True)
    for column in range(probs.shape[1]):
        submission.isetitem(column + 1, [f"{prob:.8f}" for prob in probs[:, column]])


def list_labels(answers: NDArray[np.float32], prior: NDArray[np.float32], task: Task) -> list[str]:
    """The cells of labels: the first, all of at least a half, or the first few in their order.

    Of equals the more frequent class goes first.
    """
    frequent = np.argsort(-prior, kind="stable")
    ranks = task.ranks if task.answer == "ranking" else 1
    chosen = list(frequent[rank_classes(answers[:, frequent], ranks)])
    if task.answer == "labels":
        passed = (np.flatnonzero(row >= 0.5) for row in answers)
        chosen = [row if len(row) else first for row, first in zip(passed, chosen, strict=True)]
    return [" ".join(task.classes[label] for label in row) for row in chosen]


def write_submission(submission: pd.DataFrame, path: Path) -> None:
    """Writes the CSV, or raises SubmissionError and leaves an earlier one untouched."""
    content = submission.to_csv(index=False, lineterminator="\n").encode()
    try:
        write_whole(path, content)
    except OSError as error:
        earlier = "the earlier one is untouched" if path.exists() else "there is none yet"
        raise SubmissionError(
            f"{path} ({len(content):,} bytes) could not be written: {error.strerror}; {earlier}, "
            f"and test.npz beside it may hold the predictions; free some space, or set "
            f"runtime.folder to a larger disk"
        ) from error
