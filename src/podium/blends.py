"""Blends: what several models, or several views of an image, answer together

Probabilities are averaged, or multiplied with exponents and scaled anew, or their ranks averaged.
The weights are fitted on out-of-fold answers; which of these fits to trust is the next section's.
Accuracies as weights are not among them: of .965 and .969 they make .499 and .501.

Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

from podium.greedy import Judge, rank_members, search_greedily
from podium.members import Members, fill_gaps, find_told, squash, sum_weighted, take_logits
from podium.tallies import Answers, Doubles, Truth, find_named
from podium.task import Task

EM_ROUNDS, EM_SETTLED = 500, 1e-5
RIDGE = 0.01  # nats by which a stack is worse for an exponent that is one off the mean's
MOST_POWER = 20.0  # and of an exponent: images that are all right would have them grow for ever


class Blend(NamedTuple):
    """How members become one: weights [M], none below zero, of a kind of mean.

    Those of "mean" and "rank" sum to 1, those of "geometric" need not. `power` sharpens the result
    where it is above 1: what multiplies its log probabilities, or its logits where an image may
    have several classes. A rank is one among the images that are answered together.
    """

    kind: Literal["mean", "geometric", "rank"]
    weights: tuple[float, ...]
    power: float = 1.0


Fit = Callable[[Task, Truth, Members], Blend]


def apply_blend(blend: Blend, members: Members, *, exclusive: bool) -> NDArray[np.float32]:
    """The probabilities of a blend: [N, C]; rows sum to 1 where an image has one class.

    Where members have no number, the mean of the others takes its place.
    """
    members = fill_gaps(members)
    if blend.kind == "geometric":
        logits = sum_weighted(blend.weights, take_logits(members, exclusive))
        return squash(blend.power * logits, exclusive).astype(np.float32)
    if blend.kind == "rank":
        members = rankdata(members, axis=1) / (members.shape[1] + 1)
    probs = sum_weighted(blend.weights, members)
    if exclusive:
        total = probs.sum(axis=1, keepdims=True)
        probs = np.divide(probs, total, np.full_like(probs, 1 / probs.shape[1]), where=total > 0)
    if blend.power != 1:
        probs = squash(blend.power * take_logits(probs, exclusive), exclusive)
    return np.minimum(probs, 1).astype(np.float32)


def spread_evenly(members: Members) -> tuple[float, ...]:
    """The same weight for all members."""
    return (1 / len(members),) * len(members)


def fit_uniform(_: Task, __: Truth, members: Members) -> Blend:
    """The mean."""
    return Blend("mean", spread_evenly(members))


def fit_geometric(_: Task, __: Truth, members: Members) -> Blend:
    """The mean of log probabilities, or of logits."""
    return Blend("geometric", spread_evenly(members))


def fit_ranks(_: Task, __: Truth, members: Members) -> Blend:
    """The mean of ranks, for metrics that ask how images are ordered, as AUC does."""
    return Blend("rank", spread_evenly(members))


def fit_single(task: Task, targets: Truth, members: Members) -> Blend:
    """The member that is best by itself on the metric."""
    best = rank_members(Judge(task, targets, members))[0]
    return Blend("mean", tuple(np.eye(len(members))[best].tolist()))


def fit_likelihood(task: Task, targets: Truth, members: Members) -> Blend:
    """The weights of lowest log loss, by expectation maximisation, which needs no derivative.

    The loss is convex, so there is one answer; no member by itself is better.
    """
    told = find_told(task, targets, fill_gaps(members))
    weights = np.array(spread_evenly(members))
    for _ in range(EM_ROUNDS):
        moved = weights * (told @ (1 / (weights @ told))) / told.shape[1]
        settled = np.abs(moved - weights).max() < EM_SETTLED
        weights = moved / moved.sum()
        if settled:
            break
    ends = [weights, *np.eye(len(members))]
    best = max(ends, key=lambda end: float(np.log(end @ told).mean()))
    return Blend("mean", tuple(best.tolist()))


def fit_greedy(task: Task, targets: Truth, members: Members) -> Blend:
    """The weights of a greedy search on the metric itself."""
    return Blend("mean", tuple(search_greedily(task, targets, members).tolist()))


def fit_stack(task: Task, targets: Truth, members: Members) -> Blend:
    """The exponents, none below zero, of lowest log loss; a ridge pulls them towards the mean's."""
    logits, start = (
        take_logits(fill_gaps(members), task.exclusive),
        np.array(spread_evenly(members)),
    )
    exponents = fit_exponents(task, targets, logits, start, RIDGE)
    return Blend("geometric", tuple(exponents.tolist()))


def fit_power(task: Task, targets: Truth, probs: Answers) -> float:
    """The power of lowest log loss for probabilities [N, C]: a temperature's inverse."""
    logits = take_logits(fill_gaps(probs[None]), task.exclusive)
    return float(fit_exponents(task, targets, logits, np.ones(1), 0.0)[0])


def fit_exponents(
    task: Task, targets: Truth, logits: Members, start: Doubles, ridge: float
) -> Doubles:
    """The multipliers [M] of logits [M, N, C] whose sum has the lowest log loss, in nats.

    The ridge is against squares of what they are off the start. The problem is convex.
    """
    flat, truth = logits.reshape(len(logits), -1), targets.astype(np.float64)
    cells = len(targets) if task.exclusive else targets.size

    def measure(weights: Doubles) -> tuple[float, Doubles]:
        heights = (weights @ flat).reshape(truth.shape)
        probs = squash(heights, task.exclusive)
        wrong = np.logaddexp(0, heights)
        if task.exclusive:
            top = heights.max(axis=1, keepdims=True)
            wrong = top + np.log(np.exp(heights - top).sum(axis=1, keepdims=True))
        off = weights - start
        loss = (wrong.sum() - (truth * heights).sum()) / cells + ridge * off @ off
        return float(loss), flat @ (probs - truth).ravel() / cells + 2 * ridge * off

    bounds = [(0.0, MOST_POWER)] * len(start)
    return np.asarray(minimize(measure, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


FITS: dict[str, Fit] = {
    "uniform": fit_uniform,
    "best single": fit_single,
    "log-loss weights": fit_likelihood,
    "greedy": fit_greedy,
    "geometric mean": fit_geometric,
    "geometric stack": fit_stack,
    "rank average": fit_ranks,
}


def list_fits(task: Task) -> dict[str, Fit]:
    """The fits worth trying for a task, uniform first: ranks only where order is all that counts.

    A ranking asks for the order of classes, not of images, so that it wants none either.
    """
    fits = dict(FITS)
    if task.metric != "auc":
        del fits["rank average"]
    return fits


def weigh_by_accuracy(task: Task, targets: Truth, members: Members) -> Blend:
    """Accuracies as weights, to be shown and not to be used: they hardly differ from each other."""
    named = [find_named(task, member) == targets for member in fill_gaps(members)]
    right = np.array([cells.all(axis=1).mean() for cells in named])
    total = right.sum()
    weights = right / total if total else np.array(spread_evenly(members))
    return Blend("mean", tuple(weights.tolist()))
