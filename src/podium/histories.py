"""Histories: what each fold wrote down of its epochs

A table of one row an epoch, as far as the run has got; what an older run did not write is empty.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from podium.metrics import METRICS
from podium.task import MetricName

HISTORY_COLUMNS = [
    *("phase", "epoch", "updates", "train/loss", "train/accuracy", "valid/loss", "valid/accuracy"),
    *("valid/metric", "clean/metric", "recalibrated/metric"),
    *("learning_rate", "image_size", "seconds", "images_per_second", "left"),
]
# How a column is drawn, by the part of the data before its slash; marks stand where batch norm
# was examined. Blue and vermilion differ for every eye, and so do line, dashes and shapes.
TRACES = {
    "train": {"color": "#d55e00", "linestyle": "--", "label": "training"},
    "valid": {"color": "#0072b2", "linestyle": "-", "label": "validation"},
    "clean": {"color": "#d55e00", "linestyle": "", "marker": "s", "label": "training, clean"},
    "recalibrated": {"color": "#0072b2", "linestyle": "", "marker": "D", "label": "recalibrated"},
}
MARKS = ("clean/metric", "recalibrated/metric")


class Followed(NamedTuple):
    """A figure that is followed over the epochs, by its name, and the columns that hold it."""

    name: str
    columns: tuple[str, ...]


def read_histories(folder: Path) -> dict[int, pd.DataFrame]:
    """The table of each fold that has ended an epoch, in the order of folds."""
    tables = {
        int(path.parent.name[4:]): read_history(path)
        for path in folder.glob("fold*/history.csv")
        if path.parent.name[4:].isdecimal()
    }
    return {fold: tables[fold] for fold in sorted(tables) if len(tables[fold])}


def read_history(path: Path) -> pd.DataFrame:
    """A fold's table: HISTORY_COLUMNS; what is no finite number is empty.

    It has no rows where the file cannot be read, which an epoch that ends just now may cause.
    """
    try:
        table = pd.read_csv(path).reindex(columns=HISTORY_COLUMNS)
    except (OSError, ValueError):
        return pd.DataFrame(columns=HISTORY_COLUMNS)
    numbers = table.drop(columns="phase").apply(pd.to_numeric, errors="coerce")
    table = numbers.replace([np.inf, -np.inf], np.nan).assign(phase=table["phase"])
    whole: pd.DataFrame = table.dropna(subset="epoch")[HISTORY_COLUMNS].reset_index(drop=True)
    return whole.astype({"epoch": np.int64})


def has_values(histories: Mapping[int, pd.DataFrame], column: str) -> bool:
    """Does any fold hold a number in that column?"""
    return any(bool(history[column].notna().any()) for history in histories.values())


def list_followed(
    histories: Mapping[int, pd.DataFrame], metric: MetricName | None
) -> tuple[Followed, Followed]:
    """Loss, and the metric; accuracy where the folds hold none, or where it is the loss itself.

    Without its name the metric is called so. Training has it only where it is accuracy.
    """
    loss = Followed("loss", ("train/loss", "valid/loss"))
    accuracy = Followed("accuracy", ("train/accuracy", "valid/accuracy"))
    if not any(has_values(histories, column) for column in ("valid/metric", *MARKS)):
        return loss, accuracy
    if metric == "log_loss":
        return loss._replace(columns=loss.columns + MARKS), accuracy
    trained = ("train/accuracy",) if metric == "accuracy" else ()
    name = METRICS[metric].title if metric else "metric"
    return loss, Followed(name, (*trained, "valid/metric", *MARKS))


def list_changes(history: pd.DataFrame, column: str, axis: str = "epoch") -> list[float]:
    """Where a column's value changes, on the axis "epoch" or "updates": between two epochs."""
    values = history[column]
    changed = (values != values.shift()) & values.notna() & values.shift().notna()
    middle = 0.5 if axis == "epoch" else 0.0
    return [float(history[axis].iloc[row - 1]) + middle for row in np.flatnonzero(changed)]
