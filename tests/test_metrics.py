from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from podium import metrics as scales
from podium.metrics import (
    METRICS,
    bootstrap_scores,
    count_confusions,
    draw_weights,
    find_interval,
    name_one_sided,
    score_answers,
    score_predictions,
    wilson_interval,
)
from podium.task import MetricName, Task, encode_targets

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 200)
PROBS = RNG.dirichlet(np.ones(4), 200).astype(np.float32)
NAMES = get_args(MetricName)
DECIDING = [name for name in NAMES if METRICS[name].takes == "decisions"]


def ask(metric: MetricName, exclusive: bool = True, classes: int = 4) -> Task:
    return Task(METRICS[metric].fits[-1], tuple("abcdefgh"[:classes]), exclusive, metric)


@st.composite
def cases(draw):
    """A task, its truth, and answers of the kind that its metric takes."""
    metric = draw(st.sampled_from(NAMES))
    exclusive = metric in ("qwk", "pf1") or draw(st.booleans())
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    dice = np.random.default_rng(draw(st.integers(0, 2**32)))
    targets = (dice.random((n, classes)) < 0.4).astype(np.uint8)
    probs = dice.dirichlet(np.ones(classes), n) if exclusive else dice.random((n, classes))
    if exclusive:
        targets = encode_targets(dice.integers(0, classes, n), classes)
    answers = probs.round(2)
    if METRICS[metric].takes == "decisions":
        answers = (probs >= (probs.max(axis=1, keepdims=True) if exclusive else 0.5)).astype(float)
    return ask(metric, exclusive, classes), targets, answers


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


def test_every_metric_has_a_row_in_the_table_and_a_title_of_its_own():
    assert tuple(METRICS) == NAMES
    assert len({metric.title for metric in METRICS.values()}) == len(NAMES)


@given(cases())
def test_scores_have_bounds(case):
    score = score_answers(*case)
    low = -1 if case[0].metric == "qwk" else 0
    high = -np.log(1e-15) if case[0].metric == "log_loss" else 1
    assert np.isnan(score) or low <= score <= high + 1e-9
    assert not np.isnan(score) or case[0].metric == "auc"


@given(cases())
def test_the_truth_is_the_perfect_answer(case):
    task, targets, _ = case
    score = score_answers(task, targets, targets.astype(np.float32))
    empty = (targets.sum(axis=1) == 0).mean() if task.metric == "map" else 0  # nothing to rank
    assert np.isnan(score) or score == pytest.approx(METRICS[task.metric].perfect - empty)


@given(cases(), st.integers(0, 99))
def test_the_order_of_images_does_not_matter(case, seed):
    task, targets, answers = case
    order = np.random.default_rng(seed).permutation(len(targets))
    turned = score_answers(task, targets[order], answers[order])
    assert turned == pytest.approx(score_answers(task, targets, answers), nan_ok=True)


@given(cases())
def test_a_bootstrap_draw_scores_as_the_images_it_drew(case):
    task, targets, answers = case
    scores = bootstrap_scores(task, targets, answers, draws=3, seed=5)
    (weights,) = draw_weights(len(targets), 3, 5)
    for score, counts in zip(scores, weights.T, strict=True):
        drawn = np.repeat(np.arange(len(targets)), counts.astype(int))
        assert score == pytest.approx(
            score_answers(task, targets[drawn], answers[drawn]), nan_ok=True
        )


@given(cases())
def test_rising_maps_of_the_scores_leave_auc_and_map_alone(case):
    task, targets, answers = case
    for metric in ("auc", "map"):
        judged = task._replace(metric=metric)
        assert score_answers(judged, targets, np.exp(3 * answers) - 2) == pytest.approx(
            score_answers(judged, targets, answers), nan_ok=True
        )


def test_every_draw_draws_as_many_images_as_there_are(monkeypatch):
    whole = np.concatenate(list(draw_weights(50, 20, 3)), axis=1)
    assert whole.shape == (50, 20)
    assert (whole.sum(axis=0) == 50).all()
    assert len({tuple(draw) for draw in whole.T.tolist()}) == 20
    monkeypatch.setattr(scales, "WEIGHTS_AT_ONCE", 350)
    blocks = list(draw_weights(50, 20, 3))
    assert [block.shape[1] for block in blocks] == [7, 7, 6]
    assert all((block.sum(axis=0) == 50).all() for block in blocks)


@pytest.mark.parametrize("metric", NAMES)
def test_a_score_holds_value_interval_and_log_loss(metric):
    task, targets = ask(metric), encode_targets(LABELS, 4)
    decided = encode_targets(PROBS.argmax(axis=1), 4).astype(np.float32)
    answers = decided if metric in DECIDING else PROBS
    score = score_predictions(task, targets, answers, PROBS)
    assert score[:3] == (200, metric, score_answers(task, targets, answers))
    low, high = score.interval
    assert low < score.value < high
    assert high - low < (0.5 if metric == "log_loss" else 0.25)
    assert score.log_loss == pytest.approx(
        reference.log_loss(LABELS, PROBS / PROBS.sum(1)[:, None])
    )
    assert score == score_predictions(task, targets, answers, PROBS)  # the dice are seeded
    if metric == "accuracy":
        assert score.interval == wilson_interval(round(score.value * 200), 200)


def test_the_interval_is_the_middle_95_percent_of_draws_and_holds_the_value():
    draws = np.arange(1001) / 1000
    assert find_interval(0.5, draws) == pytest.approx((0.025, 0.975))
    assert find_interval(0.5, np.append(draws, [np.nan, np.inf])) == pytest.approx((0.025, 0.975))
    assert find_interval(1.0, draws) == pytest.approx((0.025, 1.0))
    assert find_interval(0.0, draws) == pytest.approx((0.0, 0.975))


def test_an_auc_that_is_not_defined_is_not_a_number_and_its_classes_are_named():
    targets = np.array([[1, 0], [1, 1]], np.uint8)
    task = ask("auc", exclusive=False, classes=2)
    assert name_one_sided(task, targets) == ["a"]
    score = score_predictions(task, targets[:1], PROBS[:1, :2], PROBS[:1, :2])
    assert np.isnan([score.value, *score.interval]).all()


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize(
    ("targets", "answers", "complaint"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), "cannot score 0 predictions against 0 labels"),
        (np.eye(2), np.eye(2)[:1], "cannot score 1 predictions against 2 labels"),
        (np.eye(2), np.ones((2, 3)), r"shape \(2, 3\) against truth of \(2, 2\)"),
        (np.ones(2), np.ones(2), r"shape \(2,\) against"),
        (np.eye(2), np.array([[1, np.nan], [0, 1]]), "answers to 1 of 2 images are not finite"),
        (np.eye(2), np.array([[1, np.inf], [0, -np.inf]]), "answers to 2 of 2 images are not"),
        (np.ones((2, 2)), np.eye(2), "each image must have one class"),
    ],
)
def test_what_has_no_score_is_refused(metric, targets, answers, complaint):
    for score in (score_answers, bootstrap_scores):
        with pytest.raises(ValueError, match=complaint):
            score(ask(metric, classes=2), targets.astype(np.uint8), answers)


@pytest.mark.parametrize("metric", DECIDING)
def test_probabilities_are_no_decisions(metric):
    with pytest.raises(ValueError, match="judges decisions, ones and zeros"):
        score_answers(ask(metric), encode_targets(LABELS, 4), PROBS)


@pytest.mark.parametrize("metric", ["log_loss", "pf1"])
@pytest.mark.parametrize("beyond", [-0.1, 1.1])
def test_logits_are_no_probabilities(metric, beyond):
    probs = np.array([[0.5, 0.5], [0.5, beyond]])
    with pytest.raises(ValueError, match="judges probabilities, but was given"):
        score_answers(ask(metric, classes=2), np.eye(2, dtype=np.uint8), probs)
