"""Keeper: checkpoints of a fold, by the clock, and its model at the end

A full disk costs these, not the run: what was kept before stays, and training goes on.
"""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from podium.checkpoint import Checkpoint, capture_state, read_checkpoint, write_checkpoint
from podium.epochs import Position, read_position
from podium.events import Reporter, write_json


class Keeper:
    """Writes the checkpoints of a fold, and reads the newest that is whole."""

    def __init__(self, folder: Path, minutes: float, report: Reporter) -> None:
        self.folder, self.report, self.every = folder, report, 60 * minutes
        self.kept = time.monotonic()
        self.refused = False  # the disk took no checkpoint last time

    def is_due(self) -> bool:
        """Is it time for a checkpoint?"""
        return time.monotonic() - self.kept >= self.every

    def keep(self, model: keras.Model, place: Position) -> bool:
        """Keeps model and place; returns False if weights are no numbers, which is not kept."""
        state = capture_state(model)
        if not all(np.isfinite(values).all() for values in state.values() if is_real(values)):
            return False
        try:
            write_checkpoint(self.folder, Checkpoint(place.facts(), state))
        except OSError as error:
            if not self.refused:
                self.report.warn(
                    f"no checkpoint could be written to {self.folder} ({error.strerror}): training "
                    f"goes on, but a killed run would lose what comes now"
                )
            self.refused = True
        else:
            self.refused = False
        self.kept = time.monotonic()
        return True

    def latest(self) -> tuple[Position, dict[str, Any]] | None:
        """The newest place and state that are whole, or None; warns of those that are not."""
        checkpoint, notes = read_checkpoint(self.folder)
        for note in notes:
            self.report.warn(note)
        return (read_position(checkpoint.facts), checkpoint.state) if checkpoint else None


def is_real(values: Any) -> bool:
    """Are these floating-point numbers, of whatever width?"""
    return bool(np.issubdtype(values.dtype, np.floating)) or values.dtype.name == "bfloat16"


def write_truth(record: dict[str, Any], folder: Path, report: Reporter) -> None:
    """Writes truth.json, if there is anything to say."""
    try:
        if record:
            write_json(folder / "truth.json", record)
    except OSError as error:
        report.warn(f"{folder / 'truth.json'} cannot be written ({error.strerror})")


def write_model(answering: keras.Model, folder: Path, report: Reporter) -> None:
    """Writes model.keras, whole or not at all; what it answers does not need it."""
    half, path = folder / "half.keras", folder / "model.keras"
    try:
        answering.save(half)
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        report.warn(f"{path} cannot be written ({error.strerror}); the answers are not lost")
