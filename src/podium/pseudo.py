"""Pseudo-labels: test images of which a model is sure, as training images

A label that a model made must be sure twice: nearly all views of the image agree on it, and it is
as confident as answers whose truth is known and which were right nearly always. Each fold takes
its labels from the one model that never saw its images, and thresholds from the other folds'
truth, so that what validates it stays unseen. Whether it helps, two runs must show: a pseudo arm,
and a control of as many updates.

Shapes: K folds, V views, N images out of fold, T test images, C classes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.duplicates import Pairs
from podium.learning import PseudoConfig
from podium.metrics import count_confusions
from podium.tallies import Doubles

Z90 = 1.6448536269514722  # one-sided 95 % point of the normal distribution
EDGES = (0.5, 0.65, 0.8, 0.95, 1.0)  # of the bands in which precision is shown


class PseudoError(ValueError):
    """Test images cannot be labelled as asked."""


class Poll(NamedTuple):
    """What the views of some images say together."""

    labels: NDArray[np.int64]  # [N] likeliest class of the mean over views
    agreement: Doubles  # [N] share of views whose likeliest class it is
    confidence: Doubles  # [N] its mean probability

    def select(self, kept: NDArray[np.bool_]) -> "Poll":
        """Some of the images: a mask [N]."""
        return Poll(self.labels[kept], self.agreement[kept], self.confidence[kept])


class FoldPoll(NamedTuple):
    """What one fold's model says of images that it never saw."""

    own: Poll  # [N] those that validated it
    truth: NDArray[np.int64]  # [N] their classes
    test: Poll  # [T]


class Selection(NamedTuple):
    """The labels of test images for one fold, −1 for none, and how they came about."""

    labels: NDArray[np.int64]  # [T]
    thresholds: Doubles  # [C] of confidence; infinite for classes of which none is accepted
    sure: int  # images that agree and reach their class's threshold
    copies: int  # of these, too near to what validates the fold
    capped: int  # of the rest, more than the test part is expected to hold of their class


class Band(NamedTuple):
    """Images whose views agree to some degree, and how many of them were named rightly."""

    name: str
    n: int
    right: int


def poll_views(votes: NDArray[np.float32]) -> Poll:
    """Polls the probabilities of each view: [V, N, C]."""
    mean = votes.mean(axis=0, dtype=np.float64)
    labels = mean.argmax(axis=1)
    agreement = (votes.argmax(axis=2) == labels).mean(axis=0)
    return Poll(labels, agreement, np.take_along_axis(mean, labels[:, None], axis=1)[:, 0])


def join_polls(polls: Sequence[Poll]) -> Poll:
    """Lays polls end to end."""
    return Poll(*map(np.concatenate, zip(*polls, strict=True)))


def select_labels(
    polls: Sequence[FoldPoll],
    fold: int,
    banned: NDArray[np.bool_],
    classes: int,
    config: PseudoConfig,
) -> Selection:
    """Labels the test images of which one fold's model is sure; those banned [T] get none.

    Neither that fold's truth nor another fold's answers to the test part are looked at. Classes are
    capped at their shares of the test part, for where one alone is sure, it would crowd out the
    others.
    """
    others = [poll for number, poll in enumerate(polls) if number != fold]
    known, truth = join_polls([poll.own for poll in others]), [poll.truth for poll in others]
    right = known.labels == np.concatenate(truth)
    agreed = known.agreement >= config.agreement
    thresholds = find_thresholds(known.select(agreed), right[agreed], classes, config.precision)
    test = polls[fold].test
    sure = (test.agreement >= config.agreement) & (test.confidence >= thresholds[test.labels])
    free = sure & ~banned
    expected = expect_counts(known.labels, np.concatenate(truth), test.labels, classes)
    share = min(1.0, config.ratio * len(right) / len(test.labels))
    kept = keep_likeliest(test, free, np.floor(share * expected + 1e-9))
    counts = (int(one.sum()) for one in (sure, sure & banned, free & ~kept))
    return Selection(np.where(kept, test.labels, -1), thresholds, *counts)


def bound_share(right: NDArray[np.int64], n: NDArray[np.int64]) -> Doubles:
    """The one-sided lower 95 % bound of shares (Wilson 1927, JASA 22:209), n of 1 or more."""
    share, z2 = right / n, Z90**2
    centre = share + z2 / (2 * n)
    half = Z90 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return np.asarray((centre - half) / (1 + z2 / n))


def count_needed(precision: float) -> int:
    """The fewest answers of a class, all of them right, whose bound reaches a precision."""
    return int(np.ceil(Z90**2 * precision / (1 - precision) - 1e-9))


def find_thresholds(
    known: Poll, right: NDArray[np.bool_], classes: int, precision: float
) -> Doubles:
    """The lowest confidence of each class from which on answers are precise enough: [C].

    That is where the lower bound of their precision, on images whose truth is known, reaches
    `precision`; 0 where it does so for all answers, infinite where it does so nowhere. As only the
    order of confidences counts, to calibrate them before would change nothing.
    """
    thresholds = np.full(classes, np.inf)
    for label in np.unique(known.labels):
        of_class = known.labels == label
        order = np.argsort(-known.confidence[of_class])
        confidence, hits = (column[of_class][order] for column in (known.confidence, right))
        last = np.append(np.diff(confidence) != 0, True)  # equal ones stand or fall together
        bounds = bound_share(np.cumsum(hits), np.arange(1, len(hits) + 1))
        reached = np.flatnonzero(last & (bounds >= precision))
        if len(reached):
            whole = reached[-1] == len(confidence) - 1
            thresholds[label] = 0.0 if whole else confidence[reached[-1]]
    return thresholds


def expect_counts(
    predicted: NDArray[np.int64],
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    classes: int,
) -> Doubles:
    """How many images of each class the answers [T] stand for: [C], T in all.

    Each answer counts as the classes that it turned out to be out of fold. Shares of the training
    part would not follow a test part in which classes are more or less frequent.
    """
    joint = count_confusions(truth, predicted, classes)
    joint += np.diag(joint.sum(axis=0) == 0)  # what was never answered may be as it says
    return np.asarray(joint / joint.sum(axis=0) @ np.bincount(answers, minlength=classes))


def keep_likeliest(test: Poll, free: NDArray[np.bool_], limits: Doubles) -> NDArray[np.bool_]:
    """Of the free images [T], keeps the most confident of each class, up to its limit [C]."""
    order = np.lexsort((-test.confidence, test.labels, ~free))[: free.sum()]
    labels = test.labels[order]
    places = np.arange(len(labels)) - np.searchsorted(labels, labels)
    kept = np.zeros(len(free), np.bool_)
    kept[order[places < limits[labels]]] = True
    return kept


def ban_copies(
    pairs: Pairs | None, folds: NDArray[np.int64], images: int, count: int
) -> NDArray[np.bool_]:
    """Which of so many test images are nearly the same as one that validates a fold: [K, T].

    `folds` are those of the training images, which the first rows of the pairs mean.
    """
    banned = np.zeros((count, images), np.bool_)
    if pairs is not None:
        across = pairs.select(pairs.second >= len(folds))
        banned[folds[across.first], across.second - len(folds)] = True
    return banned


def ban_groups(
    groups: NDArray[np.object_], folds: NDArray[np.int64], asked: NDArray[np.object_], count: int
) -> NDArray[np.bool_]:
    """Which test images are of a group that validates a fold: [K, T]; empty text is no group."""
    held = [np.isin(asked.astype(str), groups[folds == fold].astype(str)) for fold in range(count)]
    return np.asarray(np.stack(held) & (asked != ""), np.bool_)


def count_bands(strength: Doubles, right: NDArray[np.bool_]) -> list[Band]:
    """How often answers are right by how strongly the views agree on them, or how confident they
    are: [N].
    """
    names = [f"below {EDGES[0]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in pairwise(EDGES)] + ["1"]
    places = np.searchsorted(EDGES, strength, side="right")
    n, hits = (np.bincount(one, minlength=len(names)).tolist() for one in (places, places[right]))
    return [Band(*band) for band in zip(names, n, hits, strict=True)]
