import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from podium.members import FLOOR, fill_gaps, find_told, squash, sum_weighted, take_logits
from podium.task import Task, encode_targets

pytestmark = pytest.mark.either


def draw(seed, *shape):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


@given(st.integers(0, 2**32), st.booleans())
def test_logits_and_back_is_the_same(seed, exclusive):
    probs = draw(seed, 6, 4)
    probs = probs if exclusive else probs[:, :2]
    np.testing.assert_allclose(squash(take_logits(probs, exclusive), exclusive), probs, atol=2e-7)


def test_the_way_back_is_a_softmax_or_a_sigmoid_of_any_numbers():
    logits = np.array([[1000.0, 0.0, -3.0], [-1000.0, -1000.0, -1001.0]])
    np.testing.assert_allclose(squash(logits, True), softmax(logits, axis=1))
    np.testing.assert_allclose(squash(logits, False), expit(logits))


def test_zero_and_one_have_finite_logits():
    logits = take_logits(np.array([[0.0, 1.0]], np.float32), False)
    assert np.isfinite(logits).all()
    assert logits[0, 0] == pytest.approx(-logits[0, 1])
    assert take_logits(np.array([[0.0, 1.0]]), True)[0, 0] == pytest.approx(np.log(FLOOR))


def test_members_without_a_number_say_what_the_others_say():
    members = draw(0, 3, 5, 2)
    assert fill_gaps(members) is members
    members[1, 2], members[:, 4] = np.nan, np.inf
    filled = fill_gaps(members)
    np.testing.assert_allclose(filled[1, 2], (members[0, 2] + members[2, 2]) / 2)
    np.testing.assert_array_equal(filled[:, 4], 0.5)
    np.testing.assert_array_equal(filled[:, :2], members[:, :2])


def test_a_sum_is_weighted():
    members = draw(1, 3, 5, 2)
    expected = np.tensordot([0.5, 0.0, 2.0], members, 1)
    np.testing.assert_allclose(sum_weighted([0.5, 0.0, 2.0], members), expected)


def test_what_was_told_of_the_truth_is_never_nothing():
    task, members = Task("label", ("a", "b", "c")), draw(2, 2, 3, 3)
    members[0, 0] = 0, 1, 0
    targets = encode_targets([0, 1, 2], 3)
    told = find_told(task, targets, members)
    np.testing.assert_allclose(told[1], np.diag(members[1]))
    assert told[0, 0] == FLOOR
    loose = find_told(task._replace(exclusive=False), targets, members)
    assert loose.shape == (2, 9)
    assert loose[1, 0] == members[1, 0, 0]
    assert loose[1, 1] == pytest.approx(1 - members[1, 0, 1])
