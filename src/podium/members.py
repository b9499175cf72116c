"""Members: probabilities of several models, or of several views, on the same images

Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from podium.tallies import Answers, Doubles, Truth
from podium.task import Task

Members = NDArray[np.floating[Any]]  # [M, N, C], probabilities

FLOOR = 1e-7  # float32 knows no probability nearer to one; a zero may not veto all others


def fill_gaps(members: Members) -> Members:
    """The members with a number for every image: the others' mean, and all alike without others."""
    known = np.isfinite(members)
    if known.all():
        return members
    told = known.sum(axis=0)
    means = np.where(known, members, 0).sum(axis=0) / np.maximum(told, 1)
    means[told == 0] = 1 / members.shape[2]
    filled: Members = np.where(known, members, means)
    return filled


def sum_weighted(weights: Sequence[float], members: Members) -> Doubles:
    """The weighted sum over members, one after the other, as they may be large: [N, C]."""
    total = np.zeros(members.shape[1:])
    for weight, member in zip(weights, members, strict=True):
        if weight:
            total += weight * member
    return total


def take_logits(probs: Answers, exclusive: bool) -> Answers:
    """Log probabilities, or log odds where an image may have several classes."""
    logits: Answers = np.log(np.maximum(probs, FLOOR))
    return logits if exclusive else logits - np.log(np.maximum(1 - probs, FLOOR))


def squash(logits: Doubles, exclusive: bool) -> Doubles:
    """The way back: softmax of the rows [N, C], or a sigmoid of each class by itself."""
    if not exclusive:
        return np.asarray(expit(logits))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def find_told(task: Task, targets: Truth, members: Members) -> Doubles:
    """The probability that each member gave to each truth: [M, N], or [M, N C] of several classes.

    None is below the floor.
    """
    if task.exclusive:
        told = members[:, np.arange(len(targets)), targets.argmax(axis=1)]
    else:
        told = np.where(targets != 0, members, 1 - members).reshape(len(members), -1)
    return np.asarray(np.maximum(told, FLOOR), np.float64)
