"""Evidence: whether answers are better than others, or only luckier

Two answers to the same images are compared on the metric itself, image by image, as their errors
are shared. A candidate is adopted only where the one-sided 95 % bound of its gain is above zero
and a toss of coins would seldom do as well, so that of candidates that change nothing at most one
in twenty is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import beta, binom, rankdata

from podium.metrics import (
    DRAWS,
    METRICS,
    bootstrap_scores,
    score_answers,
    split_draws,
    weigh_scores,
)
from podium.tallies import Answers, Doubles, Truth, combine_mean, find_named
from podium.task import Task

DOUBT = 0.05  # how often a candidate that changes nothing may be adopted
POWER = 0.8  # how often a detectable gain is shown
SHOWN = 1.644854 + 0.841621  # standard errors that it is, where those are known well
ROUNDING = 1e-12  # scores that differ by less do so by rounding


class Comparison(NamedTuple):
    """What a candidate gains over plain answers to n images (or repeats), in the metric's unit.

    A gain is positive where the candidate is better, also of metrics that fall as answers improve.
    `low` and `high` bound it with 95 % confidence each; p is one-sided. `detectable` is the true
    gain that so many images would show four times in five.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    adopted: bool
    detectable: float


def pass_gate(
    n: int, gain: float, p: float, low: float, high: float, detectable: float
) -> Comparison:
    """The gate: a candidate is adopted where its gain's bound is above zero, and p below 5 %."""
    adopted = bool(gain > 0 and low > 0 and p < DOUBT)
    return Comparison(n, float(gain), float(low), float(high), float(p), adopted, float(detectable))


def compare_answers(
    task: Task,
    targets: Truth,
    plain: Answers,
    candidate: Answers,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares two answers to the same images, which count as independent: [N, C] each.

    Accuracy by McNemar's exact test. Of another metric p is the randomisation test's, which is to
    it what McNemar's is to accuracy; its bounds are Student's where it is a mean over images, else
    those of a paired bootstrap. Where the metric is not defined nothing is adopted. Raises
    ValueError on what has no score.
    """
    metric, n = METRICS[task.metric], len(targets)
    sign = 1 if metric.higher_is_better else -1
    before, after = (score_answers(task, targets, answers) for answers in (plain, candidate))
    gain = sign * (after - before)
    if np.array_equal(plain, candidate):
        return pass_gate(n, gain, 1.0, 0.0, 0.0, 0.0)
    if not np.isfinite(gain):
        return pass_gate(n, gain, 1.0, np.nan, np.nan, np.nan)
    if task.metric == "accuracy":
        return count_changes(n, *count_flips(task, targets, plain, candidate))
    mixed = score_mixtures(task, targets, plain, candidate, draws, seed)
    p = (1 + (sign * mixed >= sign * after - ROUNDING).sum()) / (1 + draws)
    if metric.tally is not None and metric.combine is combine_mean:
        one, other = (metric.tally(task, targets, answers) for answers in (plain, candidate))
        return pass_gate(n, gain, p, *bound_mean(sign * (other - one)[:, 0], 1 / n))
    return judge_draws(n, gain, sign * draw_gains(task, targets, plain, candidate, draws, seed), p)


def count_flips(task: Task, targets: Truth, plain: Answers, candidate: Answers) -> tuple[int, int]:
    """Counts the images that only the candidate names rightly, and those that only the plain one.

    What an answer names is what it decides, or the classes that it holds for the likeliest.
    """
    decided = METRICS[task.metric].takes == "decisions"
    right, righter = (
        (targets == (answers if decided else find_named(task, answers))).all(axis=1)
        for answers in (plain, candidate)
    )
    return int((righter > right).sum()), int((righter < right).sum())


def count_changes(n: int, fixed: int, broken: int) -> Comparison:
    """Compares accuracies by the images that changed sides, exactly (McNemar 1947).

    The bounds are Clopper and Pearson's of the share of fixed images among those, so that low > 0
    and p < 0.05 are one statement.
    """
    changed = fixed + broken
    least = beta.ppf(DOUBT, fixed, broken + 1) if fixed else 0.0
    most = beta.ppf(1 - DOUBT, fixed + 1, broken) if broken else 1.0
    low, high = (changed * (2 * share - 1) / n for share in (least, most))
    error = np.sqrt(changed - (fixed - broken) ** 2 / n) / n
    return pass_gate(
        n, (fixed - broken) / n, binom.sf(fixed - 1, changed, 0.5), low, high, SHOWN * error
    )


def score_mixtures(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, draws: int, seed: int
) -> Doubles:
    """The metric's values on mixtures, each image's answer being one of the two by a coin: [D].

    If it does not matter which answer is whose, the candidate is one mixture like any other (Fisher
    1935). For AUC the answers are ranks, so that both are on one scale.
    """
    if METRICS[task.metric].tally is None:
        plain, candidate = rankdata(plain, axis=0), rankdata(candidate, axis=0)
    changed = (plain != candidate).any(axis=1)
    both = np.concatenate([plain, candidate[changed]])
    truth = np.concatenate([targets, targets[changed]])
    return weigh_scores(task, truth, both, toss_weights(changed, draws, seed))


def toss_weights(changed: NDArray[np.bool_], draws: int, seed: int) -> Iterator[Doubles]:
    """Weights of N answers and of M others to the changed images, either of which counts.

    Blocks [N + M, d] of some of the draws.
    """
    dice = np.random.default_rng(seed)
    others = int(changed.sum())
    for width in split_draws(len(changed) + others, draws):
        coins = dice.integers(0, 2, (others, width)).astype(np.float64)
        kept = np.ones((len(changed), width))
        kept[changed] = 1 - coins
        yield np.concatenate([kept, coins])


def draw_gains(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, draws: int, seed: int
) -> Doubles:
    """What the candidate's score has over the plain one's on bootstrap draws of the images: [D]."""
    one, other = (
        bootstrap_scores(task, targets, answers, draws, seed) for answers in (plain, candidate)
    )
    return other - one


def judge_draws(n: int, gain: float, gains: Doubles, p: float | None = None) -> Comparison:
    """Compares by the gains of bootstrap draws [D]; draws without a score are left out.

    p is the share of draws that gain nothing, unless a test that says more gives it.
    """
    gains = gains[np.isfinite(gains)]
    if len(gains) == 0 or not np.isfinite(gain):
        return pass_gate(n, gain, 1.0, np.nan, np.nan, np.nan)
    if p is None:
        p = (1 + (gains <= 0).sum()) / (1 + len(gains))
    low, high = np.quantile(gains, [DOUBT, 1 - DOUBT])
    return pass_gate(n, gain, p, low, high, SHOWN * gains.std())


def compare_repeats(differences: Doubles, validated: float, trained: float) -> Comparison:
    """Compares by what R repeats of a training gain, on other folds or with other seeds.

    Their training images overlap, so that they differ less than new ones would: Student's t with
    the variance corrected by validated over trained images (Nadeau and Bengio 2003, Machine
    Learning 52:239). Repeats that all gain the same do not tell how sure that is.
    """
    repeats, share = len(differences), 1 / len(differences) + validated / trained
    gain, p = float(np.mean(differences)), 1.0
    if np.ptp(differences) > ROUNDING:
        error = np.std(differences, ddof=1) * np.sqrt(share)
        p = stdtr(repeats - 1, -gain / error)
    return pass_gate(repeats, gain, p, *bound_mean(differences, share))


def bound_mean(values: Doubles, share: float) -> tuple[float, float, float]:
    """Student's bounds of a mean, one-sided 95 % each, and the true mean that would be shown.

    `share` is what part of the values' variance the mean's is: 1 / n for n independent ones.
    """
    if len(values) < 2:
        return np.nan, np.nan, np.nan
    error, free = values.std(ddof=1) * np.sqrt(share), len(values) - 1
    half, more = (stdtrit(free, chance) * error for chance in (1 - DOUBT, POWER))
    return values.mean() - half, values.mean() + half, half + more


def find_paired_error(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, seed: int = 0
) -> float:
    """The standard error of what a candidate gains, [N, C] answers each; NaN without a score."""
    gains = draw_gains(task, targets, plain, candidate, DRAWS, seed)
    gains = gains[np.isfinite(gains)]
    return float(gains.std()) if len(gains) else np.nan
