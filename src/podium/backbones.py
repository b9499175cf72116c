"""Backbones: the table of networks that turn pixels into features

One row for each, with the resolution and the input range it was made for. The range matters: a
network fed the wrong one fails without a word, so normalisation is a layer of the model and the
table is the only place that knows it.
"""

import os
from typing import Any, Literal, NamedTuple

import keras

Scaling = Literal["imagenet", "inception", "automl"]

# Mean and standard deviation of ImageNet's pixels, on the scale of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class BackboneError(RuntimeError):
    """The backbone is unknown, or its weights cannot be had."""


class Backbone(NamedTuple):
    """One row of the table."""

    name: str  # as model.backbone takes it
    image_size: int  # px, native
    features: int  # width of the pooled output
    parameters: float  # millions, without top
    scaling: Scaling  # what the pixels must be turned into
    smallest: int = 32  # px, below which it cannot be built
    own_scaling: bool = False  # keras.applications would scale by itself and must be told not to


BACKBONES = {
    row.name: row
    for row in (
        Backbone("tiny", 32, 128, 0.1, "inception", 16),
        Backbone("keras:EfficientNetV2B0", 224, 1280, 5.9, "imagenet", own_scaling=True),
        Backbone("keras:EfficientNetV2B1", 240, 1280, 6.9, "imagenet", own_scaling=True),
        Backbone("keras:EfficientNetV2B2", 260, 1408, 8.8, "imagenet", own_scaling=True),
        Backbone("keras:EfficientNetV2B3", 300, 1536, 12.9, "imagenet", own_scaling=True),
        Backbone("keras:EfficientNetV2S", 384, 1280, 20.3, "automl", own_scaling=True),
        Backbone("keras:EfficientNetV2M", 480, 1280, 53.2, "automl", own_scaling=True),
        Backbone("keras:EfficientNetV2L", 480, 1280, 117.7, "automl", own_scaling=True),
        Backbone("keras:ConvNeXtTiny", 224, 768, 27.8, "imagenet", own_scaling=True),
        Backbone("keras:ConvNeXtSmall", 224, 768, 49.5, "imagenet", own_scaling=True),
        Backbone("keras:ConvNeXtBase", 224, 1024, 87.6, "imagenet", own_scaling=True),
        Backbone("keras:DenseNet121", 224, 1024, 7.0, "imagenet"),
        Backbone("keras:DenseNet169", 224, 1664, 12.6, "imagenet"),
        Backbone("keras:DenseNet201", 224, 1920, 18.3, "imagenet"),
        Backbone("keras:ResNet50V2", 224, 2048, 23.6, "inception"),
        Backbone("keras:ResNet101V2", 224, 2048, 42.6, "inception"),
        Backbone("keras:MobileNetV2", 224, 1280, 2.3, "inception"),
        Backbone("keras:MobileNetV3Small", 224, 576, 0.9, "inception", own_scaling=True),
        Backbone("keras:MobileNetV3Large", 224, 960, 3.0, "inception", own_scaling=True),
        Backbone("keras:Xception", 299, 2048, 20.9, "inception", 71),
        Backbone("keras:InceptionResNetV2", 299, 1536, 54.3, "inception", 75),
    )
}


def find_backbone(name: str) -> Backbone:
    """Looks a backbone up by name; raises BackboneError listing the table."""
    if name not in BACKBONES:
        raise BackboneError(
            f"model.backbone {name!r} is not in the table; choose from {', '.join(BACKBONES)}"
        )
    return BACKBONES[name]


def check_backbone(name: str, image_size: int, weights: str) -> Backbone:
    """Returns the row, or raises BackboneError if these settings cannot be built."""
    backbone = find_backbone(name)
    if image_size < backbone.smallest:
        raise BackboneError(
            f"pixels.image_size is {image_size} px, but {name} needs {backbone.smallest} or more "
            f"and was made for {backbone.image_size}"
        )
    if name == "tiny" and weights != "random":
        raise BackboneError(
            f"model.weights is {weights}, but tiny, a network for rehearsals, has none; "
            f"set model.weights to random, or model.backbone to {list(BACKBONES)[1]}"
        )
    return backbone


def scale_pixels(scaling: Scaling) -> keras.layers.Layer:
    """The layer that turns pixels of 0 to 255 into what a backbone expects."""
    if scaling == "imagenet":
        variance = [std**2 for std in IMAGENET_STD]
        return keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, name="normalise")
    half = 127.5 if scaling == "inception" else 128.0  # -1 to 1; to just under 1
    return keras.layers.Rescaling(1 / half, offset=-1.0, name="normalise")


def build_backbone(backbone: Backbone, image_size: int, weights: str) -> keras.Model:
    """Builds the network: [B, image_size, image_size, 3] float32, scaled, to [B, features].

    Raises BackboneError if pretrained weights cannot be had.
    """
    shape = (image_size, image_size, 3)
    if backbone.name == "tiny":
        return build_tiny(shape, backbone.features)
    architecture = getattr(keras.applications, backbone.name.removeprefix("keras:"))
    options: dict[str, Any] = {"include_preprocessing": False} if backbone.own_scaling else {}
    try:
        network = architecture(
            weights="imagenet" if weights == "imagenet" else None,
            include_top=False,
            pooling="avg",
            input_shape=shape,
            **options,
        )
    except Exception as error:  # keras.utils.get_file raises no narrower type
        raise BackboneError(
            f"weights of {backbone.name} could not be loaded ({type(error).__name__}); they are "
            f"downloaded once to {os.path.expanduser('~/.keras/models')}: switch the session's "  # noqa: PTH111
            f"internet on, put the file there, or set model.weights to random for a rehearsal"
        ) from error
    network.name = "backbone"
    return network


def build_tiny(shape: tuple[int, int, int], features: int) -> keras.Model:
    """A small convolutional net for rehearsals: it learns digits in a minute on a laptop."""
    inputs = x = keras.Input(shape)
    for width, stride in ((16, 1), (32, 2), (64, 2), (features, 2)):
        x = keras.layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x, name="backbone")
