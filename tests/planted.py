"""Networks with a known fault, trained in seconds on scikit-learn's digits.

Each digit is turned, moved and made noisy once, so that 768 of them leave something to learn.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import keras
import numpy as np
from sklearn.datasets import load_digits

from podium.backbones import find_backbone
from podium.batches import Labelled, order_epoch
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.fold_data import FoldData
from podium.learning import HeadConfig, ModelConfig
from podium.model import build_model
from podium.network import Start
from podium.task import Task

SIDE, BATCH, TRAINED = 16, 64, 768
TASK = Task("label", tuple("0123456789"))
CONFIG = replace(
    Config(),
    head=HeadConfig(dropout=0.0),
    pixels=PixelsConfig(SIDE, BATCH),
    augment=AugmentConfig("none", flip="no"),
)


class Strength(NamedTuple):
    """How far an image may be turned, scaled, moved, darkened and made noisy."""

    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0  # share of the side
    dark: float = 0.0  # share of the light taken away at most
    noise: float = 0.0  # deviation, of 255


DATA = Strength(15, 0.15, 0.08, 0, 30)
EASY = Strength(5, 0.05, 0.03)
LIGHT = Strength(10, 0.1, 0.05)
STRONG = Strength(60, 0.4, 0.2, 0.9)


def change_images(images: np.ndarray, by: Strength, dice: np.random.Generator) -> np.ndarray:
    """Draws for each image by itself: [N, S, S, 3] uint8."""
    changed = np.empty_like(images)
    for row, image in enumerate(images):
        angle, scale, down, right = dice.uniform(-1, 1, 4)
        middle = (SIDE / 2, SIDE / 2)
        matrix = cv2.getRotationMatrix2D(middle, angle * by.degrees, 1 + scale * by.scale)
        matrix[:, 2] += by.shift * SIDE * np.array([down, right])
        moved = cv2.warpAffine(image, matrix, (SIDE, SIDE)).astype(np.float32)
        moved *= 1 - dice.uniform(0, by.dark)
        if by.noise:
            moved += dice.normal(0, by.noise, (SIDE, SIDE, 1))
        changed[row] = np.clip(moved, 0, 255)
    return changed


def enlarge(scan: np.ndarray) -> np.ndarray:
    """One scan of 8 × 8, ink from 0 to 16, as a grey square."""
    small = np.uint8(np.round(scan * 255 / 16))
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def make_data(seed: int, by: Strength = DATA, trained: int = TRAINED) -> FoldData:
    """Digits for training, the rest of the 1,797 beyond the first 768 for validation."""
    digits, dice = load_digits(), np.random.default_rng(seed)
    order = dice.permutation(len(digits.target))
    grey = [enlarge(scan) for scan in digits.images[order]]
    pixels = change_images(np.repeat(np.stack(grey)[..., None], 3, axis=3), by, dice)
    data = Labelled(pixels, digits.target[order], 10)
    rows = np.arange(len(order))
    return FoldData(data, rows[:trained], rows[TRAINED:], TASK, BATCH, seed)


def draw_augmented(fold: FoldData, by: Strength, epochs: int) -> Iterator[np.ndarray]:
    """Batches of images and targets, as training takes them."""
    dice = np.random.default_rng(fold.seed)
    for epoch in range(epochs):
        for rows in order_epoch(fold.training, fold.batch_size, fold.seed, epoch):
            yield change_images(fold.data.pixels[rows], by, dice), fold.data.encode(rows)


class Case(NamedTuple):
    """What a network learns from, how, and for how long."""

    data: Strength
    trained: int
    momentum: float
    augmented: Strength
    epochs: int


# One fault each: of digits that are hard, 768 are learned by heart too, which may outweigh a lag.
CASES = {
    "lag": Case(EASY, TRAINED, 0.99, Strength(), 10),
    "shift": Case(DATA, TRAINED, 0.9, STRONG, 20),
    "overfit": Case(DATA, TRAINED // 4, 0.9, Strength(), 30),
    "none": Case(EASY, TRAINED, 0.9, LIGHT, 15),
}


def train_case(case: Case, seed: int) -> tuple[keras.Model, FoldData, list[np.ndarray]]:
    """The network, its data, and an epoch of batches as it saw them."""
    fold = make_data(seed, case.data, case.trained)
    model = train_net(fold, case.momentum, case.augmented, case.epochs)
    return model, fold, [images for images, _ in draw_augmented(fold, case.augmented, 1)]


def train_net(
    fold: FoldData, momentum: float, by: Strength, epochs: int, planned: int = 30
) -> keras.Model:
    """Trains the small net of rehearsals by Adamax under a cosine decay planned for more epochs."""
    config = replace(CONFIG, model=ModelConfig("tiny", "random", bn_momentum=momentum))
    start = Start(find_backbone("tiny"), "inception")
    model = build_model(config, start, 10, SIDE, fold.seed)
    steps = -(-len(fold.training) // fold.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, planned * steps)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adamax(rate), loss, jit_compile=False)
    batches = draw_augmented(fold, by, epochs)
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, verbose=0)
    return model
