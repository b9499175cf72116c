import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from podium import crew as crew_room
from podium.cache import PixelError
from podium.composes import SeededCompose
from podium.crew import Crew, Job, count_cores
from podium.events import Reporter

RNG = np.random.default_rng(0)
BATCH, SIDE = 8, 24
PHOTOS = RNG.integers(0, 256, (10, SIDE, SIDE, 3), dtype=np.uint8)
SEEDS = [[RNG.bytes(48) for _ in range(BATCH)] for _ in range(12)]
ROWS = [RNG.integers(0, 10, BATCH) for _ in range(12)]


Hire = Callable[..., Crew]


@pytest.fixture
def report(tmp_path: Path) -> Reporter:
    return Reporter(tmp_path)


@pytest.fixture
def hire(report: Reporter) -> Iterator[Hire]:
    """Makes crews, and closes them at the end."""
    with ExitStack() as stack:

        def make(count: int, compose: str = "randaugment") -> Crew:
            return stack.enter_context(closing(Crew(compose, PHOTOS, BATCH, count, report)))

        yield make


def jobs() -> Iterator[Job]:
    return map(Job, ROWS, SEEDS)


def expected(compose: str = "randaugment") -> list[np.ndarray]:
    """What one Compose makes, image by image."""
    seeded = SeededCompose(compose)
    return [
        np.stack([seeded.augment(PHOTOS[row], seed) for row, seed in zip(*job, strict=True)])
        for job in jobs()
    ]


def assert_batches(made: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_core_takes_no_processes(hire: Hire):
    crew = hire(1)
    assert crew.workers == []
    assert_batches([images.copy() for images in crew.augment(jobs())], expected())


def test_a_worker_that_is_killed_is_replaced_and_the_stream_is_the_same(
    hire: Hire, report: Reporter
):
    crew, made = hire(2), []
    for number, images in enumerate(crew.augment(jobs())):
        made.append(images.copy())
        if number == 3:
            os.kill(crew.workers[0].process.pid, signal.SIGKILL)
    assert_batches(made, expected())
    assert len(crew.workers) == 2
    (warning,) = report.warnings
    assert "killed, perhaps for want of memory: a lower augment.workers takes less" in warning


def test_where_workers_die_again_and_again_their_work_is_done_without_them(
    hire: Hire, report: Reporter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(crew_room, "MOST_LOST", 0)
    crew, made = hire(2), []
    for number, images in enumerate(crew.augment(jobs())):
        made.append(images.copy())
        if number in {1, 4}:
            os.kill(crew.workers[0].process.pid, signal.SIGKILL)
    assert_batches(made, expected())
    assert crew.workers == []
    assert ["it is not replaced" in warning for warning in report.warnings] == [True, True]


def test_nothing_has_a_name_that_could_be_left_behind(hire: Hire):
    shared = Path("/dev/shm")  # noqa: S108
    before = set(os.listdir(shared)) if shared.is_dir() else set()
    crew = hire(2)
    next(crew.augment(jobs()))
    if shared.is_dir():
        assert set(os.listdir(shared)) == before


@pytest.mark.parametrize("count", [1, 2])
def test_a_compose_that_fails_on_an_image_says_so(
    hire: Hire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_failure.py").write_text(
        "import albumentations as A\n"
        "def fail(image, **options): raise ValueError('no such thing')\n"
        "def make(): return A.Compose([A.Lambda(image=fail, p=1.0)])\n"
    )
    crew = hire(count, "my_failure:make")
    message = "augment.policy my_failure:make fails on an image .*ValueError: no such thing"
    with pytest.raises(PixelError, match=message):
        next(crew.augment(jobs()))


def test_a_new_stream_ends_the_one_before_and_closing_ends_all(hire: Hire):
    crew = hire(2)
    first = crew.augment(jobs())
    next(first)
    assert_batches([images.copy() for images in crew.augment(jobs())], expected())
    assert list(first) == []
    crew.close()
    assert list(crew.augment(jobs())) == []


def test_a_crew_is_closed_while_another_thread_takes_from_it(hire: Hire):
    crew, rounds = hire(2), []

    def drain() -> None:
        while list(crew.augment(jobs())):
            rounds.append(1)

    thread = threading.Thread(target=drain)
    thread.start()
    crew.close()
    thread.join(30)
    assert not thread.is_alive()
    assert crew.workers == []


def test_the_images_ahead_are_as_many_as_there_is_memory_for(hire: Hire):
    taken = []

    def watched() -> Iterator[Job]:
        for number, job in enumerate(jobs()):
            taken.append(number)
            yield job

    crew = hire(1)
    list(islice(crew.augment(watched()), 2))
    assert taken == [0, 1, 2, 3]
    assert crew.images.nbytes == 3 * BATCH * SIDE * SIDE * 3


def test_the_cores_counted_are_those_that_may_be_used():
    assert 1 <= count_cores() <= os.cpu_count()
