"""Fold data: what one fold trains on, and what validates it"""

from typing import NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from podium.batches import Cut, Host, Labelled, count_steps, make_train_batches
from podium.cache import Pixels
from podium.config import Config
from podium.marks import Marks, mark_probs
from podium.pixels import Images, JoinedPixels, check_pixels
from podium.predict import predict_probs
from podium.task import Task, encode_targets


class PseudoLabelled(NamedTuple):
    """Test images, and the label of each for each fold [K, T] int64, −1 for none."""

    images: Images
    labels: NDArray[np.int64]


class TrainingSet(NamedTuple):
    """The training images, the fold [N] int64 that validates each, and what is asked of them."""

    images: Images
    folds: NDArray[np.int64]
    task: Task
    pseudo: PseudoLabelled | None = None


class FoldData(NamedTuple):
    """The images of all folds but one, and of the fold that is left out to validate."""

    data: Labelled
    training: NDArray[np.int64]  # rows
    validated: NDArray[np.int64]  # rows
    task: Task
    batch_size: int
    seed: int
    spare: int = 0  # images that an epoch is longer by than there are to train on

    @property
    def pixels(self) -> Pixels:
        """The squares of all folds: [N, S, S, 3]."""
        return self.data.pixels

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return count_steps(len(self.training) + self.spare, self.batch_size)

    def check(self) -> None:
        """Raises PixelError if the pixels were scaled already: tf.data would cast them."""
        check_pixels(self.pixels[self.training[: self.batch_size]])

    def make_batches(self, host: Host | None, parts: int, start_step: int) -> tf.data.Dataset:
        """The training stream from an update on, each batch in parts."""
        cut = Cut(self.batch_size, parts)
        return make_train_batches(self.data, self.training, cut, self.seed, host, start_step)

    def encode(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The truth of some rows: [len(rows), C]."""
        return encode_targets(self.data.labels[rows], self.data.classes)

    def in_parts(self, parts: int) -> Self:
        """The same images, of which fewer go through a network at a time."""
        return self._replace(batch_size=self.batch_size // parts)

    def predict(self, model: keras.Model, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a model says of some rows: probabilities [len(rows), C]."""
        size, exclusive = self.batch_size, self.task.exclusive
        return predict_probs(model, self.pixels, rows, size, exclusive=exclusive)

    def mark(self, model: keras.Model) -> Marks:
        """How well a model answers the fold that is left out."""
        probs = self.predict(model, self.validated)
        return mark_probs(probs, self.encode(self.validated), self.task)


def take_fold(config: Config, given: TrainingSet, fold: int) -> FoldData:
    """Leaves one fold out, and adds the test images that have a label for it.

    The control arm does without these, in epochs of as many updates.
    """
    table, task = given.images.table, given.task
    labels, ids = table["label"].to_numpy(), table["id"].to_numpy(str)
    data = FoldData(
        Labelled(given.images.pixels, labels, len(task.classes), ids),
        np.flatnonzero(given.folds != fold),
        np.flatnonzero(given.folds == fold),
        task,
        config.pixels.batch_size,
        config.runtime.seed + fold,
    )
    if given.pseudo is None:
        return data
    if config.pseudo.arm == "control":
        return data._replace(spare=int((given.pseudo.labels[fold] >= 0).sum()))
    return add_pseudo(data, given.pseudo, fold)


def add_pseudo(fold: FoldData, pseudo: PseudoLabelled, number: int) -> FoldData:
    """Adds the test images that have a label for a fold to what it trains on."""
    data, labels = fold.data, pseudo.labels[number]
    ids = pseudo.images.table["id"].to_numpy(str)
    joined = data._replace(
        pixels=JoinedPixels(data.pixels, pseudo.images.pixels),
        labels=np.concatenate([data.labels, labels]),
        ids=ids if data.ids is None else np.concatenate([data.ids, ids]),
    )
    added = len(data.labels) + np.flatnonzero(labels >= 0)
    return fold._replace(data=joined, training=np.concatenate([fold.training, added]))
