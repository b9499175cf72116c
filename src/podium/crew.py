"""Crew: the workers of one fold, on all cores

Threads give albumentations 1.6 cores of two, as Python runs in one of them at a time, so this
takes processes. One that dies is replaced, and its images are made again from the same seeds:
what comes out does not depend on how many there are, or on what becomes of them.

Shapes: B batch, S side of the stored square.
"""

import itertools
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import wait
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.cache import PixelError, Pixels
from podium.composes import SeededCompose
from podium.events import Reporter
from podium.workers import (
    Chunk,
    Worker,
    augment_in_place,
    describe_end,
    map_images,
    open_memory,
    pickle_by_value,
    serve_chunks,
)

BATCHES_AHEAD = 3  # batches in memory: two in work while one is taken
LARGEST_CHUNK = 16  # images sent at once
MOST_LOST = 8  # workers that are replaced, before the others do the work of those that die


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
        self.report = report
        self.chunk_size = min(-(-batch_size // count), LARGEST_CHUNK)
        shape = (BATCHES_AHEAD * batch_size, *pixels.shape[1:])
        self.memory = open_memory(math.prod(shape))
        self.images = map_images(self.memory.fileno(), shape)  # [BATCHES_AHEAD × B, S, S, 3]
        there = partial(serve_chunks, compose, self.memory.fileno(), shape, list(sys.path))
        self.serve = pickle_by_value(there)
        self.lock, self.turn, self.lost = threading.Lock(), 0, 0
        self.here: SeededCompose | None = None  # for the work that is done in this process
        self.workers = [self.start() for _ in range(count)] if count > 1 else []

    def start(self) -> Worker:
        """Starts one process; it takes a second before it works, which nobody waits for."""
        return Worker(self.memory.fileno(), self.serve)

    def augment(self, jobs: Iterator[Job]) -> Iterator[NDArray[np.uint8]]:
        """Yields the images [B, S, S, 3] of each job in turn, valid until the next are asked for.

        A new stream ends the one before it, with a PixelError to who still takes from that.
        """
        turn, filled = self.open_turn(), deque[int]()
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
            return -1 if self.memory.closed else self.turn

    def check_turn(self, turn: int) -> None:
        """Raises PixelError if the stream has been ended."""
        if turn != self.turn:
            raise PixelError(
                "these augmented batches were ended: by a new stream, or the fold's end"
            )

    def send(self, turn: int, slot: int, job: Job) -> None:
        """Copies a job's images into memory and hands them out."""
        with self.lock:
            self.check_turn(turn)
            for first in range(0, self.batch_size, self.chunk_size):
                part = slice(first, first + self.chunk_size)
                place = slot * self.batch_size + first
                self.hand_out(Chunk(slot, place, job.rows[part], job.seeds[part]))

    def hand_out(self, chunk: Chunk) -> None:
        """Gives a chunk to the worker that has least to do, or does it here if there is none."""
        self.images[chunk.span] = self.pixels[chunk.rows]
        if self.workers:
            min(self.workers, key=lambda worker: len(worker.chunks)).take(chunk)
            return
        if self.here is None:
            self.here = SeededCompose(self.compose)
        self.check(augment_in_place(self.here, self.images, chunk.start, chunk.seeds))

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
            self.workers.append(self.start())
        fate = "another takes its place" if self.lost <= MOST_LOST else "it is not replaced"
        self.report.warn(
            f"a process that augments images ended by itself ({describe_end(worker.process)}); "
            f"{fate}, and its images are made again"
        )
        for chunk in worker.chunks:
            self.hand_out(chunk)

    def close(self) -> None:
        """Ends the streams and the processes."""
        with self.lock:
            self.turn += 1
            workers, self.workers = self.workers, []
            for worker in workers:
                worker.stop()
            self.memory.close()


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
