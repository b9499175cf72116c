"""Curves as they are kept and as they are thinned for the screen."""

import json
import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workbench.dashboard.series import (
    CHUNK,
    MOST_POINTS,
    SCHEMA,
    Curve,
    Point,
    add_points,
    read_curves,
    read_point,
    round_figures,
    show_curve,
    thin,
)


def open_table() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    return db


def make_point(epoch: int, fold: int = 0, time: float = 0.0, **figures: float | None) -> Point:
    return Point(fold, epoch, epoch * 10, time or float(epoch), figures)


@given(order=st.permutations([0, 1, 2, 511, 512, 513, 1024, 5000]), cut=st.integers(0, 8))
def test_points_in_any_order_lie_in_the_order_of_their_epochs(order: list[int], cut: int):
    db = open_table()
    for part in (order[:cut], order[cut:]):
        add_points(db, 1, [make_point(epoch, loss=epoch / 2) for epoch in part], 1)
    (curve,) = read_curves(db, 1)
    shown = show_curve("run", curve)
    assert shown["epoch"] == sorted(order)
    assert shown["updates"] == [10.0 * epoch for epoch in sorted(order)]
    assert shown["figures"]["loss"] == [epoch / 2 for epoch in sorted(order)]
    assert (shown["of"], shown["thinned"]) == (8, False)


def test_figures_may_come_and_go_and_what_is_unknown_is_null():
    db = open_table()
    add_points(db, 1, [make_point(1, a=1.0), make_point(2, b=2.0)], 1)
    add_points(db, 1, [make_point(3, c=None), make_point(CHUNK, b=4.0)], 2)
    shown = show_curve("run", read_curves(db, 1)[0])
    nothing = [None] * 4
    assert shown["figures"] == {
        "a": [1.0, None, None, None],
        "b": [None, 2.0, None, 4.0],
        "c": nothing,
    }


def test_only_folds_that_changed_are_read_and_those_whole():
    db = open_table()
    add_points(db, 1, [make_point(epoch, fold=0, a=1) for epoch in range(600)], 1)
    add_points(db, 1, [make_point(1, fold=1, a=1)], 2)
    add_points(db, 2, [make_point(1, a=1)], 9)
    assert [len(curve.block) for curve in read_curves(db, 1)] == [600, 1]
    assert [curve.fold for curve in read_curves(db, 1, after=1)] == [1]
    add_points(db, 1, [make_point(600, fold=0, a=1)], 3)
    assert [len(curve.block) for curve in read_curves(db, 1, after=2)] == [601]


@given(
    block=arrays.arrays(
        np.float64,
        st.tuples(st.integers(MOST_POINTS - 2, 4500), st.just(5)),
        elements=st.sampled_from([0.0, 1.0, -1.0, 7.5, -7.5, np.nan]),
    )
)
def test_a_thinned_curve_is_short_and_loses_no_peak_and_no_end(block: np.ndarray):
    block[:, 0] = np.arange(len(block))
    thinned = thin(block)
    assert len(thinned) <= MOST_POINTS
    for column in (3, 4):
        if np.isfinite(block[:, column]).any():
            assert np.nanmax(thinned[:, column]) == np.nanmax(block[:, column])
            assert np.nanmin(thinned[:, column]) == np.nanmin(block[:, column])
    assert np.array_equal(thinned[[0, -1]], block[[0, -1]], equal_nan=True)
    assert (np.diff(thinned[:, 0]) >= 0).all()


def test_a_spike_stays_where_it_was_and_a_slope_has_no_teeth():
    block = np.zeros((50_000, 4))
    block[:, 0] = np.arange(50_000)
    block[:, 3] = -block[:, 0]
    block[31_313, 3] = 99.0
    shown = show_curve("run", Curve(0, ("loss",), block))
    spike = shown["figures"]["loss"].index(99.0)
    assert abs(shown["epoch"][spike] - 31_313) <= 101  # a bucket has 101 epochs
    assert (shown["of"], shown["thinned"]) == (50_000, True)
    slope = [value for value in shown["figures"]["loss"] if value != 99.0]
    assert slope == sorted(slope, reverse=True)
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize(
    "odd", [{"epoch": "1"}, {"epoch": True}, {"epoch": -1}, {"fold": 10**12}, {"fold": None}]
)
def test_an_epoch_without_a_place_is_no_point(odd: dict[str, object]):
    event = {"fold": 0, "epoch": 1, "time": 1.0, "updates": "x", "a/b": 1, "c/d": [], "e": 2}
    assert read_point(event) == Point(0, 1, None, 1.0, {"a/b": 1})
    assert read_point(event | odd) is None


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=30))
def test_a_figure_keeps_six_digits_and_what_is_no_number_stays_none(figures: list[float]):
    rounded = round_figures(np.array([figures])).ravel().tolist()
    for figure, shown in zip(figures, rounded, strict=True):
        assert shown == pytest.approx(figure, rel=1e-5, abs=0.0, nan_ok=True)
