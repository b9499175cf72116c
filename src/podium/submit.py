"""Submission: checked against the sample before it is written

Columns, order and ids are the sample's. An image that could not be predicted gets the prior: each
class's share of the training images, or the most frequent class.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.competition import Competition
from podium.predictions import Predictions, select_probs
from podium.storage import write_whole

SUM_TOLERANCE = 1e-3  # how far from one a row of probabilities may sum


class SubmissionError(RuntimeError):
    """The submission would be refused, or cannot be written."""


def class_prior(competition: Competition) -> NDArray[np.float32]:
    """Each class's share of the training images: [C]."""
    counts = np.bincount(competition.train["label"], minlength=len(competition.classes))
    return np.asarray(counts / counts.sum(), np.float32)


def make_submission(competition: Competition, predictions: Predictions) -> pd.DataFrame:
    """Lays predictions out as the sample is; all cells are text."""
    ids = competition.sample.iloc[:, 0]
    probs = np.tile(class_prior(competition), (len(ids), 1))
    predicted = ids.isin(predictions.ids.tolist()).to_numpy()
    probs[predicted] = select_probs(predictions, ids[predicted].tolist())
    submission = competition.sample.copy()
    if competition.kind == "label":
        submission.iloc[:, 1] = np.array(competition.classes, object)[probs.argmax(axis=1)]
    else:
        for column, name in enumerate(competition.classes):
            submission[name] = [f"{prob:.8f}" for prob in probs[:, column]]
    return submission


def check_submission(submission: pd.DataFrame, competition: Competition) -> None:
    """Raises SubmissionError, naming column and id, if the submission does not fit the sample."""
    sample = competition.sample
    if submission.columns.tolist() != sample.columns.tolist():
        columns = (", ".join(map(str, table.columns)) for table in (submission, sample))
        raise SubmissionError("the columns are {}, but the sample's are {}".format(*columns))
    if len(submission) != len(sample):
        raise SubmissionError(f"there are {len(submission)} rows, but {len(sample)} in the sample")
    ids, wanted = submission.iloc[:, 0], sample.iloc[:, 0]
    for row in np.flatnonzero(ids.to_numpy() != wanted.to_numpy())[:1]:
        raise SubmissionError(f"row {row} has id {ids[row]!r}, but {wanted[row]!r} in the sample")
    answers = submission.set_index(sample.columns[0])
    if competition.kind == "label":
        check_labels(answers.iloc[:, 0], competition.classes)
    else:
        check_probabilities(answers)


def check_labels(answers: "pd.Series[str]", classes: tuple[str, ...]) -> None:
    """Raises SubmissionError if an answer is no class."""
    for image_id, label in answers[~answers.isin(classes)].head(1).items():
        raise SubmissionError(f"id {image_id!r} has label {label!r}, which is no training label")


def check_probabilities(answers: pd.DataFrame) -> None:
    """Raises SubmissionError if a cell is no probability or a row does not sum to one."""
    probs = answers.apply(pd.to_numeric, errors="coerce")
    for name in probs:
        for image_id in probs.index[~probs[name].between(0, 1)][:1]:
            value = answers.at[image_id, name]
            raise SubmissionError(f"id {image_id!r} has {value!r} in {name!r}: no probability")
    sums = probs.sum(axis=1)
    for image_id in sums.index[(sums - 1).abs() > SUM_TOLERANCE][:1]:
        raise SubmissionError(f"the probabilities of id {image_id!r} sum to {sums[image_id]:.4f}")


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
