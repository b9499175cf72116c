"""Summary: the run in figures

summary.json is for programs: what was found, what was reached, how long it took and with what.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from podium.competition import Competition
from podium.config import Config
from podium.events import Reporter, clean_values
from podium.metrics import Score, score_probs, wilson_interval
from podium.pixels import Images
from podium.predictions import Predictions, average_predictions, join_predictions
from podium.runtime import Runtime, read_versions
from podium.settings import SOURCE
from podium.storage import write_whole


def score_images(table: pd.DataFrame, predictions: Predictions) -> Score:
    """Scores predictions against the labels of a table that holds their ids."""
    labels = table.set_index("id")["label"].loc[predictions.ids.tolist()].to_numpy(np.int64)
    return score_probs(labels, predictions.probs)


def score_single_models(table: pd.DataFrame, answers: Sequence[Predictions]) -> Score:
    """The mean score of each member by itself on one table: what out-of-fold figures foretell.

    Members answer the same images, so the interval counts each image once.
    """
    score, n = score_images(table, join_predictions(answers)), len(answers[0].ids)
    return score._replace(n=n, interval=wilson_interval(score.accuracy * n, n))


def score_fields(score: Score) -> dict[str, Any]:
    """A score as JSON holds it."""
    return {**score._asdict(), "interval": list(score.interval)}


def format_score(score: Score) -> str:
    """A score as a line of the log shows it."""
    low, high = score.interval
    sure = f"{score.accuracy:.4f} (95 %: {low:.4f} to {high:.4f})"
    return f"accuracy {sure}, log loss {score.log_loss:.4f}"


def summarise_run(
    config: Config, runtime: Runtime, competition: Competition, report: Reporter, state: str
) -> dict[str, Any]:
    """What summary.json says of the run itself; its state is "running" or "complete"."""
    return {
        "run": {
            "state": state,
            "backend": runtime.backend,
            "accelerator": runtime.accelerator,
            "devices": len(runtime.devices),
            "source": SOURCE,
            "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(runtime.started)),
            "versions": read_versions(),
        },
        "metric": "accuracy",
        "classes": list(competition.classes),
        "counts": {
            "train": len(competition.train),
            "test": len(competition.test),
            "classes": len(competition.classes),
            "folds": config.folds.count,
        },
        "seconds": {"total": round(time.time() - runtime.started, 1)},
        "warnings": report.warnings,
    }


def summarise_scores(
    train: Images, test: Images, oof: Sequence[Predictions], answers: Sequence[Predictions]
) -> dict[str, Any]:
    """What summary.json says of accuracy, out of fold and, where the truth is known, on test.

    "test" is the average of all folds' models, which is submitted; "test_single" their mean score.
    """
    known = "label" in test.table
    blended = average_predictions(answers)
    return {
        "out_of_fold": score_fields(score_images(train.table, join_predictions(oof))),
        "test": score_fields(score_images(test.table, blended)) if known else None,
        "test_single": score_fields(score_single_models(test.table, answers)) if known else None,
        "folds": [
            {"fold": fold, **score_fields(score_images(train.table, part))}
            for fold, part in enumerate(oof)
        ],
        "unreadable": {"training": train.unreadable, "test": test.unreadable},
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_whole(path, json.dumps(clean_values(content), indent=1, allow_nan=False).encode())
