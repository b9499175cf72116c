"""What a card says of a run, from its events."""

import json
from functools import reduce
from typing import Any

import pytest
from live_site import make_event
from sample_run import make_epoch, make_events

from podium.metrics import METRICS
from workbench.dashboard.progress import (
    LOWER_IS_BETTER,
    SPARKS,
    Progress,
    advance,
    read_progress,
    show_card,
    write_progress,
)


def fold(*events: dict[str, Any]) -> dict[str, Any]:
    return show_card(reduce(advance, events, Progress()))


def start(epochs: int = 3, **settings: Any) -> dict[str, Any]:
    given = {"folds.count": 2, "train.head_epochs": 0, "train.epochs": epochs, **settings}
    given |= {"model.backbone": "tiny", "pixels.image_size": 32}
    return make_event(1, "run_started", settings=given, devices=2, accelerator="gpu")


def epoch(number: int, **figures: Any) -> dict[str, Any]:
    figures = {name.replace("__", "/"): value for name, value in figures.items()}
    key = make_event(10 + number, "epoch_ended", epoch=number, epochs=3, seconds=60)
    return key | {"fold": 0} | figures


def test_a_whole_run_s_card_has_its_scores_its_best_epoch_and_its_result():
    card = fold(*make_events())
    assert (card["title"], card["machine"]) == ("keras:EfficientNetV2B0, 224 px", "2 × gpu")
    assert (card["state"], card["done"], card["scores"]) == ("finished", 1.0, [0.91, 0.92])
    assert card["mean"] == pytest.approx(0.915)
    assert card["sd"] == pytest.approx(0.00707, abs=1e-5)
    assert (card["best"], card["best_epoch"], card["best_fold"]) == (pytest.approx(0.831), 3, 1)
    assert card["result"] == {"metric": "accuracy", "value": 0.915, "interval": [0.9, 0.93]}
    assert (card["eta"], card["verdict"]) == (None, "")


def test_a_card_goes_on_from_what_was_kept_of_it():
    events = list(make_events())
    progress = Progress()
    for event in events:
        kept = json.dumps(write_progress(progress), allow_nan=False)
        progress = advance(read_progress(json.loads(kept)), event)
    assert show_card(progress) == fold(*events)


def test_the_value_is_the_competition_s_metric_where_there_is_one():
    card = fold(start(**{"data.metric": "qwk"}), epoch(1, valid__metric=0.7, valid__accuracy=0.9))
    assert (card["metric"], card["value"], card["higher"]) == ("qwk", 0.7, True)
    card = fold(start(), epoch(1, valid__accuracy=0.9, valid__loss=0.1))
    assert (card["metric"], card["value"], card["higher"]) == ("accuracy", 0.9, True)
    card = fold(start(), epoch(1, valid__loss=0.3), epoch(2, valid__loss=0.1))
    assert (card["metric"], card["best"], card["higher"]) == ("loss", 0.1, False)
    card = fold(epoch(1, train__loss=0.3))
    assert (card["metric"], card["value"], card["higher"]) == ("train/loss", 0.3, False)


def test_which_metrics_are_better_when_lower_is_known_as_podium_knows_it():
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == set(LOWER_IS_BETTER) - {"loss"}


def test_an_epoch_names_its_metric():
    card = fold(start(**{"data.metric": "auto"}), epoch(1, valid__metric=0.7, metric="log_loss"))
    assert (card["metric"], card["higher"]) == ("log_loss", False)


def test_a_metric_that_is_told_late_turns_the_best_round():
    events = [start(), epoch(1, valid__metric=0.7), epoch(2, valid__metric=0.4)]
    assert fold(*events)["best_epoch"] == 1
    card = fold(*events, make_event(20, "fold_ended", fold=0, metric="log_loss", value=0.4))
    assert (card["best"], card["best_epoch"], card["higher"]) == (0.4, 2, False)


def test_an_epoch_that_was_no_number_changes_neither_the_best_nor_what_is_shown():
    card = fold(
        start(), epoch(1, valid__accuracy=0.9), epoch(2, valid__accuracy=None, valid__loss=3)
    )
    assert (card["value"], card["metric"], card["best_epoch"]) == (0.9, "accuracy", 1)


@pytest.mark.parametrize(
    ("shares", "verdict", "words"),
    [
        ([1.0, 1.0], "green", "all folds fit"),
        ([1.0, 0.5], "amber", "fold 1 gets 50% of its updates"),
        ([1.0, 0.5, 0, 0.0], "red", "2 of 4 folds will not fit"),
    ],
)
def test_the_verdict_is_the_run_s_own_plan(shares: list[float], verdict: str, words: str):
    plan = make_event(3, "plan_made", fold=0, shares=shares, seconds=600, left=900, words="plan")
    card = fold(start(), plan)
    assert (card["verdict"], card["verdict_words"]) == (verdict, words)
    assert card["eta"] == plan["time"] + 600
    later = plan | {"fold": 1, "shares": shares[1:]}
    assert fold(start(), later)["verdict_words"] == words


def test_without_a_plan_the_epochs_so_far_tell_whether_it_fits():
    begun = start() | {"deadline": make_event(11)["time"] + 300}
    card = fold(begun, epoch(1))  # of six, each of a minute
    assert (card["eta"], card["verdict"]) == (make_event(11)["time"] + 300, "green")
    late = fold(begun | {"deadline": begun["deadline"] - 120}, epoch(1))
    assert late["verdict_words"] == "training needs 2 min more than is left"
    assert fold(start(), epoch(1))["verdict"] == ""


def test_a_session_that_goes_on_keeps_scores_and_epochs_of_the_one_before():
    ended = make_event(20, "fold_ended", fold=0, metric="accuracy", value=0.9)
    card = fold(start(), epoch(3, valid__accuracy=0.9), ended, start(), epoch(1, fold=1))
    assert (card["scores"], card["best"]) == ([0.9], 0.9)
    assert card["done"] == pytest.approx((1 + 1 / 3) / 2)
    assert fold(start(), ended, start(), ended)["scores"] == [0.9]


@pytest.mark.parametrize("count", [1, 59, 60, 61, 500])
def test_the_small_curve_is_short_and_ends_where_the_run_is(count: int):
    epochs = [epoch(number, valid__accuracy=number / 1000) for number in range(1, count + 1)]
    spark = fold(start(count), *epochs)["spark"]
    assert len(spark) <= SPARKS
    assert len(spark) >= min(count, SPARKS // 2)
    assert spark == sorted(spark)
    assert spark[-1] == count / 1000


@pytest.mark.parametrize("field", ["fold", "epoch", "valid/accuracy", "train/loss", "seconds"])
@pytest.mark.parametrize("value", ["x", [], {}, True, None, -1, 10**18])
def test_whatever_an_epoch_holds_the_next_is_shown(field: str, value: object):
    odd = make_event(2, "epoch_ended", **make_epoch(0, 1)) | {field: value}
    card = fold(start(), odd, make_event(3, "epoch_ended", **make_epoch(0, 2)))
    assert (card["epoch"], card["value"], card["loss"]) == (2, pytest.approx(0.82), 0.5)
    json.dumps(card, allow_nan=False)


def test_names_are_shown_without_marks_that_turn_the_text_round():
    card = fold(start() | {"folder": "dry\u202erun"}, make_event(2, "warning_raised", text="\x07a"))
    assert (card["name"], card["note"], card["state"]) == ("dryrun", "a", "warned")
