import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from podium.learning import ScheduleConfig
from podium.schedule import (
    CYCLE_ENDS,
    FINAL_SHARE,
    PLATEAU_FACTOR,
    PLATEAU_PATIENCE,
    Schedule,
    make_schedule,
)

NAMES = ("cosine", "constant", "plateau", "one-cycle")
ENDS = {"cosine": FINAL_SHARE, "one-cycle": CYCLE_ENDS[1], "constant": 1.0, "plateau": 1.0}


def plan(name: str, peak: float = 1.0, warmup: float = 0.1, updates: int = 100) -> Schedule:
    return make_schedule(ScheduleConfig(name, warmup=warmup), peak, updates)


plans = st.builds(
    plan,
    st.sampled_from(NAMES),
    st.floats(1e-6, 10.0),
    st.floats(0.0, 0.9),
    st.integers(1, 5000),
)


def steepest(schedule: Schedule) -> float:
    """The most that one update may change the rate, with room for rounding.

    The slope is divided by the warm-up first: of a warm-up that is next to nothing, and an end that
    is reached, the other order makes infinity times zero.
    """
    turn = np.pi / 2 * schedule.slope
    down = turn / (1 - schedule.warmup) if schedule.name in ("cosine", "one-cycle") else 0.0
    up = turn / schedule.warmup if schedule.warmup else 0.0
    return schedule.peak * (max(up, down) + 1e-9)


def test_it_climbs_linearly_peaks_and_falls_to_its_final_share():
    curve = plan("cosine").rates(0, 100)
    np.testing.assert_allclose(curve[:10], (np.arange(10) + 0.5) / 10)
    assert (np.diff(curve[10:]) < 0).all()
    assert curve[10] == pytest.approx(1.0, abs=1e-3)
    assert curve[-1] == pytest.approx(FINAL_SHARE, abs=1e-3)


def test_halfway_down_it_is_halfway_between_peak_and_end():
    middle = plan("cosine", warmup=0.2).rates(59, 2).mean()
    assert middle == pytest.approx((1 + FINAL_SHARE) / 2)


def test_one_cycle_begins_low_and_ends_with_almost_nothing():
    curve = plan("one-cycle", warmup=0.4, updates=1000).rates(0, 1000)
    assert curve[0] == pytest.approx(0.04, abs=1e-4)
    assert curve.argmax() in (399, 400)
    assert (np.diff(curve[:399]) > 0).all()
    assert (np.diff(curve[401:]) < 0).all()
    assert curve[-1] < 1e-5


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_a_level_rate_climbs_and_stays(name: str):
    curve = plan(name, peak=0.5).rates(0, 100)
    assert (np.diff(curve[:10]) > 0).all()
    np.testing.assert_array_equal(curve[10:], 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_rate_does_not_depend_on_how_many_updates_share_the_course(name: str):
    means = [plan(name, updates=updates).rates(0, updates).mean() for updates in (20, 2000)]
    assert means[0] == pytest.approx(means[1], rel=5e-3)


@given(plans)
def test_every_rate_lies_above_zero_and_not_above_the_peak(schedule: Schedule):
    curve = schedule.rates(0, round(1 / schedule.slope) + 5)
    assert curve.min() > 0
    assert curve.max() <= schedule.peak * (1 + 1e-12)


@given(plans)
def test_it_never_jumps_and_after_its_last_update_it_is_at_its_final_share(schedule: Schedule):
    updates = round(1 / schedule.slope)
    curve = schedule.rates(0, updates + 1)
    assert np.abs(np.diff(curve)).max() <= steepest(schedule)
    assert curve[-1] == pytest.approx(schedule.peak * ENDS[schedule.name], rel=1e-9)


@given(plans, st.integers(0, 6000), st.integers(1, 6000))
@example(plan("cosine", warmup=5e-324, updates=1), 1, 1)
def test_where_the_end_moves_the_rate_stays_and_the_rest_of_the_course_follows(
    schedule: Schedule, update: int, left: int
):
    moved = schedule.shorten(update, left)
    assert moved.rate(update) == pytest.approx(schedule.rate(update), abs=1e-12)
    curve = moved.rates(update, left + 1)
    assert np.abs(np.diff(curve)).max() <= steepest(moved)
    assert curve[-1] == pytest.approx(schedule.peak * ENDS[schedule.name], rel=1e-9)
    assert curve.min() > 0
    assert curve.max() <= schedule.peak * (1 + 1e-12)


@given(plans, st.data())
def test_an_end_that_is_set_where_it_was_changes_nothing(schedule: Schedule, data: st.DataObject):
    updates = round(1 / schedule.slope)
    update = data.draw(st.integers(0, updates - 1))
    again = schedule.shorten(update, updates - update)
    expected = schedule.rates(update, updates - update)
    np.testing.assert_allclose(again.rates(update, updates - update), expected, atol=1e-12)


@given(plans, st.integers(0, 5000), st.integers(1, 500), st.lists(st.floats(0, 9), max_size=9))
def test_a_round_trip_through_json_changes_no_rate(
    schedule: Schedule, update: int, left: int, losses: list[float]
):
    schedule = schedule.shorten(update, left).scaled(0.5)
    for loss in losses:
        schedule = schedule.check(loss)
    again = Schedule(**json.loads(json.dumps(schedule._asdict(), allow_nan=False)))
    assert again == schedule
    np.testing.assert_array_equal(again.rates(update, 50), schedule.rates(update, 50))


def test_a_course_without_updates_left_still_has_one():
    assert plan("cosine").shorten(50, 0) == plan("cosine").shorten(50, 1)


def test_one_update_and_many_have_the_same_rate():
    schedule = plan("one-cycle")
    assert schedule.rates(7, 20).tolist() == [schedule.rate(7 + place) for place in range(20)]


@given(plans, st.floats(0.01, 1.0))
def test_a_rollback_lowers_every_rate_to_its_share(schedule: Schedule, share: float):
    lower = schedule.scaled(share).scaled(share)
    np.testing.assert_allclose(lower.rates(0, 50), share**2 * schedule.rates(0, 50))


def test_a_plateau_falls_once_validation_has_stalled_for_so_many_checks():
    schedule = plan("plateau", warmup=0.0)
    rates = []
    for loss in [3.0, 2.0, 2.0, 2.5, float("nan"), 2.1, 1.9, 2.0, 2.0]:
        schedule = schedule.check(loss)
        rates.append(schedule.rate(0))
    assert PLATEAU_PATIENCE == 3
    assert rates == pytest.approx([1.0] * 4 + [PLATEAU_FACTOR] * 5)
    assert schedule.check(2.0).rate(0) == pytest.approx(PLATEAU_FACTOR**2)
    assert schedule.best == 1.9


@pytest.mark.parametrize("name", ["cosine", "constant", "one-cycle"])
def test_no_other_course_looks_at_validation(name: str):
    schedule = plan(name)
    for _ in range(9):
        assert schedule.check(2.0) is schedule
