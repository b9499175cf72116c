from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podium.budget import Budget, Course
from podium.events import Reporter
from podium.planner import FIRST_UPDATES, Planner

WHOLE = Course(10, 40, 10)


class Clock:
    """A clock that goes as it is told."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_planner(folder: Path, clock: Clock, seconds: float, folds: int = 2) -> Planner:
    planner = Planner(Budget(seconds, clock), folds, (2, 4), Reporter(folder))
    planner.begin_fold(0, WHOLE)
    return planner


def stretch(updates: int, seconds: float = 1.0, first: float = 5.0, started: float = 0.0) -> Any:
    """What a stretch of so many updates has measured."""
    times = [seconds] * max(updates - 2, 0)
    return SimpleNamespace(updates=updates, times=times, first=first, started=started)


def test_until_something_is_measured_all_fits(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 1.0)
    assert planner.plan((0, 0)) == WHOLE
    assert not planner.is_late(WHOLE, (0, 0))
    assert planner.fits_another()
    assert planner.plans == []


def test_the_first_plan_is_made_and_said_after_a_few_updates(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
):
    planner = make_planner(tmp_path, clock, 10_000.0)
    planner.time_updates("head", stretch(3), (3, 0))
    assert planner.plans == []
    for _ in range(2):
        planner.time_updates("head", stretch(FIRST_UPDATES + 2), (6, 0))
    (plan,) = planner.plans
    assert plan.startswith("2 folds × 5 epochs need ")
    assert plan in capsys.readouterr().out


def test_time_that_is_short_shortens_the_fold_in_hand_and_says_so(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 100.0)
    planner.time_updates("head", stretch(6), (6, 0))
    course = planner.plan((6, 0))
    assert course.updates < WHOLE.updates
    assert course.updates >= 6
    assert planner.is_late(WHOLE, (6, 0))
    assert not planner.is_late(course, (6, 0))
    assert "folds" in planner.plans[-1] or "fold" in planner.plans[-1]


def test_a_plan_is_said_anew_only_when_it_changes(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 100_000.0)
    planner.time_updates("all", stretch(6), (0, 6))
    for clock.time in (10.0, 20.0, 30.0):
        planner.plan((0, 6))
    assert len(planner.plans) == 1


def test_measured_costs_replace_guessed_ones(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 100_000.0)
    planner.time_updates("head", stretch(6, seconds=1.0), (6, 0))
    assert planner.pacer is not None
    assert planner.pacer.costs().all == pytest.approx(3.0)
    planner.end_stretch("all", stretch(10, seconds=1.5, started=7.0), started=3.0)
    planner.end_check(4.0)
    planner.end_course()
    clock.time += 9.0
    planner.end_fold()
    costs = planner.pacer.costs()
    assert costs.all == pytest.approx(1.5)
    assert costs.start == pytest.approx(9.0)
    assert (costs.check, costs.answer) == (4.0, 9.0)


def test_a_stretch_too_short_to_be_timed_is_taken_by_its_first_update(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 100.0)
    planner.end_stretch("all", stretch(1, first=6.0), started=0.0)
    assert planner.pacer is not None
    assert planner.pacer.costs().all == pytest.approx(6.0)


def test_another_fold_is_begun_only_if_it_fits(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 1000.0)
    planner.end_stretch("all", stretch(40), started=0.0)
    assert planner.fits_another()
    clock.time = 990.0
    assert not planner.fits_another()


def test_what_is_afforded_leaves_a_fifth_to_spare(tmp_path: Path, clock: Clock):
    planner = make_planner(tmp_path, clock, 1000.0)
    clock.time = 880.0
    assert planner.affords(99.0)
    assert not planner.affords(100.1)
