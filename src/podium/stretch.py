"""Stretch: some updates in one go, watched

Keras's fit does the updates. After each one its callback list is asked, and this one stands in
its place: Keras's own would wait for each batch's figures, and the device would wait for it.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras

# Why a stretch ended before its last update: the loss is no number, what is left takes more or less
# time than was planned, SIGTERM.
Ending = Literal["", "diverged", "replanned", "stopped"]


class Halt(NamedTuple):
    """Whether the run has been asked to end."""

    at_once: Callable[[], bool]
    soon: Callable[[], bool]  # after the epoch in hand, or at once


class Stretch(keras.callbacks.CallbackList):
    """Counts updates and their time, and asks after each whether to go on.

    Figures of an update are read when the next one is under way: that keeps the device busy, and a
    host from running far ahead of it.
    """

    def __init__(
        self,
        model: keras.Model,
        parts: int,
        after_update: Callable[["Stretch"], Ending],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(None, add_history=True, model=model)
        self.parts, self.after_update, self.now = parts, after_update, now
        self.updates = 0
        self.ending: Ending = ""
        self.started = self.ticked = now()
        self.first = 0.0  # seconds until the first update was done, or on JAX compiled
        self.times = list[float]()  # seconds of each update but the first two
        self.latest: Any = None
        self.read = {"log_loss": 0.0, "accuracy": 0.0}  # means over the updates before the last

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Nothing is told before a batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts an update once all parts of its batch went through."""
        if (batch + 1) % self.parts:
            return
        self.updates += 1
        previous, self.latest = self.latest, logs
        if previous is not None:
            self.read = read_figures(previous)
            if self.updates > 2:
                self.times.append(self.now() - self.ticked)
        else:
            self.first = self.now() - self.started
        self.ticked = self.now()
        if not math.isfinite(self.read["log_loss"]):
            self.ending = "diverged"
        else:
            self.ending = self.after_update(self)
        if self.ending:
            self.model.stop_training = True

    def figures(self) -> dict[str, float]:
        """Mean log loss and accuracy of all updates so far; waits for the last one."""
        if self.latest is not None:
            self.read = read_figures(self.latest)
        return self.read

    @property
    def seconds(self) -> float:
        """Since the stretch began."""
        return self.now() - self.started

    def synchronise(self) -> None:
        """Puts what was learned into the model's variables, where JAX does not keep it."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()


def read_figures(logs: dict[str, Any]) -> dict[str, float]:
    """The weighted metrics of a training step as numbers."""
    return {name: float(logs[name]) for name in ("log_loss", "accuracy")}
