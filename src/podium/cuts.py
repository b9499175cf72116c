"""Cuts: where one grade ends and the next begins, for quadratic weighted kappa

An answered grade is the number of cuts at or below the expected grade. Its moments, and so kappa,
are sums over cuts of what lies above each; so one cut can be tried in all places at once.

Shapes: N images, C grades, P places where a cut may lie; targets [N, C] uint8, expected [N].
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.tallies import Doubles, Truth, combine_kappa

PLACES = 2000  # tried for a cut


class Places(NamedTuple):
    """Where a cut may lie, [P] from low to high, and the share and mean grade sum above each."""

    cuts: Doubles
    shares: Doubles  # of images that lie above
    sums: Doubles  # of their true grades, divided by N


def fit_cuts(targets: Truth, expected: Doubles) -> tuple[float, ...]:
    """The C − 1 cuts of expected grades that give the highest kappa, by coordinate search.

    It starts from the middles between grades, and from cuts that make each grade as frequent as it
    truly is; the better end counts.
    """
    classes, truth = targets.shape[1], targets.argmax(axis=1)
    places = list_places(truth, expected, classes)
    middles = np.searchsorted(places.cuts, np.arange(1, classes) - 0.5)
    above = [(truth >= grade).mean() for grade in range(1, classes)]
    quantiles = np.searchsorted(-places.shares, -np.array(above))
    ends = [move_cuts(places, truth, start) for start in (middles, quantiles)]
    best = max(ends, key=lambda end: float(score_cuts(places, truth, end)[0]))
    return tuple(places.cuts[best].tolist())


def list_places(truth: NDArray[np.int64], expected: Doubles, classes: int) -> Places:
    """Halfway between neighbouring expected grades, and beyond both ends; at most 2,000 or so."""
    order = np.argsort(expected, kind="stable")
    grades, n = expected[order], len(order)
    steps = np.flatnonzero(np.diff(grades) > 0) + 1
    steps = (
        steps[np.unique(np.linspace(0, len(steps) - 1, PLACES).astype(int))]
        if len(steps)
        else steps
    )
    cuts = np.concatenate([[-1.0], (grades[steps - 1] + grades[steps]) / 2, [float(classes)]])
    below = np.concatenate([[0], steps, [n]])
    total = np.concatenate([[0], truth[order].cumsum()])
    return Places(cuts, 1 - below / n, (total[-1] - total[below]) / n)


def move_cuts(
    places: Places, truth: NDArray[np.int64], start: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Moves one cut after the other to its best place between its neighbours until none moves."""
    chosen = start.clip(0, len(places.cuts) - 1)
    for _ in range(100):
        before = chosen.copy()
        for cut in range(len(chosen)):
            low = chosen[cut - 1] if cut else 0
            high = chosen[cut + 1] if cut + 1 < len(chosen) else len(places.cuts) - 1
            tried = np.repeat(chosen[:, None], high - low + 1, axis=1)
            tried[cut] = np.arange(low, high + 1)
            scores = score_cuts(places, truth, tried)
            if scores.max() > scores[chosen[cut] - low]:
                chosen[cut] = low + int(scores.argmax())
        if np.array_equal(before, chosen):
            break
    return chosen


def score_cuts(places: Places, truth: NDArray[np.int64], chosen: NDArray[np.int64]) -> Doubles:
    """Kappa of cuts in the chosen places, [C − 1] or, for T trials at once, [C − 1, T] → [T].

    The grade a is a sum of ones over the cuts below, and a² of odd numbers 1, 3, 5, …
    """
    chosen = chosen.reshape(len(chosen), -1)
    shares, sums = places.shares[chosen], places.sums[chosen].sum(axis=0)
    answered = shares.sum(axis=0)
    odd = 2 * np.arange(len(chosen)) + 1
    squares = odd @ shares + (truth**2).mean()
    true = np.full(len(answered), truth.mean())
    return combine_kappa(np.stack([squares - 2 * sums, true, answered, squares], axis=1))
