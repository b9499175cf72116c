import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from podium.metrics import count_confusions, log_loss, score_probs, wilson_interval

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 200)
PROBS = RNG.dirichlet(np.ones(4), 200).astype(np.float32)


def test_the_score_agrees_with_scikit_learn():
    score = score_probs(LABELS, PROBS)
    assert score.n == 200
    assert score.accuracy == pytest.approx(reference.accuracy_score(LABELS, PROBS.argmax(1)))
    double = PROBS.astype(np.float64)
    normed = double / double.sum(axis=1, keepdims=True)
    expected = reference.log_loss(LABELS, normed, labels=range(4))
    assert score.log_loss == pytest.approx(expected, rel=1e-5)


def test_a_certain_mistake_costs_much_but_not_everything():
    sure = np.array([[1.0, 0.0]], np.float32)
    assert log_loss(np.array([1]), sure) == pytest.approx(-np.log(1e-7))


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="cannot score 0 predictions against 0 labels"):
        score_probs(LABELS[:0], PROBS[:0])
    with pytest.raises(ValueError, match="cannot score 200 predictions against 3 labels"):
        score_probs(LABELS[:3], PROBS)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys(counts: tuple[int, int]):
    right, n = counts
    low, high = wilson_interval(right, n)
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


def test_confusions_agree_with_scikit_learn():
    predicted = PROBS.argmax(axis=1)
    expected = reference.confusion_matrix(LABELS, predicted, labels=range(5))
    np.testing.assert_array_equal(count_confusions(LABELS, predicted, 5), expected)
