"""Worlds in which pseudo-labels help, or do not, for a learner of milliseconds.

Points of three classes take the place of images, and a linear classifier by gradient descent that
of the network; who labels whom, and what is adopted, is decided as in a run.
"""

from typing import NamedTuple

import numpy as np

from podium.evidence import Comparison, compare_answers
from podium.learning import PseudoConfig
from podium.pseudo import FoldPoll, poll_views, select_labels
from podium.task import Task, encode_targets

CLASSES, FOLDS, VIEWS, BATCH, CLEAR = 3, 3, 12, 32, 3
TASK = Task("label", ("ant", "bee", "cow"))
CONFIG = PseudoConfig(precision=0.9, ratio=10.0)


class World(NamedTuple):
    """How points are drawn, and how long a learner looks at them.

    Of each point, one part of few dimensions tells its class clearly, but is often blank; another
    part of many dimensions tells it by little in each.
    """

    labelled: int
    unlabelled: int
    clear: float  # how far the classes' means lie apart in the clear part
    dim: float  # and in the other
    width: int  # of the other part
    blank: float  # share of points without a clear part
    stretch: float  # of the noise in the clear part, which hides the rest until it is unlearned
    epochs: int
    rate: float


# The few labels do not suffice for the dim part: points that are clear show it.
GAIN = World(400, 2000, 5.0, 2.4, 400, 0.6, 1.0, 4, 0.05)
# They suffice for all there is; but a learner that goes on longer knows more.
NULL = World(600, 900, 1.0, 2.5, 4, 0.0, 8.0, 4, 0.01)


class Arms(NamedTuple):
    """What is gained by pseudo-labels, and how many were accepted, and right."""

    fair: Comparison  # over as many updates without them
    naive: Comparison  # over as many epochs without them
    accepted: int
    right: int


def draw_means(apart: float, width: int, rng: np.random.Generator) -> np.ndarray:
    """A mean for each class, all of one length: [C, width]."""
    means = rng.normal(size=(CLASSES, width))
    means -= means.mean(axis=0)
    return apart * means / np.linalg.norm(means, axis=1, keepdims=True)


def draw_points(world: World, count: int, means: np.ndarray, rng: np.random.Generator):
    """Points [count, D] and their classes [count]."""
    truth = np.arange(count) % CLASSES
    points = rng.normal(size=means[truth].shape)
    points[:, :CLEAR] *= world.stretch
    points += means[truth]
    points[rng.random(count) < world.blank, :CLEAR] = 0
    return np.float32(points), truth


def learn(points, labels, updates: int, rate: float, seed: int) -> np.ndarray:
    """Weights [D + 1, C] after so many updates by shuffled batches, at a rate that falls."""
    rng, rows = np.random.default_rng(seed), np.empty(0, np.int64)
    padded = np.column_stack([points, np.ones(len(points), np.float32)])
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    weights = np.zeros((padded.shape[1], CLASSES), np.float32)
    while len(rows) < updates * BATCH:
        rows = np.concatenate([rows, rng.permutation(len(points))])
    for done, batch in enumerate(rows[: updates * BATCH].reshape(updates, BATCH)):
        error = answer(weights, points[batch]) - targets[batch]
        weights -= rate * (1 - done / updates) * padded[batch].T @ error / BATCH
    return weights


def answer(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Probabilities [N, C]."""
    logits = points @ weights[:-1] + weights[-1]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def poll(weights: np.ndarray, points: np.ndarray, rng: np.random.Generator):
    """A poll of views, each of which moves every point a little."""
    moved = rng.normal(0, 0.2, (VIEWS, *points.shape)).astype(np.float32)
    return poll_views(np.stack([answer(weights, points + move) for move in moved]))


def race_arms(world: World, seed: int, *, exchanged: bool = False) -> Arms:
    """Teaches, labels, trains three arms fold by fold, and compares what they answer out of fold.

    Exchanged, the pseudo arm trains without the labels too, so that nothing but luck differs.
    """
    rng = np.random.default_rng(seed)
    parts = [(world.clear, CLEAR), (world.dim, world.width)]
    means = np.column_stack([draw_means(apart, width, rng) for apart, width in parts])
    points, truth = draw_points(world, world.labelled, means, rng)
    asked, hidden = draw_points(world, world.unlabelled, means, rng)
    folds = rng.permutation(world.labelled) % FOLDS
    plain = world.epochs * -(-int((folds != 0).sum()) // BATCH)
    polls = []
    for fold in range(FOLDS):
        seen = folds != fold
        weights = learn(points[seen], truth[seen], plain, world.rate, seed)
        own = poll(weights, points[~seen], rng)
        polls.append(FoldPoll(own, truth[~seen], poll(weights, asked, rng)))
    answers = np.zeros((3, world.labelled, CLASSES), np.float32)
    accepted = right = 0
    for fold in range(FOLDS):
        seen, banned = folds != fold, np.zeros(world.unlabelled, np.bool_)
        labels = select_labels(polls, fold, banned, CLASSES, CONFIG).labels
        kept = labels >= 0
        accepted, right = accepted + kept.sum(), right + (labels == hidden).sum()
        more = np.concatenate([points[seen], asked[kept]])
        both = np.concatenate([truth[seen], labels[kept]])
        longer = world.epochs * -(-len(more) // BATCH)
        arms = [
            (points[seen], truth[seen], plain, seed),
            (points[seen], truth[seen], longer, seed),
            (points[seen], truth[seen], longer, seed + 1)
            if exchanged
            else (more, both, longer, seed),
        ]
        for arm, (given, named, updates, own_seed) in enumerate(arms):
            weights = learn(given, named, updates, world.rate, own_seed)
            answers[arm, ~seen] = answer(weights, points[~seen])
    targets = encode_targets(truth, CLASSES)
    naive, control, pseudo = (encode_targets(one.argmax(axis=1), CLASSES) for one in answers)
    return Arms(
        compare_answers(TASK, targets, control, pseudo),
        compare_answers(TASK, targets, naive, pseudo),
        int(accepted),
        int(right),
    )
