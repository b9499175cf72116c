import numpy as np
import pytest

from podium.blends import FITS, Blend
from podium.members import squash
from podium.task import Task, encode_targets
from workbench.member_facts import bound_weights, correlate_errors, describe_members, share_out

TASK = Task("label", ("a", "b", "c"))
N = 300
FOLDS = np.arange(N) % 5


def plant(*signals, seed=0, sharp=1.0, loose=False):
    """Members with noise of their own; the last is sharpened."""
    dice = np.random.default_rng(seed)
    targets = encode_targets(dice.integers(0, 3, N), 3)
    logits = np.array([signal * targets + dice.normal(0, 1, targets.shape) for signal in signals])
    logits[-1] *= sharp
    members = np.array([squash(one, not loose) for one in logits], np.float32)
    return targets, members


def describe(targets, members, name):
    fit = FITS[name]
    return describe_members(TASK, targets, members, FOLDS, (fit, fit(TASK, targets, members)))


def test_a_member_that_harms_is_to_be_dropped_and_one_that_helps_is_not():
    targets, members = plant(3.0, 3.0, 0.2, sharp=9.0)
    one, _, harmful = describe(targets, members, "uniform")
    assert harmful.without.adopted
    assert harmful.without.n == N
    assert one.without.high < 0
    assert harmful.weight == harmful.low == harmful.high == pytest.approx(1 / 3)
    assert harmful.score.value < 0.5 < one.score.value
    assert 0.1 < harmful.by_accuracy < one.by_accuracy


def test_one_of_twins_is_missed_by_none():
    targets, members = plant(2.0, 1.0)
    twins = np.concatenate([members, members[:1]])
    one, _, other = describe(targets, twins, "best single")
    assert sorted([one.weight, other.weight]) == [0, 1]
    assert one.without.difference == other.without.difference == 0


def test_bounds_of_weights_hold_the_weights_and_shrink_with_certainty():
    targets, members = plant(1.2, 1.0)
    fit = FITS["log-loss weights"]
    low, high = bound_weights(TASK, targets, members, fit)
    weights = share_out(fit(TASK, targets, members))
    assert (low < weights).all()
    assert (weights < high).all()
    assert low.min() >= 0
    sure = bound_weights(TASK, *plant(6.0, 0.1), fit)
    assert (sure[1] - sure[0]).max() < (high - low).max() / 2


def test_one_member_has_nothing_to_be_left_out_of():
    targets, members = plant(1.0)
    (fact,) = describe(targets, members, "uniform")
    assert fact.without is None


def test_shares_sum_to_one_whatever_the_exponents():
    assert share_out(Blend("geometric", (1.0, 3.0))).tolist() == [0.25, 0.75]
    assert share_out(Blend("geometric", (0.0, 0.0))).tolist() == [0, 0]


@pytest.mark.parametrize("loose", [True, False])
def test_twins_share_their_errors_and_strangers_do_not(loose):
    task = TASK._replace(exclusive=not loose)
    targets, members = plant(1.0, 1.0, loose=loose)
    found = correlate_errors(task, targets, np.concatenate([members, members[:1]]))
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_array_equal(found, found.T)
    assert found[0, 2] == pytest.approx(1)
    assert abs(found[0, 1]) < 0.2 if not loose else found[0, 1] < 0.9


def test_errors_that_do_not_vary_are_shared_with_nobody():
    targets, members = plant(1.0)
    flat = np.full((1, N, 3), 1 / 3, np.float32)
    found = correlate_errors(TASK, targets, np.concatenate([members, flat]))
    assert found[0, 1] == 0
    assert found[1, 1] == 1
