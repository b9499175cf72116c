"""Decide: which answers are submitted, and whether a fitted rule earns its place

A rule is fitted on out-of-fold predictions, and judged nested: each fold is answered by a rule
that has not seen its truth. It stands only if the evidence says that it beats the plain one.

Shapes: N images, C classes; targets [N, C] uint8, probs [N, C] float32, folds [N] int64.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.evidence import Comparison, compare_answers, count_flips
from podium.metrics import METRICS, score_answers
from podium.rules import Rule, apply_rule, list_rules, plain_rule
from podium.tallies import Answers, Truth
from podium.task import Task


class Decision(NamedTuple):
    """The rule that stands, its answers out of fold [N, C], and why.

    `plain` and `nested` are the scores of the plain rule, and of rules fitted on the other folds,
    which alone name `flips[0]` images rightly; the plain one alone does `flips[1]`.
    """

    rule: Rule
    answers: NDArray[np.float32]
    plain: float
    nested: float
    comparison: Comparison
    flips: tuple[int, int]


def fit_rule(task: Task, targets: Truth, probs: Answers) -> Rule:
    """The rule that scores best on these images; the plain one where none is better."""
    best, *others = list_rules(task, targets, probs)
    if not others:
        return best
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    top = sign * score_answers(task, targets, apply_rule(best, probs))
    for rule in others:
        score = sign * score_answers(task, targets, apply_rule(rule, probs))
        if score > top:
            best, top = rule, score
    return best


def answer_nested(
    task: Task, targets: Truth, probs: Answers, folds: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Answers each fold by a rule fitted on all others: [N, C].

    Where there is but one fold, by the plain rule.
    """
    answers = apply_rule(plain_rule(task), probs)
    present = np.unique(folds)
    for fold in present if len(present) > 1 else []:
        held = folds == fold
        rule = fit_rule(task, targets[~held], probs[~held])
        answers[held] = apply_rule(rule, probs[held])
    return answers


def fit_nested(task: Task, targets: Truth, probs: Answers, folds: NDArray[np.int64]) -> Decision:
    """Fits a rule on out-of-fold predictions, and keeps it only if nested answers show its worth.

    Raises ValueError on what has no score.
    """
    plain = apply_rule(plain_rule(task), probs)
    nested = answer_nested(task, targets, probs, folds)
    comparison = compare_answers(task, targets, plain, nested)
    before, after = (score_answers(task, targets, answers) for answers in (plain, nested))
    flips = count_flips(task, targets, plain, nested)
    if comparison.adopted:
        return Decision(fit_rule(task, targets, probs), nested, before, after, comparison, flips)
    return Decision(plain_rule(task), plain, before, after, comparison, flips)
