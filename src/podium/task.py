"""Task: what is asked of each image

Shapes: N images, C classes.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

# What the cells of a submission hold: a class, a list of classes, the probability of the last
# class, the probability of each class, the most probable classes from the first to the last.
AnswerKind = Literal["label", "labels", "probability", "probabilities", "ranking"]
# fmt: off
MetricName = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "samples_f1",
    "log_loss", "auc", "qwk", "map", "pf1",
]
# fmt: on


class Task(NamedTuple):
    """What is asked of each image, and how the answers are judged."""

    answer: AnswerKind
    classes: tuple[str, ...]  # [C]
    exclusive: bool = True  # an image has one class; else any number of them
    metric: MetricName = "accuracy"
    ranks: int = 5  # classes in a ranking


def infer_metric(answer: AnswerKind, exclusive: bool) -> MetricName:
    """The metric that competitions with such answers use most: a guess to be confirmed."""
    if answer == "probabilities":
        return "log_loss" if exclusive else "auc"
    usual: dict[AnswerKind, MetricName] = {
        "label": "accuracy",
        "labels": "samples_f1",
        "probability": "auc",
        "ranking": "map",
    }
    return usual[answer]


def encode_targets(labels: NDArray[Any] | Sequence[Any], classes: int) -> NDArray[np.uint8]:
    """Lays labels out as ones and zeros: [N, C].

    A label is the index of a class or, where an image may have several, a tuple of indices.
    """
    labels = np.asarray(labels) if len(labels) == 0 else labels
    targets = np.zeros((len(labels), classes), np.uint8)
    if len(labels) and isinstance(labels[0], tuple):
        counts = [len(label) for label in labels]
        columns = np.fromiter(chain.from_iterable(labels), np.int64, sum(counts))
        targets[np.repeat(np.arange(len(labels)), counts), columns] = 1
    else:
        targets[np.arange(len(labels)), np.asarray(labels, np.int64)] = 1
    return targets
