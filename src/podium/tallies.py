"""Tallies: what each image adds to a metric

Every metric but AUC is a function of means over images. So one definition gives the score and all
bootstrap draws of it, the means being one product of matrices; AUC is weighed by order instead.

Shapes: N images, C classes, K figures an image adds, D draws; targets, answers [N, C].
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from podium.task import Task, encode_targets

Truth = NDArray[np.uint8]  # [N, C], ones and zeros
Answers = NDArray[np.floating[Any]]  # [N, C], decisions (ones and zeros) or probabilities
Doubles = NDArray[np.float64]

SURE = 1e-15  # a probability of the truth below it counts as it, as Kaggle does


def find_named(task: Task, answers: Answers) -> NDArray[np.uint8]:
    """The classes that each answer names, the likeliest where it is probabilities: [N, C]."""
    if not task.exclusive:
        return (answers >= 0.5).astype(np.uint8)
    return encode_targets(answers.argmax(axis=1), answers.shape[1])


def tally_matches(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """Whether all of an image's classes are right: [N, 1]."""
    return np.asarray((targets == answers).all(axis=1, keepdims=True), np.float64)


def tally_classes(_: Task, targets: Truth, answers: Answers) -> sparse.csr_array:
    """Hits, truths and claims of each class, laid side by side: [N, 3 C], sparse."""
    truths = sparse.csr_array(targets, dtype=np.float64)
    claims = sparse.csr_array(answers, dtype=np.float64)
    return sparse.hstack([truths * claims, truths, claims], format="csr")


def tally_pooled(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """Hits, truths and claims of all classes together: [N, 3]."""
    truths, claims = targets != 0, answers != 0
    counts = [cells.sum(axis=1) for cells in (truths & claims, truths, claims)]
    return np.asarray(np.stack(counts, axis=1), np.float64)


def tally_samples(task: Task, targets: Truth, answers: Answers) -> Doubles:
    """F1 of each image by itself: [N, 1]."""
    return combine_f1(tally_pooled(task, targets, answers))[:, None]


def tally_last(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """Hits, truths and claims of the last class, each claim as large as its probability: [N, 3]."""
    truth, claim = targets[:, -1].astype(np.float64), answers[:, -1].astype(np.float64)
    return np.stack([truth * claim, truth, claim], axis=1)


def tally_grades(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """(t − a)², t, a and t² + a² of the true grade t and the answered grade a: [N, 4]."""
    true, answered = targets.argmax(axis=1), answers.argmax(axis=1)
    columns = [(true - answered) ** 2, true, answered, true**2 + answered**2]
    return np.asarray(np.stack(columns, axis=1), np.float64)


def tally_surprise(task: Task, targets: Truth, answers: Answers) -> Doubles:
    """Negative log-likelihood in nats: [N, 1].

    Of the true class, rows being scaled to a sum of 1; where an image may have several classes, the
    mean over all classes of having it or not.
    """
    if task.exclusive:
        total = answers.sum(axis=1, dtype=np.float64)
        told = answers[np.arange(len(targets)), targets.argmax(axis=1)] / np.maximum(total, SURE)
        return np.asarray(-np.log(np.maximum(told, SURE))[:, None])
    told = np.where(targets != 0, answers, 1 - answers)
    return np.asarray(-np.log(np.maximum(told, SURE)).mean(axis=1, keepdims=True, dtype=float))


def tally_ranks(task: Task, targets: Truth, answers: Answers) -> Doubles:
    """Average precision of the first `task.ranks` classes: [N, 1]."""
    ranked = rank_classes(answers, task.ranks)
    right = np.take_along_axis(targets, ranked, axis=1).astype(np.float64)
    places = np.arange(1, ranked.shape[1] + 1)
    possible = np.minimum(targets.sum(axis=1, dtype=np.int64), ranked.shape[1])
    gained = (right * right.cumsum(axis=1) / places).sum(axis=1)
    return np.asarray(gained / np.maximum(possible, 1))[:, None]


def rank_classes(answers: Answers, ranks: int) -> NDArray[np.int64]:
    """The most probable classes from the first to the last: [N, min(ranks, C)]; ties by index."""
    left = answers.astype(np.float64)
    rows = np.arange(len(left))
    ranked = np.empty((len(left), min(ranks, left.shape[1])), np.int64)
    for place in range(ranked.shape[1]):
        ranked[:, place] = left.argmax(axis=1)
        left[rows, ranked[:, place]] = -np.inf
    return ranked


def combine_mean(means: Doubles) -> Doubles:
    """The mean itself: [D, 1] → [D]."""
    return means[:, 0]


def combine_f1(means: Doubles) -> Doubles:
    """F1 of hits, truths and claims, [D, 3] → [D]; 1 where nothing is true and nothing claimed."""
    hits, truths, claims = means.T
    return divide_or(2 * hits, truths + claims, 1.0)


def combine_macro_f1(means: Doubles) -> Doubles:
    """Mean F1 of the classes that are true or claimed of some image: [D, 3 C] → [D]."""
    hits, truths, claims = np.split(means, 3, axis=1)
    return average_classes(2 * hits, truths + claims)


def combine_recalls(means: Doubles) -> Doubles:
    """Mean recall of the classes that some image has: [D, 3 C] → [D]."""
    hits, truths, _ = np.split(means, 3, axis=1)
    return average_classes(hits, truths)


def combine_kappa(means: Doubles) -> Doubles:
    """Quadratic weighted kappa, [D, 4] → [D]; 1 where all grades, true and answered, are one."""
    apart, true, answered, squares = means.T
    by_chance = squares - 2 * true * answered
    return 1 - divide_or(apart, np.where(by_chance > 1e-12, by_chance, 0.0), 0.0)


def divide_or(above: Doubles, below: Doubles, otherwise: float) -> Doubles:
    """The quotient, or another figure where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below > 0)


def average_classes(above: Doubles, below: Doubles) -> Doubles:
    """Mean over classes of a quotient, without those that it is not defined for: [D, C] → [D]."""
    return divide_or(divide_or(above, below, 0.0).sum(axis=1), (below > 0).sum(axis=1), 1.0)


def weigh_auc(targets: Truth, answers: Answers, weights: Doubles) -> Doubles:
    """Mean over columns of the area under the ROC curve, for each draw: weights [N, D] → [D].

    A column whose images all have the class, or none, has no curve and is left out; NaN where that
    is every column. Two exclusive classes have mirrored curves, so that their mean is either.
    """
    total, defined = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    columns = np.ascontiguousarray(answers.T)
    for truth, scores in zip(np.ascontiguousarray(targets.T) != 0, columns, strict=True):
        if truth.any() and not truth.all():
            area = weigh_column(truth, scores, weights)
            total += np.nan_to_num(area)
            defined += np.isfinite(area)
    return divide_or(total, defined, np.nan)


def weigh_column(truth: NDArray[np.bool_], scores: Answers, weights: Doubles) -> Doubles:
    """Area under the ROC curve of one class, ties counting half: truth, scores [N] → [D].

    It is the share of pairs in the right order, so only the order of the rarer side is needed: the
    weight of the other side between its scores, and on them.
    """
    if 2 * truth.sum() > len(truth):
        truth, scores = ~truth, -scores
    marks, places = np.unique(scores[truth], return_inverse=True)
    heights = np.searchsorted(marks, scores[~truth]) + np.searchsorted(
        marks, scores[~truth], side="right"
    )  # even: between two marks; odd: on a mark
    on_marks = sum_rows(places, len(marks), weights[truth])
    others = sum_rows(heights, 2 * len(marks) + 1, weights[~truth])
    below = others.cumsum(axis=0)[:-1:2] + others[1::2] / 2
    pairs = on_marks.sum(axis=0) * others.sum(axis=0)
    return divide_or((on_marks * below).sum(axis=0), pairs, np.nan)


def sum_rows(places: NDArray[np.int64], count: int, weights: Doubles) -> Doubles:
    """Sums the rows that go to the same place: [N, D] → [count, D]."""
    if weights.shape[1] == 1:  # for which a matrix takes longer to make than to use
        return np.asarray(np.bincount(places, weights[:, 0], count)[:, None], np.float64)
    rows = np.arange(len(places))
    shares = sparse.csr_array((np.ones(len(places)), (places, rows)), (count, len(places)))
    return np.asarray(shares @ weights)
