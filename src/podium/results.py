"""Results: what a run leaves in its folder, and what it must not leave of another

What is written here is whole or not there. status.json says how the run stands, for whoever finds
the folder: Kaggle keeps it, `make pull` repeats it.
"""

import sys
from pathlib import Path

from podium.competition import Competition
from podium.predictions import (
    Predictions,
    average_predictions,
    join_predictions,
    write_predictions,
)
from podium.settings import SOURCE
from podium.submit import make_submission, write_submission
from podium.summary import write_json
from podium.validate import check_submission

# What a run writes, but for the record, which goes on, and the webhooks' memories.
ANSWER_FILES = ("status.json", "submission.csv", "test.npz")
TRAINING_FILES = (
    *("config.json", "curves.png", "folds.csv", "oof.npz", "report.html", "summary.json"),
    *("fold*/model.keras", "fold*/history.csv"),
)


def forget_results(folder: Path, answering: str | None) -> None:
    """Removes what an earlier run left in the folder, so that nothing passes for this run's.

    The folder of the run that is to answer keeps its models and what was said of them.
    """
    keeps = answering is not None and Path(answering).resolve() == folder.resolve()
    for pattern in ANSWER_FILES if keeps else ANSWER_FILES + TRAINING_FILES:
        for path in folder.glob(pattern):
            path.unlink()


def write_status(folder: Path, state: str, error: str | None = None) -> None:
    """Writes status.json: how the run stands, and whether there is a submission."""
    submission = (folder / "submission.csv").is_file()
    status = {"state": state, "error": error, "submission": submission, "source": SOURCE}
    try:
        write_json(folder / "status.json", status)
    except OSError as fault:
        print(f"! status.json could not be written ({fault.strerror})", file=sys.stderr)


def write_answers(
    competition: Competition, oof: list[Predictions], answers: list[Predictions], folder: Path
) -> None:
    """Writes the predictions of the folds so far, and the submission that their average makes."""
    write_predictions(join_predictions(oof), folder / "oof.npz")
    write_submission_of(competition, average_predictions(answers), folder)


def write_submission_of(competition: Competition, answers: Predictions, folder: Path) -> None:
    """Writes predictions of the test part and the submission that they make, once it is valid."""
    write_predictions(answers, folder / "test.npz")
    submission = make_submission(competition, answers)
    check_submission(submission, competition)
    write_submission(submission, folder / "submission.csv")
