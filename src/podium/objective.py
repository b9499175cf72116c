"""Objective: what training minimises, and what it is told to show

The loss may smooth its targets and weigh its classes; the metrics never do, so that figures of
runs with and without can be compared.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from podium.override import SettingsError
from podium.task import Task


class WeighedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits [B, C] with smoothed targets, each image weighed by its class.

    The weight of an image that is mixed of several is mixed as its target is.
    """

    def __init__(self, smoothing: float, weights: NDArray[np.float64]) -> None:
        super().__init__(name="weighed_crossentropy")
        self.smoothing, self.weights = smoothing, weights.astype(np.float32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses [B] of targets [B, C]."""
        losses = keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=True, label_smoothing=self.smoothing
        )
        return losses * keras.ops.sum(y_true * self.weights, axis=-1)


def compile_model(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    task: Task,
    jit: bool,
    smoothing: float = 0.0,
    class_weights: NDArray[np.float64] | None = None,
) -> None:
    """Compiles for training on targets [B, C], which sum to one where classes exclude each other.

    Else each class is a question by itself, and accuracy the share of such questions answered
    rightly; classes have no weights [C] then. The metrics are weighted ones, so that the padding
    of the last batch does not count. The optimizer is built, so that its state can be restored.
    """
    kind = "Categorical" if task.exclusive else "Binary"
    log_loss = getattr(keras.metrics, f"{kind}Crossentropy")(name="log_loss", from_logits=True)
    accuracy = (
        keras.metrics.CategoricalAccuracy(name="accuracy")
        if task.exclusive
        else keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)  # of logits
    )
    loss = (
        getattr(keras.losses, f"{kind}Crossentropy")(from_logits=True, label_smoothing=smoothing)
        if class_weights is None
        else WeighedCrossentropy(smoothing, class_weights)
    )
    model.compile(
        optimizer=optimizer, loss=loss, weighted_metrics=[accuracy, log_loss], jit_compile=jit
    )
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def weigh_classes(labels: NDArray[Any] | Sequence[Any], classes: int) -> NDArray[np.float64]:
    """Balanced weights [C]: inverse to each class's share of the labels, 1 on average over images.

    A class without images weighs nothing. Raises SettingsError where an image has several labels:
    there is no share to weigh by, as each class is a question by itself.
    """
    if len(labels) and isinstance(labels[0], tuple):
        raise SettingsError(
            "train.class_weights is balanced, but here an image may have several classes, and "
            "each is a question by itself; set it to none"
        )
    counts = np.bincount(np.asarray(labels, np.int64), minlength=classes)
    present = np.count_nonzero(counts)
    return np.where(counts, len(labels) / (present * np.maximum(counts, 1)), 0.0)
