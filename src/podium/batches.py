"""Batches: from stored squares to what a training step takes

All batches have one static shape, so a TPU compiles once; they are the same on every backend, as
NumPy alone draws their order. Targets are shares of classes, not indices, so that an image
may show several classes, or be a mixture of two images.

Shapes: N images, B batch, S side of the stored square, C classes.
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from podium.cache import Pixels
from podium.config import Config
from podium.crew import Crew, Job, count_cores
from podium.events import Reporter
from podium.mixing import mix_batch
from podium.policies import find_policy
from podium.sharing import own_part
from podium.task import encode_targets


class Labelled(NamedTuple):
    """Pixels, and the label of each: an index, or a tuple of indices (see `encode_targets`)."""

    pixels: Pixels  # [N, S, S, 3] uint8
    labels: NDArray[Any]  # [N]
    classes: int
    ids: NDArray[Any] | None = None  # [N], what an image's augmentation is drawn from; else its row

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


class Draw(NamedTuple):
    """One batch of the training stream."""

    epoch: int
    step: int  # of the whole stream
    rows: NDArray[np.int64]  # [B]
    rounds: NDArray[np.int64]  # [B], how often each image has been in the epoch before

    def cut(self, part: slice) -> Self:
        """A part of its images."""
        return self._replace(rows=self.rows[part], rounds=self.rounds[part])


def draw_batches(
    rows: NDArray[np.int64], batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Draw]:
    """Yields the batches of the stream from a step on, for ever."""
    steps = count_steps(len(rows), batch_size)
    rounds = (np.arange(steps * batch_size) // len(rows)).reshape(steps, batch_size)
    for epoch in itertools.count(start_step // steps):
        order = order_epoch(rows, batch_size, seed, epoch)
        for place in range(max(start_step - epoch * steps, 0), steps):
            yield Draw(epoch, epoch * steps + place, order[place], rounds[place])


def seed_images(draw: Draw, ids: NDArray[Any], seed: int) -> list[bytes]:
    """The seed of each image of a batch: 48 bytes from run, epoch, round and the image's id."""
    names = zip(draw.rounds.tolist(), ids[draw.rows].tolist(), strict=True)
    texts = [f"{seed} {draw.epoch} {turn} {name}" for turn, name in names]
    return [hashlib.blake2b(text.encode(), digest_size=48).digest() for text in texts]


class Host:
    """What the host does to training images: a crew that runs a Compose, and mixing.

    Its processes, if the policy asks for any, start at once and end with the with statement.
    """

    def __init__(self, config: Config, pixels: Pixels, report: Reporter) -> None:
        policy, workers = find_policy(config.augment.policy), config.augment.workers
        self.pixels, self.mix = pixels, policy.mix
        self.margin = pixels.shape[1] - config.pixels.image_size
        # Images are mixed with others of the batch, which each of several hosts must make whole.
        batch_size = config.pixels.batch_size
        self.made = slice(0, batch_size) if policy.mix else own_part(batch_size)
        self.crew: Crew | None = None
        if policy.compose:
            size, count = self.made.stop - self.made.start, workers or count_cores()
            self.crew = Crew(policy.compose, pixels, size, count, report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.crew:
            self.crew.close()

    def take_images(
        self, draws: Iterator[Draw], ids: NDArray[Any], seed: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Yields the images [B, S, S, 3] of each draw, valid until the next are asked for."""
        if self.crew:
            jobs = (Job(draw.rows, seed_images(draw, ids, seed)) for draw in draws)
            yield from self.crew.augment(jobs)
        else:
            yield from (self.pixels[draw.rows] for draw in draws)

    def finish(
        self, draw: Draw, images: NDArray[np.uint8], targets: NDArray[np.float32], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Mixes a batch if the policy says so, and gives images of their own memory."""
        if not self.mix:
            return copy_aligned(images) if self.crew else images, targets
        generator = np.random.default_rng((seed, draw.epoch, draw.step + 1))  # 0 is the order's
        return mix_batch(self.mix, images, targets, self.margin, generator)


def copy_aligned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy whose memory TensorFlow takes over, as it begins at a multiple of 64 bytes."""
    room = np.empty(images.nbytes + 63, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + images.nbytes].reshape(images.shape)
    copy[:] = images
    return copy


class Cut(NamedTuple):
    """How the images of an update go through the network: all at once, or part by part."""

    batch_size: int
    parts: int = 1


def make_train_batches(
    data: Labelled,
    rows: NDArray[np.int64],
    cut: Cut,
    seed: int,
    host: Host | None = None,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Endless shuffled batches (pixels [B, S, S, 3] uint8, targets [B, C] float32) of the rows.

    Cut into parts, each batch comes as so many of them, and B is that of a part. Without a host,
    images are as they are stored. The stream depends on data, seed and policy alone; from a later
    step on it is the same stream. Of several hosts each gives its part of it.
    """
    fed = own_part(cut.batch_size)
    made = host.made if host else fed
    size = (fed.stop - fed.start) // cut.parts
    ids = np.arange(len(data.pixels)) if data.ids is None else data.ids

    def generate() -> Iterator[tuple[NDArray[Any], ...]]:
        stream = draw_batches(rows, cut.batch_size, seed, start_step)
        draws, ahead = itertools.tee(draw.cut(made) for draw in stream)
        stored = (data.pixels[draw.rows] for draw in ahead)
        images = host.take_images(ahead, ids, seed) if host else stored
        for draw, fresh in zip(draws, images, strict=False):
            batch = fresh, data.encode(draw.rows)
            finished = host.finish(draw, *batch, seed) if host else batch
            first = fed.start - made.start
            for part in range(first, first + cut.parts * size, size):
                yield tuple(array[part : part + size] for array in finished)

    shape = (size, data.pixels.shape[1], data.classes)
    return batch_dataset(generate, shape, None)


def make_eval_batches(data: Labelled, rows: NDArray[np.int64], batch_size: int) -> tf.data.Dataset:
    """Batches in row order (pixels, targets, weights [B] float32); the tail is filled up with
    rows of weight 0, which weighted metrics do not see and predictions cut off. Of several hosts
    each gives its part of them.
    """
    fed = own_part(batch_size)
    padded = np.resize(rows, (count_steps(len(rows), batch_size), batch_size))
    weights = (np.arange(padded.size) < len(rows)).astype(np.float32).reshape(padded.shape)

    def generate() -> Iterator[tuple[NDArray[Any], ...]]:
        for batch, weight in zip(padded[:, fed], weights[:, fed], strict=True):
            yield data.pixels[batch], data.encode(batch), weight

    shape = (fed.stop - fed.start, data.pixels.shape[1], data.classes)
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
