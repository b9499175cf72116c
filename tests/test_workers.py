import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from podium.cache import allocate_pixels, share_path
from podium.composes import SeededCompose
from podium.workers import Chunk, Place, Worker, augment_chunk, pickle_by_value, serve_chunks

RNG = np.random.default_rng(0)
SIDE = 24
SEEDS = [RNG.bytes(48) for _ in range(4)]


def allocate(count: int) -> tuple[np.ndarray, Place]:
    squares = allocate_pixels(count, SIDE, "memory")
    squares[:] = RNG.integers(0, 256, squares.shape)
    return squares, Place(share_path(squares), squares.shape)


def start(compose: str, stored: Place | None, made: Place) -> Worker:
    return Worker(pickle_by_value(partial(serve_chunks, compose, stored, made, list(sys.path))))


@pytest.fixture
def memory() -> tuple[np.ndarray, Place]:
    return allocate(8)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_worker_makes_what_is_made_here_and_leaves_stored_squares_as_they_are(mapped: bool):
    (squares, stored), (images, made) = allocate(6), allocate(8)
    before, chunk = squares.copy(), Chunk(0, 2, [5, 0, 3, 3], SEEDS)
    if not mapped:
        images[chunk.span] = squares[chunk.rows]
    worker = start("randaugment", stored if mapped else None, made)
    worker.take(chunk)
    assert worker.line.recv() == ""
    seeded = SeededCompose("randaugment")
    for place, row, seed in zip(range(2, 6), chunk.rows, SEEDS, strict=True):
        np.testing.assert_array_equal(images[place], seeded.augment(before[row], seed))
    np.testing.assert_array_equal(squares, before)
    worker.stop()
    assert worker.process.returncode == 0


def test_what_goes_wrong_with_an_image_is_answered(memory: tuple[np.ndarray, Place]):
    images, _ = memory
    seeded = SeededCompose("light")
    assert augment_chunk(seeded, images, images, Chunk(0, 0, [1], SEEDS[:1])) == ""
    assert "IndexError" in augment_chunk(seeded, images, images, Chunk(0, 0, [99], SEEDS[:1]))


def test_the_end_of_the_run_ends_a_worker_however_it_comes(memory: tuple[np.ndarray, Place]):
    worker = start("light", None, memory[1])
    os.close(worker.line.fileno())  # what the system does for a process that is killed
    worker.line._handle = None
    assert worker.process.wait(30) == 0


def test_a_worker_loads_neither_this_program_nor_a_library_of_the_accelerator(
    memory: tuple[np.ndarray, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_spy.py").write_text(
        "import sys, pathlib, albumentations as A\n"
        "def spy():\n"
        f"    pathlib.Path({str(tmp_path / 'loaded.txt')!r}).write_text(' '.join(sys.modules))\n"
        "    return A.Compose([A.HorizontalFlip(p=1.0)])\n"
    )
    images, made = memory
    before, worker = images.copy(), start("my_spy:spy", None, made)
    worker.take(Chunk(0, 0, [0, 1, 2, 3], SEEDS))
    assert worker.line.recv() == ""
    np.testing.assert_array_equal(images[:4], before[:4, :, ::-1])
    roots = {name.partition(".")[0] for name in (tmp_path / "loaded.txt").read_text().split()}
    assert "cv2" in roots
    assert not roots & {"tensorflow", "keras", "jax", "podium", "podium_script"}
    worker.stop()
