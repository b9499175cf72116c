import numpy as np
import pandas as pd
import pytest

from podium.evidence import DOUBT, compare_answers
from podium.task import Task, encode_targets
from workbench.arms import make_race
from workbench.paired import Answered, PairError
from workbench.verdict import Entry, judge_race, score_at_equal_time

TASK = Task("label", ("a", "b"))
IDS = [f"{row:04d}" for row in range(400)]
TARGETS = encode_targets([0] * 400, 2)
FOLDS = np.random.default_rng(0).permutation(400) % 5


def enter(name: str, wrong: int = 100, seconds: float = 10.0, first: int = 0, **more) -> Entry:
    """An arm that names some images wrongly, from the first of them on."""
    answers = TARGETS.astype(np.float32)
    answers[first : first + wrong] = [0, 1]
    return Entry(name, (Answered(TASK, IDS, TARGETS, answers, FOLDS),), seconds, **more)


def judge(words: str, *entries: Entry, of: str = "augment"):
    return judge_race(make_race({of: words}), entries)


def test_the_best_of_those_that_are_better_is_used_whatever_it_costs():
    entries = [enter("none"), enter("light", 70), enter("cutmix", 60, seconds=99.0)]
    question = judge("none light cutmix", *entries)
    assert question.chosen == "cutmix"
    assert question.answer.startswith("cutmix is better than none: accuracy +0.1000, one-sided")
    gains = [option.gain for option in question.options]
    assert gains[0] is None
    assert all(gain.adopted for gain in gains[1:])
    assert [option.cost for option in question.options] == [10.0, 10.0, 99.0]


def test_of_a_tie_the_cheapest_is_used_but_not_one_that_is_worse():
    entries = [enter("none"), enter("light", 98, 5.0), enter("cutmix", 150, 1.0)]
    question = judge("none light cutmix", *entries)
    assert question.chosen == "light"
    assert "nothing is shown to be better than none" in question.answer
    assert "cutmix is worse" in question.answer
    assert question.answer.endswith("light is the cheapest, 5 s an epoch instead of 10")


@pytest.mark.parametrize("seconds", [9.5, 10.0, 20.0])
def test_a_time_that_is_hardly_shorter_is_no_reason_to_change(seconds: float):
    question = judge("none light", enter("none"), enter("light", 99, seconds))
    assert question.chosen == "none"
    assert question.answer.endswith("none stays")


def test_the_best_of_many_must_be_better_by_more_than_the_best_of_two():
    """p is 0.022, which is enough for one arm and not for four."""
    arms = [enter("none"), enter("light", 72)]
    alone = judge("none light", *arms)
    assert alone.chosen == "light"
    among = judge("none light cutmix mixup colour", *arms)  # the others had gone at a quarter
    assert among.chosen == "none"
    one, four = (question.options[1].gain for question in (alone, among))
    assert four.p == pytest.approx(4 * one.p)
    assert one.p < DOUBT < four.p
    assert "4 arms were compared with the first: each p is 4 times its own" in among.notes


def test_a_gain_must_hold_over_images_and_over_trainings():
    """30 images are fixed, but in one fold of five, as a training that went ill would have it."""
    rows = np.flatnonzero(FOLDS == 2)[:30]
    plain, other = enter("none", 0), enter("light", 0)
    plain.answered[0].answers[rows] = [0, 1]
    one, two = plain.answered[0], other.answered[0]
    assert compare_answers(TASK, TARGETS, one.answers, two.answers).p < 1e-8
    (_, option) = judge("none light", plain, other).options
    assert option.gain is not None
    assert not option.gain.adopted
    assert option.gain.p > 0.1
    assert (option.fixed, option.broken) == (30, 0)


def test_several_seeds_are_as_many_trainings_of_each_fold():
    plain, other = enter("none"), enter("light", 92)
    once = judge("none light", plain, other)
    assert once.options[1].gain is not None
    assert not once.options[1].gain.adopted
    assert "over 5 folds × 1 seeds" in once.notes[0]
    more = [
        one._replace(answered=(*one.answered, *(enter(one.name, wrong, first=first).answered)))
        for one, wrong, first in ((plain, 100, 200), (other, 60, 200))
    ]
    twice = judge("none light", *more)
    gain = twice.options[1].gain
    assert gain is not None
    assert gain.difference == pytest.approx((8 + 40) / 2 / 400)
    assert twice.options[1].score == pytest.approx(1 - (92 + 60) / 2 / 400)
    assert "over 5 folds × 2 seeds" in twice.notes[0]


def test_arms_in_other_folds_are_not_compared():
    other = enter("light")
    answered = other.answered[0]._replace(folds=FOLDS[::-1])
    with pytest.raises(PairError, match="light and none were not trained on the same folds"):
        judge("none light", enter("none"), other._replace(answered=(answered,)))


def test_the_same_answers_are_a_tie():
    question = judge("none light", enter("none"), enter("light"))
    assert question.chosen == "none"
    gain = question.options[1].gain
    assert gain is not None
    assert (gain.difference, gain.low, gain.high, gain.p) == (0, 0, 0, 1)


def test_a_best_rate_at_the_edge_of_its_grid_is_not_final():
    arms = [enter("1e-3"), enter("1e-2", 90), enter("3e-3", 95)]
    assert "widen LR" in judge("1e-3 1e-2 3e-3", *arms, of="lr").answer
    arms = [enter("1e-3"), enter("1e-2", 95), enter("3e-3", 90)]
    assert "widen LR" not in judge("1e-3 1e-2 3e-3", *arms, of="lr").answer


def test_arms_that_answered_other_images_are_not_compared():
    other = enter("light")
    answered = other.answered[0]
    other = other._replace(answered=(answered._replace(ids=[f"x{one}" for one in IDS]),))
    with pytest.raises(PairError, match="they answered 400 and 400 images, of which 0 are"):
        judge("none light", enter("none"), other)


def test_at_equal_wall_clock_each_arm_has_the_epochs_that_ended_within_the_fastest_ones_time():
    def learn(seconds: float, scores: list[float], column: str = "valid/metric") -> pd.DataFrame:
        table = pd.DataFrame({"seconds": [seconds] * len(scores), column: scores})
        return table.reindex(columns=["seconds", "valid/metric", "valid/accuracy"])

    quick = {0: learn(1, [0.1, 0.2]), 1: learn(1, [0.3, 0.4], "valid/accuracy")}
    slow = {0: learn(2, [0.5, 0.9]), 1: learn(1, [0.7, 0.8, 0.9])}
    slowest = {0: learn(3, [0.9]), 1: learn(1, [0.9, 0.9])}
    assert score_at_equal_time([quick, slow, slowest]) == pytest.approx(
        [0.3, 0.65, np.nan], nan_ok=True
    )
    entries = [enter("none", curves=quick, rate=90.0), enter("light", curves=slow, rate=1234.0)]
    notes = judge("none light", *entries).notes
    assert "images that train in a second: none 90, light 1,234" in notes
    assert any("none 0.3000, light 0.6500" in note for note in notes)
