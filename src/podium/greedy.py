"""Greedy: weights by steps that each add the member that helps the metric most

Of Caruana et al. (2004, ICML): with replacement, sorted initialisation, and bags. What decides is
the metric itself, and log loss only between equals.

Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.members import Members, fill_gaps, find_told, sum_weighted
from podium.metrics import METRICS
from podium.rules import apply_rule, plain_rule
from podium.tallies import Doubles, Truth, weigh_auc
from podium.task import Task

STEPS, STALE = 40, 10  # of a search at most, and in a row that gain nothing
BAGS = 20

Counts = NDArray[np.number[Any]]  # [M], how often each member counts


class Judge:
    """Tells which of several means of members is best, on the metric.

    Images that all members decide alike are counted once, as every mean decides them so too.
    """

    def __init__(self, task: Task, targets: Truth, members: Members) -> None:
        members, self.rule, self.task = fill_gaps(members), plain_rule(task), task
        self.told = find_told(task, targets, members)
        self.metric, self.images, self.settled = METRICS[task.metric], len(targets), np.zeros(1)
        if self.metric.takes == "decisions":
            first, *others = (apply_rule(self.rule, member) for member in members)
            alike = np.all([(other == first).all(axis=1) for other in others or [first]], axis=0)
            self.settled = self.add_up(targets[alike], first[alike])
            targets, members = targets[~alike], members[:, ~alike]
        self.targets, self.members = targets, members
        self.scores = dict[tuple[float, ...], float]()

    def add_up(self, targets: Truth, answers: NDArray[np.float32]) -> Doubles:
        """What images add to the metric, summed: [K]."""
        assert self.metric.tally  # noqa: S101  # AUC is no sum
        return np.asarray(self.metric.tally(self.task, targets, answers).sum(axis=0), np.float64)

    def score(self, counts: Counts) -> float:
        """The metric of a mean, higher for what is better; the lowest where it is not defined."""
        key = tuple((counts / counts.sum()).tolist())
        if key not in self.scores:
            probs = np.minimum(sum_weighted(key, self.members), 1)
            answers = apply_rule(self.rule, probs)
            if self.metric.tally:
                means = (self.settled + self.add_up(self.targets, answers)) / self.images
                value = float(self.metric.combine(means[None])[0])
            else:
                value = float(weigh_auc(self.targets, answers, np.ones((self.images, 1)))[0])
            value = value if self.metric.higher_is_better else -value
            self.scores[key] = value if np.isfinite(value) else -np.inf
        return self.scores[key]

    def refine(self, counts: Counts) -> tuple[float, int]:
        """What decides between equals: log loss, but for rounding, then the number of members."""
        told = np.log((counts / counts.sum()) @ self.told).mean()
        return round(float(told), 9), -int((counts > 0).sum())

    def choose(self, options: Iterable[Counts]) -> Counts:
        """The best of some means."""
        options = list(options)
        scores = [self.score(counts) for counts in options]
        equals = [counts for counts, one in zip(options, scores, strict=True) if one == max(scores)]
        return equals[0] if len(equals) == 1 else max(equals, key=self.refine)


def rank_members(judge: Judge) -> list[int]:
    """The members from the best by itself to the worst."""
    alone = np.eye(len(judge.told), dtype=np.int64)
    return sorted(
        range(len(alone)),
        key=lambda member: (judge.score(alone[member]), judge.refine(alone[member])),
        reverse=True,
    )


def search_greedily(task: Task, targets: Truth, members: Members) -> Doubles:
    """The mean of the weights that are found in bags of half the members: [M].

    Bags are drawn by the members' order of merit, whatever order they are given in. No mean of bags
    stands against a single member that is better on these images.
    """
    judge, count = Judge(task, targets, members), len(members)
    merit = rank_members(judge)
    dice, size = np.random.default_rng(0), min(count, max(2, (count + 1) // 2))
    found, total = dict[tuple[int, ...], Counts](), np.zeros(count)
    for _ in range(BAGS):
        bag = tuple(merit[place] for place in sorted(dice.permutation(count)[:size]))
        if bag not in found:
            found[bag] = search_bag(judge, bag)
        total += found[bag] / found[bag].sum()
    best = judge.choose([total / BAGS, np.eye(count)[merit[0]]])
    return np.asarray(best, np.float64)


def search_bag(judge: Judge, bag: Sequence[int]) -> Counts:
    """The best mean on the way of a greedy search among members, which are given best first: [M].

    It starts from the best of the means of the first few.
    """
    alone = np.eye(len(judge.told), dtype=np.int64)
    counts = judge.choose(alone[list(bag[:end])].sum(axis=0) for end in range(1, len(bag) + 1))
    best, stale = counts, 0
    for _ in range(STEPS):
        counts = judge.choose(counts + alone[member] for member in bag)
        ahead = judge.choose([best, counts]) is counts
        best, stale = (counts, 0) if ahead else (best, stale + 1)
        if stale == STALE:
            break
    return best
