"""What Podium's epochs cost beside a bare fit of Keras: its rows, events, metrics and checkpoints.

    KERAS_BACKEND=tensorflow python bench/overhead.py          or jax; --json for programs

In each round the same network trains on the same stream three times: by one model.fit with
validation data and nothing else; by train_fold without a checkpoint; and by train_fold with one
after each update. Times run from the last step of the first epoch,
when all is compiled, to the last step of the last, and so hold whatever happens between epochs.
The ratios are medians over the rounds. A checkpoint costs what the third takes longer than the
second; "all" is the second's ratio and what a checkpoint every five minutes adds to it.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import keras
import numpy as np
import pandas as pd

from podium.backbones import find_backbone
from podium.budget import Budget
from podium.planner import Planner
from podium.batches import Cut, Labelled, make_eval_batches, make_train_batches
from podium.config import AugmentConfig, Config, FoldsConfig, PixelsConfig
from podium.events import Reporter
from podium.fold_data import TrainingSet
from podium.learning import (
    ModelConfig,
    OptimizerConfig,
    PredictConfig,
    ScheduleConfig,
    TrainConfig,
)
from podium.model import build_model, open_session
from podium.network import Start
from podium.pixels import Images
from podium.task import Task
from podium.stretch import Halt
from podium.train import Session, train_fold

BACKEND = os.environ["KERAS_BACKEND"]
CLASSES, FOLD = 10, 1  # the first fold measures its input beside
USUAL, NEVER = TrainConfig().checkpoint_minutes, 600.0  # minutes


class Ticks(keras.callbacks.Callback):
    """When the last step of each epoch was done."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_end(self, batch, logs=None) -> None:
        """Waits for the device after an epoch's last step, as reading its loss would."""
        if batch + 1 == self.params["steps"]:
            float(logs["loss"])
            self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """From the end of the first epoch's steps to the end of the last one's."""
        return self.times[-1] - self.times[0]


def main() -> None:
    """Times the three and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="keras:MobileNetV2")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=4, help="of which the first compiles")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = make_set(options)
    sides = {
        "bare": lambda: time_bare(data, options),
        "fold": lambda: time_fold(data, options, NEVER),
        "checkpoints": lambda: time_fold(data, options, 0.0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(options.rounds):
        names = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for name in names:
            seconds[name].append(sides[name]())
    print_result(seconds, options)


def print_result(seconds: dict[str, list[float]], options: argparse.Namespace) -> None:
    """Prints the step times, the ratios and what one checkpoint costs."""
    bare, fold, written = (np.array(seconds[name]) for name in ("bare", "fold", "checkpoints"))
    epochs = options.epochs - 1
    ratio = float(np.median(fold / bare))
    # One after each update, but for the last of an epoch, and one at its end.
    checkpoint = float(np.median(written - fold)) / (epochs * options.steps)
    total = ratio + max(checkpoint, 0.0) / (60 * USUAL)
    steps = epochs * options.steps
    step_ms = {name: 1000 * statistics.median(one) / steps for name, one in seconds.items()}
    if options.json:
        ratios = {"fold": ratio, "all": total}
        result = {"backend": BACKEND, "step_ms": step_ms, "checkpoint_seconds": checkpoint}
        print(json.dumps(result | {"ratios": ratios}))
        return
    print(f"{BACKEND}, {options.backbone}, {options.side} px, batch {options.batch}")
    for name, one in step_ms.items():
        print(f"  {name:<12}{one:8.1f} ms a step, all between epochs included")
    print(f"  a checkpoint takes {checkpoint:.2f} s, and is written every {USUAL:g} minutes")
    print(f"  fold / bare, median of {options.rounds} rounds: {ratio:.4f}; with that: {total:.4f}")


def make_config(options: argparse.Namespace, minutes: float) -> Config:
    """The settings of all three."""
    return replace(
        Config(),
        folds=FoldsConfig(2),
        model=ModelConfig(options.backbone, "random"),
        pixels=PixelsConfig(options.side, options.batch),
        augment=AugmentConfig("none", flip="yes"),
        optimizer=OptimizerConfig("adamw", weight_decay=0.0),
        schedule=ScheduleConfig(head_lr=1e-3, peak_lr=1e-3),
        train=TrainConfig(head_epochs=0, epochs=options.epochs, checkpoint_minutes=minutes),
        predict=PredictConfig(recalibrate="no"),
    )


def make_start(options: argparse.Namespace) -> Start:
    """Random weights."""
    row = find_backbone(options.backbone)
    return Start(row, row.scaling)


def make_set(options: argparse.Namespace) -> TrainingSet:
    """Noise: so many steps of training images, and a batch to validate."""
    rng = np.random.default_rng(0)
    count = options.batch * (options.steps + 1)
    pixels = rng.integers(0, 256, (count, options.side, options.side, 3), dtype=np.uint8)
    folds = np.where(np.arange(count) < options.batch, FOLD, 1 - FOLD)
    ids = [f"{row:06d}" for row in range(count)]
    table = pd.DataFrame({"id": ids, "path": ids, "label": rng.integers(0, CLASSES, count)})
    classes = tuple(f"class{place}" for place in range(CLASSES))
    return TrainingSet(Images(table, pixels, []), folds, Task("label", classes))


def time_bare(data: TrainingSet, options: argparse.Namespace) -> float:
    """What one would write by hand."""
    open_session("float32", devices=1)
    pixels, labels = data.images.pixels, data.images.table["label"].to_numpy()
    model = build_model(make_config(options, NEVER), make_start(options), CLASSES, options.side, 0)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, options.epochs * options.steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        jit_compile=BACKEND == "jax",
    )
    labelled, ticks = Labelled(pixels, labels, CLASSES), Ticks()
    model.fit(
        make_train_batches(labelled, np.flatnonzero(data.folds != FOLD), Cut(options.batch), 0),
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        validation_data=make_eval_batches(
            labelled, np.flatnonzero(data.folds == FOLD), options.batch
        ),
        callbacks=[ticks],
        verbose=0,
    )
    return ticks.seconds


def time_fold(data: TrainingSet, options: argparse.Namespace, minutes: float) -> float:
    """A fold of Podium, whose every fit is listened to, however many there are."""
    open_session("float32", devices=1)
    times, fit = list[float](), keras.Model.fit

    def listen(model, *given, **named):
        history = fit(model, *given, **named)
        times.append(time.perf_counter())
        return history

    keras.Model.fit = listen
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = Reporter(Path(folder))
            report.say = lambda *_: None
            planner = Planner(Budget(time.time() + 1e6), 2, (1, 2), report)
            session = Session(Path(folder), 1, report, planner, Halt(lambda: False, lambda: False))
            config, start = make_config(options, minutes), make_start(options)
            train_fold(config, start, data, FOLD, session)
    finally:
        keras.Model.fit = fit
    if len(times) != options.epochs:
        raise SystemExit(f"{options.epochs} epochs were to be seen, not {len(times)}")
    return times[-1] - times[0]


if __name__ == "__main__":
    main()
