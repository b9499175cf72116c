"""Ensemble: which blend of members is used, and whether any earns the place of the plain one

The choice is nested: each fold is answered by the candidate that was best on the other folds,
among fits that had not seen what they answered there either, and then fitted on all of those.
Once this is compared with the plain blend, which stays where the luckiest of as many candidates
would gain as much.

Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8, folds [N] int64.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from podium.blends import Blend, Fit, apply_blend
from podium.evidence import (
    DOUBT,
    POWER,
    Comparison,
    compare_answers,
    count_flips,
    draw_gains,
    pass_gate,
)
from podium.members import Members
from podium.metrics import DRAWS, METRICS, score_answers
from podium.questions import Option
from podium.rules import apply_rule, plain_rule
from podium.tallies import Answers, Doubles, Truth
from podium.task import Task

Parts = frozenset[int]  # of the images, which are left out of a fit


class Choice(NamedTuple):
    """The candidate that stands, its blend, its answers out of fold [N, C], and why.

    `options` are all candidates, the plain one first, each fitted on the other folds only;
    `comparison` is of the choice among them, made without the fold that it answers.
    """

    name: str
    blend: Blend
    probs: NDArray[np.float32]
    options: tuple[Option, ...]
    comparison: Comparison


class Nest:
    """Members whose blends are fitted without some parts of the images, each fit made once."""

    def __init__(
        self,
        task: Task,
        targets: Truth,
        members: Members,
        parts: NDArray[np.int64],
        fits: Mapping[str, Fit],
    ) -> None:
        self.task, self.targets, self.members, self.parts = task, targets, members, parts
        self.fits, self.blends = fits, dict[tuple[str, Parts], Blend]()
        self.present, self.rule = np.unique(parts).tolist(), plain_rule(task)

    def fit(self, name: str, left: Parts = frozenset()) -> Blend:
        """A candidate's blend, fitted without the parts that are left out."""
        if (name, left) not in self.blends:
            rows = ~np.isin(self.parts, list(left))
            fitted = self.fits[name](self.task, self.targets[rows], self.members[:, rows])
            self.blends[name, left] = fitted
        return self.blends[name, left]

    def answer_part(self, probs: NDArray[np.float32], part: int, blend: Blend) -> None:
        """Fills in what a blend answers to one part of probs [N, C]."""
        held = self.parts == part
        probs[held] = apply_blend(blend, self.members[:, held], exclusive=self.task.exclusive)

    def answer(self, name: str, left: Parts = frozenset()) -> NDArray[np.float32]:
        """What a candidate answers to each part, fitted on all others but those left out: [N, C].

        Parts that are left out are not answered.
        """
        probs = np.zeros(self.targets.shape, np.float32)
        for part in set(self.present) - left:
            self.answer_part(probs, part, self.fit(name, left | {part}))
        return probs

    def answer_chosen(self) -> NDArray[np.float32]:
        """What the candidate answers to each part that is chosen and fitted on the others."""
        probs = np.zeros(self.targets.shape, np.float32)
        for part in self.present:
            left = frozenset({part})
            self.answer_part(probs, part, self.fit(self.choose(list(self.fits), left), left))
        return probs

    def choose(self, names: Sequence[str], left: Parts = frozenset()) -> str:
        """The candidate of the best answers without the parts left out; of equals the first."""
        rows = ~np.isin(self.parts, list(left))

        def rate(name: str) -> float:
            answers = self.decide(self.answer(name, left)[rows])
            return self.rate(score_answers(self.task, self.targets[rows], answers))

        return max(names, key=rate)

    def rate(self, score: float) -> float:
        """A score as one that is higher for what is better; the lowest where it is no number."""
        sign = 1 if METRICS[self.task.metric].higher_is_better else -1
        return sign * score if np.isfinite(score) else -np.inf

    def decide(self, probs: Answers) -> NDArray[np.float32]:
        """The answers that the metric takes, by the plain rule."""
        return apply_rule(self.rule, probs)


def choose_blend(
    task: Task,
    targets: Truth,
    members: Members,
    folds: NDArray[np.int64],
    fits: Mapping[str, Fit],
) -> Choice:
    """Chooses among candidates of which the first is the plain one, which stays in doubt.

    Where it does not, the candidate that is best over all folds is fitted on all. Of one fold alone
    there is nothing to choose by. Raises ValueError on what has no score.
    """
    nest = Nest(task, targets, members, divide(folds), fits)
    plain = next(iter(fits))
    if len(nest.present) == 1:
        return keep_plain(nest, plain)
    usual, chosen = nest.answer(plain), nest.answer_chosen()
    others = {name: nest.answer(name) for name in fits if name != plain}
    found = compare_chosen(nest, usual, chosen, list(others.values()))
    options = [weigh_option(nest, plain, usual, None)]
    options += [weigh_option(nest, name, probs, usual) for name, probs in others.items()]
    if not found.adopted:
        return Choice(plain, nest.fit(plain), usual, tuple(options), found)
    name = max(options[1:], key=lambda option: nest.rate(option.score)).name
    return Choice(name, nest.fit(name), chosen, tuple(options), found)


def divide(folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The folds; each of two in halves, as a choice wants other parts to be made on: [N]."""
    if len(np.unique(folds)) != 2:
        return folds
    return 2 * folds + np.arange(len(folds)) % 2


def keep_plain(nest: Nest, plain: str) -> Choice:
    """The plain blend where nothing else can be tried."""
    blend = nest.fit(plain)
    probs = apply_blend(blend, nest.members, exclusive=nest.task.exclusive)
    answers = nest.decide(probs)
    option = Option(plain, score_answers(nest.task, nest.targets, answers))
    comparison = compare_answers(nest.task, nest.targets, answers, answers)
    return Choice(plain, blend, probs, (option,), comparison)


def compare_chosen(
    nest: Nest,
    usual: NDArray[np.float32],
    chosen: NDArray[np.float32],
    others: Sequence[NDArray[np.float32]],
) -> Comparison:
    """Compares the choice with the usual answers, as one of several that could have been lucky.

    A candidate that leads by luck leads on most folds, and is chosen for all of them: a choice that
    is nested has no bias, but the spread of the luckiest. So its gain, in standard errors, must
    also be beyond that of the luckiest of all candidates if none were better than the plain one.
    """
    both = nest.decide(usual), nest.decide(chosen)
    found = compare_answers(nest.task, nest.targets, *both)
    if len(others) < 2 or not np.isfinite(found.difference):
        return found
    sign = 1 if METRICS[nest.task.metric].higher_is_better else -1
    own, *gains = (
        sign * draw_gains(nest.task, nest.targets, both[0], nest.decide(probs), DRAWS, 0)
        for probs in (chosen, *others)
    )
    luck, error = find_luck(np.stack(gains), len(nest.targets)), np.nanstd(own)
    p = (1 + (luck * error >= found.difference).sum()) / (1 + len(luck))
    most = float(np.quantile(luck, 1 - DOUBT))
    return pass_gate(
        found.n,
        found.difference,
        max(found.p, float(p)),
        min(found.low, found.difference - most * error),
        found.high,
        max(found.detectable, (most + ndtri(POWER)) * error),
    )


def find_luck(gains: Doubles, images: int) -> Doubles:
    """Standard errors that the luckiest candidate gains where none is better: [K, D] → [D].

    White's reality check (2000, Econometrica 68:1097), in which candidates that are clearly worse
    than the plain one do not count (Hansen 2005, Journal of Business & Economic Statistics 23:365).
    """
    gains = gains[:, np.isfinite(gains).all(axis=0)]
    means, errors = gains.mean(axis=1), gains.std(axis=1)
    hopeless = -np.sqrt(2 * np.log(np.log(max(images, 3))))
    rivals = (errors > 0) & (means >= hopeless * errors)
    if not rivals.any():
        return np.zeros(gains.shape[1])
    centred = gains[rivals] - means[rivals, None]
    return np.asarray((centred / errors[rivals, None]).max(axis=0))


def weigh_option(
    nest: Nest, name: str, probs: NDArray[np.float32], usual: NDArray[np.float32] | None
) -> Option:
    """A candidate's score, and its gain over the usual answers, which the plain one has not."""
    answers = nest.decide(probs)
    score = score_answers(nest.task, nest.targets, answers)
    if usual is None:
        return Option(name, score)
    both = nest.decide(usual), answers
    fixed, broken = count_flips(nest.task, nest.targets, *both)
    gain = compare_answers(nest.task, nest.targets, *both)
    return Option(name, score, gain, fixed=fixed, broken=broken)
