"""Augmentation: what the device does to training images

A random square is cut out of a slightly larger image, and half of the images are mirrored, as
the policy says. Nothing happens outside training, when the centre is cut.
"""

import math
from typing import Any

import keras

from podium.config import AugmentConfig
from podium.policies import find_policy


def crop_margin(config: AugmentConfig, image_size: int) -> int:
    """Pixels by which stored images are larger than what the network sees."""
    return math.ceil(config.margin * image_size) if find_policy(config.policy).crop else 0


@keras.saving.register_keras_serializable("podium")
class CropAndFlip(keras.layers.Layer):
    """Cuts a square of `size` pixels out of each image, and mirrors some of them.

    Takes [B, S, S, 3] uint8 and gives [B, size, size, 3] float32, still 0 to 255. In training each
    image has its own place and its own coin; otherwise the centre is cut and nothing mirrored.
    keras.layers.RandomCrop cuts a whole batch at one place. Here a cut is a product with a matrix
    of zeros and ones, which a TPU does at full speed where a gather would stall it.
    """

    def __init__(self, size: int, flip: bool, seed: int = 0, **options: Any) -> None:
        super().__init__(dtype="float32", **{k: v for k, v in options.items() if k != "dtype"})
        self.size, self.flip, self.seed = size, flip, seed
        self.still = False  # cuts the centre in training too; read when a model is compiled
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Cuts and mirrors in training; cuts the centre otherwise."""
        images = keras.ops.cast(images, "float32")
        margin = images.shape[1] - self.size
        if training and not self.still and (margin or self.flip):
            return self.cut_at_random(images, margin)
        start = margin // 2
        return images[:, start : start + self.size, start : start + self.size, :]

    def cut_at_random(self, images: Any, margin: int) -> Any:
        """Draws a place and a coin for each image, and applies both by two matrix products."""
        side, steps = images.shape[1], keras.ops.arange(self.size)
        top, left, coin = (self.draw(images, bound) for bound in (margin + 1, margin + 1, 2))
        mirrored = keras.ops.where(coin == 1, self.size - 1 - steps, steps) if self.flip else steps
        rows = keras.ops.one_hot(top + steps, side)  # (B, size, S)
        columns = keras.ops.one_hot(left + mirrored, side)
        cut = keras.ops.einsum("bih,bhwc->biwc", rows, images)
        return keras.ops.einsum("bjw,biwc->bijc", columns, cut)

    def draw(self, images: Any, bound: int) -> Any:
        """One integer in 0 … bound − 1 for each image: [B, 1] int32."""
        shape = (keras.ops.shape(images)[0], 1)
        return keras.random.randint(shape, 0, bound, dtype="int32", seed=self.draws)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the layer."""
        return {**super().get_config(), "size": self.size, "flip": self.flip, "seed": self.seed}


def make_augmentation(config: AugmentConfig, image_size: int, seed: int) -> CropAndFlip:
    """Builds the layer for a policy; augment.flip must be settled, or is as the policy says."""
    flip = find_policy(config.policy).flip if config.flip == "auto" else config.flip == "yes"
    return CropAndFlip(image_size, flip, seed, name="augment")
