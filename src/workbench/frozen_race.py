"""Frozen races: heads trained on features that the backbone computed once.

The backbone is as pretrained and sees each image as the test part is seen, so no head can learn of
a validated image by way of its features. They are kept in features.npz beside a digest of all that
they depend on. Each arm leaves a run's folder, but for models and answers to the test part.

Shapes: N images, F features, C classes.
"""

import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.batches import Labelled, count_steps, make_eval_batches, order_epoch
from podium.competition import Competition, read_competition
from podium.config import Config
from podium.events import Reporter, write_json
from podium.folds import write_folds
from podium.histories import HISTORY_COLUMNS
from podium.knobs import list_settings
from podium.marks import Marks, mark_probs
from podium.metrics import score_predictions
from podium.model import add_backbone, add_head, open_session
from podium.network import Start
from podium.objective import compile_model
from podium.optimizers import make_optimizer, set_rates
from podium.override import read_config
from podium.pixels import Images, read_images
from podium.predict import take_probs
from podium.predictions import Predictions, join_predictions, write_predictions
from podium.recipe import settle_recipe
from podium.resume import digest_parts
from podium.schedule import make_schedule
from podium.split import split_images
from podium.storage import open_whole
from podium.summary import decide_answers, score_fields
from podium.task import encode_targets
from podium.weights import prepare_backbone
from workbench.arms import Race
from workbench.dry_run import command_line
from workbench.race_runs import Run, Track, plan_runs


class Featured(NamedTuple):
    """What all heads learn from."""

    competition: Competition
    table: pd.DataFrame  # [N] id, label
    features: NDArray[np.float32]  # [N, F]
    targets: NDArray[np.uint8]  # [N, C]
    folds: NDArray[np.int64]  # [N]


def run_frozen(track: Track, race: Race) -> list[Run]:
    """Trains every arm's head on every fold, and returns their runs, the plain arm's first."""
    track.out.mkdir(parents=True, exist_ok=True)
    runs = plan_runs(track, race.arms, quarter=False, first=True)
    report = Reporter(track.out)
    config = read_config(command_line(track.settings), {})
    config, data = prepare_features(config, track.out, report)
    for place, run in enumerate(runs):
        report.say(f"Race: {run.title}, {place + 1} of {len(runs)}")
        arm = replace(config, head=run.config.head)
        run.folder.mkdir(exist_ok=True)
        write_json(run.folder / "config.json", list_settings(arm))
        write_folds(data.table, data.folds, run.folder / "folds.csv")
        train_heads(arm, data, run.folder, report)
    return runs


def prepare_features(config: Config, out: Path, report: Reporter) -> tuple[Config, Featured]:
    """Reads and splits the images as a run does, and has their features: settled config, and all.

    Raises what a run raises.
    """
    open_session("float32", devices=1)
    keras.utils.set_random_seed(config.runtime.seed)
    competition = read_competition(config.data, config.runtime.seed)
    size, task = config.pixels.image_size, competition.task
    start = prepare_backbone(config.model, size, out, report)
    config = settle_recipe(config, start.backbone.family, task.metric, exclusive=task.exclusive)
    images = read_images(competition.train, size, "training", config.pixels, report)
    test = read_images(competition.test, size, "test", config.pixels, report)
    folds, *_ = split_images(config, competition.others, images, test, report)
    features = take_features(config, start, images, out / "features.npz", report)
    targets = encode_targets(images.table["label"].to_numpy(), len(task.classes))
    return config, Featured(competition, images.table, features, targets, folds)


def take_features(
    config: Config, start: Start, images: Images, path: Path, report: Reporter
) -> NDArray[np.float32]:
    """The features [N, F] of a file if they are of these images and this backbone, else anew."""
    network = build_features(config, start)
    key = digest_features(config, start, network, images)
    kept = read_features(path, key)
    if kept is not None:
        report.say(f"  features: {len(kept)} of {path} are used again")
        return kept
    began, size = time.monotonic(), config.pixels.batch_size
    batches = make_eval_batches(
        Labelled(images.pixels, np.zeros(len(images.table), np.int64), 1),
        np.arange(len(images.table)),
        size,
    )
    features = np.asarray(network.predict(batches, verbose=0)[: len(images.table)], np.float32)
    with open_whole(path) as file:
        np.savez(file, key=key, features=features)
    seconds = time.monotonic() - began
    report.say(f"  features: {features.shape[1]} of {len(features)} images in {seconds:.1f} s")
    return features


def build_features(config: Config, start: Start) -> keras.Model:
    """The backbone as a run has it before the head: raw squares to features [B, F] float32."""
    size = config.pixels.image_size
    pixels = keras.Input((size, size, 3), dtype="uint8")
    return keras.Model(pixels, add_backbone(keras.ops.cast(pixels, "float32"), config, start))


def digest_features(config: Config, start: Start, network: keras.Model, images: Images) -> str:
    """A digest of what features depend on: the network, its weights, and the files it sees."""
    pixels = config.pixels.image_size, config.pixels.colour, config.head.pooling
    files = [Path(path).stat() for path in images.table["path"]]
    about = [f"{one.st_size} {one.st_mtime_ns}" for one in files]
    texts = [
        start.backbone.name,
        start.scaling,
        *map(str, pixels),
        *images.table["id"],
        *images.table["path"],
        *about,
    ]
    weights = [weight.tobytes() for weight in network.get_weights()]
    return digest_parts([*(f"{text}\n".encode() for text in texts), *weights])


def read_features(path: Path, key: str) -> NDArray[np.float32] | None:
    """The features that were kept under this digest; None for others, or a damaged file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return held["features"] if str(held["key"]) == key else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def train_heads(config: Config, data: Featured, folder: Path, report: Reporter) -> None:
    """Trains a head for each fold, and writes what a run would: answers, epochs and summary."""
    task, oof, began = data.competition.task, list[Predictions](), time.monotonic()
    ids = data.table["id"].to_numpy(str)
    for fold in range(config.folds.count):
        probs, rows = train_head(config, data, fold)
        oof.append(Predictions(ids[data.folds == fold], probs))
        (folder / f"fold{fold}").mkdir(exist_ok=True)
        table = pd.DataFrame(rows).reindex(columns=HISTORY_COLUMNS)
        table.to_csv(folder / f"fold{fold}" / "history.csv", index=False)
        last = rows[-1]["valid/metric"]
        report.say(f"  fold {fold}: {task.metric.replace('_', ' ')} {last:.4f}")
    whole = join_predictions(oof)
    write_predictions(whole, folder / "oof.npz")
    decision = decide_answers(task, data.table, oof)
    order = np.argsort(data.folds, kind="stable")
    score = score_predictions(task, data.targets[order], decision.answers, whole.probs)
    summary = {
        "run": {"state": "complete", "backend": keras.backend.backend()},
        "metric": task.metric,
        "answer": task.answer,
        "classes": list(task.classes),
        "counts": {"train": len(ids), "classes": len(task.classes), "folds": config.folds.count},
        "out_of_fold": score_fields(score),
        "seconds": {"total": round(time.monotonic() - began, 1)},
    }
    write_json(folder / "summary.json", summary)


def train_head(
    config: Config, data: Featured, fold: int
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Probabilities [n, C] of the fold left out, and a row for each epoch of both phases."""
    seed, size, task = config.runtime.seed + fold, config.pixels.batch_size, data.competition.task
    training, held = np.flatnonzero(data.folds != fold), data.folds == fold
    epochs, steps = config.train.head_epochs + config.train.epochs, count_steps(len(training), size)
    schedule = make_schedule(config.schedule, config.schedule.head_lr or 0.0, epochs * steps)
    model = build_head(config, data, seed, epochs * steps)
    set_rates(model.optimizer, schedule.rates(0, epochs * steps))
    rows, probs = list[dict[str, Any]](), np.zeros((0, 0), np.float32)
    for epoch in range(epochs):
        order, began = order_epoch(training, size, seed, epoch).ravel(), time.monotonic()
        shown = data.targets[order].astype(np.float32)
        fitted = model.fit(data.features[order], shown, size, shuffle=False, verbose=0).history
        seconds = time.monotonic() - began
        logits = model.predict(data.features[held], size, verbose=0)
        probs = take_probs(logits, exclusive=task.exclusive)
        rows.append(
            {
                "phase": "all",
                "epoch": epoch + 1,
                "updates": (epoch + 1) * steps,
                "train/loss": fitted["log_loss"][0],
                "train/accuracy": fitted["accuracy"][0],
                **describe_marks(mark_probs(probs, data.targets[held], task)),
                "learning_rate": schedule.rate((epoch + 1) * steps - 1),
                "seconds": round(seconds, 4),
                "images_per_second": len(training) / seconds,
            }
        )
    return probs, rows


def describe_marks(marks: Marks) -> dict[str, float]:
    """Marks as the table of epochs holds them."""
    return {
        "valid/loss": marks.loss,
        "valid/accuracy": marks.accuracy,
        "valid/metric": marks.metric,
    }


def build_head(config: Config, data: Featured, seed: int, updates: int) -> keras.Model:
    """A run's head and optimizer on features, without a backbone."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    features = keras.Input((data.features.shape[1],), dtype="float32")
    model = keras.Model(features, add_head(features, config.head, data.targets.shape[1], seed))
    plain = replace(config.optimizer, accumulate=1, ema=0.0)
    compile_model(
        model,
        make_optimizer(plain, updates),
        task=data.competition.task,
        jit=keras.backend.backend() == "jax",
        smoothing=config.train.label_smoothing or 0.0,
    )
    return model
