"""The gate: how often it adopts what changes nothing, what harms, and what helps.

    python bench/gate.py [--repeats 1000] [--json]

Every repeat draws new images and two answers to them. Beside the gate stand the naive rule, which
adopts whatever scores higher, and the bound alone, without the randomisation test. The tests take
their simulations from here: tests/test_evidence.py says which rates must hold.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from podium.decide import fit_nested
from podium.evidence import Comparison, compare_answers, count_changes
from podium.metrics import METRICS
from podium.rules import apply_rule, plain_rule
from podium.task import Task, encode_targets

DRAWS = 400  # of each comparison's bootstrap and coins
CHANGED = 0.04  # of the images, in the table of power
SIZES, GAINS = (500, 2000, 10000), (0.0, -0.004, 0.006)
FOLDS = 5


class Scene(NamedTuple):
    """Images of which `shares` are of each class, and how far two answers to them differ."""

    name: str
    images: int
    shares: tuple[float, ...]
    apart: float
    metrics: tuple[str, ...] = tuple(METRICS)


SCENES = (
    Scene("four classes", 200, (0.5, 0.3, 0.15, 0.05), 0.7),
    Scene("few changes", 150, (0.5, 0.3, 0.15, 0.05), 0.15),
    Scene("nine positives", 200, (0.955, 0.045), 0.7, ("macro_f1", "log_loss", "auc", "pf1")),
)


class Rates(NamedTuple):
    """How often each rule adopts the candidate, over so many repeats."""

    repeats: int
    naive: float  # the candidate scores higher
    bound: float  # its one-sided 95 % bound is above zero
    gate: float


def count_rates(comparisons: Iterator[Comparison]) -> Rates:
    """What three rules make of the same comparisons."""
    rows = [(one.difference > 0, one.low > 0, one.adopted) for one in comparisons]
    return Rates(len(rows), *np.mean(rows, axis=0).tolist())


def squash(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def draw_labels(dice: np.random.Generator, probs: np.ndarray) -> np.ndarray:
    """One class an image, as probable as told: [N, C]."""
    places = (probs.cumsum(axis=1) > dice.random((len(probs), 1))).argmax(axis=1)
    return encode_targets(places, probs.shape[1])


def ask(metric: str, classes: int, exclusive: bool) -> Task:
    return Task(METRICS[metric].fits[-1], tuple("abcdef"[:classes]), exclusive, metric)


def compare_equals(scene: Scene, metric: str, seed: int) -> Comparison:
    """Compares two answers whose errors are shared in part and whose quality is the same."""
    dice = np.random.default_rng((1, seed))  # others than the draws of the comparison
    classes = len(scene.shares)
    task = ask(metric, classes, exclusive=metric != "samples_f1")
    targets = encode_targets(dice.choice(classes, scene.images, p=scene.shares), classes)
    if not task.exclusive:
        targets |= (dice.random(targets.shape) < 0.2).astype(np.uint8)
    base = dice.normal(0, 1, targets.shape) + 2 * targets
    seen = [base + dice.normal(0, scene.apart, targets.shape) for _ in range(2)]
    probs = [squash(one) if task.exclusive else 1 / (1 + np.exp(1 - one)) for one in seen]
    plain, other = (apply_rule(plain_rule(task), one) for one in probs)
    return compare_answers(task, targets, plain, other, DRAWS, seed)


def count_scene(scene: Scene, metric: str, repeats: int) -> Rates:
    return count_rates(compare_equals(scene, metric, seed) for seed in range(repeats))


def count_power(images: int, gain: float, repeats: int, seed: int = 0) -> Rates:
    """Accuracy, where that share of answers changes and the true gain is known."""
    dice = np.random.default_rng(seed)
    changed = dice.binomial(images, CHANGED, repeats)
    fixed = dice.binomial(changed, (1 + gain / CHANGED) / 2)
    judge = cache(count_changes)
    pairs = zip(fixed.tolist(), (changed - fixed).tolist(), strict=True)
    return count_rates(judge(images, *pair) for pair in pairs)


Fair = Callable[[np.random.Generator, int], tuple[Task, np.ndarray, np.ndarray]]


def plant_fair_grades(dice: np.random.Generator, n: int) -> tuple[Task, np.ndarray, np.ndarray]:
    grades = dice.integers(0, 5, n)
    seen = np.clip(grades + dice.choice([-1, 0, 1], n, p=[0.15, 0.7, 0.15]), 0, 4)
    return ask("qwk", 5, True), encode_targets(grades, 5), squash(5 * np.eye(5)[seen])


def plant_fair_probs(dice: np.random.Generator, n: int) -> tuple[Task, np.ndarray, np.ndarray]:
    probs = dice.dirichlet(np.ones(4), n).astype(np.float32)
    return ask("log_loss", 4, True), draw_labels(dice, probs), probs


def plant_even_classes(dice: np.random.Generator, n: int) -> tuple[Task, np.ndarray, np.ndarray]:
    _, targets, probs = plant_fair_probs(dice, n)
    return ask("balanced_accuracy", 4, True), targets, probs


def plant_even_labels(dice: np.random.Generator, n: int) -> tuple[Task, np.ndarray, np.ndarray]:
    """0.5 is the best threshold by far, and no image is left without a class."""
    targets = (dice.random((n, 4)) < 0.5).astype(np.uint8)
    right = (dice.random((n, 4)) < 0.85) == (targets == 1)
    probs = np.where(right, 0.5, 0.0) + 0.5 * dice.random((n, 4))
    targets[:, 0], probs[:, 0] = 1, 0.9
    return ask("macro_f1", 4, False), targets, probs.astype(np.float32)


def plant_pooled_labels(dice: np.random.Generator, n: int) -> tuple[Task, np.ndarray, np.ndarray]:
    task, targets, probs = plant_even_labels(dice, n)
    return task._replace(metric="micro_f1"), targets, probs


def plant_sampled_labels(dice: np.random.Generator, n: int) -> tuple[Task, np.ndarray, np.ndarray]:
    task, targets, probs = plant_even_labels(dice, n)
    return task._replace(metric="samples_f1"), targets, probs


# The plain rule is the best for each: what a fitted one gains is luck.
FAIR: tuple[Fair, ...] = (
    plant_fair_grades,
    plant_fair_probs,
    plant_even_classes,
    plant_even_labels,
    plant_pooled_labels,
    plant_sampled_labels,
)


def deal_folds(targets: np.ndarray) -> np.ndarray:
    """Each class is dealt to the folds in turn, as a run does it: [N]."""
    folds = np.empty(len(targets), np.int64)
    folds[targets.argmax(axis=1).argsort(kind="stable")] = np.arange(len(targets)) % FOLDS
    return folds


def count_rules(plant: Fair, repeats: int, *, dealt: bool = True, images: int = 400) -> Rates:
    """The gate of fitted rules, which are fitted on the other folds, dealt or left to chance."""

    def judge(seed: int) -> Comparison:
        task, targets, probs = plant(np.random.default_rng((2, seed)), images)
        folds = deal_folds(targets) if dealt else np.arange(images) % FOLDS
        return fit_nested(task, targets, probs, folds).comparison

    return count_rates(map(judge, range(repeats)))


def time_gate(metric: str, classes: int, images: int = 10_000) -> float:
    """Seconds of the processor that one comparison takes, with as many draws as a run takes."""
    dice = np.random.default_rng(0)
    task = Task(METRICS[metric].fits[-1], tuple(map(str, range(classes))), True, metric)
    targets = encode_targets(dice.integers(0, classes, images), classes)
    base = dice.normal(0, 1, targets.shape) + 2 * targets
    probs = [squash(base + dice.normal(0, 0.5, targets.shape)) for _ in range(2)]
    answers = [apply_rule(plain_rule(task), one) for one in probs]
    begun = time.process_time()
    compare_answers(task, targets, *answers)
    return time.process_time() - begun


def print_table(head: str, rows: dict[str, Rates]) -> None:
    print(f"\n{head:<42}{'repeats':>8}{'naive':>9}{'bound':>9}{'gate':>9}")
    for name, rates in rows.items():
        shares = "".join(f"{share:>9.1%}" for share in rates[1:])
        print(f"{name:<42}{rates.repeats:>8,}{shares}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    repeats = options.repeats
    tables = {
        "changes nothing": {
            f"{METRICS[metric].title}, {scene.name}": count_scene(scene, metric, repeats)
            for scene in SCENES
            for metric in scene.metrics
        },
        "a rule that helps nothing": {
            METRICS[plant(np.random.default_rng(0), 9)[0].metric].title: count_rules(plant, repeats)
            for plant in FAIR
        }
        | {
            "balanced accuracy, folds by chance": count_rules(
                plant_even_classes, repeats, dealt=False
            )
        },
        "accuracy, 4 % of answers change": {
            f"{n} images, true gain {100 * gain:+.1f} points": count_power(n, gain, 20 * repeats)
            for n in SIZES
            for gain in GAINS
        },
    }
    timed = (("macro_f1", 100), ("log_loss", 100), ("auc", 5))
    seconds = {
        f"{METRICS[one].title}, {count} classes": time_gate(one, count) for one, count in timed
    }
    if options.json:
        named: dict[str, object] = {"seconds": seconds}
        named |= {
            head: {name: rates._asdict() for name, rates in rows.items()}
            for head, rows in tables.items()
        }
        print(json.dumps(named))
        return
    for head, rows in tables.items():
        print_table(head, rows)
    print("\nseconds of one comparison of 10,000 images, 1,000 draws")
    for name, spent in seconds.items():
        print(f"{name:<42}{spent:>8.2f}")


if __name__ == "__main__":
    main()
