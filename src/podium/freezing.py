"""Freezing: which variables train, and how fast

A backbone is cut into stages where its resolution halves: stage 1 ends at half the image's side,
stage 5 at 1/32. Early stages see edges, late ones see parts, so early ones can stay as they are
(model.frozen_stages) or move more slowly (schedule.layer_decay).

The model must be compiled after any change here: Keras looks at `trainable` only then.
"""

import math
from collections.abc import Iterator

import keras

from podium.events import Reporter
from podium.handles import BackboneError
from podium.learning import ModelConfig

ALL_STAGES = 5


def list_stages(backbone: keras.layers.Layer) -> Iterator[tuple[keras.layers.Layer, int]]:
    """Every layer of a backbone, in order, with its stage from 1 on."""
    side, stage = backbone.input_shape[1], 1
    for layer in backbone.layers:
        # Only what looks at neighbours: squeeze-and-excitation makes maps of 1 × 1 on its way.
        if find_window(layer) > 1:
            stage = max(stage, round(math.log2(side / layer.output.shape[1])))
        yield layer, stage


def find_window(layer: keras.layers.Layer) -> int:
    """The side of what a layer, or the widest of those inside it, looks at: 1 is a pixel."""
    inside = getattr(layer, "layers", [layer])  # ConvNeXt's stem is a Sequential
    windows = [getattr(one, "kernel_size", getattr(one, "pool_size", (1, 1))) for one in inside]
    return max(int(max(window)) for window in windows)


def freeze_backbone(model: keras.Model, config: ModelConfig, *, frozen: bool) -> None:
    """Freezes the backbone, or frees what of it the settings let train.

    A frozen batch norm keeps its statistics too (Keras runs it as in inference). A SavedModel is
    one piece, with all its stages frozen or none; raises BackboneError if a setting asks for some.
    """
    backbone = model.get_layer("backbone")
    backbone.trainable = not frozen and config.frozen_stages < ALL_STAGES
    fixed_norm = config.batch_norm == "frozen"
    in_parts = config.frozen_stages not in (0, ALL_STAGES) or fixed_norm
    if not isinstance(backbone, keras.Model) and not in_parts:
        return
    # Layer by layer: Keras passes `trainable` on to the layers only when the backbone's changes.
    for layer, stage in list_parts(backbone, "model.frozen_stages of 1 to 4, model.batch_norm"):
        fixed = fixed_norm and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not frozen and stage > config.frozen_stages and not fixed


def share_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """Each backbone variable's share of the learning rate, by path: decay to the power of the
    stages between it and the head.
    """
    if decay == 1.0:
        return {}
    parts = list(list_parts(model.get_layer("backbone"), "schedule.layer_decay"))
    last = parts[-1][1]
    return {
        variable.path: decay ** (last + 1 - stage)
        for layer, stage in parts
        for variable in layer.trainable_variables
    }


def list_parts(
    backbone: keras.layers.Layer, settings: str
) -> Iterator[tuple[keras.layers.Layer, int]]:
    """The layers and their stages, or BackboneError naming the settings that need them."""
    if not isinstance(backbone, keras.Model):
        raise BackboneError(
            f"{settings} need a backbone made of Keras layers, and a SavedModel is one piece; "
            f"leave them at their defaults, or choose a backbone that can be ported"
        )
    return list_stages(backbone)


def set_bn_momentum(backbone: keras.layers.Layer, momentum: float | None) -> None:
    """Sets the share of the old statistics that every batch norm keeps at each step."""
    if momentum is not None:
        for layer, _ in list_parts(backbone, "model.bn_momentum"):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = momentum


def set_drop_path(backbone: keras.layers.Layer, rate: float | None) -> None:
    """Sets stochastic depth, rising with depth to `rate` (Huang et al. 2016, arXiv 1603.09382).

    Raises BackboneError if the network has none to set.
    """
    if rate is None:
        return
    drops = [
        layer
        for layer, _ in list_parts(backbone, "model.drop_path")
        if isinstance(layer, keras.layers.Dropout) and layer.noise_shape is not None
    ]
    if not drops:
        raise BackboneError(
            "model.drop_path is set, but this backbone has no stochastic depth; "
            "leave it at none, or take an EfficientNetV2"
        )
    for place, layer in enumerate(drops, start=1):
        layer.rate = rate * place / len(drops)


def fit_momentum(steps: int) -> float:
    """The largest momentum, to two digits, whose statistics follow within so many steps."""
    return math.floor(round(100 * (1 - 3 / steps), 6)) / 100


def warn_of_slow_statistics(model: keras.Model, steps: int, report: Reporter) -> None:
    """Warns if batch norm's running statistics need more than an epoch to follow the weights.

    An exponential average forgets over 1 / (1 − momentum) steps; three times that is 95 %.
    """
    backbone = model.get_layer("backbone")
    layers = backbone.layers if isinstance(backbone, keras.Model) else []
    momenta = [
        layer.momentum
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not momenta:
        return
    slowest = max(momenta)
    needed = math.ceil(round(3 / (1 - slowest), 6))
    if steps < needed:
        fitting = fit_momentum(steps)
        remedy = f"model.bn_momentum to {fitting:g} or less, or " if fitting > 0 else ""
        report.warn(
            f"batch norm's statistics lag: with momentum {slowest:g} they need {needed} steps, "
            f"and an epoch has {steps}; set {remedy}model.batch_norm to frozen"
        )
