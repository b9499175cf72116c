"""Batches: from stored squares to what a training step takes

All batches have one static shape, so a TPU compiles once; they are the same on every backend, as
NumPy alone draws their order. Targets are shares of classes, not indices, so that an image
may show several classes, or be a mixture of two images.

Shapes: N images, B batch, S side of the stored square, C classes.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from podium.cache import Pixels
from podium.task import encode_targets


class Labelled(NamedTuple):
    """Pixels, and the label of each: an index, or a tuple of indices (see `encode_targets`)."""

    pixels: Pixels  # [N, S, S, 3] uint8
    labels: NDArray[Any]  # [N]
    classes: int

    def encode(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The targets of some rows: [len(rows), C]."""
        return encode_targets(self.labels[rows], self.classes).astype(np.float32)


def order_epoch(
    rows: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Shuffles rows for one epoch into full batches: [steps, B].

    The last batch is filled from the start of the same shuffle, so no batch is short, no image is
    left out, and batch norm never sees padding.
    """
    shuffled = np.random.default_rng((seed, epoch)).permutation(rows)
    return np.resize(shuffled, (count_steps(len(rows), batch_size), batch_size))


def count_steps(images: int, batch_size: int) -> int:
    """How many batches hold that many images, the last one filled up."""
    return -(-images // batch_size)


def make_train_batches(
    data: Labelled, rows: NDArray[np.int64], batch_size: int, seed: int
) -> tf.data.Dataset:
    """Endless shuffled batches (pixels [B, S, S, 3] uint8, targets [B, C] float32) of the rows."""

    def generate() -> Iterator[tuple[NDArray[Any], ...]]:
        for epoch in itertools.count():
            for batch in order_epoch(rows, batch_size, seed, epoch):
                yield data.pixels[batch], data.encode(batch)

    shape = (batch_size, data.pixels.shape[1], data.classes)
    return batch_dataset(generate, shape, None)


def make_eval_batches(data: Labelled, rows: NDArray[np.int64], batch_size: int) -> tf.data.Dataset:
    """Batches in row order (pixels, targets, weights [B] float32); the tail is filled up with
    rows of weight 0, which weighted metrics do not see and predictions cut off.
    """
    padded = np.resize(rows, (count_steps(len(rows), batch_size), batch_size))
    weights = (np.arange(padded.size) < len(rows)).astype(np.float32).reshape(padded.shape)

    def generate() -> Iterator[tuple[NDArray[Any], ...]]:
        for batch, weight in zip(padded, weights, strict=True):
            yield data.pixels[batch], data.encode(batch), weight

    shape = (batch_size, data.pixels.shape[1], data.classes)
    return batch_dataset(generate, shape, len(padded))


def batch_dataset(generate: Any, shape: tuple[int, int, int], steps: int | None) -> tf.data.Dataset:
    """A tf.data pipeline over a generator of batches, with static shapes, two batches ahead.

    `shape` is (B, S, C). `steps` batches have weights; an endless stream, which has none, is for
    training.
    """
    batch_size, side, classes = shape
    signature = [
        tf.TensorSpec((batch_size, side, side, 3), tf.uint8),
        tf.TensorSpec((batch_size, classes), tf.float32),
        tf.TensorSpec((batch_size,), tf.float32),
    ]
    kept = tuple(signature[:2] if steps is None else signature)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=kept).prefetch(2)
    length = tf.data.INFINITE_CARDINALITY if steps is None else steps
    return dataset.apply(tf.data.experimental.assert_cardinality(length))
