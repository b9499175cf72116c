"""Model: augment, normalise, backbone, head

The model takes uint8 pixels and gives logits, so nothing can be normalised twice, and the saved
model can be fed raw pixels anywhere. The head starts from zero: no class is preferred at first.
"""

from typing import Any

import keras

from podium.augment import make_augmentation
from podium.config import Config
from podium.freezing import set_bn_momentum, set_drop_path
from podium.handles import BackboneError
from podium.learning import HeadConfig
from podium.network import Start, build_network
from podium.normalise import scale_pixels, turn_grey
from podium.sharing import share_devices

GEM_POWER = 3.0


def build_model(
    config: Config, start: Start, classes: int, side: int, seed: int, size: int | None = None
) -> keras.Model:
    """Builds the whole network: stored squares [B, side, side, 3] uint8 to logits [B, C].

    What is cut out of a square is `pixels.image_size` wide; it reaches the backbone in another
    `size` if one is given. Raises BackboneError if a setting asks what the backbone cannot do.
    """
    full = config.pixels.image_size
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    squares = make_augmentation(config.augment, full, seed)(pixels)
    if size not in (None, full):
        shrink = keras.layers.Resizing(size, size, antialias=True, dtype="float32", name="shrink")
        squares = shrink(squares)
    return keras.Model(pixels, add_body(squares, config, start, classes, seed), name="podium")


def add_body(squares: Any, config: Config, start: Start, classes: int, seed: int) -> Any:
    """Squares [B, size, size, 3] float32, 0 to 255, to logits [B, C]."""
    return add_head(add_backbone(squares, config, start), config.head, classes, seed)


def add_backbone(squares: Any, config: Config, start: Start) -> Any:
    """Squares [B, size, size, 3] float32, 0 to 255, to features [B, F]."""
    backbone = build_network(start, squares.shape[1])
    set_bn_momentum(backbone, config.model.bn_momentum)
    set_drop_path(backbone, config.model.drop_path)
    if config.head.pooling == "gem":
        backbone = pool_by_gem(backbone)
    if config.pixels.colour == "grey":
        squares = turn_grey(squares)
    return backbone(scale_pixels(squares, start.scaling))


def add_head(features: Any, config: HeadConfig, classes: int, seed: int) -> Any:
    """Features [B, F] to logits [B, C] in float32, so that softmax and loss are exact."""
    x = keras.layers.Dropout(config.dropout, seed=seed, name="dropout")(features)
    if config.hidden:
        x = keras.layers.Dense(config.hidden, config.activation, name="hidden")(x)
    head = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="head")
    return head(x)


def pool_by_gem(backbone: keras.Model) -> keras.Model:
    """Puts the generalised mean in the place of the mean over the feature map (Radenović et al.
    2018, arXiv 1711.02512): the cube root of the mean of cubes, of what is positive.
    """
    if not isinstance(backbone, keras.Model):
        raise BackboneError("head.pooling is gem, but a SavedModel pools by itself; set it to avg")
    kinds = [isinstance(layer, keras.layers.GlobalAveragePooling2D) for layer in backbone.layers]
    place = len(kinds) - 1 - kinds[::-1].index(True)
    x = keras.ops.maximum(keras.ops.cast(backbone.layers[place].input, "float32"), 1e-6)
    x = keras.ops.mean(x**GEM_POWER, axis=(1, 2)) ** (1 / GEM_POWER)
    for layer in backbone.layers[place + 1 :]:
        x = layer(x)
    return keras.Model(backbone.input, x, name="backbone")


def strip_augmentation(model: keras.Model, image_size: int) -> keras.Model:
    """The model as it predicts, of Keras's own layers: any Keras loads it without Podium.

    Takes the same [B, side, side, 3] uint8 and cuts the centre.
    """
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    body = keras.Model(model.get_layer("augment").output, model.output, name="network")
    centre = keras.layers.CenterCrop(image_size, image_size, dtype="float32", name="centre")
    return keras.Model(pixels, body(centre(pixels)), name="podium")


def open_session(precision: str, devices: int) -> None:
    """Forgets earlier models, then sets precision and devices, which Keras forgets with them.

    Must come before each model is built.
    """
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)
    share_devices(devices)


def reopen_session() -> None:
    """Forgets earlier models, and goes on with the same precision and devices."""
    precision, spread = keras.config.dtype_policy(), keras.distribution.distribution()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)
    keras.distribution.set_distribution(spread)
