import json
from pathlib import Path

import pytest
from sample_run import hand_over, make_events

from podium.card import update_card
from podium.post import Answer, NoAnswerError, RefusedError, Request
from podium.signing import sign
from podium.sinks import CardSink, JsonSink, KerasSink, read_logs, send_with_picture

EVENTS = list(make_events())


class Wire:
    """Keeps requests; fails at the numbers given."""

    def __init__(self, *fail_at: int) -> None:
        self.sent: list[Request] = []
        self.fail_at, self.calls = fail_at, 0

    def __call__(self, request: Request) -> Answer:
        self.calls += 1
        if self.calls in self.fail_at:
            raise NoAnswerError("TimeoutError")
        self.sent.append(request)
        return Answer(200, {}, {})


def test_a_batch_of_events_is_one_post_named_by_its_first_and_last():
    wire = Wire()
    JsonSink("https://host/x").deliver(EVENTS, {}, wire)
    (request,) = wire.sent
    assert json.loads(request.data) == {"events": EVENTS}
    assert request.headers["webhook-id"] == f"4042-5e551014-1-5e551014-{len(EVENTS)}"
    assert "webhook-signature" not in request.headers


def test_a_secret_signs_what_is_sent():
    wire = Wire()
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    JsonSink("https://host/x", secret).deliver(EVENTS[:1], {}, wire)
    headers, body = wire.sent[0].headers, wire.sent[0].data
    moment = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == sign(secret, headers["webhook-id"], moment, body)
    assert secret not in str(wire.sent)


def test_keras_gets_each_epoch_under_its_own_names_from_0():
    wire = Wire()
    hand_over(KerasSink("http://host/publish/epoch/end/"), EVENTS, {}, wire)
    logs = [json.loads(request.data["data"]) for request in wire.sent]
    assert [log["epoch"] for log in logs] == [0, 1, 2, 0, 1, 2]
    assert logs[0] == {
        "epoch": 0,
        "loss": 1.0,
        "accuracy": 0.9,
        "val_loss": 1.1,
        "val_accuracy": 0.81,
        "learning_rate": 1e-3,
        "fold": 0,
    }
    wire = Wire()
    hand_over(KerasSink("http://host/", form=False), EVENTS, {}, wire)
    assert [request.json for request in wire.sent] == logs
    assert read_logs(EVENTS[3]) == logs[0]


def test_each_epoch_is_a_delivery_of_its_own_and_no_other_event_is_one():
    sink = KerasSink("http://host/")
    chosen = sink.choose(EVENTS)
    assert [event["event"] for event in EVENTS[chosen]] == ["epoch_ended"]
    assert "epoch_ended" not in [event["event"] for event in EVENTS[: chosen.start]]
    assert sink.choose(EVENTS[:2]) == slice(2, 2)
    assert sink.choose([]) == slice(0, 0)


class Board(CardSink):
    """Tells and shows by plain requests."""

    def tell_news(self, news, card, memory, send) -> None:
        send(Request("POST", "news", json=news.kind))

    def show_card(self, card, memory, send) -> None:
        send(Request("POST", "card", json=card))


def test_news_come_one_by_one_and_then_one_card(tmp_path: Path):
    wire, board = Wire(), Board("http://host", tmp_path)
    hand_over(board, EVENTS, {}, wire)
    assert [one.url for one in wire.sent].count("card") == 1
    assert wire.sent[-1].url == "card"
    assert [one.json for one in wire.sent[:2]] == ["started", "alert"]
    assert wire.sent[-1].json == board.card == board.shown
    assert board.card.scores == (0.91, 0.92)


def test_a_delivery_that_failed_changes_nothing_and_is_made_again_as_it_was(tmp_path: Path):
    whole = Wire()
    hand_over(Board("http://host", tmp_path), EVENTS, {}, whole)
    for number in range(1, whole.calls + 1):
        wire, memory = Wire(number), {}
        board = Board("http://host", tmp_path)
        with pytest.raises(NoAnswerError):
            hand_over(board, EVENTS, memory, wire)
        done = [event["time"] for event in EVENTS].index(board.card.now) + 1 if number > 1 else 0
        hand_over(board, EVENTS[done:], json.loads(json.dumps(memory)), wire)
        assert [one.json for one in wire.sent] == [one.json for one in whole.sent]


def test_a_card_is_made_again_from_what_an_earlier_session_delivered(tmp_path: Path):
    first, second = Board("http://host", tmp_path), Board("http://host", tmp_path)
    hand_over(first, EVENTS[:6], {}, Wire())
    second.note(EVENTS[:6])
    assert first.card == second.card
    assert second.is_behind


def test_only_news_and_a_changed_card_are_delivered(tmp_path: Path):
    board = Board("http://host", tmp_path)
    assert not board.is_behind
    for event in EVENTS:
        rings = update_card(board.card, event)[1] is not None
        assert board.choose([event]) == (slice(0, 1) if rings else slice(1, 1))
        board.note([event])
        assert board.is_behind
        board.note([])
        assert not board.is_behind


def test_a_message_whose_picture_is_refused_is_sent_without_it():
    def refuse(status: int):
        def send(request: Request) -> Answer:
            if request.data:
                raise RefusedError(Answer(status, {}, None))
            return Answer(200, {}, request.json)

        return send

    def write(picture: bytes | None) -> Request:
        return Request("POST", "url", json="text", data=picture)

    assert send_with_picture(write, b"png", refuse(400)).body == "text"
    assert send_with_picture(write, None, refuse(400)).body == "text"
    for status in (401, 404, 429, 500):
        with pytest.raises(RefusedError, match=f"status {status}"):
            send_with_picture(write, b"png", refuse(status))


def test_the_picture_of_the_curves_is_read_when_there_is_one(tmp_path: Path):
    board = Board("http://host", tmp_path)
    assert board.read_curves() is None
    (tmp_path / "curves.png").write_bytes(b"png")
    assert board.read_curves() == b"png"
