"""Storage: a file is there whole, or as it was before

A session can end, or a disk be full, in the middle of a write. So every result is written beside
its place under another name and moved there in one step.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, or raises OSError and leaves an earlier one untouched."""
    with open_whole(path) as file:
        file.write(content)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its place when the block ends, and is dropped if that raises."""
    half = path.with_name(f"{path.name}.half")
    try:
        with half.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was moved into a folder or out of it outlast a loss of power."""
    with suppress(OSError):  # some network file systems cannot
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
