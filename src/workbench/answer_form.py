"""Answer form: what a submission must look like, of a competition that lies here or does not"""

from contextlib import suppress

import numpy as np
import pandas as pd

from podium.competition import Competition
from podium.inputs import CompetitionError
from podium.override import SettingsError
from podium.predictions import Predictions, read_predictions
from podium.rules import apply_rule, find_rule
from podium.submit import make_submission
from podium.task import Task
from workbench.compare_runs import find_competition
from workbench.past_members import BlendError, PastMembers
from workbench.past_runs import PastRun


def find_form(run: PastRun, members: PastMembers) -> Competition:
    """The competition that the run was trained on, or as much of it as the run's folder tells.

    Raises BlendError where neither is to be had.
    """
    with suppress(CompetitionError, SettingsError, OSError):
        competition = find_competition(run)
        if set(members.test_ids.tolist()) <= set(competition.test["id"]):
            return competition
    return rebuild_form(run, members)


def rebuild_form(run: PastRun, members: PastMembers) -> Competition:
    """The form of a run's own submission: its ids, their order, its columns, and how answers lie.

    Raises BlendError unless the run's predictions, laid out so, make that very submission.
    """
    try:
        sample = pd.read_csv(run.folder / "submission.csv", dtype=str, keep_default_na=False)
        test = read_predictions(run.folder / "test.npz")
    except (OSError, ValueError) as error:
        raise BlendError(
            f"the competition of {run.name} is not on this machine, and its submission.csv, which "
            f"would tell the form, cannot be read ({error}); attach the data that its config.json "
            f"names as data.folder"
        ) from error
    labels = [tuple(np.flatnonzero(row).tolist()) for row in members.targets]
    known = pd.DataFrame({"id": members.ids, "path": "", "label": pd.Series(labels, dtype=object)})
    if members.task.exclusive:
        known["label"] = [label[0] for label in labels]
    ids = sample.iloc[:, 0]
    answered = ids.isin(test.ids.tolist()).tolist()
    paths = pd.Series(["" if there else None for there in answered], dtype=object)
    images = pd.DataFrame({"id": ids, "path": paths})
    form = Competition(known, images, members.task, sample, ())
    answers = apply_rule(find_rule(run.summary, members.task), test.probs)
    made = make_submission(form, Predictions(test.ids, answers))
    if not is_same(made, sample, members.task):
        raise BlendError(
            f"the competition of {run.name} is not on this machine, and its submission.csv is not "
            f"what its test.npz and its rule make, so that it does not tell the form; attach the "
            f"data that its config.json names as data.folder"
        )
    return form


def is_same(made: pd.DataFrame, kept: pd.DataFrame, task: Task) -> bool:
    """Whether two submissions hold the same answers, but for the last digits of probabilities."""
    if task.answer not in ("probability", "probabilities"):
        return made.equals(kept)
    one, other = (
        table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        for table in (made, kept)
    )
    return bool(np.isclose(one, other, atol=1e-5).all())
