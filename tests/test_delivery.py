"""The sender against real servers that are down, slow, broken, or lie."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from receivers import drip, hang, serve, serve_socket, wait_until
from services import Discord, Ntfy, Slack, Telegram

from podium import delivery as delivery_room
from podium import post as post_room
from podium.address import read_webhook
from podium.card import list_lines
from podium.delivery import Delivery, read_memory
from podium.events import Reporter, read_record
from podium.post import Request
from podium.sinks import CardSink, JsonSink, Sink

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


class Collector:
    """A receiver that keys events by (run, session, seq), as docs/events.md asks."""

    def __init__(self) -> None:
        self.posts = 0
        self.rows: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.times: list[float] = []

    def store(self, request) -> None:
        self.posts += 1
        self.times.append(time.monotonic())
        for event in request.json["events"]:
            self.rows[event["run"], event["session"], event["seq"]] = event

    def __call__(self, request):
        self.store(request)
        return 200, {}, {}

    @property
    def numbers(self) -> list[int]:
        return [row["number"] for row in self.rows.values()]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and limits of tenths of seconds: what is tested is order and count, not time."""
    monkeypatch.setattr(post_room, "ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(delivery_room, "LONGEST_BACKOFF", 0.05)
    monkeypatch.setattr(delivery_room, "PARKED_FOR", 0.05)


def open_delivery(report: Reporter, sink: Sink, pause: float = 0.0) -> Delivery:
    sink.pause = pause
    delivery = Delivery(sink, report, report.folder / "webhook-json.json")
    delivery.start()
    return delivery


def emit(report: Reporter, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        report.emit("step_reached", number=number)


def test_every_event_arrives_once_and_in_order(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)
    with serve(collector) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 1000)
        delivery.close(30)
    assert collector.numbers == list(range(1000))
    assert not delivery.is_alive()


def test_what_is_said_while_the_record_is_read_for_the_last_time_is_delivered(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)

    class Overtaken(Delivery):
        """Finds nothing to deliver; then, before it looks up, an event and the end come."""

        def read_pending(self):
            pending = super().read_pending()
            if not self.closing.is_set():
                emit(report, 1)
                self.closing.set()
                self.woken.set()
            return pending

    with serve(collector) as server:
        delivery = Overtaken(JsonSink(server.url), report, tmp_path / "webhook-json.json")
        delivery.run()
    assert collector.numbers == [0]


def test_an_outage_loses_nothing(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)
    with serve() as server:
        url = server.url
    delivery = open_delivery(report, JsonSink(url))
    emit(report, 100)
    wait_until(lambda: delivery.failures > 2)
    with serve(collector) as server:
        delivery.sink.url = server.url
        emit(report, 100, 100)
        wait_until(lambda: len(collector.rows) == 200)
        delivery.close(30)
    assert collector.numbers == list(range(200))


def test_no_request_comes_before_the_wait_that_was_asked_for_is_over(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)
    asked = [(429, {"Retry-After": "0.4"}, {}), (429, {}, {"retry_after": 0.3})]
    waits = [0.4, 0.3]

    def behave(request):
        if asked:
            collector.times.append(time.monotonic())
            return asked.pop(0)
        return collector(request)

    with serve(behave) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 50)
        wait_until(lambda: len(collector.rows) == 50)
        delivery.close(30)
    gaps = [b - a for a, b in zip(collector.times, collector.times[1:], strict=False)]
    assert all(gap >= wait for gap, wait in zip(gaps, waits, strict=False))


def test_a_hostile_wait_is_capped_and_does_not_keep_the_program(tmp_path: Path):
    report = Reporter(tmp_path)
    with serve(lambda _: (429, {"Retry-After": "99999999"}, {})) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 1)
        wait_until(lambda: delivery.failures)
        assert delivery.next_try - time.monotonic() <= 3600
        started = time.monotonic()
        delivery.close(0.2)
        assert time.monotonic() - started < 5


def test_a_server_that_stores_and_then_says_500_has_each_event_once(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)

    def behave(request):
        collector.store(request)
        return (500 if collector.posts % 3 else 200), {}, {}

    with serve(behave) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 500)
        delivery.close(60)
    assert sorted(collector.numbers) == list(range(500))
    assert collector.posts > len({row["session"] for row in collector.rows.values()})


@pytest.mark.parametrize("handle", [hang, drip])
def test_a_server_that_hangs_holds_up_neither_the_run_nor_its_end(
    tmp_path: Path, handle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(post_room, "ATTEMPT_SECONDS", 5.0)
    report = Reporter(tmp_path)
    with serve_socket(handle) as url:
        delivery = open_delivery(report, JsonSink(url))
        started = time.monotonic()
        emit(report, 200)
        delivery.close(0.3)
        assert time.monotonic() - started < 4  # and not 5, which one attempt may take
    assert len(list(read_record(report.path))) == 200
    assert report.lost == 0


def test_too_large_a_batch_is_halved_until_it_is_taken(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)
    emit(report, 100)

    def behave(request):
        return collector(request) if len(request.json["events"]) <= 10 else (413, {}, {})

    with serve(behave) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        delivery.close(30)
    assert collector.numbers == list(range(100))


def test_one_event_that_is_never_taken_is_left_out_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    collector, report = Collector(), Reporter(tmp_path)
    emit(report, 40)

    def behave(request):
        poison = any(event["number"] in (7, 21) for event in request.json["events"])
        return (422, {}, {}) if poison else collector(request)

    with serve(behave) as server:
        open_delivery(report, JsonSink(server.url)).close(30)
    assert collector.numbers == [n for n in range(40) if n not in (7, 21)]
    assert capsys.readouterr().out == "! the json webhook does not take an event (status 422)\n"


@pytest.mark.parametrize("status", [302, 401, 403, 404, 410])
def test_a_webhook_that_is_gone_is_said_once_and_tried_again(
    tmp_path: Path, status: int, capsys: pytest.CaptureFixture[str]
):
    collector, report, tries = Collector(), Reporter(tmp_path), []

    def behave(request):
        tries.append(1)
        return collector(request) if len(tries) > 3 else (status, {"location": "/elsewhere"}, {})

    with serve(behave) as server:
        delivery = open_delivery(report, JsonSink(f"{server.url}/token-of-this-webhook"))
        emit(report, 5)
        wait_until(lambda: len(collector.rows) == 5)
        delivery.close(30)
    said = capsys.readouterr().out
    assert said.startswith(f"! the json webhook refuses with status {status}; ")
    assert said.count("\n") == 1
    assert "token-of-this-webhook" not in said


def test_an_odd_sink_silences_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class Broken(JsonSink):
        def deliver(self, events, memory, send) -> None:
            if any(event["number"] == 3 for event in events):
                raise KeyError("a bug")
            super().deliver(events, memory, send)

    collector, report = Collector(), Reporter(tmp_path)
    with serve(collector) as server:
        sink = Broken(server.url)
        delivery = open_delivery(report, sink)
        emit(report, 6)
        delivery.close(30)
    assert collector.numbers == [0, 1, 2, 4, 5]
    assert "(KeyError)" in capsys.readouterr().out


def test_events_gather_while_a_program_pauses_and_are_not_read_before_its_turn(tmp_path: Path):
    collector, report = Collector(), Reporter(tmp_path)
    with serve(collector) as server:
        delivery = open_delivery(report, JsonSink(server.url), pause=3600)
        emit(report, 1)
        wait_until(lambda: collector.posts == 1)
        wait_until(lambda: delivery.next_turn > time.monotonic())
        reads, read_pending = [], delivery.read_pending
        delivery.read_pending = lambda: reads.append(1) or read_pending()
        emit(report, 50, 1)
        time.sleep(0.1)
        assert reads == []
        delivery.close(30)
    assert collector.numbers == list(range(51))
    assert collector.posts == 2


def test_nothing_is_read_while_a_server_asked_to_wait(tmp_path: Path):
    report, sink = Reporter(tmp_path), Board(tmp_path)
    with serve(lambda _: (429, {"Retry-After": "3600"}, {})) as server:
        sink.url = server.url
        delivery = open_delivery(report, sink)
        report.warn("news")
        wait_until(lambda: delivery.asked > time.monotonic())
        reads, read_pending = [], delivery.read_pending
        delivery.read_pending = lambda: reads.append(1) or read_pending()
        emit(report, 50)
        time.sleep(0.1)
        assert reads == []
        assert len(server.received) == 1
        delivery.close(30)


def test_backoff_grows_is_jittered_and_is_no_less_than_was_asked(tmp_path: Path, monkeypatch):
    ranges = []

    def draw(dice: random.Random, low: float, high: float) -> float:
        ranges.append((low, high))
        return high / 4

    monkeypatch.setattr(random.Random, "uniform", draw)
    monkeypatch.setattr(delivery_room, "LONGEST_BACKOFF", 60.0)
    monkeypatch.setattr(delivery_room.time, "monotonic", lambda: 1000.0)
    delivery = Delivery(Board(tmp_path), Reporter(tmp_path), tmp_path / "memory.json")
    tries = []
    for _ in range(9):
        delivery.back_off(0.0)
        tries.append(delivery.next_try - 1000)
    assert ranges == [(0, high) for high in (1, 2, 4, 8, 16, 32, 60, 60, 60)]
    assert tries == [high / 4 for _, high in ranges]
    delivery.back_off(500.0)
    assert delivery.next_try == 1500


def test_jitter_leaves_the_draws_of_the_run_alone(tmp_path: Path):
    delivery = Delivery(
        JsonSink("http://127.0.0.1:9"), Reporter(tmp_path), tmp_path / "memory.json"
    )
    before = random.getstate()
    delivery.back_off(0.0)
    assert random.getstate() == before


def test_at_the_end_jitter_is_waived(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(random.Random, "uniform", lambda *_: 3600.0)
    collector, report = Collector(), Reporter(tmp_path)
    with serve(lambda _: (503, {}, {})) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 3)
        wait_until(lambda: delivery.failures)
    with serve(collector) as server:
        delivery.sink.url = server.url
        delivery.close(30)
    assert collector.numbers == [0, 1, 2]
    assert delivery.done


def test_at_the_end_a_wait_that_was_asked_for_is_kept_and_not_waited_for_in_vain(tmp_path: Path):
    report = Reporter(tmp_path)
    with serve(lambda _: (429, {"Retry-After": "3600"}, {})) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 3)
        wait_until(lambda: delivery.failures)
        delivery.close(60)
        assert not delivery.is_alive()
        assert not delivery.done
        assert len(server.received) == 1


def take_telegram(wait: float):
    body = {"ok": False, "error_code": 429, "parameters": {"retry_after": wait}}
    return 429, {}, body | {"description": f"Too Many Requests: retry after {wait}"}


@pytest.mark.parametrize(
    ("kind", "service", "reply", "wait"),
    [
        ("discord", Discord(), (429, {}, {"retry_after": 0.3, "global": False}), 0.3),
        ("slack", Slack(), (429, {"Retry-After": "0.3"}, b"rate_limited"), 0.3),
        ("telegram", Telegram(), take_telegram(0.3), 0.3),
        ("ntfy", Ntfy(), (429, {}, {"code": 42901, "http": 429, "error": "limit reached"}), 0.0),
        ("ntfy", Ntfy(), (429, {}, {"code": 42908, "http": 429, "error": "limit reached"}), 0.3),
    ],
)
def test_each_services_way_to_ask_for_a_wait_is_understood(
    tmp_path: Path, kind: str, service: Any, reply: Any, wait: float, monkeypatch
):
    monkeypatch.setattr(delivery_room, "PARKED_FOR", 0.3)  # what the quota of a day waits
    report, service.replies, times = Reporter(tmp_path), [reply], []

    def behave(request):
        times.append(time.monotonic())
        return service(request)

    path = {"telegram": lambda: f"{service.path}?chat_id={service.chat}"}
    path["ntfy"] = lambda: f"/{service.topic}"
    with serve(behave) as server:
        place = path.get(kind, lambda: service.path)()
        delivery = open_delivery(report, read_webhook(f"{kind}+{server.url}{place}", tmp_path))
        report.emit("run_finished", rows=5)
        wait_until(lambda: service.messages)
        delivery.close(30)
    assert times[1] - times[0] >= wait
    messages = service.messages.values() if kind in ("discord", "telegram") else service.messages
    told = json.dumps(list(messages), default=str)
    assert told.count("finished: submission.csv has 5 rows") == (2 if kind == "slack" else 1)


@pytest.mark.parametrize("status", [400, 403, 413, 429, 500])
def test_ntfy_without_attachments_hears_every_text_once(tmp_path: Path, status: int):
    service, report = Ntfy(), Reporter(tmp_path)
    service.files_reply = (status, {}, {"code": 40014, "error": "attachments not allowed"})
    (tmp_path / "curves.png").write_bytes(b"png")
    with serve(service) as server:
        report.emit("fold_ended", fold=0, metric="accuracy", value=0.9)
        report.emit("run_finished", rows=5)
        delivery = open_delivery(
            report, read_webhook(f"ntfy+{server.url}/{service.topic}", tmp_path)
        )
        delivery.close(30)
    texts = [one["message"] for one in service.messages if not one.get("sequence_id")]
    assert texts == ["fold 0 ended: accuracy 0.9000", "finished: submission.csv has 5 rows"]
    assert delivery.done
    assert not delivery.skipped


class Board(CardSink):
    """Tells and shows by plain requests to a board that keeps them."""

    name = "board"

    def __init__(self, folder: Path, url: str = "") -> None:
        super().__init__(url, folder)

    def tell_news(self, news, card, memory, send) -> None:
        send(Request("POST", self.url, json={"news": news.text}))

    def show_card(self, card, memory, send) -> None:
        send(Request("POST", self.url, json={"card": list_lines(card)}))


def list_news(server) -> list[str]:
    return [one.json["news"] for one in server.received if "news" in one.json]


def test_news_ring_at_once_and_the_card_waits_for_its_pause(tmp_path: Path):
    report = Reporter(tmp_path)
    with serve() as server:
        delivery = open_delivery(report, Board(tmp_path, server.url), pause=3600)
        report.warn("one")
        wait_until(lambda: len(server.received) == 2)  # the news, and the card
        for number in range(3):
            report.emit("step_reached", fold=0, epoch=1, step=number, steps=3)
            report.warn(f"more {number}")
        wait_until(lambda: len(list_news(server)) == 4)
        assert len(server.received) == 5
        delivery.close(30)
    assert list_news(server) == ["one", "more 0", "more 1", "more 2"]
    assert server.received[-1].json["card"][-1] == "more 2"
    assert len(server.received) == 6


def test_one_piece_of_news_that_is_never_taken_costs_only_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = Reporter(tmp_path)
    for text in ("one", "poison", "two"):
        report.warn(text)
    capsys.readouterr()
    with serve(lambda one: (400 if "poison" in str(one.json) else 200, {}, {})) as server:
        open_delivery(report, Board(tmp_path, server.url)).close(30)
    assert list_news(server) == ["one", "poison", "two"]
    assert server.received[-1].json["card"][-1] == "two"
    assert capsys.readouterr().out == "! the board webhook does not take an event (status 400)\n"


def test_news_that_cannot_be_worded_cost_only_themselves(tmp_path: Path):
    class Speechless(Board):
        def tell_news(self, news, card, memory, send) -> None:
            if news.text == "odd":
                raise KeyError(news.text)
            super().tell_news(news, card, memory, send)

    report = Reporter(tmp_path)
    for text in ("one", "odd", "two"):
        report.warn(text)
    with serve() as server:
        open_delivery(report, Speechless(tmp_path, server.url)).close(30)
    assert list_news(server) == ["one", "two"]


def test_a_card_that_is_never_taken_costs_no_news(tmp_path: Path):
    report = Reporter(tmp_path)
    with serve(lambda one: (422 if "card" in one.json else 200, {}, {})) as server:
        delivery = open_delivery(report, Board(tmp_path, server.url))
        for number in range(5):
            report.warn(f"{number}")
            wait_until(lambda: len(list_news(server)) > number)  # noqa: B023
        delivery.close(30)
    assert list_news(server) == list("01234")
    assert not delivery.is_alive()


def test_an_event_that_cannot_be_read_silences_neither_this_session_nor_the_next(tmp_path: Path):
    for session in range(2):
        report = Reporter(tmp_path)
        report.emit("epoch_ended", **{f"metric{number}": number for number in range(20_000)})
        report.emit("fold_ended")
        report.emit("run_finished", rows=5, metric="accuracy", value=None, interval=[None, None])
        with serve() as server:
            open_delivery(report, Board(tmp_path, server.url)).close(30)
        assert list_news(server) == [
            "fold ? ended: score ?",
            "finished: out-of-fold accuracy ? (95 %: ? to ?); submission.csv has 5 rows",
        ], session


KILLED = """
import os, sys, pathlib, time
from podium.delivery import Delivery
from podium.events import Reporter
from podium.sinks import JsonSink
report = Reporter(pathlib.Path(sys.argv[1]))
sink = JsonSink(sys.argv[2])
sink.pause, sink.largest = 0.0, 7
Delivery(sink, report, report.folder / "webhook-json.json").start()
start = int(sys.argv[3])
for number in range(start, start + 500):
    report.emit("step_reached", number=number)
    time.sleep(0.0005)
with report.path.open("a") as file:
    file.write('{"run": "torn')
os.kill(os.getpid(), 9)
"""


@pytest.mark.modules
def test_a_killed_run_is_delivered_by_the_next_session_without_loss(tmp_path: Path):
    collector, environ = Collector(), {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with serve(collector) as server:
        for session in range(3):
            words = [sys.executable, "-c", KILLED, tmp_path, server.url, str(500 * session)]
            done = subprocess.run(words, env=environ, check=False, timeout=120)
            assert done.returncode == -9
        report = Reporter(tmp_path)
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 10, 1500)
        delivery.close(60)
    assert sorted(collector.numbers) == list(range(1510))
    assert len({session for _, session, _ in collector.rows}) == 4
    assert len({run for run, *_ in collector.rows}) == 1


def test_two_runs_with_the_same_numbers_are_told_apart(tmp_path: Path):
    collector = Collector()
    with serve(collector) as server:
        for run in ("one", "two"):
            (tmp_path / run).mkdir()
            report = Reporter(tmp_path / run)
            emit(report, 50)
            open_delivery(report, JsonSink(server.url)).close(30)
    assert len(collector.rows) == 100


def test_a_resumed_run_goes_on_with_the_card_it_had(tmp_path: Path):
    from podium.chat import DiscordSink

    service = Discord()
    with serve(service) as server:
        for session in range(2):
            report = Reporter(tmp_path)
            sink = DiscordSink(f"{server.url}{service.path}", tmp_path)
            delivery = open_delivery(report, sink)
            report.emit("fold_ended", fold=session, metric="accuracy", value=0.5 + session / 10)
            delivery.close(30)
    cards = [one for one in service.messages.values() if one.get("embeds")]
    assert len(cards) == 1
    assert "folds 0.5000 0.6000" in cards[0]["embeds"][0]["description"]


def test_a_memory_that_cannot_be_read_or_kept_starts_from_the_beginning(tmp_path: Path):
    assert read_memory(tmp_path / "none") == {"offset": 0}
    (tmp_path / "torn").write_text("{")
    assert read_memory(tmp_path / "torn") == {"offset": 0}
    (tmp_path / "odd").write_text(json.dumps([1]))
    assert read_memory(tmp_path / "odd") == {"offset": 0}
    collector, report = Collector(), Reporter(tmp_path)
    (tmp_path / "webhook-json.json.half").mkdir()
    with serve(collector) as server:
        delivery = open_delivery(report, JsonSink(server.url))
        emit(report, 3)
        delivery.close(30)
    assert collector.numbers == [0, 1, 2]
