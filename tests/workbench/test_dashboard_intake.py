"""What a sender can send, and what it is told: nothing of it is ever a 500."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_site import LiveSite, get, make_event, post, serve_site

from workbench.dashboard import intake as intake_room

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with serve_site(tmp_path_factory.mktemp("dashboard")) as live:
        yield live


@pytest.fixture
def empty(site: LiveSite) -> Iterator[LiveSite]:
    """Nothing of what a test sends may be kept."""
    before = site.count()
    yield site
    assert site.count() == before


def wrap(*events: Any) -> bytes:
    return json.dumps({"events": events}).encode()


def test_a_signed_batch_is_stored_once_however_often_it_comes(site: LiveSite):
    events = [make_event(seq) | {"run": "once"} for seq in (1, 2, 3)]
    assert site.tell(events) == {"stored": 3, "commands": []}
    assert site.tell(events)["stored"] == 0
    packed = gzip.compress(wrap(make_event(4) | {"run": "once"}))
    assert site.post(packed, content_encoding="gzip").json()["stored"] == 1


@pytest.mark.parametrize("broken", ["none", "other secret", "other body", "two"])
def test_only_the_secret_s_signature_opens(empty: LiveSite, broken: str):
    body = wrap(make_event(50))
    headers = empty.sign(body)
    if broken == "none":
        del headers["webhook-signature"]
    elif broken == "other body":
        headers = empty.sign(b"{}")
    else:
        headers["webhook-signature"] = "v1,AAAA" + " v1a,BBBB" * (broken == "two")
    assert post(empty.url + "/ingest", body, headers=headers).status_code == 401


@pytest.mark.parametrize("moment", ["", "soon", "1764000000", "-5", "9" * 5000, "٣"])
def test_a_request_without_a_time_or_of_another_time_is_refused(empty: LiveSite, moment: str):
    headers = empty.sign(b"{}") | {"webhook-timestamp": moment.encode()}
    assert post(empty.url + "/ingest", b"{}", headers=headers).status_code == 401
    for skew in (-400, 400):
        headers = empty.sign(b"{}", moment=time.time() + skew)
        assert post(empty.url + "/ingest", b"{}", headers=headers).status_code == 401


def test_a_replay_stores_nothing_is_no_sign_of_life_and_learns_no_command(site: LiveSite):
    body = wrap(make_event() | {"run": "heard", "event": "run_started", "settings": {}})
    headers = site.sign(body)
    assert post(site.url + "/ingest", body, headers=headers).json()["stored"] == 1
    post(site.url + "/api/stop", json={"run": "heard"})

    def find_seen() -> float:
        return next(one["seen"] for one in site.get("/api/runs")["runs"] if one["run"] == "heard")

    seen = find_seen()
    answer = post(site.url + "/ingest", body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"stored": 0, "commands": []})
    assert find_seen() == seen
    assert len(site.post(body).json()["commands"]) == 1  # an honest retry has a time of its own


def test_what_is_too_large_is_413_whether_or_not_it_says_how_large(empty: LiveSite):
    body = wrap(make_event(60, text="x" * 2_000_000))
    assert empty.post(body).status_code == 413
    chunks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    answer = post(empty.url + "/ingest", chunks, headers=empty.sign(body))
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == 413


def test_a_gzip_bomb_is_413_and_a_broken_gzip_is_400(empty: LiveSite):
    bomb = gzip.compress(b" " * 50_000_000, 9)
    assert len(bomb) < 100_000
    assert empty.post(bomb, content_encoding="gzip").status_code == 413
    whole = gzip.compress(wrap(make_event(61)))
    for broken in (b"no gzip", whole[:-9]):
        assert empty.post(broken, content_encoding="gzip").status_code == 400
    assert empty.post(whole, content_encoding="br").status_code == 415


MALFORMED = {
    "no JSON": b"{",
    "nothing": b"",
    "not UTF-8": b'{"events": ["\xff\xfe"]}',
    "NaN": b'{"events": [{"run": "a", "session": "b", "seq": 1, "time": NaN, "event": "c"}]}',
    "infinity by its size": wrap(make_event(62)).replace(b"1764000062.0", b"1e999"),
    "deep": b"[" * 200_000,
    "deep inside": wrap(make_event(63, deep=json.loads("[" * 13 + "]" * 13))),
    "no object": b"[]",
    "no list": b'{"events": {}}',
    "no event": wrap(7),
    "10,000 keys": wrap(make_event(64, **{f"key{place}": 1 for place in range(10_000)})),
    "a long key": wrap(make_event(65, **{"k" * 101: 1})),
    "1001 events": wrap(*[make_event(seq) for seq in range(100, 1101)]),
    "64 kB": wrap(make_event(66, text="x" * 64_000)),
    "seq as text": wrap(make_event(67) | {"seq": "67"}),
    "seq as truth": wrap(make_event(67) | {"seq": True}),
    "seq below 1": wrap(make_event(67) | {"seq": -1}),
    "seq of 400 digits": wrap(make_event(67) | {"seq": 10**400}),
    "figure of 400 digits": wrap(make_event(67, loss=10**400)),
    "time as text": wrap(make_event(68) | {"time": "now"}),
    "time before time": wrap(make_event(68) | {"time": -1}),
    "run missing": wrap({"session": "b", "seq": 1, "time": 1, "event": "c"}),
    "run of 10 kB": wrap(make_event(69) | {"run": "r" * 10_000}),
    "run as a path": wrap(make_event(69) | {"run": "../../etc"}),
    "run with a direction mark": wrap(make_event(69) | {"run": "a\u202eb"}),
    "run of half a character": wrap(make_event(69) | {"run": "\ud800"}),
    "session as a list": wrap(make_event(69) | {"session": []}),
    "SVG for a picture": wrap(make_event(70, "image_shown", jpeg="PHN2Zy8+")),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_400_and_takes_its_whole_batch_along(empty: LiveSite, body: bytes):
    answer = empty.post(body)
    assert answer.status_code == 400
    assert len(answer.text) < 200  # nothing of what was sent comes back


def wrap_all(events: list[Any]) -> dict[str, Any]:
    return {"events": events}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "run_started",
        "epoch_ended",
        "fold_ended",
        "plan_made",
        "heartbeat",
        "image_shown",
        "command_taken",
        "run_failed",
        "mistakes_counted",
        "question_answered",
        "files_listed",
        "line_said",
        "run_finished",
        "run_stopped",
    ]
)
FIELDS = st.sampled_from(
    [
        "fold",
        "epoch",
        "settings",
        "folder",
        "shares",
        "seconds",
        "jpeg",
        "command",
        "place",
        "value",
        "metric",
        "text",
        "files",
        "reason",
        "deliveries",
        "valid/loss",
        "valid/accuracy",
        "deadline",
        "folds",
        "image",
        "interval",
        "updates",
        "devices",
    ]
)
EVENTS = st.fixed_dictionaries(
    {
        "run": st.just("fuzz"),
        "session": st.sampled_from("ab"),
        "seq": st.integers(1, 50),
        "time": st.floats(0, 1e10),
        "event": NAMES,
    }
).flatmap(lambda key: st.dictionaries(FIELDS, JSON, max_size=9).map(lambda more: key | more))


@settings(max_examples=60)
@given(
    body=JSON | st.lists(EVENTS | JSON, max_size=4).map(wrap_all) | st.lists(EVENTS).map(wrap_all)
)
def test_any_json_is_200_or_400_and_what_is_kept_can_be_shown(site: LiveSite, body: Any):
    assert site.post(json.dumps(body).encode()).status_code in (200, 400)
    for path in ("runs", "series?runs=fuzz", "run/fuzz", "health", "compare?runs=fuzz,once"):
        assert get(f"{site.url}/api/{path}").status_code in (200, 404), path


def test_a_body_that_does_not_come_is_408(empty: LiveSite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake_room, "BODY_SECONDS", 0.2)
    with closing(socket.create_connection(("127.0.0.1", empty.port))) as slow:
        head = f"POST /ingest HTTP/1.1\r\nhost: 127.0.0.1:{empty.port}\r\ncontent-length: 9\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_store_that_cannot_write_is_503_and_says_when_to_come_again(empty: LiveSite):
    with empty.store.lock:
        empty.store.writer.execute("PRAGMA query_only = ON")  # as a disk that is full
    answer = empty.post(wrap(make_event(80)))
    with empty.store.lock:
        empty.store.writer.execute("PRAGMA query_only = OFF")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
