"""Pixels: from image files to squares of uint8

Every image is decoded once, for all folds and epochs, if there is room to keep it. Pixels stay
uint8, 0 to 255: to normalise them is the model's business.

Shapes: N images, B batch, S side of the stored square.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.cache import (
    FreshPixels,
    PixelError,
    Pixels,
    allocate_pixels,
    choose_cache,
    count_bytes,
    describe_cache,
    make_writer,
    measure_room,
)
from podium.config import PixelsConfig
from podium.decode import BROKEN_IMAGE, decode_image
from podium.events import Reporter

TOGETHER = 16  # images that a thread decodes before it asks for more


class Images(NamedTuple):
    """An image table and its decoded pixels, row by row, unreadable images left out."""

    table: pd.DataFrame  # [N] id, path; label and group where known
    pixels: Pixels  # [N, S, S, 3] uint8
    unreadable: list[str]  # ids


class JoinedPixels:
    """Squares of two stores as one, without a copy: the rows of the second follow."""

    def __init__(self, first: Pixels, second: Pixels) -> None:
        self.first, self.second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        places = np.arange(len(self))[rows]
        squares = np.empty((len(places), *self.shape[1:]), np.uint8)
        late = places >= len(self.first)
        squares[~late] = self.first[places[~late]]
        squares[late] = self.second[places[late] - len(self.first)]
        return squares


def decode_images(
    paths: Sequence[str], side: int, into: NDArray[np.uint8] | None, report: Reporter, part: str
) -> NDArray[np.bool_]:
    """Decodes all files on all cores, `into` [N, S, S, 3] if given; tells which are readable [N].

    An unreadable image leaves zeros and a False.
    """
    readable = np.zeros(len(paths), np.bool_)
    write = None if into is None else make_writer(into)

    def decode_some(rows: range) -> int:
        scratch = np.empty((2 * side, 2 * side, 3), np.uint8)
        for row in rows:
            try:
                square = decode_image(paths[row], side, scratch)
            except BROKEN_IMAGE as error:
                report.emit("image_unreadable", path=paths[row], reason=str(error))
                continue
            readable[row] = True
            if write is not None:
                write(row, square)
        return rows.stop

    started = said = time.monotonic()
    starts = range(0, len(paths), TOGETHER)
    tasks = [range(start, min(start + TOGETHER, len(paths))) for start in starts]
    with one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(decode_some, tasks):
            now = time.monotonic()
            if now - said > 15 or done == len(paths):
                said, speed = now, done / max(now - started, 1e-9)
                report.say(f"  {part}: {done} of {len(paths)} images decoded, {speed:.0f}/s")
    return readable


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keeps OpenCV from threads of its own while a pool has all cores at work."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def read_images(
    table: pd.DataFrame, side: int, part: str, config: PixelsConfig, report: Reporter
) -> Images:
    """Decodes the images of a table that have a file, and leaves out what cannot be read.

    `part` is "training" or "test". Raises PixelError if nothing is left, or nowhere to keep it.
    """
    table = table[table["path"].notna()].reset_index(drop=True)
    paths, room = table["path"].tolist(), measure_room()
    kind = choose_cache(count_bytes(len(paths), side), room, config)
    report.say(f"  {part}: {describe_cache((len(paths), side), kind, room, config.cache_share)}")
    cached = None if kind == "none" else allocate_pixels(len(paths), side, kind)
    readable = decode_images(paths, side, cached, report, part)
    if not readable.any():
        raise PixelError(f"none of the {len(table)} {part} images can be read; see data.folder")
    kept = np.flatnonzero(readable)
    table, unreadable = table.iloc[kept].reset_index(drop=True), table["id"][~readable].tolist()
    if unreadable:
        fate = "left out of training" if part == "training" else "predicted with the prior"
        names = ", ".join(unreadable)
        report.warn(f"{len(unreadable)} {part} images cannot be read and are {fate}: {names}")
    if cached is None:
        return Images(table, FreshPixels(table["path"].tolist(), side), unreadable)
    return Images(table, move_up(cached, kept), unreadable)


def move_up(pixels: NDArray[np.uint8], kept: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Closes the gaps between kept rows, in place: a copy might not fit into memory."""
    for row, old in enumerate(kept):
        if row != old:
            pixels[row] = pixels[old]
    return pixels[: len(kept)]


def check_pixels(batch: NDArray[Any]) -> None:
    """Raises PixelError unless a batch is raw pixels: uint8 that reach beyond 1.

    The model normalises by itself, so pixels scaled before would be scaled twice, and nothing but
    a bad accuracy would tell.
    """
    if batch.dtype != np.uint8 or batch.max() <= 1:
        raise PixelError(
            f"the first batch is {batch.dtype} from {batch.min():g} to {batch.max():g}, but the "
            f"model takes raw pixels, uint8 from 0 to 255, and normalises them itself; take the "
            f"scaling (/ 255, preprocess_input) out of the input pipeline"
        )
