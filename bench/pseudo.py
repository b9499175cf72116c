"""What pseudo-labels are worth: how often they are right, and what training on them adds.

    python bench/pseudo.py              --seeds 2, --json for programs

Scikit-learn's digits, each turned, moved and made noisy, several times over; no digit is in two
parts. A small net learns 1,400 of them, answers 2,500 unlabelled ones through 20 small changes
each, and learns anew with what was accepted. The first table tells how often a label is right by
the share of views that agree on it. The second one, against a test part of 4,000: the same epochs
without labels (naive), as many updates without labels (control), all labels, those on which all
views agree, those that podium.pseudo selects, and the true labels. The third is of simulated worlds
(tests/pseudo_world.py): how often the gate adopts labels that add nothing, and labels that help.
The ratios are each arm's accuracy over the control's.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "tests")]

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
from planted import CONFIG, LIGHT, SIDE, Strength, change_images, enlarge
from pseudo_world import GAIN, NULL, race_arms
from sklearn.datasets import load_digits

from podium.backbones import find_backbone
from podium.batches import order_epoch
from podium.learning import ModelConfig, PseudoConfig
from podium.model import build_model
from podium.network import Start
from podium.predict import take_probs
from podium.pseudo import FoldPoll, Poll, count_bands, poll_views, select_labels

HARD = Strength(25, 0.25, 0.15, 0, 60)
SMALL = Strength(8, 0.1, 0.06)  # what views change
BATCH, EPOCHS, VIEWS, FOLDS = 64, 20, 20, 2
SIZES = {"labelled": 1400, "unlabelled": 2500, "test": 4000}
SHARES = {"labelled": 0.4, "unlabelled": 0.25, "test": 0.35}  # of the scans
PRECISION = 0.9  # 0.99 takes 268 right answers of a class, and there are 70


class Part(NamedTuple):
    """Images [N, S, S, 3] uint8, their classes [N], and the scan of each [N]."""

    images: np.ndarray
    truth: np.ndarray
    scans: np.ndarray

    def select(self, kept: np.ndarray) -> "Part":
        """Some of them."""
        return Part(*(column[kept] for column in self))

    def add(self, other: "Part") -> "Part":
        """With those of another part."""
        return Part(*map(np.concatenate, zip(self, other, strict=True)))


def draw_parts(seed: int) -> dict[str, Part]:
    """The three parts, of different scans."""
    digits, dice = load_digits(), np.random.default_rng(seed)
    order, parts, first = dice.permutation(len(digits.target)), {}, 0
    for name, share in SHARES.items():
        scans = order[first : first + int(share * len(order))]
        first += len(scans)
        rows = np.resize(scans, SIZES[name])
        grey = [enlarge(scan) for scan in digits.images[rows]]
        pixels = np.repeat(np.stack(grey)[..., None], 3, axis=3)
        parts[name] = Part(change_images(pixels, HARD, dice), digits.target[rows], rows)
    return parts


def learn(part: Part, updates: int, seed: int) -> keras.Model:
    """The small net of rehearsals after so many updates, at a rate that comes down with them."""
    keras.backend.clear_session()
    config = replace(CONFIG, model=ModelConfig("tiny", "random", bn_momentum=0.9))
    model = build_model(config, Start(find_backbone("tiny"), "inception"), 10, SIDE, seed)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, updates)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adamax(rate), loss, jit_compile=False)
    targets = np.eye(10, dtype=np.float32)[part.truth]

    def draw():
        done, epoch, rows = 0, 0, np.arange(len(part.truth))
        dice = np.random.default_rng(seed)
        while done < updates:
            for batch in order_epoch(rows, BATCH, seed, epoch)[: updates - done]:
                yield change_images(part.images[batch], LIGHT, dice), targets[batch]
                done += 1
            epoch += 1

    model.fit(draw(), steps_per_epoch=updates, epochs=1, verbose=0)
    return model


def answer(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities [N, C]."""
    logits = np.asarray(model.predict(images, batch_size=500, verbose=0))
    return take_probs(logits, exclusive=True)


def poll(model: keras.Model, images: np.ndarray, seed: int) -> Poll:
    """What the model says through small changes, the first of which is none."""
    dice = np.random.default_rng(seed)
    seen = [images, *(change_images(images, SMALL, dice) for _ in range(VIEWS - 1))]
    return poll_views(np.stack([answer(model, one) for one in seen]))


def count_steps(count: int) -> int:
    """Updates of the epochs over so many images."""
    return EPOCHS * -(-count // BATCH)


def find_selected(parts: dict[str, Part], test: Poll, seed: int) -> np.ndarray:
    """What podium.pseudo would accept of the whole model's labels: [T], −1 for none.

    Thresholds are those of models that were trained on half of the labelled part each.
    """
    labelled = parts["labelled"]
    polls = [FoldPoll(test, np.zeros(0, np.int64), test)]
    half = labelled.scans % FOLDS
    for fold in range(FOLDS):
        model = learn(labelled.select(half != fold), count_steps(len(labelled.truth)), seed)
        own = poll(model, labelled.images[half == fold], seed)
        polls.append(FoldPoll(own, labelled.truth[half == fold], test))
    config = PseudoConfig(precision=PRECISION)
    banned = np.zeros(len(test.labels), np.bool_)
    return select_labels(polls, 0, banned, 10, config).labels


def measure(seed: int) -> tuple[list, dict[str, tuple[int, float, float]]]:
    """The bands of one teacher; and of each arm labels, their precision, test accuracy."""
    parts = draw_parts(seed)
    labelled, unlabelled, test = parts["labelled"], parts["unlabelled"], parts["test"]
    plain = count_steps(len(labelled.truth))
    teacher = learn(labelled, plain, seed)
    said = poll(teacher, unlabelled.images, seed)
    right = said.labels == unlabelled.truth
    everything = count_steps(len(labelled.truth) + len(unlabelled.truth))
    chosen = find_selected(parts, said, seed)
    arms = {
        "naive: no labels, the same epochs": (None, plain),
        "control: no labels, as many updates": (None, everything),
        "all labels": (said.labels, everything),
        "all views agree": (np.where(said.agreement == 1, said.labels, -1), everything),
        f"selected, precision {PRECISION:g}": (chosen, everything),
        "true labels": (unlabelled.truth, everything),
    }
    found = {}
    for name, (labels, updates) in arms.items():
        part, count, precision = labelled, 0, np.nan
        if labels is not None:
            kept = labels >= 0
            part = labelled.add(unlabelled._replace(truth=labels).select(kept))
            count = int(kept.sum())
            precision = float((labels == unlabelled.truth)[kept].mean()) if count else np.nan
        model = learn(part, updates, seed + 100)
        accuracy = float((answer(model, test.images).argmax(axis=1) == test.truth).mean())
        found[name] = (count, precision, accuracy)
    return count_bands(said.agreement, right), found


def simulate() -> list[dict]:
    """How often the gate adopts pseudo-labels, in worlds where the truth about them is known."""
    worlds = [
        ("the arms differ by luck alone", NULL, True, 600),
        ("labels add nothing", NULL, False, 300),
        ("labels help", GAIN, False, 40),
    ]
    rows = []
    for name, world, exchanged, repeats in worlds:
        arms = [race_arms(world, seed, exchanged=exchanged) for seed in range(repeats)]
        found = {
            kind: (
                float(np.mean([getattr(one, kind).difference for one in arms])),
                float(np.mean([getattr(one, kind).adopted for one in arms])),
            )
            for kind in ("naive", "fair")
        }
        rows.append({"world": name, "repeats": repeats} | found)
    return rows


def main() -> None:
    """Trains all nets and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = [measure(seed) for seed in range(options.seeds)]
    bands = [
        (same[0].name, sum(one.n for one in same), sum(one.right for one in same))
        for same in zip(*(bands for bands, _ in runs), strict=True)
    ]
    arms = {name: np.array([found[name] for _, found in runs]) for name in runs[0][1]}
    means = {name: values.mean(axis=0) for name, values in arms.items()}
    control = next(name for name in arms if name.startswith("control"))
    ratios = {name: float(mean[2] / means[control][2]) for name, mean in means.items()}
    worlds = simulate()
    if options.json:
        shown = [
            {"agreement": name, "n": n, "precision": right / max(n, 1)} for name, n, right in bands
        ]
        results = [
            {"arm": name, "labels": mean[0], "right": np.nan_to_num(mean[1]), "accuracy": mean[2]}
            for name, mean in means.items()
        ]
        print(json.dumps({"bands": shown, "arms": results, "worlds": worlds, "ratios": ratios}))
        return
    print(f"| share of {VIEWS} views that agree | n | precision |\n|---|---|---|")
    for name, n, right in bands:
        print(f"| {name} | {n} | {right / max(n, 1):.3f} |")
    print("\n| arm | labels | right | test accuracy | ± deviation | against control |")
    print("|---|---|---|---|---|---|")
    for name, values in arms.items():
        count, precision, accuracy = means[name]
        share = "–" if np.isnan(precision) else f"{precision:.3f}"
        spread = values[:, 2].std(ddof=1) if len(values) > 1 else 0.0
        gain = accuracy - means[control][2]
        print(f"| {name} | {count:.0f} | {share} | {accuracy:.4f} | {spread:.4f} | {gain:+.4f} |")
    print(
        "\n| world | repeats | gain over the same epochs, adopted | over as many updates, adopted |"
    )
    print("|---|---|---|---|")
    for row in worlds:
        cells = [f"{gain:+.4f}, {share:.1%}" for gain, share in (row["naive"], row["fair"])]
        print(f"| {row['world']} | {row['repeats']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
