"""The dashboard reads a run through a relay that drops, forgets, refuses and is lied to."""

import base64
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from ntfy_server import NtfyServer, serve_ntfy
from receivers import drip, hang, serve_socket, wait_until

from podium import delivery as delivery_room
from podium.address import read_webhook
from podium.commands import Commands
from podium.delivery import Delivery
from podium.events import Reporter, read_record
from podium.relay import Seal
from workbench.dashboard import ntfy_topic as topic_room
from workbench.dashboard import relay_reader as reader_room
from workbench.dashboard.relay_reader import RelayReader
from workbench.dashboard.stops import ask_stop, show_stop
from workbench.dashboard.store import FullError, Span, Store

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
TOPIC = "podium-topic-of-many-letters"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of hundredths of seconds: what is tested is what arrives, not when."""
    monkeypatch.setattr(delivery_room, "LONGEST_BACKOFF", 0.02)
    monkeypatch.setattr(delivery_room, "PARKED_FOR", 0.02)
    monkeypatch.setattr(reader_room, "LONGEST_WAIT", 0.02)
    monkeypatch.setattr(reader_room, "REFUSED_WAIT", 0.02)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "dashboard").mkdir()
    store = Store(tmp_path / "dashboard")
    yield store
    store.close()


@pytest.fixture
def report(tmp_path: Path) -> Reporter:
    (tmp_path / "run").mkdir()
    return Reporter(tmp_path / "run")


@contextmanager
def reading(server: NtfyServer, store: Store) -> Iterator[RelayReader]:
    reader = RelayReader(f"{server.url}/{TOPIC}", KEY, store)
    reader.start()
    try:
        yield reader
    finally:
        reader.close()
        assert not reader.is_alive()


@contextmanager
def telling(
    server: NtfyServer, report: Reporter, obey: Any = lambda *_: None
) -> Iterator[Delivery]:
    sink = read_webhook(f"relay+{server.url}/{TOPIC}#{KEY}", report.folder, obey)
    delivery = Delivery(sink, report, report.folder / "webhook-relay.json")
    delivery.start()
    yield delivery
    delivery.close(30)


def tell(report: Reporter, server: NtfyServer, count: int) -> None:
    """So many messages of two epochs and what rings, with lines between them."""
    for _ in range(count):
        for _ in range(2):
            report.emit("epoch_ended", fold=0, epoch=1, epochs=9, phase="all")
            report.emit("line_said", text="an epoch ended")
        report.emit("fold_ended", fold=0, metric="accuracy", value=0.9)
        wait_until(lambda: find_last(server) == report.seq)


def find_last(server: NtfyServer) -> int:
    """The last seq that the newest message answers for."""
    texts = [one["message"] for one in server.messages if one["topic"] == TOPIC]
    return Seal(KEY).open(TOPIC, texts[-1])["last"] if texts else 0


def list_seqs(store: Store) -> list[int]:
    with store.reading() as db:
        return [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY session, seq")]


def count_missing(store: Store) -> int:
    with store.reading() as db:
        return sum(missing for (missing,) in db.execute("SELECT missing FROM runs"))


def list_told(report: Reporter) -> list[int]:
    """The seqs that are relayed, of the record."""
    events = [event for event, _ in read_record(report.path)]
    return [one["seq"] for one in events if one["event"] != "line_said"]


def list_since(server: NtfyServer) -> list[str]:
    """From where the topic was read, each time."""
    found = [re.search(rf"^/{TOPIC}/json\?since=(\w+)", path) for _, path, _ in server.requests]
    return [one[1] for one in found if one]


def test_a_run_is_read_as_it_tells_and_nothing_is_missing(store: Store, report: Reporter):
    with serve_ntfy() as server, reading(server, store) as reader, telling(server, report):
        wait_until(lambda: server.listeners)
        tell(report, server, 5)
        wait_until(lambda: list_seqs(store) == list_told(report))
        assert len(list_seqs(store)) == 15
        assert count_missing(store) == 0
        wait_until(lambda: reader.messages == len(server.messages))
        health = reader.health()
    sent = health.pop("sent_today")
    assert sent == health.pop("messages") == len(server.messages) >= 5
    assert health | {"last": 0} == {
        "topic_host": "127.0.0.1",
        "connected": True,
        "last": 0,
        "rejected": 0,
        "quota": 250,
        "words": "",
    }
    assert abs(health["last"] - time.time()) < 60


def test_what_was_not_sealed_with_the_key_is_counted_and_is_not_stored(
    store: Store, report: Reporter
):
    event = {"run": "evil", "session": "s", "seq": 1, "time": 1.0, "event": "run_started"}
    letter = {"run": "evil", "session": "s", "first": 1, "last": 1, "events": [event]}
    letter |= {"time": 1.0, "sent": 1, "pause": 180.0}
    right = Seal(KEY).close(TOPIC, letter)
    forgeries = [
        json.dumps(letter).encode(),
        b"words",
        right[:50] + b"0" + right[50:-1],
        Seal(OTHER).close(TOPIC, letter),
        Seal(KEY).close(f"{TOPIC}-ctl", letter),
    ]
    odd = [{"first": 2}, {"run": 1}, {"last": "1"}, {"events": None}, {"pause": "soon"}]
    contents = [[], {}, None, *({**letter, **one} for one in odd)]
    forgeries += [Seal(KEY).close(TOPIC, one) for one in contents]
    with serve_ntfy() as server, reading(server, store) as reader, telling(server, report):
        for one in forgeries:
            requests.post(f"{server.url}/{TOPIC}", data=one, timeout=9)
        report.warn("what comes after them is read")
        wait_until(lambda: reader.messages)
        health = reader.health()
    assert health["rejected"] == len(forgeries)
    assert health["words"].startswith(f"{len(forgeries)} messages were not sealed with this key")
    with store.reading() as db:
        assert [run for (run,) in db.execute("SELECT run FROM runs")] == [report.run]


def test_a_relay_that_drops_its_subscribers_loses_nothing(store: Store, report: Reporter):
    with serve_ntfy() as server, reading(server, store) as reader, telling(server, report):
        for _ in range(7):
            wait_until(lambda: server.listeners)
            server.drop_listeners()
            tell(report, server, 1)
            server.tokens = 60.0
        wait_until(lambda: list_seqs(store) == list_told(report))
        wait_until(lambda: reader.messages == len(server.messages))
    assert len(list_seqs(store)) == 21
    assert count_missing(store) == 0


def test_a_dashboard_that_starts_late_reads_what_the_relay_still_holds(
    store: Store, report: Reporter
):
    with serve_ntfy() as server:
        with telling(server, report):
            tell(report, server, 3)
        with reading(server, store):
            wait_until(lambda: list_seqs(store) == list_told(report))
    assert count_missing(store) == 0
    assert list_since(server)[0] == "all"


def test_a_dashboard_that_starts_again_goes_on_where_it_was(
    store: Store, report: Reporter, monkeypatch
):
    monkeypatch.setattr(reader_room, "OVERLAP", 0)
    with serve_ntfy() as server, telling(server, report):
        with reading(server, store) as reader:
            tell(report, server, 2)
            wait_until(lambda: reader.messages == len(server.messages))
        told, asked = server.messages[-1]["time"], len(list_since(server))
        server.ahead = 3600.0
        tell(report, server, 2)
        with reading(server, store) as again:
            wait_until(lambda: list_seqs(store) == list_told(report))
        assert list_since(server)[asked] == str(told)
        assert again.running == {report.run: (server.messages[-1]["time"], 180.0)}
    assert len(list_seqs(store)) == 12
    assert count_missing(store) == 0


def test_a_message_that_a_slow_node_stored_late_is_read_all_the_same(
    store: Store, report: Reporter
):
    with serve_ntfy() as server, reading(server, store) as reader, telling(server, report):
        tell(report, server, 1)
        wait_until(lambda: list_seqs(store) == list_told(report))
        with server.lock:
            listeners, server.listeners = server.listeners, []  # it is passed on to nobody
        tell(report, server, 1)
        late = server.messages.pop()
        server.listeners = listeners
        server.ahead = 60.0
        tell(report, server, 1)
        wait_until(lambda: list_seqs(store)[-1] == report.seq)
        assert count_missing(store) == 5
        server.messages.append(late)
        server.drop_listeners()
        wait_until(lambda: list_seqs(store) == list_told(report))
    assert count_missing(store) == 0
    assert reader.messages == len(server.messages)


def test_a_quota_that_is_used_up_in_the_middle_delays_and_loses_nothing(
    store: Store, report: Reporter
):
    with serve_ntfy() as server, reading(server, store), telling(server, report) as delivery:
        tell(report, server, 2)
        wait_until(lambda: list_seqs(store) == list_told(report))
        server.quota = server.published
        report.emit("epoch_ended", fold=0, epoch=1, epochs=9, phase="all")
        report.warn("the quota is used up")
        wait_until(lambda: delivery.failures > 2)
        assert len(list_seqs(store)) == 6
        server.ahead = 86_400.0
        wait_until(lambda: list_seqs(store) == list_told(report))
    assert len(list_seqs(store)) == 8
    assert count_missing(store) == 0


def test_what_the_relay_has_forgotten_is_seen_to_miss_and_comes_with_the_record(
    store: Store, report: Reporter
):
    with serve_ntfy() as server, telling(server, report):
        with reading(server, store) as reader:
            tell(report, server, 1)
            wait_until(lambda: reader.messages == len(server.messages))
        tell(report, server, 2)
        server.ahead = 13 * 3600.0
        tell(report, server, 1)
        with reading(server, store) as reader:
            wait_until(lambda: list_seqs(store)[-1] == list_told(report)[-1])
    # Of the record's 20 events the relay forgot 2 × 5; the last line of the first message is
    # answered for by the second.
    assert list_seqs(store) == [1, 3, 5, 16, 18, 20]
    assert count_missing(store) == 10
    events = [event for event, _ in read_record(report.path)]
    for _ in range(2):
        span = Span(report.run, report.session, 1, len(events))
        store.take(events, [span], "import", time.time())
        assert list_seqs(store) == list(range(1, 21))
        assert count_missing(store) == 0


def make_noise() -> str:
    """A text that no compression makes short enough for a message."""
    return "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(7_000))


def test_an_event_too_long_for_a_text_is_read_from_its_file(store: Store, report: Reporter):
    with serve_ntfy() as server, reading(server, store), telling(server, report):
        report.emit("run_failed", error="E", reason=make_noise())
        wait_until(lambda: list_seqs(store) == [1])
    with store.reading() as db:
        (body,) = db.execute("SELECT body FROM events").fetchone()
    assert json.loads(body)["reason"] == make_noise()


def test_a_file_that_is_gone_is_seen_to_miss(store: Store, report: Reporter):
    with serve_ntfy() as server, telling(server, report):
        report.emit("run_started")
        report.emit("run_failed", error="E", reason=make_noise())
        report.emit("run_started")
        wait_until(lambda: len(server.messages) == 3)
        server.ahead = 4 * 3600.0
        with reading(server, store):
            wait_until(lambda: list_seqs(store) == [1, 3])
    assert count_missing(store) == 1


def test_no_address_that_a_message_names_is_fetched(store: Store, report: Reporter):
    with serve_ntfy() as other, serve_ntfy() as server:
        file = {"url": f"{other.url}/file/x.txt", "name": "x", "size": 9, "expires": 2**40}
        stamp = {"time": int(time.time()), "expires": 2**40, "event": "message", "topic": TOPIC}
        for name in ("x", "../v1/account", f"x@{other.url}"):
            server.messages.append({"id": name, **stamp, "message": "m", "attachment": file})
        with reading(server, store), telling(server, report):
            report.warn("what comes after them is read")
            wait_until(lambda: list_seqs(store))
        assert other.requests == []
        files = [path for _, path, _ in server.requests if not path.startswith(f"/{TOPIC}")]
        assert set(files) == {"/file/x"}


def test_what_the_store_cannot_keep_is_asked_for_again(store: Store, report: Reporter, monkeypatch):
    failures, take = [FullError("the database is full")], store.take

    def fail(*words: Any) -> Any:
        if failures:
            raise failures.pop()
        return take(*words)

    monkeypatch.setattr(store, "take", fail)
    with serve_ntfy() as server, telling(server, report):
        tell(report, server, 2)
        with reading(server, store):
            wait_until(lambda: list_seqs(store) == list_told(report))
    assert not failures


def test_a_command_reaches_the_run_after_its_next_message(store: Store, report: Reporter):
    heard: list[Any] = []
    command = {"id": "a1b2c3d4e5f60718", "op": "stop", "expires": time.time() + 60}
    with serve_ntfy() as server, reading(server, store) as reader:
        server.is_down = True
        reader.tell(command)
        time.sleep(0.1)
        server.is_down = False
        wait_until(lambda: server.messages)
        with telling(server, report, lambda *one: heard.append(one)):
            report.warn("one")
            wait_until(lambda: heard)
        assert command["id"] not in json.dumps(server.messages)
    assert heard == [({"commands": [command]}, KEY)]
    assert server.messages[0]["priority"] == 1


def test_a_run_that_is_asked_to_stop_obeys_and_says_so(store: Store, report: Reporter):
    commands = Commands(report)
    with (
        serve_ntfy() as server,
        reading(server, store) as reader,
        telling(server, report, commands.obey),
    ):
        report.emit("run_started")
        wait_until(lambda: list_seqs(store))
        with store.writing() as db:
            command = ask_stop(db, KEY, report.run, time.time())
        reader.tell(command)
        wait_until(lambda: any(one["topic"] != TOPIC for one in server.messages))
        report.warn("this message is followed by a look at the commands")
        wait_until(lambda: commands.stop)
        report.emit("run_stopped", command=commands.stop)
        wait_until(lambda: list_seqs(store) == list_told(report))
    with store.reading() as db:
        assert show_stop(db, 1, time.time())["state"] == "taken"


def test_a_command_that_has_expired_is_not_sent(store: Store):
    with serve_ntfy() as server:
        reader = RelayReader(f"{server.url}/{TOPIC}", KEY, store)
        reader.publish({"id": "a1", "expires": time.time() - 1})
        assert server.requests == []


def test_silence_and_a_quota_nearly_used_are_said(store: Store, report: Reporter, monkeypatch):
    clock = [time.time()]
    with (
        serve_ntfy() as server,
        reading(server, store) as reader,
        telling(server, report) as sender,
    ):
        sender.memory.update(day=int(clock[0] // 86_400), sent=199)
        report.warn("one")
        wait_until(lambda: reader.messages and reader.connected)
        monkeypatch.setattr(reader_room.time, "time", lambda: clock[0])
        assert reader.health()["words"] == (
            "200 of the day's 250 messages are sent: runs tell less often until midnight UTC."
        )
        assert reader.health()["sent_today"] == 200
        clock[0] += 14 * 60
        told = "Nothing for 14 min: the relay's daily quota may be used up, or the run is gone; "
        assert told in reader.health()["words"]
        clock[0] += 86_400
        assert reader.health()["sent_today"] is None
        report.emit("run_finished", rows=5)
        wait_until(lambda: not reader.running)
        assert "Nothing for" not in reader.health()["words"]


@pytest.mark.parametrize("handle", [hang, drip])
def test_a_relay_that_hangs_or_drips_is_left_and_gives_nothing_away(
    store: Store, handle: Any, monkeypatch, caplog: pytest.LogCaptureFixture, capfd
):
    monkeypatch.setattr(topic_room, "SILENCE", 0.2)
    monkeypatch.setattr(topic_room, "ATTEMPT_SECONDS", 0.5)
    caplog.set_level(logging.DEBUG)
    with serve_socket(handle) as url:
        reader = RelayReader(f"{url}/{TOPIC}", KEY, store)
        reader.start()
        wait_until(lambda: reader.failures > 1)
        kind = "ReadTimeout" if handle is hang else "TimeoutError"
        assert reader.trouble == f"the relay cannot be reached ({kind})"
        words = json.dumps(reader.health())
        reader.close()
    shown = "".join([words, caplog.text, *capfd.readouterr(), str(vars(reader)["trouble"])])
    assert TOPIC not in shown
    assert KEY.removeprefix("whsec_") not in shown


def test_a_relay_that_is_down_or_refuses_is_said_and_gives_nothing_away(
    store: Store, caplog: pytest.LogCaptureFixture, capfd
):
    caplog.set_level(logging.DEBUG)
    with serve_ntfy() as server, reading(server, store) as reader:
        wait_until(lambda: server.listeners)
        assert reader.health()["words"] == ""
        server.is_down = True
        server.drop_listeners()
        wait_until(lambda: "cannot be reached (ConnectionError)" in reader.health()["words"])
        server.tokens, server.is_down = -1e6, False
        wait_until(lambda: "refuses with status 429" in reader.health()["words"])
        assert reader.health()["words"].startswith("Not connected: ")
        server.tokens = 60.0
        wait_until(lambda: reader.connected)
    shown = "".join([caplog.text, *capfd.readouterr()])
    assert TOPIC not in shown
    assert KEY.removeprefix("whsec_") not in shown
