"""Images per second through Podium's fit, against a bare compiled step of the same model.

    KERAS_BACKEND=tensorflow python bench/throughput.py          or jax; --json for programs

Both train the same network on the same batches in the same process, in turns; the ratio is the
median over the rounds. The bare step is what one would write by hand: for TensorFlow a tf.function
with a gradient tape, for JAX a jitted function over the model's state, on pixels already in memory.
Podium's side is what a fold does: the tf.data pipeline over the stored pixels, fit, its callback.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import keras
import numpy as np

from podium.backbones import find_backbone
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.learning import ModelConfig, OptimizerConfig
from podium.events import Reporter
from podium.freezing import freeze_backbone
from podium.model import build_model
from podium.network import Start
from podium.batches import Cut, Host, Labelled, make_train_batches
from podium.objective import compile_model
from podium.optimizers import make_optimizer, set_rates
from podium.task import Task
from podium.stretch import Stretch

BACKEND = os.environ["KERAS_BACKEND"]
CLASSES = 10


def main() -> None:
    """Times both sides and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="keras:MobileNetV2")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10, help="in one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    count = options.batch * options.steps
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, options.side, options.side, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, count)
    sides = {"fit": time_fit(pixels, labels, options), "bare": time_bare(pixels, labels, options)}
    for side in sides.values():  # compiles
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            seconds[name].append(side())
    rates = {name: count / statistics.median(values) for name, values in seconds.items()}
    pairs = zip(seconds["bare"], seconds["fit"], strict=True)
    ratio = statistics.median(bare / fit for bare, fit in pairs)
    if options.json:
        print(
            json.dumps({"backend": BACKEND, "images_per_second": rates, "ratios": {"fit": ratio}})
        )
    else:
        print(f"{BACKEND}, {options.backbone}, {options.side} px, batch {options.batch}")
        print("".join(f"  {name:<5}{rate:8.1f} images/s\n" for name, rate in rates.items()), end="")
        print(f"  fit / bare, median of {options.rounds} rounds: {ratio:.3f}")


def make_config(options: argparse.Namespace) -> Config:
    """The settings of both sides."""
    return replace(
        Config(),
        model=ModelConfig(options.backbone, "random"),
        pixels=PixelsConfig(options.side, options.batch),
        augment=AugmentConfig("none", flip="yes"),
    )


def make_model(options: argparse.Namespace) -> keras.Model:
    """The whole network, compiled as a fold compiles it."""
    row, config = find_backbone(options.backbone), make_config(options)
    model = build_model(config, Start(row, row.scaling), CLASSES, options.side, seed=0)
    freeze_backbone(model, config.model, frozen=False)
    optimizer = make_optimizer(OptimizerConfig("adamw", weight_decay=1e-4), 1)
    task = Task("label", tuple(map(str, range(CLASSES))))
    compile_model(model, optimizer, task=task, jit=BACKEND == "jax")
    set_rates(model.optimizer, np.array([1e-3]))
    return model


def time_fit(pixels, labels, options: argparse.Namespace) -> Callable[[], float]:
    """One epoch of Podium's fit, in seconds."""
    model = make_model(options)
    data = Labelled(pixels, labels, CLASSES)
    folder = Path(tempfile.mkdtemp())

    host = Host(make_config(options), pixels, Reporter(folder))
    batches = make_train_batches(data, np.arange(len(pixels)), Cut(options.batch), 0, host)

    def run() -> float:
        stretch = Stretch(model, 1, lambda _: "")
        model.fit(batches, steps_per_epoch=options.steps, callbacks=stretch, verbose=0)
        stretch.figures()  # waits for the device
        return stretch.seconds

    return run


def time_bare(pixels, labels, options: argparse.Namespace) -> Callable[[], float]:
    """As many bare compiled steps, in seconds."""
    model = make_model(options)
    data = Labelled(pixels, labels, CLASSES)
    step = make_jax_step(model) if BACKEND == "jax" else make_tensorflow_step(model)

    def run() -> float:
        begun = time.perf_counter()
        for start in range(0, len(pixels), options.batch):
            rows = np.arange(start, min(start + options.batch, len(pixels)))
            loss = step(pixels[rows], data.encode(rows))
        float(loss)  # waits for the device
        return time.perf_counter() - begun

    return run


def make_tensorflow_step(model: keras.Model):
    """A tf.function with a gradient tape."""
    import tensorflow as tf

    loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(pixels, labels):
        with tf.GradientTape() as tape:
            loss = loss_fn(labels, model(pixels, training=True))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return lambda pixels, labels: step(tf.constant(pixels), tf.constant(labels))


def make_jax_step(model: keras.Model):
    """A jitted function over the model's and the optimizer's state."""
    import jax

    loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.optimizer.build(model.trainable_variables)

    def compute_loss(trainable, fixed, pixels, labels):
        logits, fixed = model.stateless_call(trainable, fixed, pixels, training=True)
        return loss_fn(labels, logits), fixed

    @jax.jit
    def step(state, pixels, labels):
        trainable, fixed, slots = state
        gradient = jax.value_and_grad(compute_loss, has_aux=True)
        (loss, fixed), gradients = gradient(trainable, fixed, pixels, labels)
        trainable, slots = model.optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, fixed, slots), loss

    variables = (model.trainable_variables, model.non_trainable_variables)
    state = [
        [variable.value for variable in part] for part in (*variables, model.optimizer.variables)
    ]

    def run(pixels, labels):
        nonlocal state
        state, loss = step(state, pixels, labels)
        return loss

    return run


if __name__ == "__main__":
    main()
