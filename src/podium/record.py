"""Record: what a run folder holds, as far as the run has got"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.competition import Competition
from podium.histories import read_histories
from podium.metrics import Score, score_predictions
from podium.predictions import Predictions, read_predictions
from podium.questions import Question, read_questions
from podium.rules import apply_rule, find_rule
from podium.task import Task, encode_targets


class RunRecord(NamedTuple):
    """What a run folder holds, as far as the run has got."""

    summary: dict[str, Any]  # {} until the run has written one
    settings: dict[str, Any]  # dotted names
    folds: dict[str, int]  # image id → fold
    curves: dict[int, pd.DataFrame]  # fold → one row an epoch
    truths: dict[int, dict[str, Any]]  # fold → what was found of batch norm
    questions: list[Question]  # what was decided, and why
    task: Task
    oof: Predictions  # [N], [N, C]
    targets: NDArray[np.uint8]  # [N, C], the truth of oof
    answers: NDArray[np.float32]  # [N, C], what the run's rule makes of oof

    def part(self, name: str) -> dict[str, Any]:
        """One part of the summary, empty where the summary has none."""
        return self.summary.get(name) or {}


def read_run_record(folder: Path, competition: Competition) -> RunRecord:
    """Reads what there is; what is not there yet is empty."""
    settings, summary = (read_fields(folder / f"{name}.json") for name in ("config", "summary"))
    folds = dict[str, int]()
    if (folder / "folds.csv").is_file():
        table = pd.read_csv(folder / "folds.csv", dtype={"id": str}, keep_default_na=False)
        folds = dict(zip(table["id"], table["fold"].astype(int), strict=True))
    task = competition.task
    oof = Predictions(np.array([], np.str_), np.zeros((0, len(task.classes)), np.float32))
    if (folder / "oof.npz").is_file():
        oof = read_predictions(folder / "oof.npz")
    labels = competition.train.set_index("id")["label"].reindex(oof.ids.tolist())
    known = labels.notna().to_numpy()
    oof = Predictions(oof.ids[known], oof.probs[known])
    targets = encode_targets(labels[known].tolist(), len(task.classes))
    answers = apply_rule(find_rule(summary, task), oof.probs)
    curves, truths = read_histories(folder), read_truths(folder)
    questions = list[Question]()
    with suppress(ValueError):  # half a report is better than none
        questions = read_questions(folder)
    return RunRecord(
        summary, settings, folds, curves, truths, questions, task, oof, targets, answers
    )


def read_fields(path: Path) -> dict[str, Any]:
    """What a JSON file says by name; nothing where there is no file."""
    fields: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return fields


def read_truths(folder: Path) -> dict[int, dict[str, Any]]:
    """What was found of batch norm in each fold that examined it, in the order of folds."""
    found = dict[int, dict[str, Any]]()
    for path in folder.glob("fold*/truth.json"):
        with suppress(OSError, ValueError):  # half a report is better than none
            truth = json.loads(path.read_text(encoding="utf-8"))
            if path.parent.name[4:].isdecimal() and isinstance(truth, dict):
                found[int(path.parent.name[4:])] = truth
    return dict(sorted(found.items()))


def score_record(run: RunRecord, chosen: NDArray[np.bool_] | None = None) -> Score:
    """The score of the out-of-fold probabilities so far, or of the chosen ones."""
    rows = np.arange(len(run.oof.ids)) if chosen is None else np.flatnonzero(chosen)
    return score_predictions(run.task, run.targets[rows], run.answers[rows], run.oof.probs[rows])


def measure_folds(run: RunRecord) -> dict[int, dict[str, Any]]:
    """The summary's figures for each fold, or those of the out-of-fold probabilities so far."""
    scores = {
        int(row["fold"]): dict(row) for row in run.summary.get("folds") or [] if "fold" in row
    }
    if scores:
        return scores
    fold_of = np.array([run.folds.get(image_id, -1) for image_id in run.oof.ids.tolist()])
    return {
        int(fold): score_record(run, fold_of == fold)._asdict()
        for fold in np.unique(fold_of[fold_of >= 0])
    }
