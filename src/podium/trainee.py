"""Trainee: the network of a fold, built, frozen and compiled as its next epoch needs it"""

from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.checkpoint import capture_state, restore_state
from podium.config import Config
from podium.fold_data import FoldData
from podium.freezing import freeze_backbone, share_rates
from podium.model import build_model, reopen_session
from podium.network import Start
from podium.objective import compile_model, weigh_classes
from podium.optimizers import make_optimizer


class Shape(NamedTuple):
    """What a network is built and compiled for."""

    phase: str
    size: int
    clean: bool
    parts: int


class Trainee:
    """One network through all epochs of a fold; weights and optimizer go with it."""

    def __init__(self, config: Config, start: Start, data: FoldData) -> None:
        self.config, self.start, self.data = config, start, data
        self.class_weights: NDArray[np.float64] | None = None
        if config.train.class_weights == "balanced":
            labels = data.data.labels[data.training]
            self.class_weights = weigh_classes(labels, data.data.classes)
        self.model: Any = None  # a keras.Model, once there is one
        self.shape: Shape | None = None

    def prepare(self, shape: Shape, updates: int) -> keras.Model:
        """The network in a shape, for so many updates at once; what it has learned goes with it.

        Another size is another network with the same weights and optimizer; another phase, or
        other parts, are another optimizer.
        """
        was = self.shape
        if self.model is None or was is None:
            self.build(shape)
            self.compile(shape, updates)
        elif shape != was:
            if shape.size != was.size:
                self.resize(was._replace(size=shape.size), updates)
            same = (shape.phase, shape.parts) == (was.phase, was.parts)
            self.compile(shape, updates, self.model.optimizer if same else None)
        self.shape = shape
        return self.model

    def resize(self, shape: Shape, updates: int) -> None:
        """Builds the network for squares of another size."""
        state = capture_state(self.model)
        self.build(shape)
        self.compile(shape, updates)
        restore_state(self.model, state)

    def build(self, shape: Shape) -> None:
        """Builds the network, with the weights that all start from."""
        reopen_session()  # else Keras numbers the layers on, and no weight finds its place
        classes, side = self.data.data.classes, self.data.pixels.shape[1]
        self.model = build_model(self.config, self.start, classes, side, self.data.seed, shape.size)

    def compile(
        self, shape: Shape, updates: int, optimizer: keras.optimizers.Optimizer | None = None
    ) -> None:
        """Freezes what does not train in a shape, and compiles what does.

        What is frozen, and whether images are augmented, is read when a model is compiled.
        """
        config, model = self.config, self.model
        freeze_backbone(model, config.model, frozen=shape.phase == "head")
        model.get_layer("augment").still = shape.clean
        if optimizer is None:
            shares = share_rates(model, config.schedule.layer_decay)
            in_parts = replace(config.optimizer, accumulate=shape.parts)
            optimizer = make_optimizer(in_parts, updates, shares)
        compile_model(
            model,
            optimizer,
            task=self.data.task,
            smoothing=config.train.label_smoothing or 0.0,
            class_weights=self.class_weights,
            jit=keras.backend.backend() == "jax",
        )

    def forget(self) -> None:
        """Drops the network: what is on the device may be lost, as after out-of-memory on JAX."""
        self.model, self.shape = None, None
