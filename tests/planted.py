"""Networks with a known fault, trained in seconds on scikit-learn's digits.

Each digit is turned, moved and made noisy once, so that 800 of them leave something to learn.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import keras
import numpy as np
from sklearn.datasets import load_digits

from podium.backbones import find_backbone
from podium.batches import Labelled, order_epoch
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.learning import HeadConfig, ModelConfig
from podium.model import build_model
from podium.network import Start
from podium.task import Task
from podium.truth import FoldData

SIDE, BATCH, TRAINED = 24, 64, 800
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


DATA = Strength(15, 0.15, 0.08, 0, 60)
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


def make_data(seed: int, by: Strength = DATA, trained: int = TRAINED) -> FoldData:
    """Digits for training, the rest of the 1,797 beyond the first 800 for validation."""
    digits, dice = load_digits(), np.random.default_rng(seed)
    order = dice.permutation(len(digits.target))
    small = np.uint8(np.round(digits.images[order] * 255 / 16))
    grey = [cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for one in small]
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


def train_net(
    fold: FoldData, momentum: float, by: Strength, epochs: int, watch: Callable | None = None
) -> keras.Model:
    """Trains the small net of rehearsals by Adamax under cosine decay.

    `watch` is called with the model and the number of the epoch, after each.
    """
    config = replace(CONFIG, model=ModelConfig("tiny", "random", bn_momentum=momentum))
    start = Start(find_backbone("tiny"), "inception")
    model = build_model(config, start, 10, SIDE, fold.seed)
    steps = -(-len(fold.training) // fold.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * steps)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adamax(rate), loss)
    ends = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: watch(model, epoch + 1) if watch else None
    )
    batches = draw_augmented(fold, by, epochs)
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, callbacks=[ends], verbose=0)
    return model
