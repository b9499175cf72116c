"""Optimizers: gradients to updates, at rates that are known beforehand

The rates of the coming updates lie in a table on the device, written once for each stretch of
training, so that no update waits for the host. Each variable moves and decays at its share of the
rate; biases and normalisation do not decay. Averaged weights wait beside the weights until both
are swapped.

    adamw     arXiv 1711.05101
    adamax    Kingma and Ba 2015, arXiv 1412.6980, section 7.1
    sgd       momentum 0.9
    rmsprop   momentum 0.9, rho 0.9, epsilon 0.001, as EfficientNetV2's authors set it
    lion      arXiv 2302.06675
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from podium.learning import OptimizerConfig

KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "adamw": ("AdamW", {}),
    "adamax": ("Adamax", {}),
    "sgd": ("SGD", {"momentum": 0.9}),
    "rmsprop": ("RMSprop", {"momentum": 0.9, "rho": 0.9, "epsilon": 1e-3}),
    "lion": ("Lion", {}),
}


class Staged(keras.optimizers.Optimizer):
    """What every optimizer has more than Keras's own, which stands behind it as the other base.

    `shares` gives each variable's share of the rate by its path; others have all of it. The table
    and the update at which it was written are variables of the optimizer: JAX sees no others.
    """

    def __init__(self, updates_at_once: int, shares: Mapping[str, float], **options: Any) -> None:
        super().__init__(self.read_rate, **options)
        self.shares = dict(shares)
        self.coming = self.add_variable((updates_at_once,), dtype="float32", name="coming_rates")
        self.written = self.add_variable((), dtype="int32", name="rates_written")

    def read_rate(self) -> Any:
        """The rate of the present update; the last of the table stays."""
        place = keras.ops.cast(self.iterations, "int32") - self.written
        return keras.ops.take(self.coming, keras.ops.minimum(place, self.coming.shape[0] - 1))

    def write_rates(self, rates: NDArray[np.float64]) -> None:
        """Lays out the rates [U] of the updates that come, 1 or more, as set_rates says."""
        room = self.coming.shape[0]
        if not 0 < len(rates) <= room:
            raise ValueError(f"{len(rates)} rates do not fit a table of {room} updates")
        padded = np.pad(rates, (0, room - len(rates)), mode="edge")
        self.coming.assign(padded.astype(np.float32))
        self.written.assign(int(keras.ops.convert_to_numpy(self.iterations)))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable at its share of the rate."""
        # TensorFlow hands over its own variable here, which does not know its path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        share = self.shares.get(path, 1.0)
        super().update_step(gradient, variable, learning_rate * share)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decays each variable at its share too: decoupled decay is measured in the rate."""
        if not self.weight_decay:
            return
        rate = self.read_rate() * self.weight_decay
        for variable in filter(self._use_weight_decay, variables):
            pull = rate * self.shares.get(variable.path, 1.0)
            variable.assign(variable - variable * keras.ops.cast(pull, variable.dtype))

    def _update_model_variables_moving_average(self, variables: Sequence[Any]) -> None:
        """Averages the weights once an update: Keras does so for each part of a batch.

        The first update starts the average, which then keeps its share of itself.
        """
        parts = self.gradient_accumulation_steps or 1
        moved = keras.ops.equal((self._iterations + 1) % parts, 0)
        first = keras.ops.equal(self.iterations, 0)
        kept = keras.ops.where(first, 0.0, keras.ops.where(moved, self.ema_momentum, 1.0))
        for variable, average in zip(variables, self._model_variables_moving_average, strict=True):
            share = keras.ops.cast(kept, variable.dtype)
            average.assign(share * average + (1 - share) * variable)

    def finalize_variable_values(self, variables: Sequence[Any]) -> None:
        """Leaves the weights alone after a fit, where Keras would put their averages."""

    def swap_averages(self) -> None:
        """Exchanges the weights and their averages; before the first update there are none."""
        if not self.use_ema or int(keras.ops.convert_to_numpy(self.iterations)) == 0:
            return
        averages = self._model_variables_moving_average
        for variable, average in zip(self._trainable_variables, averages, strict=True):
            weights = keras.ops.copy(variable)
            variable.assign(average)
            average.assign(weights)


def make_optimizer(
    config: OptimizerConfig, updates_at_once: int, shares: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """The optimizer of settings that are settled, for stretches of so many updates.

    Its rates are zero until set_rates writes some.
    """
    base, options = KINDS[config.name]
    kind: Any = type(f"Staged{base}", (Staged, getattr(keras.optimizers, base)), {})
    optimizer = kind(
        updates_at_once,
        shares or {},
        weight_decay=config.weight_decay or 0.0,
        global_clipnorm=config.clip or None,
        gradient_accumulation_steps=config.accumulate if config.accumulate > 1 else None,
        use_ema=config.ema > 0,
        ema_momentum=config.ema,
        **options,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def set_rates(optimizer: keras.optimizers.Optimizer, rates: NDArray[np.float64]) -> None:
    """Writes the rates [U] of the coming updates; after these the last one stays.

    U is at most the `updates_at_once` of the optimizer. Updates are counted by the optimizer: one
    for all parts of a batch, none where half precision overflows.
    """
    find_inner(optimizer).write_rates(rates)


def swap_averages(model: keras.Model) -> None:
    """Exchanges the model's training weights and their averages, and with the next call back.

    Does nothing where none are kept. Batch norm's statistics are not averaged.
    """
    find_inner(model.optimizer).swap_averages()


def find_inner(optimizer: Any) -> Any:
    """The optimizer itself, which Keras wraps in another where it computes in float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)
