"""Rules: how probabilities become answers

Decisions for F1 want thresholds, grades for kappa want cuts, log loss wants bounds. Here is what
a rule does, and which values suit given images best; whether to use it is the next section's.

Shapes: N images, C classes; targets [N, C] uint8, probs [N, C] float32.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.cuts import fit_cuts
from podium.metrics import METRICS
from podium.tallies import Answers, Doubles, Truth
from podium.task import Task, encode_targets

FLOORS = [float(f"{10 ** (-step / 4):.1e}") for step in range(4, 25)]  # 0.1 to 1e-6
EVENED = [step / 10 for step in range(1, 11)]  # powers of a class's frequency
PULL = 10.0  # images of a class that weigh as much as what other classes say of its threshold
LEVELS = 100  # thresholds tried on whole images


class Rule(NamedTuple):
    """How probabilities become answers.

    The values are: of "bounds" what 0 and 1 become; of "argmax" the weight of each class, or none;
    of "thresholds" one for all classes, or one for each; of "cuts" the expected grade at which each
    grade but the first begins. With `fill` an image below all thresholds gets its likeliest class.
    """

    kind: Literal["unchanged", "bounds", "argmax", "thresholds", "cuts"]
    values: tuple[float, ...] = ()
    fill: bool = False


def read_rule(fields: Mapping[str, Any]) -> Rule:
    """A rule from what JSON made of its `_asdict()`."""
    return Rule(fields["kind"], tuple(fields["values"]), fields["fill"])


def find_rule(summary: Mapping[str, Any], task: Task) -> Rule:
    """The rule in a run's summary.json; the plain one if it has none, or is of another metric."""
    stored = (summary.get("decision") or {}).get("rule")
    same = summary.get("metric") == task.metric
    return read_rule(stored) if stored and same else plain_rule(task)


def plain_rule(task: Task) -> Rule:
    """The rule that needs no fitting: argmax, a threshold of 0.5, or probabilities unchanged."""
    if METRICS[task.metric].takes != "decisions":
        return Rule("unchanged")
    return Rule("argmax") if task.exclusive else Rule("thresholds", (0.5,), fill=True)


def apply_rule(rule: Rule, probs: Answers) -> NDArray[np.float32]:
    """Answers as the metric takes them, [N, C]: ones and zeros, or probabilities."""
    values = np.array(rule.values)
    if rule.kind == "unchanged":
        return probs.astype(np.float32)
    if rule.kind == "bounds":
        return np.asarray(values[0] + (values[1] - values[0]) * probs, np.float32)
    if rule.kind == "thresholds":
        return pass_thresholds(probs, values, rule.fill)
    if rule.kind == "cuts":
        chosen = np.searchsorted(values, expect_grades(probs), side="right")
    else:
        chosen = (probs * values if len(values) else probs).argmax(axis=1)
    return choose_classes(chosen, probs.shape[1])


def choose_classes(chosen: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Decisions for one class each: [N] → [N, C]."""
    return encode_targets(chosen, classes).astype(np.float32)


def pass_thresholds(probs: Answers, thresholds: Doubles, fill: bool) -> NDArray[np.float32]:
    """Decisions for all classes at or above their threshold."""
    passed = probs >= thresholds
    if fill:
        empty = np.flatnonzero(~passed.any(axis=1))
        passed[empty, probs[empty].argmax(axis=1)] = True
    return passed.astype(np.float32)


def expect_grades(probs: Answers) -> Doubles:
    """The mean grade that the probabilities of grades 0 … C − 1 foretell: [N]."""
    return np.asarray(probs @ np.arange(probs.shape[1], dtype=np.float64))


def list_rules(task: Task, targets: Truth, probs: Answers) -> list[Rule]:
    """The rules worth trying for the metric, with values that suit these images; plain first."""
    rules = [plain_rule(task)]
    if task.metric == "log_loss":
        rules += [Rule("bounds", bounds) for bounds in list_bounds(task)]
    elif task.metric == "qwk":
        rules += [Rule("cuts", fit_cuts(targets, expect_grades(probs)))]
    elif task.metric == "pf1" and task.exclusive:
        threshold = find_threshold(probs[:, -1], targets[:, -1] != 0)
        rules += [Rule("thresholds", (*[2.0] * (probs.shape[1] - 1), threshold))]
    elif task.exclusive and task.metric in ("balanced_accuracy", "macro_f1"):
        shares = np.maximum(targets.mean(axis=0), 1 / len(targets))
        weights = [(shares.min() / shares) ** power for power in EVENED]
        rules += [Rule("argmax", tuple(weight.tolist())) for weight in weights]
    elif not task.exclusive and task.metric in ("macro_f1", "micro_f1", "samples_f1"):
        thresholds = fit_thresholds(task, targets, probs)
        rules += [Rule("thresholds", thresholds, fill) for fill in (True, False)]
    return rules


def list_bounds(task: Task) -> list[tuple[float, float]]:
    """Bounds that keep probabilities off 0 and 1, and the sum of exclusive ones at 1."""
    rest = len(task.classes) - 1 if task.exclusive else 1
    return [(floor, 1 - rest * floor) for floor in FLOORS if (rest + 1) * floor < 1]


def fit_thresholds(task: Task, targets: Truth, probs: Answers) -> tuple[float, ...]:
    """Thresholds for F1: each class's own for macro F1, else one for all."""
    if task.metric == "samples_f1":
        return (find_level(targets, probs),)
    if task.metric == "micro_f1":
        return (find_threshold(probs.ravel(), targets.ravel() != 0),)
    columns = zip(np.ascontiguousarray(probs.T), targets.T != 0, strict=True)
    own = np.array([find_threshold(scores, truth) for scores, truth in columns])
    sizes = targets.sum(axis=0, dtype=np.float64)
    common = float(own @ sizes / max(1.0, sizes.sum()))
    return tuple(((sizes * own + PULL * common) / (sizes + PULL)).tolist())


def find_threshold(scores: Answers, truth: NDArray[np.bool_]) -> float:
    """The threshold of highest F1 for scores [M], by sorting; 0.5 where nothing is true.

    It lies halfway between the lowest hit and the next score below, as only passing a hit helps.
    """
    hits = np.sort(scores[truth])
    if len(hits) == 0:
        return 0.5
    ordered = np.sort(scores)
    starts = np.searchsorted(ordered, hits)
    found = len(hits) - np.searchsorted(hits, hits)
    best = int((found / (len(ordered) - starts + len(hits))).argmax())
    below = ordered[max(0, starts[best] - 1)]
    return (float(hits[best]) + float(below)) / 2


def find_level(targets: Truth, probs: Answers) -> float:
    """The threshold of highest mean F1 of images, of the quantiles of true classes' scores."""
    hits = probs[targets != 0]
    if len(hits) == 0:
        return 0.5
    levels = np.unique(np.quantile(hits, np.linspace(0, 1, LEVELS)))
    passing = probs >= levels[0]
    heights = np.searchsorted(levels, probs[passing], side="right") - 1
    rows, true = np.nonzero(passing)[0], targets[passing] != 0
    claims = count_passing(rows, heights, len(probs), len(levels))
    found = count_passing(rows[true], heights[true], len(probs), len(levels))
    truths = targets.sum(axis=1, dtype=np.int64)[:, None]
    bare = np.where(claims + truths > 0, 2 * found / np.maximum(claims + truths, 1), 1.0)
    top = np.take_along_axis(targets, probs.argmax(axis=1)[:, None], axis=1)
    filled = np.where(claims > 0, bare, 2 * top / (1 + truths))
    best = max(bare.mean(axis=0), filled.mean(axis=0), key=np.max)
    return float(levels[best.argmax()])


def count_passing(
    rows: NDArray[np.int64], heights: NDArray[np.int64], images: int, levels: int
) -> NDArray[np.int64]:
    """Counts, for each image and level, the scores that reach it: [images, levels]."""
    counts = np.bincount(rows * levels + heights, minlength=images * levels)
    return counts.reshape(images, levels)[:, ::-1].cumsum(axis=1)[:, ::-1]
