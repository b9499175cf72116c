"""What is kept of events that come twice, late, out of order, or never."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_site import make_event
from sample_run import make_events

from workbench.dashboard import store as store_room
from workbench.dashboard import taking as taking_room
from workbench.dashboard.details import describe_run
from workbench.dashboard.overview import list_cards
from workbench.dashboard.series import read_curves, show_curve
from workbench.dashboard.store import Delivery, FullError, Span, Store, Taken
from workbench.dashboard.taking import join_spans, list_gaps

NOW = 1_764_100_000.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as opened:
        yield opened


def show(store: Store) -> tuple[dict[str, Any], list[Any]]:
    """The one card, without what tells of writes, and the curves."""
    with store.reading() as db:
        (card,) = list_cards(db, NOW)["runs"]
        return card, [show_curve("", curve) for curve in read_curves(db, 1)]


def tell(store: Store, events: Sequence[Any], source: str = "webhook", now: float = NOW) -> Taken:
    return store.take(events, [], source, now)


def test_events_in_any_order_and_any_batches_make_the_same_card_and_curves(tmp_path: Path):
    first = list(make_events("5e551014"))[:9]
    second = list(make_events("5e551015", 1_764_010_000.0))
    with closing(Store(tmp_path)) as store:
        tell(store, first + second)
        right = show(store)
    assert (right[0]["state"], right[0]["scores"]) == ("finished", [0.91, 0.92])
    for seed in range(4):
        dice = random.Random(seed)
        events = [*first, *second, *first[3:6]]
        dice.shuffle(events)
        folder = tmp_path / str(seed)
        folder.mkdir()
        with closing(Store(folder)) as store:
            while events:
                count = dice.randint(1, 9)
                tell(store, events[:count])
                del events[:count]
            assert show(store) == right


def test_of_an_epoch_that_was_trained_twice_the_later_is_on_the_curve(store: Store):
    old, new = ({"session": name, "time": NOW + late} for name, late in (("a", 0), ("b", 9)))
    epoch = make_event(1, "epoch_ended", fold=0, epoch=3)
    tell(store, [epoch | new | {"valid/loss": 0.2}])
    tell(store, [epoch | old | {"valid/loss": 0.1}])
    (curve,) = show(store)[1]
    assert (curve["epoch"], curve["figures"]) == ([3], {"valid/loss": [0.2]})


def test_a_malformed_event_is_counted_and_does_not_cost_the_others(store: Store):
    events = [make_event(1), {"run": "4042"}, make_event(2), make_event(3) | {"seq": "x"}]
    assert tell(store, events) == Taken(2, refused=2)


def test_what_is_missing_is_what_nobody_told_of_up_to_the_last_that_is_known(store: Store):
    assert store.take([make_event(3)], [Span("4042", "5e551014", 3, 4)], "relay", NOW).stored == 1
    assert show(store)[0]["missing"] == 2
    store.take([make_event(9)], [Span("4042", "5e551014", 9, 9)], "relay", NOW)
    assert show(store)[0]["missing"] == 6
    with store.reading() as db:
        (session,) = describe_run(db, 1)["sessions"]
    assert (session["last"], session["missing"]) == (9, [[1, 2], [5, 8]])
    store.take([], [Span("4042", "5e551014", 1, 8)], "import", NOW)
    assert show(store)[0]["missing"] == 0


@given(spans=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=12))
def test_spans_and_gaps_are_the_numbers_and_the_rest_of_them(spans: list[tuple[int, int]]):
    known = {number for first, more in spans for number in range(first, first + more + 1)}
    joined = join_spans([[first, first + more] for first, more in spans])
    assert {number for first, last in joined for number in range(first, last + 1)} == known
    gaps = {number for first, last in list_gaps(joined) for number in range(first, last + 1)}
    assert gaps == set(range(1, max(known, default=0))) - known


def test_seen_is_when_something_new_came_and_a_folder_brings_no_sign_of_life(store: Store):
    tell(store, [make_event(1)], now=NOW)
    tell(store, [make_event(1)], now=NOW + 5)
    assert show(store)[0]["seen"] == NOW
    tell(store, [make_event(2)], "import", now=NOW + 9)
    assert (show(store)[0]["seen"], show(store)[0]["source"]) == (NOW, "webhook")
    tell(store, [make_event(3)], "relay", now=NOW + 20)
    assert (show(store)[0]["seen"], show(store)[0]["source"]) == (NOW + 20, "relay")
    assert show(store)[0]["quiet"]


def test_a_delivery_is_known_again_even_after_a_restart(tmp_path: Path):
    delivery = Delivery("id", int(NOW))
    for taken in (Taken(1), Taken(0, replayed=True)):
        with closing(Store(tmp_path)) as store:
            assert store.take([make_event(1)], [], "webhook", NOW, delivery=delivery) == taken


def test_only_what_changed_since_a_version_is_listed(store: Store):
    tell(store, [make_event(1)])
    with store.reading() as db:
        version = list_cards(db, NOW)["version"]
        assert list_cards(db, NOW, version)["runs"] == []
    tell(store, [make_event(1) | {"run": "other"}, make_event(1)])
    with store.reading() as db:
        assert [card["run"] for card in list_cards(db, NOW, version)["runs"]] == ["other"]


def test_there_is_an_end_to_runs_and_to_bytes_and_what_is_there_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(taking_room, "MOST_RUNS", 1)
    tell(store, [make_event(1)])
    with pytest.raises(FullError, match="there are 1 runs; move the database away"):
        tell(store, [make_event(2), make_event(1) | {"run": "other"}])
    tell(store, [make_event(2)])
    monkeypatch.setattr(taking_room, "LARGEST", 1000)
    with pytest.raises(FullError, match="the database has 1000 bytes; move it away"):
        tell(store, [make_event(3)])
    assert show(store)[0]["told"] == make_event(2)["time"]


def test_another_process_that_writes_is_waited_for_and_then_told_of(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    store.writer.execute("PRAGMA busy_timeout = 50")
    with closing(store.open("rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            tell(store, [make_event(1)])
        other.execute("ROLLBACK")
    assert tell(store, [make_event(1)]).stored == 1


def test_a_database_of_another_version_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Store(tmp_path).close()
    monkeypatch.setattr(store_room, "VERSION", 2)
    with pytest.raises(FullError, match="is of version 1, not 2; move it away"):
        Store(tmp_path)


def test_an_acknowledged_event_is_there_after_kill_9(tmp_path: Path):
    script = Path(__file__).with_name("loaded_dashboard.py")
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests", script.parent)))
    acknowledged = set[tuple[str, int]]()
    for start in ("first", "second"):
        process = subprocess.Popen(
            [sys.executable, script, tmp_path, start],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        said += process.communicate()[0].split("\n")[:-1]  # the last line may be torn
        acknowledged |= {(one.split()[0], int(one.split()[1])) for one in said}
        assert process.returncode == -signal.SIGKILL
    with closing(Store(tmp_path)) as store, store.reading() as db:
        rows = db.execute(
            "SELECT sessions.session, events.seq FROM events JOIN sessions "
            "ON sessions.id = events.session"
        ).fetchall()
        assert len(rows) == len(set(rows))
        assert acknowledged <= set(rows)
        assert len(acknowledged) >= 200
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (curve,) = read_curves(db, 1)  # of the same transactions as the events
        assert {int(epoch) for epoch in curve.block[:, 0]} == {seq for _, seq in rows}
        kept = json.loads(db.execute("SELECT progress FROM runs").fetchone()[0])
        assert kept["told"] == max(make_event(seq)["time"] for _, seq in rows)
