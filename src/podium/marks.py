"""Marks: how well a model answers images whose labels are known"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.metrics import score_answers
from podium.rules import apply_rule, plain_rule
from podium.task import Task


class Marks(NamedTuple):
    """Log loss in nats, accuracy, and the competition's metric by the plain rule."""

    loss: float
    accuracy: float  # of several classes: the share of all questions answered rightly
    metric: float  # NaN where it is not defined


def mark_probs(probs: NDArray[np.float32], truth: NDArray[np.uint8], task: Task) -> Marks:
    """The marks of probabilities [N, C] against their truth [N, C]."""
    if task.exclusive:
        right = probs.argmax(axis=1) == truth.argmax(axis=1)
    else:
        right = (probs > 0.5) == truth.astype(bool)
    answers = apply_rule(plain_rule(task), probs)
    loss = score_answers(task._replace(metric="log_loss"), truth, probs)
    return Marks(loss, float(right.mean()), score_answers(task, truth, answers))
