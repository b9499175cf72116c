"""Training: one fold, in two phases

First the head alone, on the features of the frozen backbone, so that its first wild gradients do
not spoil pretrained weights; then everything, at a lower rate. The last epoch's weights are kept:
to pick the best epoch by validation would flatter the validation.
"""

import csv
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.batches import Host, Labelled, count_steps, make_eval_batches, make_train_batches
from podium.config import Config
from podium.events import Reporter
from podium.freezing import freeze_backbone, share_rates, warn_of_slow_statistics
from podium.model import build_model, strip_augmentation
from podium.network import Start
from podium.objective import compile_model
from podium.optimizers import make_optimizer, set_rates
from podium.pace import describe_bottleneck, measure_rate
from podium.pixels import Images, check_pixels
from podium.recipe import settle_recipe
from podium.schedule import make_schedule
from podium.task import Task

SPEAK_EVERY = 30.0  # seconds between lines inside a long epoch


class TrainingSet(NamedTuple):
    """The training images, the fold [N] int64 that validates each, and what is asked of them."""

    images: Images
    folds: NDArray[np.int64]
    task: Task


class Phase(NamedTuple):
    """One compiled stretch of training."""

    name: str  # "head" or "all"
    epochs: int
    peak_lr: float


class EpochLog(keras.callbacks.Callback):
    """Writes one row an epoch to history.csv, and one line to the log."""

    def __init__(self, path: Path, fold: int, images: int, epochs: int, report: Reporter) -> None:
        super().__init__()
        self.path, self.fold, self.report = path, fold, report
        self.images, self.epochs = images, epochs
        self.phase, self.epoch, self.diverged = "", 0, False
        self.started = self.spoke = self.trained = self.rate = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self.epoch += 1
        self.started = self.spoke = time.monotonic()
        self.trained = 0.0

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Training has ended where validation begins."""
        self.trained = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Says now and then that a long epoch is alive."""
        if time.monotonic() - self.spoke > SPEAK_EVERY:
            self.spoke = time.monotonic()
            place = {"fold": self.fold, "epoch": self.epoch}
            step, steps = batch + 1, self.params["steps"]
            self.report.emit("step_reached", **place, step=step, steps=steps)
            self.report.say(f"  fold {self.fold} epoch {self.epoch}: step {step} of {steps}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the row, says the line."""
        ended = time.monotonic()
        seconds, training = ended - self.started, (self.trained or ended) - self.started
        self.rate, logs = self.images / training, logs or {}
        row = {
            "phase": self.phase,
            "epoch": self.epoch,
            "train/loss": float(logs["log_loss"]),
            "train/accuracy": float(logs["accuracy"]),
            "valid/loss": float(logs["val_log_loss"]),
            "valid/accuracy": float(logs["val_accuracy"]),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(seconds, 3),
            "images_per_second": round(self.rate, 1),
        }
        append_row(self.path, row)
        self.report.emit("epoch_ended", fold=self.fold, epochs=self.epochs, **row)
        self.report.say(
            f"  fold {self.fold} epoch {self.epoch:>2}/{self.epochs} {self.phase:<4}  "
            f"loss {row['train/loss']:.3f} → {row['valid/loss']:.3f}  "
            f"accuracy {row['train/accuracy']:.3f} → {row['valid/accuracy']:.3f}  "
            f"{row['images_per_second']:.0f} images/s  {seconds:.1f} s"
        )
        if not math.isfinite(float(logs["log_loss"])) and not self.diverged:
            self.diverged = True
            self.report.warn(
                f"fold {self.fold} epoch {self.epoch}: the loss is no number any more; lower "
                f"schedule.peak_lr, or set runtime.precision to float32"
            )


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Appends a row to a CSV file, with a header if the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def list_phases(config: Config) -> Iterator[Phase]:
    """The phases of the fine-tune that have epochs."""
    for phase in (
        Phase("head", config.train.head_epochs, config.schedule.head_lr or 0.0),
        Phase("all", config.train.epochs, config.schedule.peak_lr or 0.0),
    ):
        if phase.epochs:
            yield phase


def train_fold(
    config: Config, start: Start, data: TrainingSet, fold: int, folder: Path, report: Reporter
) -> keras.Model:
    """Trains on all folds but one and returns the model.

    Validates on the fold left out after each epoch. Writes history.csv and model.keras into the
    folder; that model takes raw uint8 pixels and loads where there is only Keras, unless its
    backbone is a SavedModel. Raises PixelError if the pixels were scaled already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.csv").unlink(missing_ok=True)
    task = data.task
    config = settle_recipe(config, start.backbone.family, task.metric, exclusive=task.exclusive)
    seed, batch_size = config.runtime.seed + fold, config.pixels.batch_size
    pixels = data.images.pixels
    table = data.images.table
    ids, labels = table["id"].to_numpy(str), table["label"].to_numpy()
    labelled = Labelled(pixels, labels, len(task.classes), ids)
    training, validated = np.flatnonzero(data.folds != fold), np.flatnonzero(data.folds == fold)
    checks = make_eval_batches(labelled, validated, batch_size)
    steps = count_steps(len(training), batch_size)
    epochs = config.train.head_epochs + config.train.epochs
    log = EpochLog(folder / "history.csv", fold, len(training), epochs, report)
    check_pixels(pixels[training[:batch_size]])  # before tf.data, which would cast them
    with Host(config, pixels, report) as host:  # its processes start while the model is built
        batches = partial(make_train_batches, labelled, training, batch_size, seed, host)
        model = build_model(config, start, len(task.classes), pixels.shape[1], seed)
        supply = measure_rate(batches(0)) if fold == 0 else 0.0
        for phase in list_phases(config):
            log.phase = phase.name
            prepare_phase(config, model, phase, steps, task)
            if phase.name == "all" and fold == 0:
                warn_of_slow_statistics(model, steps, report)
            model.fit(
                batches(log.epoch * steps),
                epochs=phase.epochs,
                steps_per_epoch=steps,
                validation_data=checks,
                callbacks=[log],
                verbose=0,
            )
    if fold == 0:
        report.say(f"  {describe_bottleneck(supply, log.rate)}")
    strip_augmentation(model, config.pixels.image_size).save(folder / "model.keras")
    return model


def prepare_phase(config: Config, model: keras.Model, phase: Phase, steps: int, task: Task) -> None:
    """Freezes what does not train in a phase, and compiles what does, with its own optimizer."""
    freeze_backbone(model, config.model, frozen=phase.name == "head")
    shares = share_rates(model, config.schedule.layer_decay)
    updates = phase.epochs * steps
    optimizer = make_optimizer(config.optimizer, updates, shares)
    jit = keras.backend.backend() == "jax"
    smoothing = config.train.label_smoothing or 0.0
    compile_model(model, optimizer, task=task, smoothing=smoothing, jit=jit)
    rates = make_schedule(config.schedule, phase.peak_lr, updates).rates(0, updates)
    set_rates(model.optimizer, rates)
