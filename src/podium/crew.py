"""Crew: the workers of one fold, on all cores

Threads give albumentations 1.6 cores of two, as Python runs in one of them at a time, so this
takes processes. One that dies is replaced, and its images are made again from the same seeds:
what comes out does not depend on how many there are, or on what becomes of them.

Shapes: B batch, S side of the stored square.
"""

import atexit
import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.cache import PixelError, Pixels, allocate_pixels, share_path
from podium.composes import SeededCompose
from podium.events import Reporter
from podium.workers import (
    Chunk,
    Place,
    Worker,
    augment_chunk,
    describe_end,
    pickle_by_value,
    serve_chunks,
)

BATCHES_AHEAD = 3  # batches in memory: two in work while one is taken
LARGEST_CHUNK = 16  # images sent at once
MOST_LOST = 8  # workers that are replaced, before the others do the work of those that die
# Seconds in which TensorFlow's thread takes the last batch. Were it in Python still when Python
# ends, it would die there, and the program wait for it for ever.
LAST_MOMENT = 0.1


class TurnOverError(Exception):
    """Another stream has begun, or the crew is closed."""


class Job(NamedTuple):
    """A batch to be augmented."""

    rows: NDArray[np.int64]  # [B] of the stored pixels
    seeds: list[bytes]  # [B] of 48 bytes


class Crew:
    """Augments batches of stored pixels, some batches ahead of who takes them.

    With a count of one there are no processes, and this one does the work. Memory: BATCHES_AHEAD
    batches of B × S × S × 3 bytes, and about 150 MB for each process.
    """

    def __init__(
        self,
        compose: str,
        pixels: Pixels,
        batch_size: int,
        count: int,
        report: Reporter,
    ) -> None:
        self.compose, self.pixels, self.batch_size = compose, pixels, batch_size
        self.report, self.closed = report, False
        self.images = allocate_pixels(BATCHES_AHEAD * batch_size, pixels.shape[1], "memory")
        stored, made = find_place(pixels), find_place(self.images)
        self.copies = stored is None  # squares must be copied to where a worker sees them
        self.serve = b""
        if made is None:  # macOS has no way to share it
            count = 1
        else:
            life = partial(serve_chunks, compose, stored, made, list(sys.path))
            self.serve = pickle_by_value(life)
        self.chunk_size = min(-(-batch_size // count), LARGEST_CHUNK)
        self.lock, self.turn, self.lost = threading.Lock(), 0, 0
        self.here: SeededCompose | None = None  # for the work that is done in this process
        self.workers = [Worker(self.serve) for _ in range(count)] if count > 1 else []
        atexit.register(self.close)

    def augment(self, jobs: Iterator[Job]) -> Iterator[NDArray[np.uint8]]:
        """Yields the images [B, S, S, 3] of each job in turn, valid until the next are asked for.

        A new stream ends the one before it, and so does closing.
        """
        turn, filled = self.open_turn(), deque[int]()
        with suppress(TurnOverError):
            for slot, job in zip(itertools.cycle(range(BATCHES_AHEAD)), jobs, strict=False):
                self.send(turn, slot, job)
                filled.append(slot)
                if len(filled) == BATCHES_AHEAD:
                    yield self.fetch(turn, filled.popleft())
            for slot in filled:
                yield self.fetch(turn, slot)

    def open_turn(self) -> int:
        """Ends the stream before, as only one has the memory; −1 is no turn: the crew has gone."""
        with self.lock:
            while any(worker.chunks for worker in self.workers):
                self.listen()
            self.turn += 1
            return -1 if self.closed else self.turn

    def check_turn(self, turn: int) -> None:
        """Raises TurnOverError if the stream has been ended."""
        if turn != self.turn:
            raise TurnOverError

    def send(self, turn: int, slot: int, job: Job) -> None:
        """Copies a job's images into memory and hands them out."""
        with self.lock:
            self.check_turn(turn)
            for first in range(0, self.batch_size, self.chunk_size):
                part = slice(first, first + self.chunk_size)
                place = slot * self.batch_size + first
                self.hand_out(Chunk(slot, place, job.rows[part].tolist(), job.seeds[part]))

    def hand_out(self, chunk: Chunk) -> None:
        """Gives a chunk to the worker that has least to do, or does it here if there is none."""
        if self.copies:
            self.images[chunk.span] = self.pixels[np.array(chunk.rows)]
        if self.workers:
            min(self.workers, key=lambda worker: len(worker.chunks)).take(chunk)
            return
        if self.here is None:
            self.here = SeededCompose(self.compose)
        squares = None if self.copies else np.asarray(self.pixels)
        self.check(augment_chunk(self.here, squares, self.images, chunk))

    def check(self, problem: str) -> None:
        """Raises PixelError if there was a problem with an image."""
        if problem:
            raise PixelError(f"augment.policy {self.compose} fails on an image ({problem})")

    def fetch(self, turn: int, slot: int) -> NDArray[np.uint8]:
        """Waits until a slot's images are made."""
        with self.lock:
            self.check_turn(turn)
            while any(chunk.slot == slot for worker in self.workers for chunk in worker.chunks):
                self.listen()
        first = slot * self.batch_size
        return self.images[first : first + self.batch_size]

    def listen(self) -> None:
        """Waits for answers; replaces a worker that is gone. Raises PixelError if one failed."""
        lines = wait([worker.line for worker in self.workers])
        for worker in [worker for worker in self.workers if worker.line in lines]:
            try:
                problem = worker.line.recv()
            except (EOFError, OSError):
                self.replace(worker)
                continue
            worker.chunks.popleft()
            self.check(problem)

    def replace(self, worker: Worker) -> None:
        """Starts another worker in the place of one that died, and hands out its chunks anew."""
        worker.stop()
        self.workers.remove(worker)
        self.lost += 1
        if self.lost <= MOST_LOST:
            self.workers.append(Worker(self.serve))
        fate = "another takes its place" if self.lost <= MOST_LOST else "it is not replaced"
        self.report.warn(
            f"a process that augments images ended by itself ({describe_end(worker.process)}); "
            f"{fate}, and its images are made again"
        )
        for chunk in worker.chunks:
            self.hand_out(chunk)

    def close(self) -> None:
        """Ends the streams and the processes."""
        atexit.unregister(self.close)
        with self.lock:
            self.turn, self.closed = self.turn + 1, True
            workers, self.workers = self.workers, []
            for worker in workers:
                worker.stop()
        time.sleep(LAST_MOMENT)


def find_place(pixels: Pixels) -> Place | None:
    """Where another process finds the same pixels, if it can."""
    path = share_path(pixels)
    return Place(path, pixels.shape) if path else None


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
