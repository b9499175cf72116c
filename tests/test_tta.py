from functools import cache

import numpy as np
import pytest

from podium.looks import Looks
from podium.predict import take_probs
from podium.task import MetricName, Task
from podium.tta import Judgement, find_broken, judge_looks, withdraw

pytestmark = pytest.mark.either

TASK = Task("label", ("a", "b", "c"))
LOSS = Task("probabilities", ("a", "b", "c"), metric="log_loss")
NAMES = ("identity", "flip", "shift-left", "shift-right")


def draw_truth(images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Targets and folds; each view's own noise is what a mean of several takes away."""
    dice = np.random.default_rng(seed)
    return np.eye(3, dtype=np.uint8)[dice.integers(0, 3, images)], np.arange(images) % 5, dice


def make_looks(logits: list[np.ndarray], names: tuple[str, ...] = NAMES) -> Looks:
    probs = np.stack([take_probs(np.float32(one), exclusive=True) for one in logits])
    ids = np.array([f"{row:04}" for row in range(probs.shape[1])])
    seconds, taken = np.full(len(probs), 0.01), np.ones(len(probs))
    return Looks(ids, names[: len(probs)], probs, seconds, taken, np.zeros(len(ids), bool))


@cache
def judge_noisy(task: Task, *, flipped: bool = False, sharp: float = 1.0) -> Judgement:
    """Four views with noise of their own; where `flipped`, one names another class for a class."""
    targets, folds, dice = draw_truth(600, 0)
    logits = [sharp * (2 * targets + dice.normal(0, 1.5, targets.shape)) for _ in NAMES]
    if flipped:
        logits[1][targets[:, 2] == 1] = [0, 4, 0]
    return judge_looks(task, targets, make_looks(logits), folds)


@pytest.mark.parametrize("task", [TASK, LOSS])
def test_views_that_help_are_used_together_and_what_they_gain_is_said(task: Task):
    judged = judge_noisy(task)
    assert judged.choice.comparison.adopted
    assert len(judged.used) >= 3
    tta, views = judged.questions
    assert tta.answer.startswith(f"yes: {judged.choice.name} of ")
    assert tta.chosen == judged.choice.name
    chosen = next(option for option in tta.options if option.name == tta.chosen)
    assert chosen.gain is not None
    assert chosen.gain.p < 0.01
    assert chosen.cost == pytest.approx(0.01 * len(judged.used))
    assert chosen.fixed > chosen.broken > 0
    assert views.chosen == " + ".join(judged.used)
    assert [option.name for option in views.options[:4]] == list(NAMES)
    assert views.notes == ()


def test_each_view_alone_may_be_no_better_where_their_mean_is():
    judged = judge_noisy(TASK)
    gains = [option.gain for option in judged.questions[1].options[1:4]]
    assert not any(gain is not None and gain.adopted for gain in gains)


def test_a_view_that_breaks_a_class_is_shown_and_in_no_mean():
    judged = judge_noisy(TASK, flipped=True)
    assert judged.choice.comparison.adopted
    assert "flip" not in judged.used
    (note,) = judged.questions[1].notes
    assert note.startswith("flip breaks 1 class and is not used: c (")
    flip = judged.questions[1].options[1]
    assert (flip.name, flip.broken > flip.fixed + 100) == ("flip", True)


def test_where_views_add_nothing_the_image_as_it_is_answers():
    targets, folds, dice = draw_truth(300, 1)
    logits = 2 * targets + dice.normal(0, 1.5, targets.shape)
    judged = judge_looks(TASK, targets, make_looks([logits] * 4), folds)
    assert judged.used == ("identity",)
    tta, views = judged.questions
    assert tta.answer.startswith("no: what does best on other folds gains +0.0000 accuracy")
    assert (tta.chosen, views.chosen, views.answer) == ("one view", "identity", "identity alone")


def test_what_a_temperature_gains_is_not_credited_to_views():
    targets, folds, dice = draw_truth(600, 2)
    logits = 3 * (2 * targets + dice.normal(0, 1.5, targets.shape))  # too sure of themselves
    judged = judge_looks(LOSS, targets, make_looks([logits] * 4), folds)
    assert judged.choice.name == "one view, temperature"
    assert judged.used == ("identity",)
    assert judged.choice.blend.power == pytest.approx(1 / 3, rel=0.5)
    tta = judged.questions[0]
    assert "a temperature alone is, and is used" in tta.answer
    assert [option.name for option in tta.options][0::7] == ["one view, temperature", "one view"]
    assert (tta.options[0].gain, tta.options[-1].gain) == (None, None)
    assert tta.notes[0].startswith("a temperature alone takes log loss of one view from ")


def test_a_mean_that_is_too_unsure_is_sharpened_by_a_temperature_and_tried_again():
    judged = judge_noisy(LOSS)
    names = [option.name for option in judged.questions[0].options]
    assert {"one view", "one view, temperature"} <= set(names)
    for name in ("mean", "geometric mean", "greedy"):
        assert {name, f"{name}, temperature"} <= set(names)
    scores = {option.name: option.score for option in judged.questions[0].options}
    assert scores["mean, temperature"] < scores["mean"]


def test_decisions_have_no_temperature():
    names = [option.name for option in judge_noisy(TASK).questions[0].options]
    assert names == ["one view", "mean", "geometric mean", "greedy"]


def test_adaptive_views_are_one_more_candidate_and_no_part_of_the_others():
    targets, folds, dice = draw_truth(600, 3)
    noisy = [2 * targets + dice.normal(0, 2.5, targets.shape) for _ in range(3)]
    looks = make_looks([*noisy, 9.0 * targets], (*NAMES[:3], "adaptive-48"))
    looks.taken[3], looks.undecided[:7] = 15.4, True
    judged = judge_looks(TASK, targets, looks, folds)
    assert judged.used == ("adaptive-48",)
    assert judged.questions[0].chosen == "adaptive-48"
    assert judged.questions[0].notes == (
        "adaptive-48 took 15.4 views an image, and left 7 of 600 images undecided",
    )


def test_a_class_is_broken_where_more_than_half_of_it_is_lost_and_not_by_luck():
    targets = np.eye(3, dtype=np.uint8)[np.repeat([0, 1, 2], [40, 40, 4])]
    plain = targets.astype(np.float32)
    view = plain.copy()
    view[:21] = [0, 1, 0]  # more than half of class a
    view[40:59] = [0, 0, 1]  # less than half of class b
    view[80:] = [1, 0, 0]  # all of class c, of which there are too few to tell
    assert find_broken(TASK, targets, plain, view) == {0: 21 / 40}


def test_how_much_the_network_relies_on_colour_is_said_where_it_was_looked_at():
    targets, folds, dice = draw_truth(300, 4)
    logits = 2 * targets + dice.normal(0, 0.5, targets.shape)
    looks = make_looks([logits, np.zeros_like(logits)], ("identity", "grey"))
    notes = judge_looks(TASK, targets, looks, folds).questions[1].notes
    assert any(note.startswith("without colour accuracy is 0.") for note in notes)


def test_what_cannot_be_used_is_withdrawn_with_the_reason():
    question = withdraw(judge_noisy(TASK).questions[0], "the disk is full")
    assert question.chosen == "one view"
    assert question.answer.endswith("; not used: the disk is full")


def adopt_equal(metric: MetricName, seed: int) -> bool:
    """Views that decide one image in ten anew, and as well as the image as it is does.

    They are so sure that there is nothing in between, which a mean would be the better for.
    """
    targets, folds, dice = draw_truth(300, seed)
    logits, again = (80 * (1.5 * targets + dice.normal(0, 1, targets.shape)) for _ in range(2))
    other = np.where(dice.random((len(targets), 1)) < 0.1, again, logits)
    task = TASK._replace(metric=metric)
    judged = judge_looks(task, targets, make_looks([logits, other, other]), folds)
    return len(judged.used) > 1


def test_views_of_the_same_quality_are_seldom_adopted():
    assert sum(adopt_equal("accuracy", seed) for seed in range(12)) <= 2


@pytest.mark.long
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_views_of_the_same_quality_are_adopted_once_in_twenty_at_most(metric: MetricName):
    adopted = sum(adopt_equal(metric, seed) for seed in range(400))
    assert adopted / 400 <= 0.05 + 1.64 * (0.05 * 0.95 / 400) ** 0.5
