import numpy as np
import pandas as pd
import pytest

from podium.evidence import DOUBT
from podium.task import Task, encode_targets
from workbench.arms import make_race
from workbench.paired import Answered, PairError
from workbench.verdict import Entry, judge_race, score_at_equal_time

TASK = Task("label", ("a", "b"))
IDS = [f"{row:04d}" for row in range(400)]
TARGETS = encode_targets([0] * 400, 2)


def enter(name: str, wrong: int = 100, seconds: float = 10.0, first: int = 0, **more) -> Entry:
    """An arm that names some images wrongly, from the first of them on."""
    answers = TARGETS.astype(np.float32)
    answers[first : first + wrong] = [0, 1]
    return Entry(name, Answered(TASK, IDS, TARGETS, answers), seconds, **more)


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
    """6 of 6 that changed sides: p 1/64, which is enough for one arm and not for four."""
    arms = [enter("none"), enter("light", 94)]
    alone = judge("none light", *arms)
    assert alone.chosen == "light"
    among = judge("none light cutmix mixup colour", *arms)  # the others had gone at a quarter
    assert among.chosen == "none"
    one, four = (question.options[1].gain for question in (alone, among))
    assert four.p == pytest.approx(4 * one.p)
    assert one.p < DOUBT < four.p
    assert "4 arms were compared with the first: each p is 4 times its own" in among.notes


def test_a_best_rate_at_the_edge_of_its_grid_is_not_final():
    arms = [enter("1e-3"), enter("1e-2", 90), enter("3e-3", 95)]
    assert "widen LR" in judge("1e-3 1e-2 3e-3", *arms, of="lr").answer
    arms = [enter("1e-3"), enter("1e-2", 95), enter("3e-3", 90)]
    assert "widen LR" not in judge("1e-3 1e-2 3e-3", *arms, of="lr").answer


def test_arms_that_answered_other_images_are_not_compared():
    other = enter("light")
    other = other._replace(answered=other.answered._replace(ids=[f"x{one}" for one in IDS]))
    with pytest.raises(PairError, match="light and none did not answer the same images"):
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
