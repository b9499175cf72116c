"""Competitions without files, one for each kind of answer."""

import numpy as np
import pandas as pd

from podium.competition import Competition
from podium.predictions import Predictions
from podium.task import AnswerKind, Task

CLASSES = ("10", "2", "NA")


def make_competition(ids: list[str], kind: AnswerKind, exclusive: bool = True) -> Competition:
    """Four training images."""
    exclusive = kind != "labels" and (exclusive or kind != "probabilities")
    classes = CLASSES[:2] if kind == "probability" else CLASSES
    labels = [2, 2, 0, 1] if exclusive else [(0,), (0,), (0, 2), ()]
    if kind == "probability":
        labels = [0, 0, 0, 1]
    columns = list(CLASSES) if kind == "probabilities" else ["label"]
    return Competition(
        train=pd.DataFrame({"id": list("abcd"), "path": "p", "label": pd.Series(labels)}),
        test=pd.DataFrame({"id": ids, "path": ids}),
        task=Task(kind, classes, exclusive, ranks=2),
        sample=pd.DataFrame({"id": ids} | dict.fromkeys(columns, "0")),
        notes=(),
    )


def make_predictions(ids: list[str], classes: int, seed: int = 0) -> Predictions:
    """Random probabilities that sum to one."""
    probs = np.random.default_rng(seed).dirichlet(np.ones(classes), len(ids))
    return Predictions(np.array(ids, np.str_), probs.astype(np.float32))
