import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from podium.evidence import (
    DOUBT,
    compare_answers,
    count_changes,
    find_paired_error,
    judge_draws,
)
from podium.metrics import METRICS, bootstrap_scores, score_answers
from podium.task import Task, encode_targets

SHARES = np.array([0.5, 0.3, 0.15, 0.05])


def ask(metric):
    return Task(METRICS[metric].fits[0], tuple("abcd"), True, metric)


def answer_noisily(dice, targets, metric, signal=2.0):
    """Two answers whose errors are shared in part and whose quality is the same."""
    base = dice.normal(0, 1, targets.shape) + signal * targets
    for _ in range(2):
        odds = np.exp(base + dice.normal(0, 0.7, targets.shape))
        probs = odds / odds.sum(axis=1, keepdims=True)
        decided = METRICS[metric].takes == "decisions"
        yield encode_targets(probs.argmax(axis=1), 4).astype(float) if decided else probs


@pytest.mark.parametrize("metric", METRICS)
def test_of_answers_that_are_no_better_one_in_twenty_is_adopted(metric):
    """120 times at 5 %: 13 or more adoptions would have odds of one in a hundred."""
    adopted, dice = 0, np.random.default_rng(7)
    for _ in range(120):
        targets = encode_targets(dice.choice(4, 200, p=SHARES), 4)
        plain, other = answer_noisily(dice, targets, metric)
        adopted += compare_answers(ask(metric), targets, plain, other, draws=200).adopted
    assert adopted <= 12


@pytest.mark.parametrize("metric", METRICS)
def test_better_answers_are_adopted_and_worse_ones_are_not(metric):
    dice = np.random.default_rng(1)
    targets = encode_targets(dice.choice(4, 600, p=SHARES), 4)
    plain, _ = answer_noisily(dice, targets, metric)
    better, _ = answer_noisily(dice, targets, metric, signal=4.0)
    gain = compare_answers(ask(metric), targets, plain, better)
    assert gain.adopted
    assert 0 < gain.low < gain.difference < gain.high
    assert gain.p < DOUBT
    loss = compare_answers(ask(metric), targets, better, plain)
    assert not loss.adopted
    assert loss.high < 0
    assert loss.difference == pytest.approx(-gain.difference)


def test_draws_are_paired():
    """Of two answers that differ by a constant every draw says the same."""
    targets = encode_targets([0, 1, 0, 1, 1], 2)
    plain = np.array([[0.6, 0.4]] * 5)
    task = Task("probability", ("a", "b"), metric="pf1")
    one = bootstrap_scores(task, targets, plain, seed=3)
    np.testing.assert_array_equal(one, bootstrap_scores(task, targets, plain, seed=3))
    sharper = np.where(targets, 0.9, 0.1)
    duller = np.where(targets, 0.45, 0.55)
    task = task._replace(metric="log_loss")
    gain = compare_answers(task, targets, duller, sharper)
    assert gain.low == pytest.approx(np.log(2))
    assert gain.high == pytest.approx(np.log(2))


@given(st.integers(0, 40), st.integers(0, 40))
def test_accuracies_are_compared_by_the_exact_test(fixed, broken):
    gain = count_changes(100, fixed, broken)
    if fixed + broken:
        expected = binomtest(fixed, fixed + broken, alternative="greater")
        assert gain.p == pytest.approx(expected.pvalue)
        low = expected.proportion_ci(0.95, "exact").low
        assert gain.low == pytest.approx((fixed + broken) * (2 * low - 1) / 100, abs=1e-9)
    assert gain.adopted == (gain.p < DOUBT) == (gain.low > 0)
    mirrored = count_changes(100, broken, fixed)
    assert gain.high == pytest.approx(-mirrored.low)


def test_changed_answers_are_counted_as_fixed_or_broken():
    targets = encode_targets([0] * 10, 2)
    plain = encode_targets([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], 2).astype(float)
    other = encode_targets([0, 0, 0, 1, 0, 0, 0, 0, 0, 1], 2).astype(float)
    gain = compare_answers(Task("label", ("a", "b")), targets, plain, other)
    assert gain == count_changes(10, fixed=5, broken=1)


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_answers_gain_nothing(metric):
    dice = np.random.default_rng(2)
    targets = encode_targets(dice.choice(4, 50, p=SHARES), 4)
    plain, _ = answer_noisily(dice, targets, metric)
    gain = compare_answers(ask(metric), targets, plain, plain.copy())
    assert gain == (50, 0.0, 0.0, 0.0, 1.0, False)


def test_where_the_metric_is_not_defined_nothing_is_adopted():
    targets, task = encode_targets([0, 0], 2), Task("probability", ("a", "b"), metric="auc")
    gain = compare_answers(task, targets, np.eye(2), 1 - np.eye(2))
    assert not gain.adopted
    assert np.isnan([gain.difference, gain.low, gain.high]).all()
    assert gain.p == 1


def test_draws_without_a_score_are_left_out():
    gain = judge_draws(9, 0.5, np.array([np.nan, 0.4, 0.5, 0.6, np.inf]))
    assert gain.adopted
    assert 0.4 <= gain.low < gain.high <= 0.6


def test_what_has_no_score_cannot_be_compared():
    targets = encode_targets([0, 1], 2)
    with pytest.raises(ValueError, match="cannot score 1 predictions"):
        compare_answers(Task("label", ("a", "b")), targets, np.eye(2), np.eye(2)[:1])


def test_a_gain_is_the_difference_of_the_scores():
    dice = np.random.default_rng(5)
    targets = encode_targets(dice.choice(4, 80, p=SHARES), 4)
    for metric, row in METRICS.items():
        plain, other = answer_noisily(dice, targets, metric)
        one, two = (score_answers(ask(metric), targets, answers) for answers in (plain, other))
        expected = two - one if row.higher_is_better else one - two
        gain = compare_answers(ask(metric), targets, plain, other, draws=50)
        assert gain.difference == pytest.approx(expected)


def test_the_error_of_a_gain_counts_only_the_images_that_changed_sides():
    """Of accuracy it is known: √(fixed + broken − (fixed − broken)² / n) / n."""
    targets = encode_targets([0] * 400, 2)
    plain, candidate = (encode_targets([0] * 400, 2).astype(float) for _ in range(2))
    plain[:30], candidate[20:40] = [0, 1], [0, 1]  # 20 fixed, 10 broken, 10 wrong in both
    error = find_paired_error(Task("label", ("a", "b")), targets, plain, candidate)
    assert error == pytest.approx(np.sqrt(30 - 10**2 / 400) / 400, rel=0.1)
    assert find_paired_error(Task("label", ("a", "b")), targets, plain, plain) == 0


def test_a_gain_without_a_score_has_no_error():
    targets, task = encode_targets([1, 1], 2), Task("probability", ("a", "b"), metric="auc")
    assert np.isnan(find_paired_error(task, targets, np.eye(2), 1 - np.eye(2)))
