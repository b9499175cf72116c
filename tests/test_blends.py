import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from podium.blends import (
    FITS,
    Blend,
    apply_blend,
    fit_power,
    list_fits,
    weigh_by_accuracy,
)
from podium.members import squash
from podium.metrics import METRICS, score_answers
from podium.rules import apply_rule, plain_rule
from podium.task import Task, encode_targets

pytestmark = pytest.mark.either


def ask(metric, exclusive=True, classes=3):
    return Task(METRICS[metric].fits[-1], tuple(map(str, range(classes))), exclusive, metric)


def plant(seed, task, images=60, signals=(2.0, 1.0, 1.0)):
    """Targets, and members whose logits are their signal times the truth, and noise."""
    dice, classes = np.random.default_rng(seed), len(task.classes)
    targets = encode_targets(dice.integers(0, classes, images), classes)
    if not task.exclusive:
        targets |= (dice.random(targets.shape) < 0.2).astype(np.uint8)
    logits = [signal * targets + dice.normal(0, 1, targets.shape) for signal in signals]
    shift = 0 if task.exclusive else 1
    members = [squash(one - shift, task.exclusive) for one in logits]
    return targets, np.array(members, np.float32)


def score(task, targets, probs):
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    return sign * score_answers(task, targets, apply_rule(plain_rule(task), probs))


def blend(name, task, targets, members):
    return apply_blend(FITS[name](task, targets, members), members, exclusive=task.exclusive)


@st.composite
def cases(draw):
    exclusive = draw(st.booleans())
    metric = draw(st.sampled_from(["macro_f1", "log_loss", "auc"]))
    task = ask(metric, exclusive)
    signals = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 4.0]), min_size=1, max_size=4))
    return task, *plant(draw(st.integers(0, 2**32)), task, 30, signals)


def check_valid(probs, members, exclusive):
    assert probs.dtype == np.float32
    assert probs.shape == members.shape[1:]
    assert probs.min() >= 0
    assert probs.max() <= 1
    if exclusive:
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", FITS)
@settings(max_examples=6)
@given(cases(), st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 99))
def test_weights_are_not_negative_and_probabilities_are_valid(name, case, odd, seed):
    """Also where members are certain of something, or have no number at all."""
    task, targets, members = case
    spoilt = np.random.default_rng(seed).random(members.shape[:2]) < 0.2
    members[spoilt] = odd
    found = FITS[name](task, targets, members)
    assert min(found.weights) >= 0
    if found.kind != "geometric":
        assert sum(found.weights) == pytest.approx(1)
    for power in (1.0, 3.0):
        probs = apply_blend(found._replace(power=power), members, exclusive=task.exclusive)
        check_valid(probs, members, task.exclusive)


@pytest.mark.parametrize("name", FITS)
@settings(max_examples=6)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(name, case, dice):
    task, targets, members = case
    order = list(range(len(members)))
    dice.shuffle(order)
    one, other = (FITS[name](task, targets, some) for some in (members, members[order]))
    np.testing.assert_allclose(np.array(one.weights)[order], other.weights, atol=2e-3)


@settings(max_examples=15)
@given(cases())
def test_no_search_ends_below_the_best_single_member_on_what_it_optimises(case):
    task, targets, members = case
    losses = task._replace(metric="log_loss")
    for name, judged in (("best single", task), ("greedy", task), ("log-loss weights", losses)):
        best = max(score(judged, targets, member) for member in members)
        assert score(judged, targets, blend(name, task, targets, members)) >= best - 1e-6


@settings(max_examples=15)
@given(cases())
def test_a_stack_is_never_above_the_loss_of_the_geometric_mean(case):
    task, targets, members = case
    losses = task._replace(metric="log_loss")
    stack, mean = (
        score(losses, targets, blend(name, task, targets, members))
        for name in ("geometric stack", "geometric mean")
    )
    assert stack >= mean - 1e-6


@pytest.mark.parametrize("name", ["uniform", "best single", "greedy", "geometric mean"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_of_identical_members_the_blend_is_the_member(name, exclusive):
    task = ask("macro_f1", exclusive)
    targets, members = plant(0, task)
    members = np.repeat(members[:1], 3, axis=0)
    np.testing.assert_allclose(blend(name, task, targets, members), members[0], atol=2e-6)


def test_a_geometric_mean_is_of_probabilities_or_of_odds():
    members = np.array([[[0.9, 0.1]], [[0.5, 0.5]]], np.float32)
    even = Blend("geometric", (0.5, 0.5))
    odds = np.sqrt(9)
    expected = [[odds / (1 + odds), 1 / (1 + odds)]]
    for exclusive in (True, False):
        probs = apply_blend(even, members, exclusive=exclusive)
        np.testing.assert_allclose(probs, expected, atol=1e-6)
    loose = np.array([[[0.9, 0.8]], [[0.5, 0.8]]], np.float32)
    assert apply_blend(even, loose, exclusive=False)[0, 1] == pytest.approx(0.8)


def test_a_power_of_two_squares_the_odds():
    members = np.array([[[0.75, 0.25]]], np.float32)
    for kind in ("mean", "geometric"):
        for exclusive in (True, False):
            probs = apply_blend(Blend(kind, (1.0,), 2.0), members, exclusive=exclusive)
            np.testing.assert_allclose(probs, [[0.9, 0.1]], atol=1e-6)


def test_a_zero_does_not_veto_what_all_others_say():
    sure = np.tile(np.array([[0.99, 0.01]], np.float32), (8, 1, 1))
    zero = np.array([[[0.0, 1.0]]], np.float32)
    members = np.concatenate([sure, zero])
    probs = apply_blend(Blend("geometric", (1 / 9,) * 9), members, exclusive=True)
    assert probs[0, 0] > 0.5


def test_where_a_member_has_no_number_the_others_speak():
    members = np.array([[[0.2, 0.8]], [[np.nan, np.nan]], [[0.4, 0.6]]], np.float32)
    probs = apply_blend(Blend("mean", (1 / 3,) * 3), members, exclusive=True)
    np.testing.assert_allclose(probs, [[0.3, 0.7]], atol=1e-6)
    lost = np.full((2, 1, 2), np.nan, np.float32)
    np.testing.assert_allclose(apply_blend(Blend("mean", (1, 0)), lost, exclusive=True), 0.5)


def test_likelihood_weights_are_those_of_a_solver_for_any_loss():
    task = ask("log_loss")
    targets, members = plant(1, task, 300)
    told = members[:, np.arange(300), targets.argmax(axis=1)]
    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    solved = minimize(
        lambda weights: -np.log(weights @ told).mean(),
        np.ones(3) / 3,
        bounds=[(0, 1)] * 3,
        constraints=simplex,
    )
    found = FITS["log-loss weights"](task, targets, members)
    np.testing.assert_allclose(found.weights, solved.x, atol=5e-3)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_power_undoes_what_sharpened_the_probabilities(exclusive):
    dice, task = np.random.default_rng(0), ask("log_loss", exclusive)
    logits = dice.normal(0, 1.5, (4000, 3))
    fair = squash(logits, exclusive)
    if exclusive:
        chosen = (fair.cumsum(axis=1) > dice.random((4000, 1))).argmax(axis=1)
        targets = encode_targets(chosen, 3)
    else:
        targets = (dice.random(fair.shape) < fair).astype(np.uint8)
    for sharpened in (0.5, 1.0, 3.0):
        probs = squash(sharpened * logits, exclusive).astype(np.float32)
        assert fit_power(task, targets, probs) == pytest.approx(1 / sharpened, rel=0.08)


def test_the_power_of_answers_that_are_all_right_is_finite():
    task = ask("log_loss")
    targets = encode_targets([0, 1, 2] * 5, 3)
    power = fit_power(task, targets, (0.1 + 0.7 * targets).astype(np.float32))
    assert 1 < power < 100


def test_an_equal_metric_is_decided_by_log_loss_and_then_by_fewer_members():
    task = ask("accuracy", classes=2)._replace(answer="label")
    targets = encode_targets([0, 1] * 10, 2)
    timid, sure = (np.where(targets, told, 1 - told) for told in (0.6, 0.9))
    found = FITS["best single"](task, targets, np.array([timid, sure, timid], np.float32))
    assert found.weights == (0, 1, 0)
    found = FITS["greedy"](task, targets, np.array([timid, sure, timid], np.float32))
    assert found.weights[1] > 0.6
    found = FITS["greedy"](task, targets, np.array([sure, sure], np.float32))
    assert max(found.weights) == 1


def test_a_score_that_is_not_defined_is_no_reason_to_stop():
    task, targets = ask("auc"), encode_targets([1] * 6, 3)
    members = np.random.default_rng(0).dirichlet(np.ones(3), (2, 6)).astype(np.float32)
    for name in FITS:
        check_valid(blend(name, task, targets, members), members, True)


def test_a_good_and_an_over_confident_bad_member_are_told_apart():
    task = ask("log_loss", classes=10)
    dice = np.random.default_rng(3)
    targets = encode_targets(dice.integers(0, 10, 1000), 10)
    noise = dice.normal(0, 1, (2, 1000, 10))
    members = np.array([squash(8 * targets + 2 * noise[0], True), squash(6 * noise[1], True)])
    for name in ("best single", "log-loss weights", "greedy", "geometric stack"):
        weights = FITS[name](task, targets, members.astype(np.float32)).weights
        assert weights[0] > 10 * weights[1]


def test_accuracies_as_weights_are_the_mean_in_disguise():
    """The founding review's figures: of 96.52 % and 96.91 % they make .499 and .501."""
    task = ask("accuracy", classes=2)._replace(answer="label")
    targets = encode_targets([0] * 10_000, 2)
    right = np.arange(10_000) < np.array([[9652], [9691]])
    members = np.stack([right, ~right], axis=2).astype(np.float32)
    weights = weigh_by_accuracy(task, targets, members).weights
    assert weights == pytest.approx((0.499, 0.501), abs=5e-4)


def test_ranks_are_tried_where_only_the_order_of_images_counts():
    assert "rank average" in list_fits(ask("auc"))
    for metric in METRICS:
        assert ("rank average" in list_fits(ask(metric))) == (metric == "auc")
    assert next(iter(list_fits(ask("auc")))) == "uniform"
    assert "rank average" in FITS


def test_ranks_make_members_of_different_scales_equals():
    task = Task("probability", ("a", "b"), metric="auc")
    dice = np.random.default_rng(0)
    targets = encode_targets(dice.integers(0, 2, 500), 2)
    logits = targets[:, 1] + dice.normal(0, 1, (2, 500))
    bold, shy = 1 / (1 + np.exp(-8 * logits[0])), 1 / (1 + np.exp(-0.1 * logits[1]))
    members = np.array([np.stack([1 - one, one], axis=1) for one in (bold, shy)], np.float32)
    ranked, averaged = (
        score(task, targets, blend(name, task, targets, members))
        for name in ("rank average", "uniform")
    )
    assert ranked > averaged + 0.02
