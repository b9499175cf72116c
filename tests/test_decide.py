import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.decide import answer_nested, fit_nested, fit_rule
from podium.evidence import count_flips
from podium.metrics import METRICS, score_answers
from podium.rules import apply_rule, plain_rule
from podium.task import Task, encode_targets

N = 800
FOLDS = np.arange(N) % 5


def ask(metric, exclusive, classes):
    return Task(METRICS[metric].fits[-1], tuple(map(str, range(classes))), exclusive, metric)


def squash(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def draw_classes(dice, probs):
    return encode_targets(
        (probs.cumsum(axis=1) > dice.random((N, 1))).argmax(axis=1), probs.shape[1]
    )


def plant_rare_labels(dice, metric):
    """A timid model: probabilities of rare classes, told far lower than they are."""
    logits = dice.normal(-1.5, 1.5, (N, 6))
    targets = (dice.random((N, 6)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return ask(metric, False, 6), targets, (1 / (1 + np.exp(1.5 - logits))).astype(np.float32)


def plant_shifted_grades(dice, _):
    """A model that foretells 0.4 + 0.6 of the grade."""
    grades = dice.integers(0, 5, N)
    seen = grades * 0.6 + 0.4 + dice.normal(0, 0.4, N)
    probs = squash(-2 * (np.arange(5) - seen[:, None]) ** 2)
    return ask("qwk", True, 5), encode_targets(grades, 5), probs


def plant_overconfidence(dice, _):
    fair = dice.normal(0, 1.2, (N, 5))
    return ask("log_loss", True, 5), draw_classes(dice, squash(fair)), squash(6 * fair)


def plant_loose_overconfidence(dice, _):
    logits = dice.normal(0, 1.2, (N, 5))
    targets = (dice.random((N, 5)) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return ask("log_loss", False, 5), targets, (1 / (1 + np.exp(-6 * logits))).astype(np.float32)


def plant_rare_classes(dice, metric):
    """Calibrated probabilities of uneven classes, of which the rarest seldom is the likeliest."""
    classes = 2 if metric == "pf1" else 4
    shares = np.array([0.9, 0.1] if classes == 2 else [0.7, 0.2, 0.06, 0.04])
    probs = squash(np.log(shares) + dice.normal(0, 1.2, (N, classes)))
    return ask(metric, True, classes), draw_classes(dice, probs), probs


@pytest.mark.parametrize(
    ("plant", "metric", "kind"),
    [
        (plant_rare_labels, "macro_f1", "thresholds"),
        (plant_rare_labels, "micro_f1", "thresholds"),
        (plant_rare_labels, "samples_f1", "thresholds"),
        (plant_shifted_grades, "qwk", "cuts"),
        (plant_overconfidence, "log_loss", "bounds"),
        (plant_loose_overconfidence, "log_loss", "bounds"),
        (plant_rare_classes, "balanced_accuracy", "argmax"),
        (plant_rare_classes, "macro_f1", "argmax"),
        (plant_rare_classes, "pf1", "thresholds"),
    ],
)
def test_a_rule_that_truly_helps_is_adopted_and_helps_on_images_never_seen(plant, metric, kind):
    task, targets, probs = plant(np.random.default_rng(0), metric)
    decision = fit_nested(task, targets, probs, FOLDS)
    assert decision.comparison.adopted
    assert decision.rule.kind == kind
    assert decision.rule != plain_rule(task)
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    assert sign * (decision.nested - decision.plain) == decision.comparison.difference > 0
    assert score_answers(task, targets, decision.answers) == decision.nested
    plain = apply_rule(plain_rule(task), probs)
    assert decision.flips == count_flips(task, targets, plain, decision.answers)
    _, targets, probs = plant(np.random.default_rng(1), metric)
    plain, fitted = (
        score_answers(task, targets, apply_rule(rule, probs))
        for rule in (plain_rule(task), decision.rule)
    )
    assert sign * (fitted - plain) > 0


def plant_fair_grades(dice):
    grades = dice.integers(0, 5, N)
    seen = np.clip(grades + dice.choice([-1, 0, 1], N, p=[0.15, 0.7, 0.15]), 0, 4)
    return ask("qwk", True, 5), encode_targets(grades, 5), squash(5 * np.eye(5)[seen])


def plant_fair_probabilities(dice):
    probs = dice.dirichlet(np.ones(4), N).astype(np.float32)
    return ask("log_loss", True, 4), draw_classes(dice, probs), probs


def plant_even_classes(dice):
    task, targets, probs = plant_fair_probabilities(dice)
    return task._replace(metric="balanced_accuracy", answer="label"), targets, probs


def plant_even_labels(dice):
    """0.5 is the best threshold by far, and no image is left without a class."""
    targets = (dice.random((N, 4)) < 0.5).astype(np.uint8)
    right = (dice.random((N, 4)) < 0.85) == (targets == 1)
    probs = np.where(right, 0.5, 0.0) + 0.5 * dice.random((N, 4))
    targets[:, 0], probs[:, 0] = 1, 0.9
    return ask("macro_f1", False, 4), targets, probs.astype(np.float32)


@pytest.mark.parametrize(
    "plant", [plant_fair_grades, plant_fair_probabilities, plant_even_classes, plant_even_labels]
)
def test_a_rule_that_does_not_help_is_adopted_once_in_twenty(plant):
    """20 times at 5 %: five or more adoptions would have odds of three in a thousand."""
    adopted = 0
    for seed in range(20):
        task, targets, probs = plant(np.random.default_rng(seed))
        decision = fit_nested(task, targets, probs, FOLDS)
        adopted += decision.comparison.adopted
        if not decision.comparison.adopted:
            plain = plain_rule(task)
            assert decision.rule == plain
            np.testing.assert_array_equal(decision.answers, apply_rule(plain, probs))
            assert score_answers(task, targets, decision.answers) == decision.plain
    assert adopted <= 4


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1", "samples_f1"])
def test_images_may_stay_without_a_class_where_filling_them_hurts(metric):
    dice = np.random.default_rng(0)
    targets = (dice.random((N, 4)) < 0.1).astype(np.uint8)
    probs = np.clip(0.6 * targets + 0.4 * dice.random((N, 4)), 0, 1).astype(np.float32)
    decision = fit_nested(ask(metric, False, 4), targets, probs, FOLDS)
    assert decision.comparison.adopted
    assert not decision.rule.fill
    assert decision.nested > 0.9
    targets[np.arange(N), probs.argmax(axis=1)] = 1
    probs[:] *= 0.6  # many images have nothing above 0.5 now, and none is without a class
    assert fit_nested(ask(metric, False, 4), targets, probs, FOLDS).answers.any(axis=1).all()


@st.composite
def cases(draw):
    metric = draw(st.sampled_from(["macro_f1", "micro_f1", "samples_f1", "qwk", "log_loss", "pf1"]))
    exclusive = metric in ("qwk", "pf1") or draw(st.booleans())
    dice = np.random.default_rng(draw(st.integers(0, 2**32)))
    targets = encode_targets(dice.integers(0, 3, 40), 3)
    if not exclusive:
        targets |= (dice.random((40, 3)) < 0.3).astype(np.uint8)
    return ask(metric, exclusive, 3), targets, dice.dirichlet(np.ones(3), 40).astype(np.float32)


@settings(max_examples=25)
@given(cases(), st.integers(0, 3), st.integers(0, 99))
def test_a_folds_answers_do_not_depend_on_its_own_truth(case, fold, seed):
    task, targets, probs = case
    folds = np.arange(40) % 4
    held = folds == fold
    lied = targets.copy()
    lied[held] = np.random.default_rng(seed).permutation(targets[held], axis=1)
    honest = answer_nested(task, targets, probs, folds)
    np.testing.assert_array_equal(honest[held], answer_nested(task, lied, probs, folds)[held])


@settings(max_examples=25)
@given(cases())
def test_a_fitted_rule_is_never_worse_than_the_plain_one_on_what_it_was_fitted_on(case):
    task, targets, probs = case
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    plain, fitted = (
        sign * score_answers(task, targets, apply_rule(rule, probs))
        for rule in (plain_rule(task), fit_rule(task, targets, probs))
    )
    assert fitted >= plain


@pytest.mark.parametrize("metric", ["accuracy", "auc", "map"])
def test_a_metric_that_wants_no_rule_keeps_the_plain_one(metric):
    dice = np.random.default_rng(0)
    probs = dice.dirichlet(np.ones(4), N).astype(np.float32)
    task, targets = ask(metric, True, 4), draw_classes(dice, probs)
    decision = fit_nested(task, targets, probs, FOLDS)
    assert decision.rule == plain_rule(task)
    assert decision.plain == decision.nested
    assert decision.comparison.difference == 0


def test_one_fold_alone_keeps_the_plain_rule():
    task, targets, probs = plant_shifted_grades(np.random.default_rng(0), None)
    decision = fit_nested(task, targets, probs, np.zeros(N, np.int64))
    assert decision.rule == plain_rule(task)
    assert not decision.comparison.adopted
