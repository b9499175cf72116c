"""Evidence: whether answers are better than others, or only luckier

Two answers to the same images are compared on the metric itself, image by image, as their errors
are shared. A candidate is adopted only where the one-sided 95 % bound of its gain is above zero,
so that of candidates that change nothing at most one in twenty is.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import beta, binom

from podium.metrics import DRAWS, METRICS, bootstrap_scores, score_answers
from podium.tallies import Answers, Doubles, Truth
from podium.task import Task

DOUBT = 0.05  # how often a candidate that changes nothing may be adopted


class Comparison(NamedTuple):
    """What a candidate gains over plain answers to n images, in the metric's unit.

    A gain is positive where the candidate is better, also of metrics that fall as answers improve.
    `low` and `high` bound it with 95 % confidence each; p is one-sided.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    adopted: bool


def compare_answers(
    task: Task,
    targets: Truth,
    plain: Answers,
    candidate: Answers,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares two answers to the same images: [N, C] each.

    By McNemar's exact test for accuracy, else by a paired bootstrap over images, which takes them
    for independent. Where the metric is not defined nothing is adopted. Raises ValueError on what
    has no score.
    """
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    before, after = (score_answers(task, targets, answers) for answers in (plain, candidate))
    if np.array_equal(plain, candidate):
        return Comparison(len(targets), sign * (after - before), 0.0, 0.0, 1.0, adopted=False)
    if task.metric == "accuracy":
        right, righter = ((targets == answers).all(axis=1) for answers in (plain, candidate))
        return count_changes(
            len(targets), int((righter > right).sum()), int((righter < right).sum())
        )
    one, other = (
        bootstrap_scores(task, targets, answers, draws, seed) for answers in (plain, candidate)
    )
    return judge_draws(len(targets), sign * (after - before), sign * (other - one))


def find_paired_error(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, seed: int = 0
) -> float:
    """The standard error of what a candidate gains, [N, C] answers each; NaN without a score."""
    one, other = (
        bootstrap_scores(task, targets, answers, seed=seed) for answers in (plain, candidate)
    )
    gains = (other - one)[np.isfinite(other - one)]
    return float(gains.std()) if len(gains) else np.nan


def count_changes(n: int, fixed: int, broken: int) -> Comparison:
    """Compares accuracies by the images that changed sides, exactly (McNemar 1947).

    The bounds are Clopper and Pearson's of the share of fixed images among those, so that low > 0
    and p < 0.05 are one statement.
    """
    changed = fixed + broken
    least = beta.ppf(DOUBT, fixed, broken + 1) if fixed else 0.0
    most = beta.ppf(1 - DOUBT, fixed + 1, broken) if broken else 1.0
    low, high = (float(changed * (2 * share - 1) / n) for share in (least, most))
    p = float(binom.sf(fixed - 1, changed, 0.5))
    return Comparison(n, (fixed - broken) / n, low, high, p, adopted=p < DOUBT)


def judge_draws(n: int, difference: float, gains: Doubles) -> Comparison:
    """Compares by the gains of paired bootstrap draws [D]; draws without a score are left out."""
    gains = gains[np.isfinite(gains)]
    if len(gains) == 0 or not np.isfinite(difference):
        return Comparison(n, difference, np.nan, np.nan, 1.0, adopted=False)
    low, high = (float(bound) for bound in np.quantile(gains, [DOUBT, 1 - DOUBT]))
    p = float((1 + (gains <= 0).sum()) / (1 + len(gains)))
    return Comparison(n, difference, low, high, p, adopted=low > 0 and difference > 0)
