"""A run that mixes up cats and dogs: its out-of-fold probabilities and what was true."""

import numpy as np
import pandas as pd

from podium.competition import Competition
from podium.predictions import Predictions
from podium.record import RunRecord
from podium.rules import apply_rule, plain_rule
from podium.task import Task, encode_targets

CLASSES = ("cat", "dog", "cow")
ONE = Task("label", CLASSES)
SEVERAL = Task("labels", CLASSES, exclusive=False, metric="samples_f1")
LABELS = [0, 0, 1, 1, 2]
PROBS = np.array(
    [[0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.2, 0.7, 0.1], [0.0, 0.6, 0.4], [0.3, 0.3, 0.4]],
    np.float32,
)
MANY = [(0, 1), (0,), (), (1, 2), (2,)]


def record(task: Task, labels: list) -> RunRecord:
    """The record of a run whose out-of-fold probabilities are PROBS."""
    ids = np.array([f"i{row}" for row in range(len(labels))], np.str_)
    oof = Predictions(ids, PROBS[: len(labels)])
    answers = apply_rule(plain_rule(task), oof.probs)
    return RunRecord({}, {}, {}, {}, {}, [], task, oof, encode_targets(labels, 3), answers)


def compete(task: Task, labels: list) -> Competition:
    ids = [f"i{row}" for row in range(len(labels))]
    table = pd.DataFrame({"id": ids, "path": [f"no/{one}.png" for one in ids], "label": labels})
    return Competition(table, table, task, table, ())
