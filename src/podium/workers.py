"""Workers: processes that run a Compose

They are started afresh and import NumPy, OpenCV and albumentations, not this script, and so
never touch the accelerator. Stored squares and finished images lie in memory that has no name
and that all map; only places and seeds are sent. However the run ends, its end of the lines
closes then, and the workers go; nothing is left behind.
"""

import multiprocessing
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import ModuleType
from typing import NamedTuple

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
    """Images that one worker makes, one after the other."""

    slot: int  # of the batches in memory
    start: int  # the first image's place in memory
    rows: list[int]  # of the stored squares
    seeds: list[bytes]

    @property
    def span(self) -> slice:
        """Its places in memory."""
        return slice(self.start, self.start + len(self.rows))


class Worker:
    """One process, and the chunks that it has been sent and has not answered."""

    def __init__(self, serve: bytes) -> None:
        self.line, theirs = multiprocessing.Pipe()
        self.chunks = deque[Chunk]()
        self.process = subprocess.Popen(  # noqa: S603, what it runs is ours
            [sys.executable, "-P", "-c", BEGINNING, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
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
            self.line.send(tuple(chunk))

    def stop(self) -> None:
        """Waits for the process to end, as it does when its line is closed."""
        self.line.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Place(NamedTuple):
    """An array [*, S, S, 3] uint8 that another process maps."""

    path: str
    shape: tuple[int, ...]


def serve_chunks(
    compose: str, stored: Place | None, made: Place, path: list[str], line: Connection
) -> None:
    """A worker's life: makes chunks, and answers what went wrong, until the line is closed.

    Stored squares that cannot be mapped are copied, by who sends a chunk, to where it is made.
    """
    sys.path[:] = path
    cv2.setNumThreads(0)  # there is a process for each core already
    seeded = SeededCompose(compose)
    images = np.memmap(made.path, np.uint8, "r+", shape=made.shape)
    squares = np.memmap(stored.path, np.uint8, "r", shape=stored.shape) if stored else None
    with suppress(EOFError, OSError):
        while True:
            line.send(augment_chunk(seeded, squares, images, line.recv()))


def augment_chunk(
    seeded: SeededCompose,
    squares: NDArray[np.uint8] | None,
    images: NDArray[np.uint8],
    chunk: tuple[int, int, list[int], list[bytes]],
) -> str:
    """Makes the images of a chunk, from stored squares or from what lies in their place."""
    _, start, rows, seeds = chunk
    try:
        for place, (row, seed) in enumerate(zip(rows, seeds, strict=True), start):
            square = images[place] if squares is None else squares[row]
            images[place] = seeded.augment(np.array(square), seed)  # a copy: a Compose may write
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


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
