"""Races on planted sets, whose right verdict is known, and between two arms that are the same.

    python bench/races.py --seeds 20                      the planted sets, a line each
    python bench/races.py --alike 200                     how often the same arm is called better

Each set is 300 striped images of 16 px from two sites, which are the folds. Its classes are the
direction of the stripes, which a mirror turns round, or their spacing, or the colour. The arms are
trained by a net of two convolutions behind Podium's own augmentation, grey and head, with the
race's own arms and verdict.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import keras
import numpy as np

from podium.augment import make_augmentation
from podium.config import Config
from podium.model import add_head
from podium.normalise import scale_pixels, turn_grey
from podium.override import override
from podium.questions import Question
from podium.rules import apply_rule, plain_rule
from podium.predict import take_probs
from podium.task import Task, encode_targets
from workbench.arms import Arm, make_race
from workbench.paired import Answered
from workbench.verdict import Entry, judge_race

SIDE, BATCH, IMAGES, EPOCHS = 16, 25, 300, 12
TASK = Task("label", ("one", "other"))
SETTINGS = {"augment.margin": 0.0, "head.dropout": 0.0}
# Red and green of the same luma, 100.
COLOURS = np.array([[190.0, 60.0, 70.0], [20.0, 141.0, 98.0]])


NOISES = (45.0, 70.0)  # with which the same arm races itself
SEEDS = (0, 1)  # of training: two folds with each are four trainings


class Stripes(NamedTuple):
    """What of each image says what, as 0 or 1: [N] each."""

    leaning: np.ndarray  # stripes fall to the left, or to the right
    wide: np.ndarray
    colour: np.ndarray


class Plant(NamedTuple):
    """A set with a known verdict: which of these is the class, and which of them a site spoils."""

    race: dict[str, str]
    label: str  # a field of Stripes
    spoilt: str  # a field that goes with the site, or with the class and the site
    chosen: str
    adopted: bool  # or the cheaper of a tie
    noise: float = 40.0  # deviation, of 255
    cost: float = 1.0  # of the second arm, where an epoch of the first takes 1 s


FLIP, GREY = {"augment": "none flip-crop"}, {"colour": "keep grey"}
PLANTS = {
    "a mirror changes the class": Plant(FLIP, "leaning", "", "none", False),
    "a mirror changes the site alone": Plant(FLIP, "wide", "leaning", "flip-crop", True),
    "colour is the class": Plant(GREY, "colour", "", "keep", False),
    "colour tells the class of one site": Plant(GREY, "wide", "colour", "grey", True, 60.0),
    "colour is irrelevant": Plant(GREY, "wide", "", "grey", False, 20.0, 0.5),
}


def draw_set(plant: Plant, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [N, S, S, 3] uint8, labels and sites [N]."""
    dice = np.random.default_rng(seed)
    told = {name: dice.integers(0, 2, IMAGES) for name in Stripes._fields}
    sites = np.arange(IMAGES) % 2
    if plant.spoilt == "leaning":
        told["leaning"] = sites
    if plant.spoilt == "colour":  # one way in one site, the other way in the other
        told["colour"] = told[plant.label] ^ sites
    return draw_stripes(Stripes(**told), plant.noise, dice), told[plant.label], sites


def draw_stripes(told: Stripes, noise: float, dice: np.random.Generator) -> np.ndarray:
    """The images [N, S, S, 3] uint8, each moved at random."""
    down, right = np.indices((SIDE, SIDE))
    across = down + np.where(told.leaning, 1, -1)[:, None, None] * right
    period = np.where(told.wide, 9.0, 6.0)[:, None, None]
    phase = dice.uniform(0, 2 * np.pi, (IMAGES, 1, 1))
    waves = 40 * np.sin(2 * np.pi * across / period + phase) + dice.normal(0, noise, across.shape)
    pixels = COLOURS[told.colour][:, None, None, :] + waves[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


@cache
def build_net(settings: tuple[tuple[str, object], ...]) -> keras.Model:
    """The net of an arm, compiled once for all folds and seeds."""
    config = override(Config(), SETTINGS | dict(settings))
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = make_augmentation(config.augment, SIDE, 0)(pixels)
    if config.pixels.colour == "grey":
        x = turn_grey(x)
    x = scale_pixels(x, "inception")
    for width, size in ((12, 5), (24, 3)):
        x = keras.layers.Conv2D(width, size, 2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, add_head(x, config.head, len(TASK.classes), 0))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def start_anew(model: keras.Model, seed: int) -> None:
    """Draws the weights that a seed gives, and forgets what the optimizer has seen."""
    dice = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        spread = np.sqrt(2 / np.prod(weight.shape[:-1])) if len(weight.shape) == 4 else 0.0
        weight.assign(dice.normal(0, spread, weight.shape))
    for state in model.optimizer.variables[2:]:
        state.assign(np.zeros(state.shape, np.float32))
    model.optimizer.iterations.assign(0)
    model.get_layer("augment").draws.state.assign([seed, 0])


def enter(arm: Arm, plant: Plant, seed: int, seeds: Sequence[int], cost: float = 1.0) -> Entry:
    """What an arm reaches on the set of one seed, trained with several of its own."""
    drawn = draw_set(plant, seed)
    return Entry(arm.name, tuple(answer_folds(arm, drawn, one) for one in seeds), cost)


def answer_folds(arm: Arm, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int) -> Answered:
    """What an arm answers to each fold, trained on the others."""
    pixels, labels, sites = drawn
    targets, model = encode_targets(labels, 2), build_net(tuple(arm.settings.items()))
    probs = np.zeros((IMAGES, 2), np.float32)
    for site in np.unique(sites):
        trained = 1000 * seed + int(site)
        start_anew(model, trained)
        rows, dice = np.flatnonzero(sites != site), np.random.default_rng(trained)
        order = np.concatenate([dice.permutation(rows) for _ in range(EPOCHS)])
        model.fit(pixels[order], targets[order], BATCH, shuffle=False, verbose=0)
        logits = model.predict(pixels[sites == site], BATCH, verbose=0)
        probs[sites == site] = take_probs(logits, exclusive=True)
    ids = [f"{row:03d}" for row in range(IMAGES)]
    return Answered(TASK, ids, targets, apply_rule(plain_rule(TASK), probs), sites)


def race_plant(plant: Plant, seed: int, seeds: Sequence[int] = SEEDS) -> Question:
    """The verdict of the race on one planted set."""
    race = make_race(plant.race)
    plain, other = race.arms
    return judge_race(
        race, [enter(plain, plant, seed, seeds), enter(other, plant, seed, seeds, plant.cost)]
    )


def is_right(plant: Plant, question: Question) -> bool:
    """Is the verdict the one that was planted, and for its reason?"""
    gain = question.options[1].gain
    return gain is not None and question.chosen == plant.chosen and gain.adopted == plant.adopted


def race_alike(seed: int, noise: float) -> Question:
    """The verdict on one arm against itself, trained with another seed, in five folds."""
    race, plant = make_race(GREY), PLANTS["colour is irrelevant"]._replace(noise=noise)
    pixels, labels, _ = draw_set(plant, seed)
    drawn = pixels, labels, np.arange(IMAGES) % 5
    entries = [
        Entry(name, (answer_folds(race.arms[0], drawn, trained),), 1.0)
        for name, trained in zip(("keep", "grey"), (seed, 10_000 + seed), strict=True)
    ]
    return judge_race(race, entries)


def main(argv: Sequence[str]) -> None:
    """Prints a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--alike", type=int, default=0)
    options = parser.parse_args(argv)
    for name, plant in PLANTS.items() if options.seeds else ():
        found = [race_plant(plant, seed) for seed in range(options.seeds)]
        right = sum(is_right(plant, question) for question in found)
        scores = np.mean([[option.score for option in one.options] for one in found], axis=0)
        shown = ", ".join(
            f"{option.name} {score:.3f}"
            for option, score in zip(found[0].options, scores, strict=True)
        )
        print(f"{name:<36} {plant.chosen:<10} right {right:>3} of {len(found)}   {shown}")
    for noise in NOISES if options.alike else ():
        found = [race_alike(seed, noise) for seed in range(options.alike)]
        score = np.mean([option.score for question in found for option in question.options])
        better = sum(question.options[1].gain.adopted for question in found)
        print(
            f"the same arm is called better in {better} of {len(found)} races (score {score:.3f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
