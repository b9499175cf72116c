"""Member facts: what each member is worth to a blend, and how much of its errors is its own

Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8, folds [N] int64.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.blends import Blend, Fit, weigh_by_accuracy
from podium.ensemble import Nest, divide
from podium.evidence import DOUBT, Comparison, compare_answers
from podium.members import Members, fill_gaps, find_told
from podium.metrics import Score, score_predictions
from podium.rules import apply_rule, plain_rule
from podium.tallies import Doubles, Truth
from podium.task import Task

REFITS = 50  # of a bootstrap of weights


class MemberFact(NamedTuple):
    """A member's score by itself, by the plain rule; its weight, and what leaving it out gains.

    Weights are shares of their sum; `low` and `high` bound them with 95 % confidence each, where
    they are fitted.
    """

    score: Score
    weight: float
    low: float
    high: float
    by_accuracy: float  # the weight that its accuracy would give it
    without: Comparison | None  # of the blend without it over that with it; None of one alone


def describe_members(
    task: Task,
    targets: Truth,
    members: Members,
    folds: NDArray[np.int64],
    fitted: tuple[Fit, Blend],
) -> list[MemberFact]:
    """What there is to know of each member of a blend, and of the fit that made its weights."""
    fit, blend = fitted
    filled, rule, shares = fill_gaps(members), plain_rule(task), share_out(blend)
    low, high = bound_weights(task, targets, members, fit)
    useless = weigh_by_accuracy(task, targets, members).weights
    left_out = leave_out(task, targets, members, folds, fit)
    scores = [score_predictions(task, targets, apply_rule(rule, one), one) for one in filled]
    rows = zip(scores, shares, low, high, useless, left_out, strict=True)
    return [MemberFact(*row) for row in rows]


def share_out(blend: Blend) -> Doubles:
    """The weights as shares of their sum: [M]."""
    weights = np.array(blend.weights)
    return np.asarray(weights / max(weights.sum(), 1e-9))


def bound_weights(
    task: Task, targets: Truth, members: Members, fit: Fit, refits: int = REFITS
) -> tuple[Doubles, Doubles]:
    """Bounds of weights that are fitted again on images drawn with replacement: [M] each."""
    dice, n = np.random.default_rng(0), len(targets)
    draws = (dice.integers(0, n, n) for _ in range(refits))
    shares = [share_out(fit(task, targets[rows], members[:, rows])) for rows in draws]
    low, high = np.quantile(shares, [DOUBT, 1 - DOUBT], axis=0)
    return low, high


def leave_out(
    task: Task, targets: Truth, members: Members, folds: NDArray[np.int64], fit: Fit
) -> list[Comparison | None]:
    """What the blend gains without each member, all fitted without the fold they answer: [M]."""
    if len(members) == 1:
        return [None]
    parts = divide(folds)

    def answer(some: Members) -> NDArray[np.float32]:
        nest = Nest(task, targets, some, parts, {"": fit})
        return nest.decide(nest.answer(""))

    whole = answer(members)
    others = (np.delete(members, place, axis=0) for place in range(len(members)))
    return [compare_answers(task, targets, whole, answer(some)) for some in others]


def correlate_errors(task: Task, targets: Truth, members: Members) -> Doubles:
    """How members' errors go together, image by image: [M, M], 1 of a member with itself.

    An error is what a member's probability of the truth lacks to one. Errors that do not vary go
    together with none.
    """
    errors = 1 - find_told(task, targets, fill_gaps(members))
    errors -= errors.mean(axis=1, keepdims=True)
    sizes = np.sqrt((errors**2).sum(axis=1))
    sizes[sizes == 0] = np.inf
    found = errors @ errors.T / np.outer(sizes, sizes)
    np.fill_diagonal(found, 1)
    return np.asarray(found.clip(-1, 1))
