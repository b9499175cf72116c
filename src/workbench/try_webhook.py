"""Sends a sample run to the webhook, so that one sees what a phone will show.

The addresses are read from PODIUM_WEBHOOK; docs/kaggle.md says how to get one.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from podium.config import Config
from podium.curves import write_curves
from podium.delivery import Delivery
from podium.events import Reporter
from podium.knobs import list_settings
from podium.webhook import SECRET_NAME, Watch
from workbench.kernel import VerbError, run_verb

EPOCHS = 4
PAUSE = 0.5  # seconds, so that one sees the card change


def try_webhook(argv: Sequence[str]) -> None:
    """Emits two folds of a sample run, and says what came of it."""
    argparse.ArgumentParser("make webhook-test", description=__doc__).parse_args(argv)
    if not os.environ.get(SECRET_NAME):
        raise VerbError(f"read -rs {SECRET_NAME}; export {SECRET_NAME}; then make webhook-test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = Reporter(folder)
        with closing(Watch(report)) as watch:
            watch.open()
            if not watch.deliveries:
                raise VerbError("no address can be used; see above")
            for _ in tell_sample(report):
                time.sleep(PAUSE)
    troubles = [describe_trouble(one) for one in watch.deliveries if not is_delivered(one)]
    if troubles:
        raise VerbError(
            f"not delivered: {', '.join(troubles)}; the address may be wrong, or the service down"
        )
    print("delivered: " + ", ".join(one.sink.name for one in watch.deliveries))


def is_delivered(delivery: Delivery) -> bool:
    """Was everything delivered, with nothing left out?"""
    return delivery.done and not delivery.skipped


def describe_trouble(delivery: Delivery) -> str:
    """The service and what it answered last, but for its words, which may hold the address."""
    return f"{delivery.sink.name} ({delivery.trouble or 'no answer yet'})"


def tell_sample(report: Reporter) -> Iterator[None]:
    """A run of two folds; its curves grow as they would."""
    settings = {**list_settings(Config()), "folds.count": 2, "train.head_epochs": 0}
    settings["train.epochs"] = EPOCHS
    report.emit(
        "run_started",
        source="sample",
        accelerator="gpu",
        devices=2,
        deadline=time.time() + 3600,
        settings=settings,
    )
    for fold in range(2):
        rows = []
        for epoch in range(1, EPOCHS + 1):
            rows.append(make_row(fold, epoch))
            report.emit("epoch_ended", fold=fold, epochs=EPOCHS, **rows[-1])
            yield
        write_history(report.folder / f"fold{fold}", rows)
        write_curves(report.folder)
        report.emit("fold_ended", fold=fold, metric="accuracy", value=rows[-1]["valid/accuracy"])
        yield
    figures = {"metric": "accuracy", "value": 0.9, "interval": [0.88, 0.92]}
    report.emit("run_finished", seconds=5.0, rows=100, **figures)
    yield


def make_row(fold: int, epoch: int) -> dict[str, float]:
    """An epoch of the sample run."""
    return {
        "epoch": epoch,
        "train/loss": 1.2 / epoch,
        "valid/loss": 1.3 / epoch + fold / 50,
        "train/accuracy": 1 - 0.5 / epoch,
        "valid/accuracy": 1 - 0.6 / epoch - fold / 100,
        "learning_rate": 1e-3 / epoch,
        "seconds": 30.0,
        "images_per_second": 900.0,
    }


def write_history(folder: Path, rows: Sequence[dict[str, float]]) -> None:
    """The history that the curves are drawn from."""
    folder.mkdir()
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(run_verb(try_webhook, sys.argv[1:]))
