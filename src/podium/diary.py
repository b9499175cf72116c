"""Diary: one row of figures for each epoch of a fold, as it goes"""

import csv
import io
import math
import time
from pathlib import Path
from typing import Any

from podium.conclude import Closer
from podium.epochs import Epoch, Position
from podium.events import Reporter
from podium.marks import Marks
from podium.storage import write_whole

SPEAK_EVERY = 30.0  # seconds between lines inside a long epoch


def describe_epoch(
    epoch: Epoch, place: Position, marks: Marks, closer: Closer | None
) -> dict[str, Any]:
    """The figures of an epoch at whose end a fold stands there, all but the times."""
    return {
        "phase": epoch.phase,
        "epoch": epoch.number,
        "updates": place.updates,
        "train/loss": place.loss / place.summed,
        "train/accuracy": place.accuracy / place.summed,
        "valid/loss": marks.loss,
        "valid/accuracy": marks.accuracy,
        "valid/metric": marks.metric,
        "clean/metric": closer and closer.clean,
        "recalibrated/metric": closer and closer.recalibrated,
        "learning_rate": place.schedule.rate(place.done[epoch.phase == "all"] - 1),
        "image_size": epoch.size,
    }


class EpochWatch:
    """The time of one epoch, as far as this session did it."""

    def __init__(self, began: float) -> None:
        self.began, self.images, self.seconds = began, 0, 0.0

    def add(self, images: int, seconds: float) -> None:
        """Counts training images, and the time that they took."""
        self.images += images
        self.seconds += seconds

    def read(self, now: float) -> dict[str, float]:
        """Seconds of the whole epoch, and images per second of its training alone."""
        rate = self.images / max(self.seconds, 1e-9)
        return {"seconds": round(now - self.began, 3), "images_per_second": round(rate, 1)}


class Diary:
    """Writes history.csv, and says the same in log and events."""

    def __init__(self, folder: Path, fold: int, metric: str, report: Reporter) -> None:
        self.path = folder / "history.csv"
        self.fold, self.metric, self.report = fold, metric, report
        self.spoke = time.monotonic()
        self.torn = False  # a row could not be written

    def start_at(self, updates: int) -> None:
        """Forgets the epochs that ended after so many updates: they come again."""
        kept = [row for row in self.read() if int(float(row["updates"])) <= updates]
        if not kept:
            self.path.unlink(missing_ok=True)
            return
        write_whole(self.path, format_rows(kept, header=True).encode())

    def read(self) -> list[dict[str, str]]:
        """The rows so far, but for one that a killed process left torn."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [row for row in rows if None not in row.values()]

    def speak(self, epoch: int, step: int, steps: int) -> None:
        """Says now and then that a long epoch is alive."""
        if time.monotonic() - self.spoke > SPEAK_EVERY:
            self.spoke = time.monotonic()
            self.report.emit("step_reached", fold=self.fold, epoch=epoch, step=step, steps=steps)
            self.report.say(f"  fold {self.fold} epoch {epoch}: step {step} of {steps}")

    def add(self, row: dict[str, Any], epochs: int) -> None:
        """Writes the row of an epoch, says it in a line, and in an event."""
        self.spoke = time.monotonic()
        self.append(row)
        names = {"fold": self.fold, "epochs": epochs, "metric": self.metric}
        self.report.emit("epoch_ended", **names, **row)
        also = "" if self.metric in ("accuracy", "log_loss") else f"  {row['valid/metric']:.3f}"
        self.report.say(
            f"  fold {self.fold} epoch {row['epoch']:>2}/{epochs} {row['phase']:<4}  "
            f"loss {row['train/loss']:.3f} → {row['valid/loss']:.3f}  "
            f"accuracy {row['train/accuracy']:.3f} → {row['valid/accuracy']:.3f}{also}  "
            f"{row['images_per_second']:.0f} images/s  {row['seconds']:.1f} s"
        )

    def append(self, row: dict[str, Any]) -> None:
        """Appends a row; a full disk costs the rest of the file, not the run."""
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(format_rows([row], header=file.tell() == 0))
        except OSError as error:
            if not self.torn:
                self.report.warn(f"{self.path} cannot be written ({error.strerror})")
            self.torn = True


def format_rows(rows: list[dict[str, Any]], *, header: bool) -> str:
    """Rows of one kind as the text of a CSV file; what is no number is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if is_missing(value) else value for name, value in row.items()})
    return text.getvalue()


def is_missing(value: Any) -> bool:
    """Is this figure not there?"""
    return value is None or (isinstance(value, float) and math.isnan(value))
