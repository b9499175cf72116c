import json
from pathlib import Path

import pytest
from sample_run import make_events

from podium.card import URGENT
from podium.post import Answer, NoAnswerError, Request
from podium.sinks import CardSink, JsonSink, KerasSink, read_logs, sign

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


def test_the_signature_is_that_of_standard_webhooks():
    """The example of the specification's own reference libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


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
    KerasSink("http://host/publish/epoch/end/").deliver(EVENTS, {}, wire)
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
    KerasSink("http://host/", form=False).deliver(EVENTS, {}, wire)
    assert [request.json for request in wire.sent] == logs
    assert read_logs(EVENTS[3]) == logs[0]


def test_after_a_failure_no_epoch_is_posted_twice():
    wire, memory, sink = Wire(3), {}, KerasSink("http://host/")
    with pytest.raises(NoAnswerError):
        sink.deliver(EVENTS, memory, wire)
    assert len(wire.sent) == 2
    sink.deliver(EVENTS, memory, wire)
    epochs = [json.loads(request.data["data"])["epoch"] for request in wire.sent]
    assert epochs == [0, 1, 2, 0, 1, 2]


class Board(CardSink):
    """Tells and shows by plain requests."""

    def tell_news(self, news, card, memory, send) -> None:
        send(Request("POST", "news", json=news.kind))

    def show_card(self, card, memory, send) -> None:
        send(Request("POST", "card", json=card))


def test_news_come_one_by_one_and_then_one_card(tmp_path: Path):
    wire, board = Wire(), Board("http://host", tmp_path)
    board.deliver(EVENTS, {}, wire)
    assert [one.url for one in wire.sent].count("card") == 1
    assert wire.sent[-1].url == "card"
    assert [one.json for one in wire.sent[:2]] == ["started", "alert"]


def test_after_any_failure_no_news_are_told_twice_and_the_card_is_shown(tmp_path: Path):
    whole = Wire()
    Board("http://host", tmp_path).deliver(EVENTS, {}, whole)
    for number in range(1, whole.calls + 1):
        wire, memory = Wire(number), {}
        board = Board("http://host", tmp_path)
        with pytest.raises(NoAnswerError):
            board.deliver(EVENTS, memory, wire)
        board.deliver(EVENTS, json.loads(json.dumps(memory)), wire)
        assert [one.json for one in wire.sent] == [one.json for one in whole.sent]


def test_a_card_is_made_again_from_what_an_earlier_session_delivered(tmp_path: Path):
    first, second = Board("http://host", tmp_path), Board("http://host", tmp_path)
    first.deliver(EVENTS[:6], {}, Wire())
    second.recall(EVENTS[:6])
    assert first.card == second.card


def test_only_news_are_urgent(tmp_path: Path):
    board = Board("http://host", tmp_path)
    for event in EVENTS:
        assert board.is_urgent([event]) == (event["event"] in URGENT)
        assert not JsonSink("https://host").is_urgent([event])


def test_the_picture_of_the_curves_is_read_when_there_is_one(tmp_path: Path):
    board = Board("http://host", tmp_path)
    assert board.read_curves() is None
    (tmp_path / "curves.png").write_bytes(b"png")
    assert board.read_curves() == b"png"
