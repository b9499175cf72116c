"""Metrics: how good the answers are, and how sure that figure is

Shapes throughout: N images, C classes, D draws; targets [N, C] uint8; answers [N, C], which are
decisions (ones and zeros), or probabilities; labels [N] int64; probs [N, C] float32.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.tallies import (
    Answers,
    Doubles,
    Truth,
    combine_f1,
    combine_kappa,
    combine_macro_f1,
    combine_mean,
    combine_recalls,
    tally_classes,
    tally_grades,
    tally_last,
    tally_matches,
    tally_pooled,
    tally_ranks,
    tally_samples,
    tally_surprise,
    weigh_auc,
)
from podium.task import AnswerKind, MetricName, Task

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution
DRAWS = 1000  # of a bootstrap
WEIGHTS_AT_ONCE = 4_000_000  # 32 MB


class Metric(NamedTuple):
    """A metric as people call it, what it judges, and how it is worked out.

    `tally` says what each image adds, [N, K], and `combine` makes scores [D] of means [D, K]. Of
    "order" it matters only which answers are higher, so that any real numbers will do.
    """

    title: str
    takes: Literal["decisions", "probabilities", "order"]
    fits: tuple[AnswerKind, ...]
    tally: Callable[[Task, Truth, Answers], Any] | None  # AUC has none
    combine: Callable[[Doubles], Doubles] = combine_mean
    higher_is_better: bool = True
    perfect: float = 1.0


# fmt: off
METRICS: dict[MetricName, Metric] = {
    "accuracy": Metric("accuracy", "decisions", ("label", "labels"), tally_matches),
    "balanced_accuracy":
        Metric("balanced accuracy", "decisions", ("label",), tally_classes, combine_recalls),
    "macro_f1":
        Metric("macro F1", "decisions", ("label", "labels"), tally_classes, combine_macro_f1),
    "micro_f1": Metric("micro F1", "decisions", ("label", "labels"), tally_pooled, combine_f1),
    "samples_f1": Metric("mean F1 of images", "decisions", ("labels",), tally_samples),
    "log_loss":
        Metric("log loss", "probabilities", ("probability", "probabilities"), tally_surprise,
               higher_is_better=False, perfect=0.0),
    "auc": Metric("mean column-wise AUC", "order", ("probability", "probabilities"), None),
    "qwk":
        Metric("quadratic weighted kappa", "decisions", ("label",), tally_grades, combine_kappa),
    "map": Metric("mean average precision", "order", ("ranking",), tally_ranks),
    "pf1": Metric("probabilistic F1", "probabilities", ("probability",), tally_last, combine_f1),
}
# fmt: on


class Score(NamedTuple):
    """A metric's value with its 95 % interval, and log loss in nats, over n images."""

    n: int
    metric: MetricName
    value: float
    interval: tuple[float, float]
    log_loss: float


def score_predictions(task: Task, targets: Truth, answers: Answers, probs: Answers) -> Score:
    """Scores answers by the task's metric, and the probabilities behind them by log loss.

    The interval is Wilson's for accuracy, else the middle 95 % of bootstrap draws. Where AUC is not
    defined, value and interval are NaN. Raises ValueError if there is nothing to score.
    """
    value = score_answers(task, targets, answers)
    surprise = score_answers(task._replace(metric="log_loss"), targets, probs)
    if task.metric == "accuracy":
        interval = wilson_interval(round(value * len(targets)), len(targets))
    else:
        interval = find_interval(value, bootstrap_scores(task, targets, answers))
    return Score(len(targets), task.metric, value, interval, surprise)


def score_answers(task: Task, targets: Truth, answers: Answers) -> float:
    """The metric's value; NaN where AUC is not defined. Raises ValueError on what has no score."""
    check_answers(task, targets, answers)
    return float(weigh_scores(task, targets, answers, [np.ones((len(targets), 1))])[0])


def bootstrap_scores(
    task: Task, targets: Truth, answers: Answers, draws: int = DRAWS, seed: int = 0
) -> Doubles:
    """The metric's value on each of D samples of the images, drawn with replacement: [D].

    The same seed draws the same images, whatever the answers: scores of two answers are paired.
    """
    check_answers(task, targets, answers)
    return weigh_scores(task, targets, answers, draw_weights(len(targets), draws, seed))


def weigh_scores(task: Task, targets: Truth, answers: Answers, weights: Any) -> Doubles:
    """The metric's values where images count as often as blocks of weights [N, d] say: [D]."""
    metric = METRICS[task.metric]
    if metric.tally is None:
        return np.concatenate([weigh_auc(targets, answers, block) for block in weights])
    tally = metric.tally(task, targets, answers).T
    means = [np.asarray(tally @ block).T / block.sum(axis=0)[:, None] for block in weights]
    return metric.combine(np.concatenate(means))


def draw_weights(n: int, draws: int, seed: int) -> Iterator[Doubles]:
    """How often each of n images is drawn, in blocks [n, d] of some of the draws."""
    dice = np.random.default_rng(seed)
    for width in split_draws(n, draws):
        cells = dice.integers(0, n, (n, width)) * width + np.arange(width)
        yield np.bincount(cells.ravel(), minlength=n * width).reshape(n, width).astype(np.float64)


def split_draws(n: int, draws: int) -> Iterator[int]:
    """Widths of blocks of draws of n images, none of which takes much memory."""
    at_once = max(1, WEIGHTS_AT_ONCE // n)
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


def find_interval(value: float, scores: Doubles) -> tuple[float, float]:
    """The middle 95 % of draws, widened to hold the value itself; NaN where no draw has a score."""
    scores = scores[np.isfinite(scores)]
    if len(scores) == 0:
        return np.nan, np.nan
    low, high = np.quantile(scores, [0.025, 0.975])
    return min(float(low), value), max(float(high), value)


def check_answers(task: Task, targets: Truth, answers: Answers) -> None:
    """Raises ValueError, saying why, unless the metric is defined for such answers."""
    if len(targets) == 0 or len(targets) != len(answers):
        raise ValueError(f"cannot score {len(answers)} predictions against {len(targets)} labels")
    if targets.ndim != 2 or targets.shape != answers.shape:
        raise ValueError(
            f"cannot score answers of shape {answers.shape} against truth of {targets.shape}"
        )
    if not np.isfinite(answers).all():
        rows = int((~np.isfinite(answers)).any(axis=1).sum())
        raise ValueError(f"the answers to {rows} of {len(answers)} images are not finite numbers")
    if task.exclusive and not (targets.sum(axis=1) == 1).all():
        raise ValueError("each image must have one class, for the task's classes are exclusive")
    check_range(task, answers)


def check_range(task: Task, answers: Answers) -> None:
    """Raises ValueError where decisions are not ones and zeros, or probabilities beyond them."""
    takes = METRICS[task.metric].takes
    if takes == "decisions" and not ((answers == 0) | (answers == 1)).all():
        raise ValueError(
            f"{METRICS[task.metric].title} judges decisions, ones and zeros, but was given others; "
            "let a rule decide first"
        )
    if takes == "probabilities" and not (answers.min() >= 0 and answers.max() <= 1):
        raise ValueError(
            f"{METRICS[task.metric].title} judges probabilities, but was given "
            f"{answers.min():.4g} to {answers.max():.4g}"
        )


def name_one_sided(task: Task, targets: Truth) -> list[str]:
    """The classes that AUC leaves out, because all images have them, or none."""
    counts = targets.sum(axis=0, dtype=np.int64)
    return [task.classes[at] for at in np.flatnonzero((counts == 0) | (counts == len(targets)))]


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
