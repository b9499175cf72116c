import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from podium.metrics import METRICS, score_answers
from podium.rules import (
    Rule,
    apply_rule,
    expect_grades,
    find_level,
    find_threshold,
    fit_thresholds,
    list_bounds,
    list_rules,
    plain_rule,
    read_rule,
)
from podium.task import Task, encode_targets

PROBS = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], np.float32)


def ask(metric, exclusive=True, classes=3):
    return Task(METRICS[metric].fits[-1], tuple("abcdefgh"[:classes]), exclusive, metric)


def test_plain_rules_need_no_fitting():
    assert plain_rule(ask("macro_f1")) == Rule("argmax")
    assert plain_rule(ask("macro_f1", exclusive=False)) == Rule("thresholds", (0.5,), fill=True)
    for metric in ("log_loss", "auc", "map", "pf1"):
        assert plain_rule(ask(metric)) == Rule("unchanged")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("unchanged"), PROBS),
        (Rule("bounds", (0.1, 0.8)), 0.1 + 0.7 * PROBS),
        (Rule("argmax"), [[1, 0, 0], [0, 1, 0]]),
        (Rule("argmax", (0.1, 0.5, 1.0)), [[0, 1, 0], [0, 0, 1]]),
        (Rule("thresholds", (0.3,)), [[1, 1, 0], [0, 1, 1]]),
        (Rule("thresholds", (0.1, 0.6, 0.3)), [[1, 0, 0], [1, 0, 1]]),
        (Rule("thresholds", (0.55,)), [[1, 0, 0], [0, 0, 0]]),
        (Rule("thresholds", (0.55,), fill=True), [[1, 0, 0], [0, 1, 0]]),
        (Rule("cuts", (0.4, 0.8)), [[0, 1, 0], [0, 0, 1]]),
    ],
)
def test_a_rule_makes_answers_and_survives_json(rule, expected):
    answers = apply_rule(read_rule(json.loads(json.dumps(rule._asdict()))), PROBS)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, np.array(expected, np.float32), rtol=1e-6)
    assert read_rule(json.loads(json.dumps(rule._asdict()))) == rule


def test_a_threshold_is_reached_at_its_very_value():
    value = float(np.float32(0.3))
    assert apply_rule(Rule("thresholds", (value,)), PROBS)[0].tolist() == [1, 1, 0]


def test_a_rule_leaves_the_probabilities_as_they_were():
    before = PROBS.copy()
    apply_rule(Rule("unchanged"), PROBS)[:] = 0
    apply_rule(Rule("thresholds", (0.9,), fill=True), PROBS)
    np.testing.assert_array_equal(PROBS, before)


def test_expected_grades_are_means():
    np.testing.assert_allclose(expect_grades(PROBS), [0.5, 1.1], rtol=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_bounds_keep_probabilities_off_the_ends_and_their_sum_at_one(exclusive):
    task = ask("log_loss", exclusive)
    for low, high in list_bounds(task):
        assert 0 < low < high < 1
        told = apply_rule(Rule("bounds", (low, high)), np.eye(3, dtype=np.float32))
        assert told.min() == pytest.approx(low)
        if exclusive:
            np.testing.assert_allclose(told.sum(axis=1), 1, rtol=1e-6)
    many = list_bounds(ask("log_loss")._replace(classes=("x",) * 500))
    assert 0 < max(low for low, _ in many) < 1 / 500


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40))
def test_no_threshold_has_a_higher_f1(pairs):
    scores = np.array([score for score, _ in pairs]) / 20
    truth = np.array([true for _, true in pairs])
    threshold = find_threshold(scores, truth)
    if not truth.any():
        assert threshold == 0.5
        return
    found = f1_score(truth, scores >= threshold)
    assert found == pytest.approx(max(f1_score(truth, scores >= other) for other in scores))


def test_a_threshold_lies_halfway_between_what_passes_and_what_does_not():
    truth = np.array([False, False, True, True])
    assert find_threshold(np.array([0.1, 0.2, 0.6, 0.7]), truth) == pytest.approx(0.4)


@given(st.integers(0, 2**32))
def test_no_level_tried_has_a_higher_mean_f1_of_images(seed):
    dice = np.random.default_rng(seed)
    targets = (dice.random((12, 4)) < 0.3).astype(np.uint8)
    targets[0, 0] = 1
    probs = np.clip(0.3 * targets + 0.7 * dice.random((12, 4)), 0, 1)
    task = ask("samples_f1", exclusive=False, classes=4)

    def score(level):
        rules = (Rule("thresholds", (float(level),), fill) for fill in (True, False))
        return max(score_answers(task, targets, apply_rule(rule, probs)) for rule in rules)

    levels = np.quantile(probs[targets != 0], np.linspace(0, 1, 100))
    assert score(find_level(targets, probs)) == pytest.approx(max(map(score, levels)))


def test_rare_classes_borrow_their_threshold_from_the_others():
    dice = np.random.default_rng(0)
    targets = np.zeros((4000, 3), np.uint8)
    targets[:1000, 0] = 1  # its F1 is best at 0.3, and it is frequent
    targets[1000:1002, 1] = 1  # two images say that 0.9 is best; the third class has none
    probs = dice.random((4000, 3)) * 0.25
    probs[:1000, 0] = 0.35 + 0.6 * dice.random(1000)
    probs[1000:1002, 1] = 0.99
    frequent, rare, absent = fit_thresholds(ask("macro_f1", exclusive=False), targets, probs)
    assert frequent == pytest.approx(0.3, abs=0.01)
    assert frequent < rare < 0.4
    assert absent == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_the_plain_rule_is_tried_first_and_every_rule_gives_answers_of_the_right_kind(metric):
    dice = np.random.default_rng(0)
    exclusives = [True] if metric in ("qwk", "pf1", "balanced_accuracy", "map") else [True, False]
    for exclusive in exclusives:
        task = ask(metric, exclusive)
        targets = encode_targets(dice.integers(0, 2, 50), 3)  # a class that no image has
        probs = dice.dirichlet(np.ones(3), 50).astype(np.float32)
        rules = list_rules(task, targets, probs)
        assert rules[0] == plain_rule(task)
        for rule in rules:
            assert np.isfinite(rule.values).all()
            answers = apply_rule(rule, probs)
            if metric != "auc":
                assert np.isfinite(score_answers(task, targets, answers))
            if METRICS[metric].takes == "decisions" and exclusive:
                assert (answers.sum(axis=1) == 1).all()
