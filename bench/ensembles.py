"""Ensembles: what each way to weigh members is worth on images that no weight was fitted to.

    python bench/ensembles.py [--repeats 20] [--speed] [--json]

Members answer ten classes: their logits are a margin on the truth, noise that they share and noise
of their own, scaled so that the probabilities are right, or too sure, or too timid. Weights are
fitted on 2,000 images "out of fold" and judged on 10,000 others. The nested choice is the one that
`make blend` makes, by accuracy and by log loss. The ratios are what nested has over uniform, of
either. --speed times one choice among eight members on 10,000 images in five folds.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from podium.blends import FITS, Blend, apply_blend, list_fits, weigh_by_accuracy
from podium.ensemble import choose_blend
from podium.greedy import Judge, rank_members, search_bag
from podium.members import squash
from podium.metrics import score_answers
from podium.task import Task, encode_targets

CLASSES = 10
ACCURACY = Task("label", tuple(map(str, range(CLASSES))))
LOSS = ACCURACY._replace(answer="probabilities", metric="log_loss")
OUT_OF_FOLD, TEST, FOLDS = 2000, 10_000, 5


class Case(NamedTuple):
    """Members by their accuracies, the share of noise that all have, and how sure each is.

    1 is as sure as it should be. `known` are accuracy and log loss of the ways, in their order, as
    20 repeats of another implementation gave them (shared/reference/review-to-features.md, 2.1).
    """

    name: str
    accuracies: tuple[float, ...]
    shared: float
    sure: tuple[float, ...]
    known: tuple[tuple[float, float], ...]


# fmt: off
CASES = (
    Case("99.5 and 98 %, .3 shared", (0.995, 0.98), 0.3, (1, 1),
         ((.9948, .0148), (.9988, .0231), (.9988, .0230), (.9950, .0140), (.9950, .0141),
          (.9985, .0225), (.9991, .0027))),
    Case("99.5 and 98 %, .7 shared", (0.995, 0.98), 0.7, (1, 1),
         ((.9949, .0152), (.9954, .0258), (.9956, .0257), (.9950, .0152), (.9950, .0152),
          (.9954, .0206), (.9959, .0124))),
    Case("the strong one timid, the weak one too sure", (0.995, 0.98), 0.7, (0.5, 3),
         ((.9949, .0273), (.9881, .0290), (.9891, .0290), (.9953, .0268), (.9952, .0269),
          (.9954, .0270), (.9952, .0147))),
    Case("96.52 and 96.91 % (the review's)", (0.9652, 0.9691), 0.7, (1, 1),
         ((.9678, .0958), (.9812, .0743), (.9812, .0743), (.9793, .0742), (.9793, .0742),
          (.9802, .0744), (.9818, .0551))),
    Case("five, one bad and too sure", (0.96, 0.954, 0.949, 0.94, 0.804), 0.7, (1, 1, 1, 1, 3),
         ((.9586, .1225), (.9691, .1381), (.9710, .1327), (.9744, .0943), (.9743, .0943),
          (.9778, .0970), (.9801, .0601))),
)
# fmt: on

Way = Callable[[np.ndarray, np.ndarray, np.ndarray], Blend]


def fit_by(name: str, task: Task) -> Way:
    """A way to weigh that does without folds."""
    return lambda targets, members, _: FITS[name](task, targets, members)


def search_all(task: Task) -> Way:
    """A greedy search on all members, as the known figures are of; Podium's is in bags of half."""

    def search(targets: np.ndarray, members: np.ndarray, _: np.ndarray) -> Blend:
        judge = Judge(task, targets, members)
        counts = search_bag(judge, rank_members(judge))
        return Blend("mean", tuple((counts / counts.sum()).tolist()))

    return search


def choose_by(task: Task) -> Way:
    """The nested choice among all."""
    return lambda targets, members, folds: (
        choose_blend(task, targets, members, folds, list_fits(task)).blend
    )


WAYS: dict[str, Way] = {
    "best single": fit_by("best single", ACCURACY),
    "uniform": fit_by("uniform", ACCURACY),
    "accuracy weights": lambda targets, members, _: weigh_by_accuracy(ACCURACY, targets, members),
    "log-loss weights": fit_by("log-loss weights", LOSS),
    "greedy, log loss": search_all(LOSS),
    "greedy, accuracy": search_all(ACCURACY),
    "geometric stack": fit_by("geometric stack", LOSS),
    "greedy in bags, log loss": fit_by("greedy", LOSS),
    "greedy in bags, accuracy": fit_by("greedy", ACCURACY),
    "nested, accuracy": choose_by(ACCURACY),
    "nested, log loss": choose_by(LOSS),
}


@cache
def find_margin(accuracy: float) -> float:
    """How far the truth's logit must be above nine others of unit noise to win so often."""
    places, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    return brentq(lambda margin: weights @ ndtr(places + margin) ** (CLASSES - 1) - accuracy, 0, 12)


def draw_case(case: Case, dice: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets [N, C] and members [M, N, C]."""
    targets = encode_targets(dice.integers(0, CLASSES, images), CLASSES)
    common = np.sqrt(case.shared) * dice.normal(0, 1, targets.shape)
    members = []
    for accuracy, sure in zip(case.accuracies, case.sure, strict=True):
        margin = find_margin(accuracy)
        noise = common + np.sqrt(1 - case.shared) * dice.normal(0, 1, targets.shape)
        members.append(squash(sure * margin * (margin * targets + noise), True))
    return targets, np.array(members, np.float32)


def measure_case(
    case: Case, repeats: int, ways: Sequence[str] = tuple(WAYS), images: int = OUT_OF_FOLD
) -> dict[str, np.ndarray]:
    """Accuracy and log loss of each way on test images: [repeats, 2]."""
    found = {name: np.zeros((repeats, 2)) for name in ways}
    for repeat in range(repeats):
        dice = np.random.default_rng(repeat)
        targets, members = draw_case(case, dice, images)
        truth, unseen = draw_case(case, dice, TEST)
        for name in ways:
            blend = WAYS[name](targets, members, np.arange(images) % FOLDS)
            probs = apply_blend(blend, unseen, exclusive=True)
            right = probs.argmax(axis=1) == truth.argmax(axis=1)
            found[name][repeat] = right.mean(), score_answers(LOSS, truth, probs)
    return found


def find_errors(values: np.ndarray) -> np.ndarray:
    """Standard errors of means over repeats: [repeats, 2] → [2]."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def compare_with_uniform(found: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """What each nested choice has over uniform on its metric, and that mean's standard error."""
    gains = {
        "nested, accuracy": (found["nested, accuracy"] - found["uniform"])[:, 0],
        "nested, log loss": (found["uniform"] - found["nested, log loss"])[:, 1],
    }
    return {
        name: (float(gain.mean()), float(find_errors(gain[:, None])[0]))
        for name, gain in gains.items()
    }


def time_choice() -> dict[str, float]:
    """Processor seconds of one choice among eight members on 10,000 images."""
    case = Case("", (0.93, 0.92, 0.91, 0.9, 0.89, 0.88, 0.87, 0.86), 0.5, (1,) * 8, ())
    targets, members = draw_case(case, np.random.default_rng(0), TEST)
    seconds = {}
    for metric in ("accuracy", "macro_f1", "log_loss"):
        task = (LOSS if metric == "log_loss" else ACCURACY)._replace(metric=metric)
        started = time.process_time()
        choose_blend(task, targets, members, np.arange(TEST) % FOLDS, list_fits(task))
        seconds[metric] = time.process_time() - started
    return seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.speed:
        print(json.dumps(time_choice()))
        return
    figures: dict[str, object] = {"repeats": options.repeats, "ratios": {}}
    for case in CASES:
        found = measure_case(case, options.repeats)
        means = {name: values.mean(axis=0) for name, values in found.items()}
        errors = {name: find_errors(values) for name, values in found.items()}
        gains = compare_with_uniform(found)
        figures[case.name] = {
            name: {"mean": means[name].tolist(), "se": errors[name].tolist()} for name in found
        } | {"over uniform": gains}
        accuracy = means["nested, accuracy"][0] / means["uniform"][0]
        loss = means["nested, log loss"][1] / means["uniform"][1]
        figures["ratios"] |= {f"{case.name}, accuracy": accuracy, f"{case.name}, log loss": loss}
        if not options.json:
            print_case(case, means, errors, gains)
    if options.json:
        print(json.dumps(figures))


def print_case(
    case: Case,
    means: dict[str, np.ndarray],
    errors: dict[str, np.ndarray],
    gains: dict[str, tuple[float, float]],
) -> None:
    """One case's rows of the document's table."""
    print(f"\n{case.name}\n\n| | accuracy | (se) | known | log loss | (se) | known |")
    print("|---|---|---|---|---|---|---|")
    for place, (name, (accuracy, loss)) in enumerate(means.items()):
        known = case.known[place] if place < len(case.known) else ("", "")
        cells = [f"{accuracy:.4f}", f"{errors[name][0]:.4f}", str(known[0])]
        cells += [f"{loss:.4f}", f"{errors[name][1]:.4f}", str(known[1])]
        print("| " + " | ".join([name, *cells]) + " |")
    for name, (gain, error) in gains.items():
        print(f"\n{name}: {gain:+.4f} over uniform (se {error:.4f})")


if __name__ == "__main__":
    main()
