"""Adaptive: more views only for images that are still undecided

Most images are clear after a few views, and some never are. After each round every image has
votes; where the leading class can be expected to keep a majority, however many views follow, it
is done (Aggarwal et al. 2023, arXiv 2305.11860). Votes decide when to stop; the answer is the
mean of the probabilities that were given.

Shapes: N images, C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

FIRST_VIEWS, ROUND = 6, 3  # that every image gets; and then one that is undecided, at a time
UNSURE = 0.05  # how likely the leading class may lose its majority where an image is done

# Asked for the number of a view and rows [n], a model answers with probabilities [n, C].
AnswerView = Callable[[int, NDArray[np.int64]], NDArray[np.float32]]


class Gathered(NamedTuple):
    """What adaptive views say of each image, and how many it took."""

    probs: NDArray[np.float32]  # [N, C]
    taken: NDArray[np.int64]  # [N], views
    undecided: NDArray[np.bool_]  # [N], after all there may be


def gather_views(
    answer: AnswerView,
    rows: NDArray[np.int64],
    most: int,
    *,
    exclusive: bool,
    unsure: float = UNSURE,
) -> Gathered:
    """Asks for one view after the other, each only of rows [N] that are undecided, `most` at most.

    Raises ValueError without a view to ask for.
    """
    if most < 1:
        raise ValueError(f"at least one view must be taken, not {most}")
    active, taken = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    sums = votes = np.zeros((len(rows), 0))
    for view in range(most):
        probs = answer(view, rows[active])
        if not sums.shape[1]:
            sums, votes = (np.zeros((len(rows), probs.shape[1])) for _ in range(2))
        sums[active] += probs
        votes[active] += cast_votes(probs, exclusive=exclusive)
        taken[active] += 1
        if is_round(view + 1, most):
            sure = find_certainty(votes[active], view + 1, exclusive=exclusive)
            active = active[sure < 1 - unsure]
        if not len(active):
            break
    undecided = np.isin(np.arange(len(rows)), active)
    return Gathered((sums / np.maximum(taken, 1)[:, None]).astype(np.float32), taken, undecided)


def is_round(views: int, most: int) -> bool:
    """Is it counted after so many views? Who counts after each one stops at the first swing."""
    whole = views >= FIRST_VIEWS and (views - FIRST_VIEWS) % ROUND == 0
    return whole or views == most > FIRST_VIEWS


def cast_votes(probs: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.bool_]:
    """The classes that one view votes for: [n, C]; the likeliest one where they are exclusive."""
    if not exclusive:
        return probs > 0.5
    return np.asarray(np.arange(probs.shape[1]) == probs.argmax(axis=1)[:, None])


def find_certainty(
    votes: NDArray[np.float64], views: int, *, exclusive: bool
) -> NDArray[np.float64]:
    """How surely each image's answer stays with more views: [n, C] votes to [n].

    That is P(Beta(n1 + 1, n2 + 1) > 1/2) of the votes for the two classes ahead; where classes do
    not exclude each other, of those for and against the class that is least clear.
    """
    if exclusive:
        second, first = np.partition(votes, -2, axis=1)[:, -2:].T
    else:
        first = np.maximum(votes, views - votes).min(axis=1)
        second = views - first
    return np.asarray(betainc(second + 1, first + 1, 0.5))
