import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import make_epoch, make_events

from podium.card import BEST_EVERY, Card, News, clean_text, list_lines, update_card


def watch(events) -> tuple[Card, list[News]]:
    card, told = Card(), []
    for event in events:
        card, news = update_card(card, event)
        told += [news] if news else []
    return card, told


def test_a_finished_run_rings_for_its_start_alert_folds_and_finish():
    card, told = watch(make_events())
    kinds = [news.kind for news in told]
    assert [kind for kind in kinds if kind != "best"] == [
        "started",
        "alert",
        "fold",
        "fold",
        "finished",
    ]
    assert told[0].text == "started on 2 × gpu: 2 folds of 3 epochs"
    assert told[-1].text == (
        "finished: out-of-fold accuracy 0.9150 (95 %: 0.9000 to 0.9300); "
        "submission.csv has 360 rows"
    )
    assert (card.state, card.scores) == ("finished", (0.91, 0.92))
    assert [news.shows_curves for news in told if news.kind in ("fold", "alert")] == [
        False,
        True,
        True,
    ]


def test_the_card_in_the_middle_of_a_run():
    events = list(make_events())
    card, _ = watch(events[:6])
    assert list_lines(card) == [
        "████░░░░░░░░ 33%, 0 of 2 folds done",
        "fold 0, epoch 2 of 3",
        "accuracy 0.8200 (best 0.8200 in epoch 2)",
        "loss 0.500 → 0.550, 913 images/s",
        "left 11 h 20 of 12 h 00, training needs 1 h 20",
        "batch norm's statistics lag <b>&",
    ]
    step, _ = watch(events[:7])
    assert list_lines(step)[1] == "fold 0, epoch 3 of 3, step 50 of 100"


def test_a_run_that_will_not_be_done_in_time_says_so():
    events = list(make_events())
    events[0]["deadline"] = events[0]["time"] + 3600
    card, _ = watch(events[:6])
    assert "left 20 min of 1 h 00, training needs 1 h 20: TOO LONG" in list_lines(card)


def test_a_better_best_is_news_once_in_half_an_hour():
    events = list(make_events())
    start = events[0]["time"]
    news = []
    card, _ = watch(events[:1])
    for epoch in range(1, 100):
        event = {**events[3], **make_epoch(0, epoch), "time": start + 60 * epoch}
        event["valid/accuracy"] = epoch / 1000
        card, told = update_card(card, event)
        news += [event["time"] - start] if told else []
    assert len(news) == 3
    assert min(b - a for a, b in zip([0.0, *news], news, strict=False)) >= BEST_EVERY


def test_a_crash_shows_the_last_lines_of_its_traceback():
    reason = "Traceback\n" + "  File x\n" * 50 + "ZeroDivisionError: division by zero\n"
    event = {"time": 1.0, "event": "run_failed", "error": "ZeroDivisionError", "reason": reason}
    card, news = update_card(Card(), event)
    assert card.note == "ZeroDivisionError: division by zero"
    assert news is not None
    assert news.text.startswith("crashed:\n")
    assert len(news.text.splitlines()) == 13


def test_a_stopped_run_says_by_what():
    event = {"time": 1.0, "event": "run_stopped", "signal": "SIGTERM"}
    card, news = update_card(Card(), event)
    assert card.state == "stopped"
    assert news is not None
    assert "stopped by SIGTERM" in news.text


def test_a_loss_that_is_no_number_is_shown_as_such():
    event = {"time": 1.0, "event": "epoch_ended", **make_epoch(0, 1), "train/loss": None}
    card, _ = update_card(Card(), event)
    assert "loss not a number → 1.100, 913 images/s" in list_lines(card)


def test_an_event_of_no_interest_changes_only_the_clock():
    card, news = update_card(Card(), {"time": 5.0, "event": "backbone_prepared"})
    assert (card, news) == (Card(now=5.0), None)


@given(st.text(), st.integers(2, 50))
def test_cleaned_text_has_no_marks_that_turn_or_hide_it(text: str, most: int):
    shown = clean_text(text, most)
    assert len(shown) <= most
    assert all(one.isprintable() or one == "\n" for one in shown)


def test_of_a_long_text_its_end_is_shown():
    assert clean_text(string.ascii_lowercase, 5) == "…wxyz"
    assert clean_text("a\u202eb\x00c\u200bd", 9) == "abcd"


def test_a_new_fold_has_no_best_even_if_a_step_was_its_first_sign():
    events = list(make_events())
    card, _ = watch(events[:9])  # the first fold and its end
    assert card.best == pytest.approx(0.83)
    card, _ = watch(events[:10])  # a step of the second fold
    assert (card.fold, card.best) == (1, None)
    card, _ = watch(events[:11])
    assert card.best == pytest.approx(0.811)


@pytest.mark.parametrize(
    "odd",
    [
        {"event": "epoch_ended", "too_long": 70_000},
        {"event": "step_reached", "fold": None},
        {"event": "run_started", "settings": 3},
        {"event": "warning_raised"},
        {"event": "fold_ended", "time": "soon"},
    ],
)
def test_an_event_that_cannot_be_read_costs_only_itself(odd):
    events = list(make_events())
    whole, told = watch(events)
    spoilt = {"time": events[3]["time"], **odd}
    card, news = watch([*events[:4], spoilt, *events[4:]])
    assert (card, news) == (whole, told)


def test_an_ending_is_told_however_little_of_it_can_be_read():
    for name, state in (("finished", "finished"), ("failed", "failed"), ("stopped", "stopped")):
        card, news = update_card(Card(), {"time": 1.0, "event": f"run_{name}", "too_long": 70_000})
        assert card.state == state
        assert news is not None
        event = {
            "time": 1.0,
            "event": f"run_{name}",
            "metric": None,
            "value": None,
            "interval": [None, None],
        }
        assert update_card(Card(), event)[1] is not None


def test_a_card_of_a_run_that_never_started_says_nothing_of_time():
    card, _ = update_card(Card(), {"time": 1.7e9, "event": "run_failed", "reason": "E: why"})
    assert list_lines(card) == ["E: why"]


def test_an_inference_announces_no_folds():
    start = next(make_events())
    start["settings"] = {**start["settings"], "predict.run": "attached"}
    card, news = update_card(Card(), start)
    assert news is not None
    assert news.text == "started on 2 × gpu: the models of an earlier run answer"
    assert not any("folds done" in line for line in list_lines(card))
