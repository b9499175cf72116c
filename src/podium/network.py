"""Network: the backbone built, as its row of the table says"""

from pathlib import Path
from typing import NamedTuple

import keras

from podium.backbones import Backbone, Scaling, find_backbone
from podium.handles import BackboneError
from podium.hub_module import HubModule
from podium.learning import ModelConfig

# These would scale pixels by themselves, and must be told not to.
SCALING_INSIDE = ("EfficientNetV2", "ConvNeXt", "MobileNetV3")


class Start(NamedTuple):
    """What every fold's backbone starts from."""

    backbone: Backbone
    scaling: Scaling
    weights: Path | None = None  # of the Keras network; None: random
    module: Path | None = None  # a SavedModel that runs as it is


def check_backbone(config: ModelConfig, image_size: int) -> Backbone:
    """Returns the row of the table, or raises BackboneError if it cannot be built so."""
    backbone = find_backbone(config.backbone)
    if image_size < backbone.smallest:
        raise BackboneError(
            f"pixels.image_size is {image_size} px, but {backbone.name} needs {backbone.smallest} "
            f"or more and was made for {backbone.image_size}; raise it, or train.first_size if "
            f"that made it so small"
        )
    if backbone.name == "tiny" and config.weights == "pretrained":
        raise BackboneError(
            "model.weights is pretrained, but tiny, a network for rehearsals, has none; "
            "set model.weights to random, or model.backbone to keras:EfficientNetV2B0"
        )
    if backbone.family == "SavedModel" and config.weights == "random":
        raise BackboneError(
            f"model.weights is random, but {backbone.name} comes with its weights; set it to "
            f"pretrained"
        )
    return backbone


def build_network(start: Start, image_size: int) -> keras.layers.Layer:
    """Builds the backbone: [B, image_size, image_size, 3] float32, scaled, to [B, features]."""
    if start.module:
        return HubModule(str(start.module), name="backbone")
    network = build_architecture(start.backbone, image_size)
    network.name = "backbone"
    if start.weights:
        network.load_weights(start.weights)
    return network


def build_architecture(
    backbone: Backbone, image_size: int, weights: str | None = None
) -> keras.Model:
    """Builds the Keras network of a row, from random weights or those that Keras downloads."""
    shape = (image_size, image_size, 3)
    if backbone.name == "tiny":
        return build_tiny(shape, backbone.features)
    name = backbone.architecture
    inside = {"include_preprocessing": False} if name.startswith(SCALING_INSIDE) else {}
    return getattr(keras.applications, name)(
        weights=weights, include_top=False, pooling="avg", input_shape=shape, **inside
    )


def build_tiny(shape: tuple[int, int, int], features: int) -> keras.Model:
    """A small convolutional net for rehearsals: it learns digits in a minute on a laptop."""
    inputs = x = keras.Input(shape)
    for place, (width, stride) in enumerate(((16, 1), (32, 2), (64, 2), (features, 2)), start=1):
        conv = keras.layers.Conv2D(
            width, 3, stride, padding="same", use_bias=False, name=f"conv{place}"
        )
        norm = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{place}")
        x = keras.layers.Activation("relu")(norm(conv(x)))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x)
