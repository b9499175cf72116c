"""Curves: the figures of epochs, kept in columns and thinned for the screen.

A curve lies in chunks of 512 epochs, each a block of float64, one row an epoch: so 50,000 epochs
are read and thinned in milliseconds. An epoch that a later session trained anew replaces what was
there, and one that comes late finds its place.
"""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 512  # epochs
DIGITS = 6  # of a figure on the screen
MOST_POINTS = 600  # of a curve on the screen, which is less than so many pixels wide
AXES = ("epoch", "updates", "time")  # the first columns of every block
NAMED = ("learning_rate", "images_per_second")  # figures beside those with a slash in their name
LARGEST = 10**9  # a fold, or an epoch
SCHEMA = """
CREATE TABLE IF NOT EXISTS chunks (
  run INTEGER, fold INTEGER, place INTEGER, version INTEGER, names TEXT, block BLOB,
  PRIMARY KEY (run, fold, place)
) WITHOUT ROWID
"""

Block = NDArray[np.float64]  # [N, 3 + figures], NaN where nothing is known


class Point(NamedTuple):
    """An epoch's figures."""

    fold: int
    epoch: int
    updates: float | None
    time: float
    figures: dict[str, float | None]


class Curve(NamedTuple):
    """Epochs of one fold, in order: [N, 3 + figures]."""

    fold: int
    names: tuple[str, ...]  # of the figures
    block: Block


def read_point(event: Mapping[str, Any]) -> Point | None:
    """The point that an event of an epoch is, or None if it has no place on a curve."""
    fold, epoch, updates = event.get("fold", 0), event.get("epoch"), event.get("updates")
    if type(fold) is not int or type(epoch) is not int:
        return None
    if not (0 <= fold <= LARGEST and 0 <= epoch <= LARGEST):
        return None
    figures = {
        name: value
        for name, value in event.items()
        if ("/" in name or name in NAMED) and is_figure(value)
    }
    return Point(fold, epoch, updates if is_figure(updates) else None, event["time"], figures)


def is_figure(value: object) -> bool:
    """A number, or null for one that was none."""
    return value is None or type(value) in (int, float)


def add_points(db: sqlite3.Connection, run: int, points: Iterable[Point], version: int) -> None:
    """Puts points into their chunks, in the transaction at hand."""
    groups = defaultdict[tuple[int, int], list[Point]](list)
    for point in points:
        groups[point.fold, point.epoch // CHUNK].append(point)
    for (fold, place), group in groups.items():
        key = (run, fold, place)
        kept = db.execute(
            "SELECT names, block FROM chunks WHERE run = ? AND fold = ? AND place = ?", key
        ).fetchone()
        curve = merge([*([unpack(fold, *kept)] if kept else []), lay_out(fold, group)])
        row = (*key, version, json.dumps(curve.names), curve.block.tobytes())
        db.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", row)


def lay_out(fold: int, points: Sequence[Point]) -> Curve:
    """Points as a block."""
    names = tuple(dict.fromkeys(name for point in points for name in point.figures))
    rows = [
        (point.epoch, point.updates, point.time, *map(point.figures.get, names)) for point in points
    ]
    return Curve(fold, names, np.array(rows, np.float64).reshape(len(rows), -1))


def unpack(fold: int, names: str, block: bytes) -> Curve:
    """A chunk as it was kept."""
    known = tuple(json.loads(names))
    return Curve(fold, known, np.frombuffer(block, np.float64).reshape(-1, len(AXES) + len(known)))


def merge(parts: Sequence[Curve]) -> Curve:
    """Parts of one curve, in the order of epochs; of two of an epoch the one told later stays."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    whole = np.full((sum(len(part.block) for part in parts), len(AXES) + len(names)), np.nan)
    row = 0
    for part in parts:
        columns = [*range(len(AXES)), *(len(AXES) + names.index(name) for name in part.names)]
        whole[row : row + len(part.block), columns] = part.block
        row += len(part.block)
    whole = whole[np.lexsort((whole[:, 2], whole[:, 0]))]  # by epoch, then by time
    last = np.append(np.diff(whole[:, 0]) > 0, True)
    return Curve(parts[0].fold, names, whole[last[: len(whole)]])


def read_curves(db: sqlite3.Connection, run: int, after: int = -1) -> list[Curve]:
    """The curves of a run that changed after a version, whole, by fold."""
    rows = db.execute(
        "SELECT fold, names, block FROM chunks WHERE run = :run AND fold IN "
        "(SELECT fold FROM chunks WHERE run = :run AND version > :after) ORDER BY fold, place",
        {"run": run, "after": after},
    )
    folds = defaultdict[int, list[Curve]](list)
    for fold, names, block in rows:
        folds[fold].append(unpack(fold, names, block))
    return [merge(parts) for parts in folds.values()]


def show_curve(run: str, curve: Curve) -> dict[str, Any]:
    """The curve as the page gets it, at most 600 points of it."""
    block = thin(curve.block)
    epoch, updates, time = (list_numbers(column) for column in block[:, : len(AXES)].T)
    figures = [list_numbers(column) for column in round_figures(block[:, len(AXES) :]).T]
    return {
        "run": run,
        "fold": curve.fold,
        "epoch": [int(number) for number in epoch],
        "updates": updates,
        "time": time,
        "figures": dict(zip(curve.names, figures, strict=True)),
        "of": len(curve.block),
        "thinned": len(block) < len(curve.block),
    }


def round_figures(figures: Block) -> Block:
    """Figures with six significant digits: more than a chart shows, and half the text."""
    with np.errstate(divide="ignore", over="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(figures))))
    finite = np.isfinite(scale)  # neither of zero, nor of the very smallest, nor of what is missing
    scale = np.where(finite, scale, 1.0)
    return np.where(finite, np.round(figures * scale) / scale, figures)


def list_numbers(column: NDArray[np.float64]) -> list[Any]:
    """A column's numbers, null where there is none."""
    return [None if math.isnan(number) else number for number in column.tolist()]


def thin(block: Block) -> Block:
    """At most 600 rows: of each bucket of neighbours the least and the largest of every figure.

    They come in the order in which they were; the first row and the last stay as they are.
    """
    if len(block) <= MOST_POINTS:
        return block
    inner = block[1:-1]
    buckets = (MOST_POINTS - 2) // 2
    width = -(-len(inner) // buckets)
    starts = np.arange(0, len(inner), width)
    ends = np.append(starts[1:], len(inner)) - 1
    pad = np.full((len(starts) * width - len(inner), block.shape[1]), np.nan)
    cubes = np.concatenate([inner, pad]).reshape(len(starts), width, -1)
    least = np.where(np.isnan(cubes), np.inf, cubes).argmin(1)
    most = np.where(np.isnan(cubes), -np.inf, cubes).argmax(1)
    pairs = np.stack([np.minimum(least, most), np.maximum(least, most)], 1)
    thinned = np.take_along_axis(cubes, pairs, 1).reshape(2 * len(starts), -1)
    axes = np.stack([starts, ends], 1).ravel()
    thinned[:, : len(AXES)] = inner[axes, : len(AXES)]
    return np.concatenate([block[:1], thinned, block[-1:]])
