"""Metrics: how good the probabilities are, and how sure that figure is

Shapes throughout: labels [N] int64, probs [N, C] float32 with rows that sum to 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


class Score(NamedTuple):
    """Accuracy with its 95 % interval, and log loss in nats, over n images."""

    n: int
    accuracy: float
    interval: tuple[float, float]
    log_loss: float


def score_probs(labels: NDArray[np.int64], probs: NDArray[np.float32]) -> Score:
    """Scores probabilities against the truth; raises ValueError if there is nothing to score."""
    if len(labels) == 0 or len(labels) != len(probs):
        raise ValueError(f"cannot score {len(probs)} predictions against {len(labels)} labels")
    right = int(np.sum(probs.argmax(axis=1) == labels))
    n = len(labels)
    return Score(n, right / n, wilson_interval(right, n), log_loss(labels, probs))


def log_loss(labels: NDArray[np.int64], probs: NDArray[np.float32]) -> float:
    """Mean negative log-likelihood in nats; probabilities are clipped at 1e-7."""
    truth = probs[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(truth, 1e-7, 1.0)).mean())


def wilson_interval(right: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share, sound near 0 and 1 too (Wilson 1927, JASA 22:209)."""
    share, z2 = right / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def count_confusions(
    labels: NDArray[np.int64], predicted: NDArray[Any], classes: int
) -> NDArray[np.int64]:
    """Counts images by true class (rows) and predicted class (columns): [C, C]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
