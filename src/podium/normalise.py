"""Normalisation: from pixels of 0 to 255 to what a backbone expects

It is part of the model, and so are grey pixels: whoever feeds the saved model colours, as a later
session does that knows nothing of the settings, has the answers that were validated.
"""

from typing import Any

import keras

from podium.backbones import Scaling

# ImageNet's mean and standard deviation by channel, on the scale of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def turn_grey(squares: Any) -> Any:
    """The luma of pixels [B, H, W, 3] of 0 to 255, in all three channels; grey ones stay so."""
    channels = keras.ops.split(squares, 3, axis=-1)
    luma = sum(share * channel for share, channel in zip(LUMA, channels, strict=True))
    return keras.ops.repeat(luma, 3, axis=-1)


def scale_pixels(pixels: Any, scaling: Scaling) -> Any:
    """Scales pixels [B, H, W, 3] of 0 to 255, in float32 under any policy of precision.

    Uses nothing but Keras's own layers, so any Keras loads the model.
    """
    options = {"name": "normalise", "dtype": "float32"}
    if scaling == "none":
        return pixels
    if scaling == "imagenet":
        variance = [std**2 for std in IMAGENET_STD]
        return keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, **options)(pixels)
    if scaling == "caffe":
        blue_first, ones = keras.ops.flip(pixels, axis=-1), [1.0, 1.0, 1.0]
        return keras.layers.Normalization(mean=CAFFE_MEAN, variance=ones, **options)(blue_first)
    factor, offset = {
        "unit": (1 / 255, 0.0),
        "inception": (1 / 127.5, -1.0),
        "automl": (1 / 128, -1.0),
    }[scaling]
    return keras.layers.Rescaling(factor, offset, **options)(pixels)
