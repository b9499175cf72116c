"""Recalibrate: batch norm's statistics, taken anew

In training batch norm normalises by the batch it sees, and afterwards by averages that it kept of
such batches. Those lag where training was short, and are those of augmented images. Here they are
counted anew with the weights as they are, over images of one's choice (PreciseBN: Wu and Johnson
2021, arXiv 2105.07576). No weight changes, and what was can be written back exactly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.batches import order_epoch
from podium.cache import Pixels
from podium.hosts import count_hosts
from podium.sharing import own_part

CLEAN_IMAGES = 10_000  # more move a mean by less than a hundredth of a deviation


class Moments(NamedTuple):
    """The statistics of one batch norm, [channels] float32 each."""

    norm: keras.layers.BatchNormalization
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


def find_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Every batch norm that trains, at any depth. One that is frozen keeps what it has."""
    layers = dict.fromkeys(model._flatten_layers())
    kind = keras.layers.BatchNormalization
    return [layer for layer in layers if isinstance(layer, kind) and layer.trainable]


def read_statistics(model: keras.Model) -> list[Moments]:
    """The statistics as they are, copied."""
    return [copy_moments(norm) for norm in find_norms(model)]


def copy_moments(norm: keras.layers.BatchNormalization) -> Moments:
    """The statistics of one batch norm, in memory of their own."""
    values = (norm.moving_mean, norm.moving_variance)
    return Moments(norm, *(np.array(keras.ops.convert_to_numpy(value)) for value in values))


def write_statistics(moments: Sequence[Moments]) -> None:
    """Gives each batch norm its statistics; every model that shares the layer answers by them."""
    for norm, mean, variance in moments:
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)


@contextmanager
def lend_statistics(moments: Sequence[Moments]) -> Iterator[None]:
    """Lets models answer by these statistics inside the with statement alone."""
    kept = [copy_moments(norm) for norm, _, _ in moments]
    try:
        write_statistics(moments)
        yield
    finally:
        write_statistics(kept)


def draw_clean(
    pixels: Pixels, rows: NDArray[np.int64], batch_size: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Full batches [B, S, S, 3] of the rows as they are stored, shuffled, as many as are needed.

    Of several hosts each gives its part of them.
    """
    order, fed = order_epoch(rows, batch_size, seed, 0), own_part(batch_size)
    for batch in order[: max(1, CLEAN_IMAGES // batch_size)]:
        yield pixels[batch[fed]]


class Recalibrator:
    """Counts a model's statistics anew; it compiles once, and whatever is frozen later.

    Nothing is dropped out, unless `as_trained`: then all happens that does in training. Give it a
    model without augmentation (`strip_augmentation`) or with it, as the question is.
    """

    def __init__(self, model: keras.Model, *, as_trained: bool = False) -> None:
        self.model, self.as_trained = model, as_trained
        self.step = compile_function(self.run_batch)

    def estimate(self, batches: Iterable[NDArray[np.uint8]]) -> list[Moments]:
        """The statistics over batches [B, S, S, 3], all of one size; the model stays as it is.

        The variance is that within batches plus that of their means. Raises ValueError without
        a batch.
        """
        norms = find_norms(self.model)
        if not norms:  # a call as in training might move what is no batch norm of Keras's
            return []
        model, count = self.model, 0
        trainable, fixed = read_values(model.trainable_variables), forget_statistics(model, norms)
        means = squares = within = np.zeros(1)
        with hold_still(model, norms, noise=self.as_trained):
            for count, batch in enumerate(batches, start=1):  # noqa: B007
                mean, variance, fixed = self.step(trainable, fixed, share_batch(batch))
                wide = keras.ops.convert_to_numpy(mean).astype(np.float64)
                means, squares = means + wide, squares + wide**2
                within = within + keras.ops.convert_to_numpy(variance).astype(np.float64)
        if not count:
            raise ValueError("statistics cannot be taken of no images")
        mean = means / count
        variance = within / count + np.maximum(squares / count - mean**2, 0)
        return split_moments(norms, mean, variance)

    def run_batch(self, trainable: list[Any], fixed: list[Any], images: Any) -> tuple[Any, ...]:
        """Means and variances of one batch, laid end to end; and the state after it.

        Its seeds go on with the state, so that no two batches are augmented alike.
        """
        _, fixed = self.model.stateless_call(trainable, fixed, images, training=True)
        places = place_variables(self.model)
        norms = find_norms(self.model)
        mean = keras.ops.concatenate([fixed[places[id(norm.moving_mean)]] for norm in norms])
        variances = [fixed[places[id(norm.moving_variance)]] for norm in norms]
        return mean, keras.ops.concatenate(variances), fixed


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one program of the backend's."""
    compiled: Callable[..., Any]
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        import tensorflow as tf

        compiled = tf.function(function)
    return compiled


def read_values(variables: Sequence[keras.Variable]) -> list[Any]:
    """The variables' values, as the backend's tensors."""
    return [keras.ops.convert_to_tensor(variable) for variable in variables]


def place_variables(model: keras.Model) -> dict[int, int]:
    """Where each variable stands among those that do not train, by its identity."""
    return {id(one): place for place, one in enumerate(model.non_trainable_variables)}


def forget_statistics(
    model: keras.Model, norms: Sequence[keras.layers.BatchNormalization]
) -> list[Any]:
    """What does not train, with zeros for statistics: of an overflow not even 0 times is 0."""
    values, places = read_values(model.non_trainable_variables), place_variables(model)
    for norm in norms:
        for variable in (norm.moving_mean, norm.moving_variance):
            place = places[id(variable)]
            values[place] = keras.ops.zeros_like(values[place])
    return values


def share_batch(batch: NDArray[np.uint8]) -> Any:
    """A batch, split over the devices as training splits it."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return keras.ops.convert_to_tensor(batch)
    layout = distribution.get_data_layout(batch.shape)
    if count_hosts() == 1:
        return keras.distribution.distribute_tensor(batch, layout)
    import jax

    return jax.make_array_from_process_local_data(layout.backend_layout, batch)


@contextmanager
def hold_still(
    model: keras.Model, norms: Sequence[keras.layers.BatchNormalization], *, noise: bool
) -> Iterator[None]:
    """Sets momentum to 0, so that statistics are the last batch's, and without noise its rates.

    Both are read while a function is traced, and so must be as they were before any other is.
    """
    held = [(norm, "momentum") for norm in norms]
    if not noise:
        held += list_noise(model)
    kept = [(layer, name, getattr(layer, name)) for layer, name in held]
    try:
        for layer, name in held:
            setattr(layer, name, 0.0)
        yield
    finally:
        for layer, name, value in kept:
            setattr(layer, name, value)


def list_noise(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Every layer that drops or adds at random, and its attribute that says how much.

    Dropout is stochastic depth too, in the networks that have batch norm.
    """
    kinds = keras.layers
    dropping = (kinds.Dropout, kinds.GaussianDropout, kinds.AlphaDropout)
    for layer in dict.fromkeys(model._flatten_layers()):
        if isinstance(layer, dropping):
            yield layer, "rate"
        elif isinstance(layer, kinds.GaussianNoise):
            yield layer, "stddev"


def split_moments(
    norms: Sequence[keras.layers.BatchNormalization],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> list[Moments]:
    """Cuts what was laid end to end, [sum of channels], back into each batch norm's part."""
    ends = np.cumsum([norm.moving_mean.shape[0] for norm in norms])[:-1]
    parts = (np.split(one.astype(np.float32), ends) for one in (mean, variance))
    return [Moments(*three) for three in zip(norms, *parts, strict=True)]
