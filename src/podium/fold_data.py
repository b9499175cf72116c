"""Fold data: what one fold trains on, and what validates it"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from podium.batches import Cut, Host, Labelled, count_steps, make_train_batches
from podium.config import Config
from podium.marks import Marks, mark_model
from podium.objective import weigh_classes
from podium.pixels import Images, check_pixels
from podium.task import Task


class TrainingSet(NamedTuple):
    """The training images, the fold [N] int64 that validates each, and what is asked of them."""

    images: Images
    folds: NDArray[np.int64]
    task: Task


class FoldData:
    """The images of all folds but one, in the order of the seed, and the fold left out."""

    def __init__(self, config: Config, data: TrainingSet, fold: int) -> None:
        table, self.task = data.images.table, data.task
        labels, ids = table["label"].to_numpy(), table["id"].to_numpy(str)
        self.pixels = data.images.pixels
        self.labelled = Labelled(self.pixels, labels, len(self.task.classes), ids)
        self.training = np.flatnonzero(data.folds != fold)
        self.validated = np.flatnonzero(data.folds == fold)
        self.batch_size, self.seed = config.pixels.batch_size, config.runtime.seed + fold
        self.steps = count_steps(len(self.training), self.batch_size)
        self.class_weights: NDArray[np.float64] | None = None
        if config.train.class_weights == "balanced":
            self.class_weights = weigh_classes(labels[self.training], len(self.task.classes))

    def check(self) -> None:
        """Raises PixelError if the pixels were scaled already: tf.data would cast them."""
        check_pixels(self.pixels[self.training[: self.batch_size]])

    def make_batches(self, host: Host | None, parts: int, start_step: int) -> tf.data.Dataset:
        """The training stream from an update on, each batch in parts."""
        cut = Cut(self.batch_size, parts)
        return make_train_batches(self.labelled, self.training, cut, self.seed, host, start_step)

    def mark(self, model: keras.Model, parts: int) -> Marks:
        """How well a model answers the fold that is left out."""
        size = self.batch_size // parts
        return mark_model(model, self.labelled, self.validated, size, self.task)
