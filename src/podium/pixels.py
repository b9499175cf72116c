"""Pixels: from image files to squares of uint8

Every image is decoded once, for all folds and epochs, into one array on disk that the operating
system keeps in memory as far as it fits. Pixels stay uint8, 0 to 255: to normalise them is the
model's business.

Shapes: N images, B batch, S side of the stored square.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.decode import BROKEN_IMAGE, decode_image
from podium.events import Reporter


class PixelError(RuntimeError):
    """The pixels cannot be stored, or are none."""


class Images(NamedTuple):
    """An image table and its decoded pixels, row by row, unreadable images left out."""

    table: pd.DataFrame  # [N] id, path; label and group where known
    pixels: NDArray[np.uint8]  # [N, S, S, 3]
    unreadable: list[str]  # ids


def allocate_pixels(count: int, side: int) -> NDArray[np.uint8]:
    """Reserves [count, S, S, 3] uint8 in an unnamed temporary file, which goes with the process.

    Raises PixelError if the disk has no room: found out now, not by a crash in the middle.
    """
    size = count * side * side * 3
    try:
        with tempfile.TemporaryFile() as file:
            file.truncate(max(size, 1))
            if hasattr(os, "posix_fallocate"):  # macOS has none, and finds out later
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            return np.memmap(file, np.uint8, "r+", shape=(count, side, side, 3))
    except OSError as error:
        raise PixelError(
            f"{count} images of {side} px need {size / 1e9:.1f} GB in {tempfile.gettempdir()}, "
            f"which has no room ({error.strerror}); lower pixels.image_size or data.limit, "
            f"or set TMPDIR to a larger disk"
        ) from error


def decode_images(
    paths: Sequence[str], side: int, report: Reporter, part: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decodes all files on all cores: pixels [N, S, S, 3] uint8, and readable [N] bool.

    An unreadable image leaves zeros and a False.
    """
    pixels, readable = allocate_pixels(len(paths), side), np.zeros(len(paths), np.bool_)

    def decode_row(row: int) -> None:
        try:
            pixels[row] = decode_image(paths[row], side)
            readable[row] = True
        except BROKEN_IMAGE as error:
            report.emit("image_unreadable", path=paths[row], reason=str(error))

    started = said = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(decode_row, range(len(paths))), start=1):
            now = time.monotonic()
            if now - said > 15 or (done == len(paths) and done > 0):
                said, speed = now, done / max(now - started, 1e-9)
                report.say(f"  {part}: {done} of {len(paths)} images decoded, {speed:.0f}/s")
    return pixels, readable


def read_images(table: pd.DataFrame, side: int, part: str, report: Reporter) -> Images:
    """Decodes the images of a table that have a file, and leaves out what cannot be read.

    `part` is "training" or "test". Raises PixelError if nothing is left.
    """
    table = table[table["path"].notna()].reset_index(drop=True)
    pixels, readable = decode_images(table["path"].tolist(), side, report, part)
    if not readable.any():
        raise PixelError(f"none of the {len(table)} {part} images can be read; see data.folder")
    if readable.all():
        return Images(table, pixels, [])
    unreadable = table["id"][~readable].tolist()
    fate = "left out of training" if part == "training" else "predicted with the prior"
    names = ", ".join(unreadable)
    report.warn(f"{len(unreadable)} {part} images cannot be read and are {fate}: {names}")
    kept = np.flatnonzero(readable)
    for row, old in enumerate(kept):  # in place: a copy might not fit into memory
        pixels[row] = pixels[old]
    return Images(table.iloc[kept].reset_index(drop=True), pixels[: len(kept)], unreadable)


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
