"""A run that tells through a relay, against an ntfy with its real limits."""

import json
import logging
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ntfy_server import NtfyServer, serve_ntfy
from receivers import wait_until
from sample_run import hand_over, make_events

from podium import delivery as delivery_room
from podium import relay as relay_room
from podium.address import WebhookError, list_secrets, read_webhook
from podium.delivery import Delivery
from podium.events import Reporter
from podium.post import Answer, NoAnswerError, Request
from podium.relay import RelaySink, Seal, SealError, thin_out
from podium.webhook import Watch

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
TOPIC = "podium-topic-of-many-letters"
EVENTS = list(make_events())


def make_sink(**more: Any) -> RelaySink:
    return RelaySink(f"https://ntfy.example/{TOPIC}", KEY, **more)


class Wire:
    """Keeps what is published, and answers a reader with commands."""

    def __init__(self, *commands: bytes) -> None:
        self.sent: list[Request] = []
        lines = [json.dumps({"event": "message", "message": one.decode()}) for one in commands]
        self.commands = "\n".join([*lines, '{"event":"keepalive"}', "no JSON"]).encode()

    def __call__(self, request: Request) -> Answer:
        if request.method == "GET":
            return Answer(200, {}, None, self.commands)
        self.sent.append(request)
        return Answer(200, {}, {})

    @property
    def letters(self) -> list[dict[str, Any]]:
        return [Seal(KEY).open(TOPIC, one.data) for one in self.sent]


def open_messages(server: NtfyServer) -> list[dict[str, Any]]:
    """What the messages of the topic hold."""
    return [
        Seal(KEY).open(TOPIC, server.files.get(one["id"], one["message"]))
        for one in server.messages
        if one["topic"] == TOPIC
    ]


def list_keys(letters: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["session"], one["seq"]) for letter in letters for one in letter["events"]]


def list_spans(letters: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(one["first"], one["last"]) for one in letters]


def name_events(letters: list[dict[str, Any]]) -> list[list[str]]:
    return [[one["event"] for one in letter["events"]] for letter in letters]


values = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=300)
)
names = st.sampled_from(["epoch_ended", "heartbeat", "line_said", "image_shown", "x" * 90])
told = st.fixed_dictionaries({"event": names}, optional={"a": values, "b": st.lists(values)})


@given(st.lists(told, max_size=60), st.integers(0, 10**6))
def test_whatever_is_told_a_message_is_short_enough_and_all_is_answered_for(told, sent: int):
    events = [
        {"run": "4042", "session": "12345678"[: 1 + seq % 50 // 40], "seq": seq, "time": 1.5, **one}
        for seq, one in enumerate(told, 1)
    ]
    sink, wire = make_sink(), Wire()
    hand_over(sink, events, {"day": int(relay_room.time.time() // 86_400), "sent": sent}, wire)
    for request, letter in zip(wire.sent, wire.letters, strict=True):
        assert len(request.data) < 4096 or letter["events"][0]["seq"] == letter["last"]
        assert request.data.decode().strip() == request.data.decode()
    relayed = [one for one in events if one["event"] not in ("line_said", "image_shown")]
    covered = {
        (one["session"], seq)
        for one in wire.letters
        for seq in range(one["first"], one["last"] + 1)
    }
    assert {(one["session"], one["seq"]) for one in relayed} <= covered
    keys = list_keys(wire.letters)
    assert len(keys) == len(set(keys))
    assert {(one["session"], one["seq"]) for one in thin_out(relayed)} <= set(keys)


def test_a_text_opens_with_its_secret_for_its_topic_and_no_other():
    text = Seal(KEY).close(TOPIC, {"events": [1]})
    assert Seal(KEY).open(TOPIC, text) == {"events": [1]}
    forged = text[:50] + b"0" + text[50:-1]
    other = KEY.replace("MfKQ", "NfKQ")
    for secret, topic, one in [(KEY, f"{TOPIC}-ctl", text), (other, TOPIC, text)]:
        with pytest.raises(SealError):
            Seal(secret).open(topic, one)
    for one in (forged, b"", b"~", "", 'not base 85: "', "ü", text.decode()[:40]):
        with pytest.raises(SealError) as error:
            Seal(KEY).open(TOPIC, one)
        assert KEY not in str(error.value)
        assert TOPIC not in str(error.value)


def test_the_same_content_never_looks_the_same_and_shows_none_of_itself():
    texts = {Seal(KEY).close(TOPIC, EVENTS) for _ in range(20)}
    assert len(texts) == 20
    assert not any(word in one for word in (b"epoch", b"4042", b"EfficientNet") for one in texts)


def test_a_message_that_would_grow_without_end_is_refused(monkeypatch):
    text = Seal(KEY).close(TOPIC, "0" * 100_000)
    monkeypatch.setattr(relay_room, "LONGEST_UNPACKED", 50_000)
    with pytest.raises(SealError):
        Seal(KEY).open(TOPIC, text)


def test_of_events_that_say_how_things_stand_the_last_is_told_and_of_lines_and_images_none():
    names = ["line_said", "heartbeat", "epoch_ended", "heartbeat", "line_said"]
    names += ["image_shown", "epoch_ended"]
    events = [{**EVENTS[0], "seq": seq, "event": name} for seq, name in enumerate(names, 1)]
    sink, wire = make_sink(), Wire()
    hand_over(sink, events[:5], {}, wire)
    hand_over(sink, events[5:], {}, wire)
    assert name_events(wire.letters) == [["epoch_ended", "heartbeat"], ["epoch_ended"]]
    assert list_spans(wire.letters) == [(1, 5), (5, 7)]


def test_an_event_that_was_refused_is_answered_for_by_no_message():
    sink, wire = make_sink(), Wire()
    hand_over(sink, EVENTS[:2], {}, wire)
    sink.note(EVENTS[2:3])  # as Delivery does with one that is never taken
    hand_over(sink, EVENTS[3:], {}, wire)
    assert list_spans(wire.letters) == [(1, 2), (4, len(EVENTS))]


def test_a_message_is_of_one_session_and_wakes_no_phone():
    sink, wire = make_sink(), Wire()
    hand_over(sink, [*EVENTS, *make_events("0ther5e5")], {}, wire)
    assert [one["session"] for one in wire.letters] == ["5e551014", "0ther5e5"]
    assert all(one.headers == {"Priority": "1", "Firebase": "no"} for one in wire.sent)
    assert [one["sent"] for one in wire.letters] == [1, 2]


def test_what_rings_or_is_more_than_a_message_waits_for_no_pause():
    sink = make_sink()
    urgent = [one["event"] for one in EVENTS if sink.is_urgent([one])]
    assert urgent == ["run_started", "warning_raised", *["fold_ended"] * 2, "run_finished"]
    long = [
        {**EVENTS[3], "seq": seq, "train/loss": seq**0.5, "valid/loss": 1 / seq}
        for seq in range(1, 301)
    ]
    chosen = sink.choose(long)
    assert 1 < chosen.stop < 300
    assert sink.is_urgent(long[chosen])
    sink.choose(long[:1])
    assert not sink.is_urgent(long[:1])
    sink.sent = 250
    assert not sink.is_urgent(EVENTS[:1])


def test_the_days_last_messages_are_spread_and_a_new_day_begins_with_all(monkeypatch):
    sink, wire, memory = make_sink(), Wire(), {}
    clock = [1_764_000_000.0]
    monkeypatch.setattr(relay_room.time, "time", lambda: clock[0])
    pauses = []
    for _ in range(205):
        hand_over(sink, EVENTS[:1], memory, wire)
        pauses.append(sink.pause)
    assert pauses == [180.0] * 200 + [600.0] * 5
    assert [one["sent"] for one in wire.letters] == list(range(1, 206))
    assert json.loads(json.dumps(memory))["sent"] == 205
    clock[0] = 1_764_028_801.0  # midnight is past
    hand_over(sink, EVENTS[:1], memory, wire)
    assert (wire.letters[-1]["sent"], sink.pause) == (1, 180.0)


def test_a_message_that_is_not_taken_is_not_counted():
    sink, memory = make_sink(), {}

    def fail(request: Request) -> Answer:
        raise NoAnswerError("Timeout")

    with pytest.raises(NoAnswerError):
        hand_over(sink, EVENTS[:1], memory, fail)
    assert memory["sent"] == 0


def test_commands_are_heard_after_a_message_and_forged_ones_are_not():
    heard: list[Any] = []
    stop = {"commands": [{"id": "a1", "op": "stop"}]}
    other = KEY.replace("MfKQ", "NfKQ")
    wire = Wire(
        Seal(other).close(f"{TOPIC}-ctl", stop),
        b"plain words",
        Seal(KEY).close(TOPIC, stop),
        Seal(KEY).close(f"{TOPIC}-ctl", stop),
    )
    hand_over(make_sink(obey=lambda *one: heard.append(one)), EVENTS[:1], {}, wire)
    assert heard == [(stop, KEY)]


def test_commands_that_cannot_be_heard_cost_nothing():
    class Deaf(Wire):
        def __call__(self, request: Request) -> Answer:
            if request.method == "GET":
                raise NoAnswerError("Timeout")
            return super().__call__(request)

    wire = Deaf()
    hand_over(make_sink(), EVENTS, {}, wire)
    assert len(wire.sent) == 1


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (f"#{KEY}", "a relay's address needs a topic of 16 to 60 letters"),
        (f"a-secret#{KEY}", "a relay's address needs a topic of 16 to 60 letters"),
        (f"{'a-secret' * 8}#{KEY}", "a relay's address needs a topic of 16 to 60 letters"),
        (f"a-secret/{TOPIC}#{KEY}", "a relay's address needs a topic of 16 to 60 letters"),
        (f"{TOPIC}?a-secret=1#{KEY}", "a relay's address needs a topic of 16 to 60 letters"),
        (TOPIC, "a relay's address needs # and whsec_ and a key of 24 bytes or more"),
        (f"{TOPIC}#whsec_c2VjcmV0", "a relay's address needs # and whsec_ and a key of 24 bytes"),
        (f"{TOPIC}#a-secret", "a relay's address needs # and whsec_ and a key of 24 bytes or more"),
    ],
)
def test_a_relay_without_a_topic_or_a_key_is_refused(tail: str, message: str, tmp_path: Path):
    with pytest.raises(WebhookError) as error:
        read_webhook(f"relay+https://ntfy.sh/{tail}", tmp_path)
    assert str(error.value).startswith(message)
    assert "a-secret" not in str(error.value)
    assert TOPIC not in str(error.value)


def test_a_relays_topic_and_key_are_known_as_secrets():
    secrets = list_secrets(f"relay+https://ntfy.sh/{TOPIC}#{KEY}")
    assert {TOPIC, KEY, KEY.removeprefix("whsec_")} <= set(secrets)


def test_where_cryptography_is_missing_a_relay_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(WebhookError, match="the package cryptography, which is not installed"):
        read_webhook(f"relay+https://ntfy.sh/{TOPIC}#{KEY}", tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_room, "LONGEST_BACKOFF", 0.05)
    monkeypatch.setattr(delivery_room, "PARKED_FOR", 0.05)


def open_relay(server: NtfyServer, report: Reporter) -> Delivery:
    word = f"relay+{server.url}/{TOPIC}#{KEY}"
    delivery = Delivery(read_webhook(word, report.folder), report, report.folder / "relay.json")
    delivery.start()
    return delivery


@pytest.mark.usefixtures("quick")
def test_events_wait_for_the_pause_and_go_with_the_next_that_rings(tmp_path: Path):
    report = Reporter(tmp_path)
    with serve_ntfy() as server:
        delivery = open_relay(server, report)
        report.emit("heartbeat")
        wait_until(lambda: len(server.messages) == 1)
        wait_until(lambda: delivery.next_turn)
        report.emit("epoch_ended", fold=0, epoch=1)
        report.emit("line_said", text="epoch 1")
        report.emit("heartbeat")
        report.warn("look at this")
        wait_until(lambda: len(server.messages) == 2)
        report.emit("epoch_ended", fold=0, epoch=2)
        delivery.close(30)
    assert name_events(open_messages(server)) == [
        ["heartbeat"],
        ["epoch_ended", "heartbeat", "warning_raised"],
        ["epoch_ended"],
    ]
    assert [(one["first"], one["last"]) for one in open_messages(server)] == [
        (1, 1),
        (2, 5),
        (6, 6),
    ]
    assert {one["priority"] for one in server.messages} == {1}
    assert delivery.done


@pytest.mark.usefixtures("quick")
def test_a_quota_that_is_used_up_loses_nothing_and_the_backlog_takes_few_messages(tmp_path: Path):
    report = Reporter(tmp_path)
    with serve_ntfy(quota=2) as server:
        delivery = open_relay(server, report)
        for number in range(2):
            report.warn(f"{number}")
            wait_until(lambda: len(server.messages) > number)  # noqa: B023
        for epoch in range(1, 31):
            report.emit("epoch_ended", fold=0, epoch=epoch)
        report.emit("fold_ended", fold=0)
        wait_until(lambda: delivery.failures)
        assert delivery.trouble == "status 429"
        server.ahead = 86_400.0  # the next day
        wait_until(lambda: len(server.messages) > 2)
        delivery.close(30)
    letters = open_messages(server)
    assert len(letters) == 3
    assert [seq for _, seq in list_keys(letters)] == list(range(1, 34))


@pytest.mark.usefixtures("quick")
def test_an_event_too_long_for_a_text_goes_as_a_file_and_the_next_as_texts(tmp_path: Path):
    report = Reporter(tmp_path)
    noise = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(7_000))
    for event in ("epoch_ended", "run_failed", "epoch_ended"):
        report.emit(event, reason=noise if event == "run_failed" else "")
    with serve_ntfy() as server:
        open_relay(server, report).close(30)
    assert ["attachment" in one for one in server.messages] == [False, True, False]
    assert [seq for _, seq in list_keys(open_messages(server))] == [1, 2, 3]
    assert open_messages(server)[1]["events"][0]["reason"] == noise


@pytest.mark.usefixtures("quick")
def test_where_files_are_not_taken_the_event_is_left_out_and_is_seen_to_miss(
    tmp_path: Path, capsys
):
    report = Reporter(tmp_path)
    noise = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(7_000))
    for reason in ("", noise, ""):
        report.emit("epoch_ended", reason=reason)
    with serve_ntfy(takes_files=False) as server:
        delivery = open_relay(server, report)
        delivery.close(30)
    letters = open_messages(server)
    assert list_spans(letters) == [(1, 1), (3, 3)]
    assert delivery.skipped == 1
    said = capsys.readouterr().out
    assert said == "! the relay webhook does not take an event (status 400)\n"


@pytest.mark.usefixtures("quick")
def test_a_session_that_goes_on_answers_for_what_the_last_one_left_out(tmp_path: Path):
    with serve_ntfy() as server:
        for _ in range(2):
            report = Reporter(tmp_path)
            report.emit("run_started")
            report.emit("line_said", text="one")
            open_relay(server, report).close(30)
        report.emit("epoch_ended")
        open_relay(server, report).close(30)
    letters = open_messages(server)
    assert list_spans(letters) == [(1, 2), (1, 2), (2, 3)]
    assert [one["sent"] for one in letters] == [1, 2, 3]
    assert len({one["session"] for one in letters}) == 2


@pytest.mark.usefixtures("quick")
def test_neither_log_nor_run_folder_holds_topic_or_key_whatever_the_relay_does(
    tmp_path: Path, capfd, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    report, word = Reporter(tmp_path), f"#{KEY}"
    with serve_ntfy(quota=1) as server, closing(Watch(report)) as watch:
        watch.open({"PODIUM_WEBHOOK": f"relay+{server.url}/{TOPIC}{word}"})
        (delivery,) = watch.deliveries
        server.is_down = True
        report.warn(f"an address in a warning: {server.url}/{TOPIC}{word}")
        wait_until(lambda: delivery.failures > 1)
        server.is_down = False
        wait_until(lambda: server.messages)
        report.warn("the quota is used up")
        wait_until(lambda: delivery.trouble == "status 429")
        server.quota = 250
        wait_until(lambda: len(server.messages) == 2)
    said = "".join([caplog.text, *capfd.readouterr()])
    assert "  webhook     relay, from the environment" in said
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "the quota is used up" in kept
    for secret in (TOPIC, KEY, KEY.removeprefix("whsec_")):
        assert secret not in said + kept
