"""Cache: where decoded squares are kept

In memory if they take no more than a share of what is free there, else on disk, else nowhere, and
every batch is decoded anew. Memory and file have no name, so nothing is left behind however a run
ends; other processes of the same user reach them by way of /proc, without a copy.

Shapes: N images, S side of the square.
"""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from podium.config import PixelsConfig
from podium.decode import BROKEN_IMAGE, decode_image
from podium.runtime import KAGGLE_WORKING

CacheKind = Literal["memory", "disk", "none"]


class PixelError(RuntimeError):
    """The pixels cannot be stored, or are none."""


class Pixels(Protocol):
    """Squares [N, S, S, 3] uint8, indexed by rows: an array, or images decoded anew."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, S, S, 3."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Room(NamedTuple):
    """Bytes that are free."""

    memory: int
    disk: int


def measure_room() -> Room:
    """What is free now in memory and in the folder for temporary files.

    /kaggle/working has a quota that results need, so nothing is free there.
    """
    folder = Path(tempfile.gettempdir()).resolve()
    reserved = folder.is_relative_to(KAGGLE_WORKING)
    return Room(measure_memory(), 0 if reserved else shutil.disk_usage(folder).free)


def measure_memory(system: Path = Path("/")) -> int:
    """Bytes of memory that this process may still take; 0 where there is no Linux to ask.

    That is what the machine has to give, or less in a container with a limit of its own, where
    files cached by the kernel count as taken but are given up.
    """
    try:
        text = (system / "proc/meminfo").read_text()
    except OSError:
        return 0
    available = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return min([int(available[1]) * 1024 if available else 0, *measure_groups(system)])


def measure_groups(system: Path) -> Iterator[int]:
    """Yields the free bytes under each memory limit of this process's control groups, v1 or v2."""
    names = {
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        "": ("memory.max", "memory.current", "inactive_file"),
    }
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers not in names:
            continue
        limit, usage, given_up = names[controllers]
        top = system / "sys/fs/cgroup" / controllers
        inner = top / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            try:
                most, used = (int((folder / name).read_text()) for name in (limit, usage))
                stat = dict(re.findall(r"(\w+) (\d+)", (folder / "memory.stat").read_text()))
            except (OSError, ValueError):  # no such group here, or no limit ("max")
                continue
            yield max(most - used + int(stat.get(given_up, 0)), 0)


def choose_cache(size: int, room: Room, config: PixelsConfig) -> CacheKind:
    """Where that many bytes are kept: as pixels.cache says, or where they fit into its share.

    Raises PixelError if they do not fit at all where the setting wants them.
    """
    free: dict[CacheKind, int] = {"memory": room.memory, "disk": room.disk}
    if config.cache == "auto":
        allowed = (kind for kind in free if size <= config.cache_share * free[kind])
        return next(allowed, "none")
    if size > free.get(config.cache, size):
        raise PixelError(
            f"pixels.cache is {config.cache}, and the images need {size / 1e9:.1f} GB where "
            f"{free[config.cache] / 1e9:.1f} GB are free; lower pixels.image_size or data.limit, "
            f"or set pixels.cache to auto"
        )
    return config.cache


def describe_cache(shape: tuple[int, int], kind: CacheKind, room: Room, share: float) -> str:
    """Says in one line what is kept where, and by which limits; `shape` is N, S."""
    where = {"memory": "kept in memory", "disk": "kept on disk", "none": "decoded for each batch"}
    return (
        f"{shape[0]} squares of {shape[1]} px, {count_bytes(*shape) / 1e9:.2f} GB, {where[kind]}; "
        f"auto may take {share:.0%} of the free {room.memory / 1e9:.1f} GB of memory "
        f"or {room.disk / 1e9:.1f} GB in {tempfile.gettempdir()}"
    )


def count_bytes(count: int, side: int) -> int:
    """The size of that many squares."""
    return count * side * side * 3


def allocate_pixels(count: int, side: int, kind: CacheKind) -> NDArray[np.uint8]:
    """Reserves [count, S, S, 3] uint8 in memory or on disk, which goes with the last view of it.

    Raises PixelError if the disk has no room: found out now, not by a crash in the middle.
    """
    size = max(count_bytes(count, side), 1)
    try:
        file = open_unnamed(kind)
        try:
            os.truncate(file, size)
            if kind == "disk" and hasattr(os, "posix_fallocate"):  # macOS has none: finds out later
                os.posix_fallocate(file, 0, size)
            pixels: NDArray[np.uint8] = map_pixels(file, (count, side, side, 3))
        except BaseException:
            os.close(file)
            raise
    except OSError as error:
        raise PixelError(
            f"{count} images of {side} px need {size / 1e9:.1f} GB in {tempfile.gettempdir()}, "
            f"which has no room ({error.strerror}); lower pixels.image_size or data.limit, "
            f"or set TMPDIR to a larger disk"
        ) from error
    weakref.finalize(pixels.base, os.close, file)
    return pixels


def open_unnamed(kind: CacheKind) -> int:
    """Opens memory, or a file on disk, that has no name: a file descriptor."""
    if kind == "memory" and hasattr(os, "memfd_create"):  # Linux; /dev/shm may be tiny
        return os.memfd_create("podium-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def map_pixels(file: int, shape: tuple[int, ...]) -> Any:
    """Maps an open file, by its path under /proc where there is one, which the array remembers."""
    path = f"/proc/{os.getpid()}/fd/{file}"
    if Path(path).exists():
        return np.memmap(path, np.uint8, "r+", shape=shape)
    with open(file, "r+b", closefd=False) as stream:
        return np.memmap(stream, np.uint8, "r+", shape=shape)


def share_path(pixels: Pixels) -> str | None:
    """The path by which another process maps the same pixels, as long as this one holds them.

    There, `np.memmap(path, np.uint8, "r", shape=pixels.shape)` copies nothing. None if these are
    not pixels from `allocate_pixels`, or not from the first on, or there is no /proc.
    """
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        return None
    root: Any = pixels
    while isinstance(root.base, np.ndarray):
        root = root.base
    first = pixels.flags.c_contiguous and pixels.ctypes.data == root.ctypes.data
    return str(pixels.filename) if first else None


def make_writer(pixels: NDArray[np.uint8]) -> Callable[[int, NDArray[np.uint8]], object]:
    """How to store a square at a row: through the file, at half the cost of touching new pages."""
    path = share_path(pixels)
    if path is None:
        return pixels.__setitem__
    file, size = int(Path(path).name), count_bytes(1, pixels.shape[1])
    return lambda row, square: os.pwrite(file, np.ascontiguousarray(square), row * size)


class FreshPixels:
    """Squares [N, S, S, 3] uint8 that are decoded whenever they are asked for, on all cores."""

    def __init__(self, paths: Sequence[str], side: int) -> None:
        self.paths = np.array(paths, object)
        self.shape = (len(paths), side, side, 3)
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        chosen = self.paths[rows]
        squares = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for row, square in enumerate(self.pool.map(self.decode, chosen)):
            squares[row] = square
        return squares

    def decode(self, path: str) -> NDArray[np.uint8]:
        """One square; raises PixelError if the file, which was read before, cannot be any more."""
        try:
            return decode_image(path, self.shape[1])
        except BROKEN_IMAGE as error:
            raise PixelError(f"{path} could be read at first, and now cannot: {error}") from error
