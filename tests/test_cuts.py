from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from podium.cuts import fit_cuts, list_places, move_cuts, score_cuts
from podium.task import encode_targets


def measure_kappa(truth, expected, cuts):
    return cohen_kappa_score(
        truth,
        np.searchsorted(cuts, expected, side="right"),
        weights="quadratic",
        labels=range(len(cuts) + 1),
    )


@given(st.integers(0, 2**32), st.integers(2, 5))
def test_kappa_of_cuts_is_scikit_learns(seed, classes):
    dice = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1], dice.integers(0, classes, 30)])
    expected = np.clip(truth + dice.normal(0, 1, 32), 0, classes - 1).round(1)
    places = list_places(truth, expected, classes)
    chosen = np.sort(dice.integers(0, len(places.cuts), classes - 1))
    kappa = measure_kappa(truth, expected, places.cuts[chosen])
    assert score_cuts(places, truth, chosen)[0] == pytest.approx(kappa, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_the_search_comes_close_to_the_best_of_all_cuts(seed):
    dice = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1, 2], dice.integers(0, 3, 17)])
    expected = np.clip(truth * 0.5 + dice.normal(0.5, 0.3, 20), 0, 2)
    cuts = fit_cuts(encode_targets(truth, 3), expected)
    places = list_places(truth, expected, 3)
    all_cuts = np.array(list(combinations_with_replacement(range(len(places.cuts)), 2))).T
    best = score_cuts(places, truth, all_cuts).max()
    assert measure_kappa(truth, expected, np.array(cuts)) >= best - 0.02


def test_the_search_ends_where_no_cut_alone_can_be_moved_to_gain():
    for seed in range(20):
        dice = np.random.default_rng(seed)
        truth = dice.integers(0, 5, 200)
        expected = 1.5 + 0.2 * truth + dice.normal(0, 0.2, 200)
        places = list_places(truth, expected, 5)
        end = move_cuts(places, truth, np.array([0, 1, 2, 3]))
        np.testing.assert_array_equal(move_cuts(places, truth, end), end)


def test_cuts_between_separate_grades_lie_halfway():
    expected = np.array([0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    cuts = fit_cuts(encode_targets([0, 0, 1, 1, 2, 2], 3), expected)
    assert cuts == pytest.approx((0.5, 0.9))


def test_cuts_rise_and_are_finite_also_where_grades_are_missing_or_all_alike():
    for labels, expected in (([0, 0, 4, 4], [0.0, 1, 2, 3]), ([2, 2, 2], [1.0, 1, 1])):
        cuts = fit_cuts(encode_targets(labels, 5), np.array(expected))
        assert len(cuts) == 4
        assert np.isfinite(cuts).all()
        assert (np.diff(cuts) >= 0).all()
        answered = np.searchsorted(cuts, expected, side="right")
        assert answered.tolist() == labels


def test_many_images_give_a_bounded_number_of_places():
    expected = np.random.default_rng(0).random(9000)
    assert len(list_places((expected > 0.5).astype(int), expected, 2).cuts) == 2002
