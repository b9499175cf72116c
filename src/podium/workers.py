"""Workers: processes that run a Compose

They are started afresh and import NumPy, OpenCV and albumentations, not this script, and so
never touch the accelerator. Images lie in memory that has no name and that all map; only places
and seeds are sent. However the run ends, its end of the lines closes then, and the workers go;
nothing is left behind.
"""

import math
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import ModuleType
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from podium.composes import SeededCompose

# A process begins with this: it is sent the function `serve_chunks`, and calls it.
BEGINNING = (
    "import pickle, sys; from multiprocessing.connection import Connection; "
    "line = Connection(int(sys.argv[1])); pickle.loads(line.recv_bytes())(line)"
)


class Chunk(NamedTuple):
    """A part of a job that one worker does."""

    slot: int  # of the batches in memory
    start: int  # the first image's place in memory
    rows: NDArray[np.int64]
    seeds: list[bytes]

    @property
    def span(self) -> slice:
        """Its places in memory."""
        return slice(self.start, self.start + len(self.rows))


class Worker:
    """One process, and the chunks that it has been sent and has not answered."""

    def __init__(self, shared: int, serve: bytes) -> None:
        self.line, theirs = multiprocessing.Pipe()
        self.chunks = deque[Chunk]()
        self.process = subprocess.Popen(  # noqa: S603, what it runs is ours
            [sys.executable, "-P", "-c", BEGINNING, str(theirs.fileno())],
            pass_fds=[theirs.fileno(), shared],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C does not reach it: it ends with the run
        )
        theirs.close()
        with suppress(OSError):
            self.line.send_bytes(serve)

    def take(self, chunk: Chunk) -> None:
        """Sends a chunk; that a worker is gone is noticed when its answer is waited for."""
        self.chunks.append(chunk)
        with suppress(OSError):
            self.line.send((chunk.start, chunk.seeds))

    def stop(self) -> None:
        """Waits for the process to end, as it does when its line is closed."""
        self.line.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve_chunks(
    compose: str, shared: int, shape: tuple[int, ...], path: list[str], line: Connection
) -> None:
    """A worker's life: augments chunks in shared memory, and answers, until the line is closed."""
    sys.path[:] = path
    cv2.setNumThreads(0)  # there is a process for each core already
    images, seeded = map_images(shared, shape), SeededCompose(compose)
    with suppress(EOFError, OSError):
        while True:
            line.send(augment_in_place(seeded, images, *line.recv()))


def augment_in_place(
    seeded: SeededCompose, images: NDArray[np.uint8], start: int, seeds: Sequence[bytes]
) -> str:
    """Augments images [*, S, S, 3] from a place on, one for each seed; says what went wrong."""
    try:
        for place, seed in enumerate(seeds, start):
            images[place] = seeded.augment(images[place], seed)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def open_memory(size: int) -> BinaryIO:
    """Memory that can be shared and has no name: not /dev/shm, which is small in a container."""
    if hasattr(os, "memfd_create"):
        file: BinaryIO = os.fdopen(os.memfd_create("podium"), "r+b")
    else:  # macOS
        file = tempfile.TemporaryFile()  # noqa: SIM115, it is open as long as the workers are
    file.truncate(size)
    return file


def map_images(shared: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Maps shared memory as uint8 of a shape."""
    return np.frombuffer(mmap.mmap(shared, math.prod(shape)), np.uint8).reshape(shape)


def pickle_by_value(function: Callable[..., None]) -> bytes:
    """Pickles a function of this package with all of it that it uses.

    Its module would bring Keras along, and the script has no module that could be imported.
    """
    try:
        import cloudpickle
    except ImportError:  # joblib before 1.6 brings its own
        from joblib.externals import cloudpickle
    package = serve_chunks.__module__.partition(".")[0]
    cloudpickle.register_pickle_by_value(ModuleType(package))
    return bytes(cloudpickle.dumps(function))


def describe_end(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    code = process.returncode
    if code == -signal.SIGKILL:
        return "killed, perhaps for want of memory: a lower augment.workers takes less"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
