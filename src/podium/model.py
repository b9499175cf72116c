"""Model: augment, normalise, backbone, head

The model takes uint8 pixels and gives logits, so nothing can be normalised twice, and the saved
model can be fed raw pixels anywhere. The head is one dense layer that starts from zero.
"""

import keras

from podium.augment import make_augmentation
from podium.backbones import build_backbone, check_backbone, scale_pixels
from podium.config import Config


def build_model(config: Config, classes: int, side: int, seed: int) -> keras.Model:
    """Builds the whole network: stored squares [B, side, side, 3] uint8 to logits [B, C].

    Raises BackboneError if the backbone or its weights cannot be had.
    """
    size, weights = config.pixels.image_size, config.model.weights
    backbone = check_backbone(config.model.backbone, size, weights)
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    x = make_augmentation(config.augment, size, seed)(pixels)
    x = scale_pixels(backbone.scaling)(x)
    x = build_backbone(backbone, size, weights)(x)
    x = keras.layers.Dropout(config.model.dropout, seed=seed, name="dropout")(x)
    head = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="head")
    return keras.Model(pixels, head(x), name="podium")


def share_devices(count: int) -> None:
    """Splits every batch over all devices; must stand before the model is built."""
    if count > 1:
        devices = keras.distribution.list_devices()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))


def freeze_backbone(model: keras.Model, *, frozen: bool) -> None:
    """Freezes or frees the backbone; a frozen one also keeps its batch statistics.

    The model must be compiled after this: Keras looks at `trainable` only then.
    """
    model.get_layer("backbone").trainable = not frozen


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer, *, jit: bool) -> None:
    """Compiles for training on integer labels.

    The metrics are weighted ones, so that the padding of the last batch does not count.
    """
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseCategoricalCrossentropy(name="log_loss", from_logits=True),
        ],
        jit_compile=jit,
    )
