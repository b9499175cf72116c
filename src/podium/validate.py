"""Validation: what Kaggle would refuse is refused before, and what looks wrong is said

Columns, order and ids must be the sample's, and every cell an answer of the kind that is asked.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from podium.competition import Competition
from podium.tallies import find_named
from podium.task import Task, encode_targets

SUM_TOLERANCE = 1e-3  # how far from one a row of probabilities may sum
SURPRISE = 1e-3  # how improbable by chance a submission is that is worth a warning
SHIFT = 0.1  # total variation between two shares of classes that is worth one


class SubmissionError(RuntimeError):
    """The submission would be refused, or cannot be written."""


def check_submission(
    submission: pd.DataFrame,
    competition: Competition,
    out_of_fold: NDArray[np.float32] | None = None,
) -> list[str]:
    """Raises SubmissionError, naming column and id, if the submission does not fit the sample.

    Returns warnings, against out-of-fold answers [N, C] as well where they are given: decisions or
    probabilities, as they would be submitted.
    """
    check_rows(submission, competition.sample)
    task = competition.task
    answers = submission.set_index(submission.columns[0])
    if task.answer in ("probability", "probabilities"):
        check_probabilities(answers, whole=task.answer == "probabilities" and task.exclusive)
    else:
        check_labels(answers.iloc[:, 0], task)
    given = read_answers(answers, task)
    predicted = given[competition.test["path"].notna().to_numpy()]
    warnings = warn_of_one_answer(predicted, competition)
    return warnings + ([] if out_of_fold is None else warn_of_shift(predicted, out_of_fold, task))


def check_rows(submission: pd.DataFrame, sample: pd.DataFrame) -> None:
    """Raises SubmissionError if columns, count or ids are not the sample's, in its order."""
    if submission.columns.tolist() != sample.columns.tolist():
        columns = (", ".join(map(str, table.columns)) for table in (submission, sample))
        raise SubmissionError("the columns are {}, but the sample's are {}".format(*columns))
    if len(submission) != len(sample):
        raise SubmissionError(f"there are {len(submission)} rows, but {len(sample)} in the sample")
    ids, wanted = submission.iloc[:, 0], sample.iloc[:, 0]
    for row in np.flatnonzero(ids.to_numpy() != wanted.to_numpy())[:1]:
        raise SubmissionError(f"row {row} has id {ids[row]!r}, but {wanted[row]!r} in the sample")


def check_labels(answers: "pd.Series[str]", task: Task) -> None:
    """Raises SubmissionError if a cell is not one class, or a list of as many as are asked."""
    known = set(task.classes)
    for image_id, cell in answers.items():
        labels = [cell] if task.answer == "label" else cell.split()
        for label in labels:
            if label not in known:
                raise SubmissionError(
                    f"id {image_id!r} has label {label!r}, which is no training label"
                )
        if len(set(labels)) < len(labels):
            raise SubmissionError(f"id {image_id!r} has a label twice: {cell!r}")
        if not labels or (task.answer == "ranking" and len(labels) != task.ranks):
            wanted = task.ranks if task.answer == "ranking" else "at least 1"
            raise SubmissionError(f"id {image_id!r} has {len(labels)} labels and not {wanted}")


def check_probabilities(answers: pd.DataFrame, whole: bool) -> None:
    """Raises SubmissionError if a cell is no probability, or a row is not whole where asked."""
    probs = answers.apply(pd.to_numeric, errors="coerce")
    for name in probs:
        for image_id in probs.index[~probs[name].between(0, 1)][:1]:
            value = answers.at[image_id, name]
            raise SubmissionError(f"id {image_id!r} has {value!r} in {name!r}: no probability")
    sums = probs.sum(axis=1)
    for image_id in sums.index[whole & ((sums - 1).abs() > SUM_TOLERANCE)][:1]:
        raise SubmissionError(f"the probabilities of id {image_id!r} sum to {sums[image_id]:.4f}")


def read_answers(answers: pd.DataFrame, task: Task) -> NDArray[np.float32]:
    """A valid submission's cells as probabilities or decisions: [T, C]; of a ranking the first."""
    if task.answer in ("probability", "probabilities"):
        probs = answers.to_numpy(np.float32)
        return probs if task.answer == "probabilities" else np.hstack([1 - probs, probs])
    rows = {name: row for row, name in enumerate(task.classes)}
    labels = [(cell,) if task.answer == "label" else cell.split() for cell in answers.iloc[:, 0]]
    kept = 1 if task.answer == "ranking" else len(rows)
    return encode_targets(
        [tuple(rows[label] for label in one[:kept]) for one in labels], len(rows)
    ).astype(np.float32)


def class_prior(competition: Competition) -> NDArray[np.float32]:
    """Each class's share of the training images: [C]."""
    labels = competition.train["label"].tolist()
    targets = encode_targets(labels, len(competition.classes))
    return np.asarray(targets.mean(axis=0), np.float32)


def warn_of_one_answer(answers: NDArray[np.float32], competition: Competition) -> list[str]:
    """Warns if all answers are the same, and chance would hardly make them so.

    Chance is that of as many images of the training part all showing what its labels show.
    """
    labels = competition.train["label"].value_counts(normalize=True)
    chance = float((labels.to_numpy() ** len(answers)).sum())
    if len(answers) == 0 or chance >= SURPRISE or not (answers == answers[0]).all():
        return []
    name = competition.classes[int(answers[0].argmax())]
    return [
        f"all {len(answers)} predicted answers are the same, {name!r} first: look at the curves"
    ]


def warn_of_shift(
    answers: NDArray[np.float32], out_of_fold: NDArray[np.float32], task: Task
) -> list[str]:
    """Warns if the classes that are predicted differ between test and out-of-fold images.

    A chi-square test of the predicted classes' counts, the detector BBSDh of Rabanser, Günnemann
    and Lipton 2019 (Failing Loudly, NeurIPS); and as among many images it detects what does not
    matter, the shares must also be a tenth apart (total variation).
    """
    counts = np.stack(
        [find_named(task, part).sum(axis=0, dtype=np.int64) for part in (answers, out_of_fold)]
    )
    counts = counts[:, counts.sum(axis=0) > 0]
    if not counts.sum(axis=1).all() or counts.shape[1] < 2:
        return []
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    p_value = float(chi2_contingency(counts, correction=False)[1])
    if distance < SHIFT or p_value >= SURPRISE:
        return []
    warning = (
        f"the predicted classes of test and out-of-fold images differ: their shares are "
        f"{distance:.0%} apart (chi-square, p = {p_value:.1g}); the test images may be others than "
        f"the training images, or read in another way"
    )
    return [warning]
