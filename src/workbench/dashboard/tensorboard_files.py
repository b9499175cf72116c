"""A run's curves as TensorBoard's own files, written without TensorFlow."""

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from workbench.dashboard.series import AXES, Curve, read_curves


def write_tensorboard(
    db: sqlite3.Connection, number: int, card: Mapping[str, Any], folder: Path
) -> Path:
    """Writes a folder for the run and in it one for each fold; returns the run's."""
    name = re.sub(r"[^\w.-]+", "_", f"{card['name']}-{card['run']}").strip("-.")
    (folder / name).mkdir(parents=True, exist_ok=True)
    for curve in read_curves(db, number):
        place = folder / name / f"fold{curve.fold}"
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("*.tfevents.*"):  # TensorBoard would draw both
            old.unlink()
        write_curve(curve, place)
    return folder / name


def write_curve(curve: Curve, folder: Path) -> None:
    """One file of one fold: its figures by epoch, at the times at which they were told."""
    start = float(curve.block[0, 2])
    with (folder / f"events.out.tfevents.{start:.0f}.podium").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=start, file_version="brain.Event:2").SerializeToString())
        for row in curve.block:
            figures = zip(curve.names, row[len(AXES) :], strict=True)
            values = [
                Summary.Value(tag=name, simple_value=figure)
                for name, figure in figures
                if np.isfinite(figure)
            ]
            event = Event(wall_time=row[2], step=int(row[0]), summary=Summary(value=values))
            writer.write(event.SerializeToString())
