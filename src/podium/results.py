"""Results: what a run leaves in its folder, and what it must not leave of another

What is written here is whole or not there. status.json says how the run stands, for whoever finds
the folder: Kaggle keeps it, `make pull` repeats it.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.competition import Competition
from podium.config import Config
from podium.decide import Decision
from podium.events import Reporter, write_json
from podium.folds import find_folds
from podium.predictions import (
    Predictions,
    average_predictions,
    join_predictions,
    read_predictions,
    write_predictions,
)
from podium.pseudo import PseudoError
from podium.questions import QUESTIONS_FILE
from podium.rules import Rule, apply_rule
from podium.settings import SOURCE
from podium.storage import write_whole
from podium.submit import make_submission, write_submission
from podium.validate import check_submission

# What a run writes, but for the record, which goes on, and the webhooks' memories.
ANSWER_FILES = ("status.json", "submission.csv", "test.npz")
TRAINING_FILES = (
    *("config.json", "curves.png", "folds.csv", "oof.npz", "report.html", "summary.json"),
    QUESTIONS_FILE,
    *("fold*/model.keras", "fold*/history.csv", "fold*/oof.npz", "fold*/test.npz"),
    *("fold*/range-test.png", "fold*/range-test.csv", "fold*/truth.json"),
    *("fold*/checkpoint-*.npz*", "run.json", "pseudo.json", "fold*/pseudo.csv"),
    *("fold*/*views.npz", "undecided.csv"),
)


def forget_results(folder: Path, config: Config) -> None:
    """Removes what an earlier run left in the folder, so that nothing passes for this run's.

    The folder of the run that is to answer (predict.run) keeps its models and what was said of
    them; folds.csv stays where folds.file, a file or a folder, says that it is to be used again.
    Raises PseudoError if that earlier run is the one that is to label test images (pseudo.run).
    """
    answering, teacher, folds = config.predict.run, config.pseudo.run, config.folds.file
    if teacher is not None and Path(teacher).resolve() == folder.resolve():
        raise PseudoError(
            f"pseudo.run is {teacher}, which is the run folder, where this run would take its "
            f"teacher's place; set runtime.folder to another"
        )
    kept = None if folds is None else find_folds(folds).resolve()
    keeps = answering is not None and Path(answering).resolve() == folder.resolve()
    for pattern in ANSWER_FILES if keeps else ANSWER_FILES + TRAINING_FILES:
        for path in folder.glob(pattern):
            if path.resolve() != kept:
                path.unlink()


def write_status(folder: Path, state: str, error: str | None = None) -> None:
    """Writes status.json: how the run stands, and whether there is a submission."""
    submission = (folder / "submission.csv").is_file()
    status = {"state": state, "error": error, "submission": submission, "source": SOURCE}
    try:
        write_json(folder / "status.json", status)
    except OSError as fault:
        print(f"! status.json could not be written ({fault.strerror})", file=sys.stderr)


def describe_files(folder: Path) -> dict[str, Any]:
    """The files of a run with their bytes, the largest first, and the submission's sha256."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    submission = folder / "submission.csv"
    return {
        "files": [
            {"name": name, "bytes": size} for name, size in sorted(sizes, key=lambda one: -one[1])
        ],
        "submission": hashlib.sha256(submission.read_bytes()).hexdigest()
        if submission.is_file()
        else None,
    }


def write_fold_answers(folder: Path, oof: Predictions, test: Predictions) -> None:
    """Writes what one fold answers; test.npz comes last, and says that the fold is done with."""
    write_predictions(oof, folder / "oof.npz")
    write_predictions(test, folder / "test.npz")


def read_fold_answers(folder: Path) -> tuple[Predictions, Predictions] | None:
    """What `write_fold_answers` wrote; None if a file is damaged, or the fold was not done with."""
    try:
        return read_predictions(folder / "oof.npz"), read_predictions(folder / "test.npz")
    except Exception:  # NumPy and zipfile raise many kinds on what is torn
        return None


def write_answers(
    competition: Competition,
    oof: list[Predictions],
    answers: list[Predictions],
    decision: Decision,
    folder: Path,
) -> list[str]:
    """Writes the predictions of the folds so far, and the submission that their average makes.

    Returns what is odd about it, in words.
    """
    write_predictions(join_predictions(oof), folder / "oof.npz")
    blended = average_predictions(answers)
    return write_submission_of(competition, blended, decision.rule, folder, decision.answers)


def write_submission_of(
    competition: Competition,
    answers: Predictions,
    rule: Rule,
    folder: Path,
    out_of_fold: NDArray[np.float32] | None = None,
) -> list[str]:
    """Writes predictions of the test part and the submission that they make, once it is valid.

    Returns what is odd about it, against out-of-fold answers [N, C] where they are given.
    """
    write_predictions(answers, folder / "test.npz")
    decided = Predictions(answers.ids, apply_rule(rule, answers.probs))
    submission = make_submission(competition, decided)
    warnings = check_submission(submission, competition, out_of_fold)
    write_submission(submission, folder / "submission.csv")
    return warnings


def write_undecided(
    parts: Sequence[tuple[str, NDArray[np.str_]]], folder: Path, report: Reporter
) -> None:
    """Writes undecided.csv: images that stayed open after the most views, and for how many models.

    Takes each model's ids with the name of their part, "training" or "test".
    """
    rows = [(part, image_id) for part, ids in parts for image_id in ids.tolist()]
    table = pd.DataFrame(rows, columns=["part", "id"]).value_counts().rename("models").reset_index()
    table = table.sort_values(["part", "models", "id"], ascending=[False, False, True])
    try:
        write_whole(folder / "undecided.csv", table.to_csv(index=False).encode())
    except OSError as error:
        report.warn(f"undecided.csv cannot be written ({error.strerror})")
