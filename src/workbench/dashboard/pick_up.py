"""Runs from their folders: what no network brought, their own record has.

It may be done again at any time: what is known is known by run, session and seq.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from podium.events import read_record
from workbench.dashboard.limits import MalformedError, SoundEvent, check_event
from workbench.dashboard.store import FullError, Span, Store

RECORD = "events.jsonl"


class NoRecordError(ValueError):
    """A folder without a run's record; the message says what to name instead."""


class PickedUp(NamedTuple):
    """What a folder held: the runs, the events, and those that were new."""

    runs: list[str]
    events: int
    stored: int


def pick_up(store: Store, folder: Path) -> PickedUp:
    """Imports a run folder; raises NoRecordError, FullError, OSError or sqlite3.OperationalError.

    The record is all there is of its sessions: what lies between its events will never come.
    """
    path = folder / RECORD
    if not path.is_file():
        raise NoRecordError(f"{folder} has no {RECORD}; name a run's folder")
    seqs, events = dict[tuple[str, str], list[int]](), 0
    taken = store.take(read_events(path), [], "import", time.time(), name=folder.resolve().name)
    for event in read_events(path):
        events += 1
        span = seqs.setdefault((event["run"], event["session"]), [event["seq"], event["seq"]])
        span[:] = min(span[0], event["seq"]), max(span[1], event["seq"])
    spans = [Span(*key, *ends) for key, ends in seqs.items()]
    store.take([], spans, "import", time.time())
    return PickedUp(sorted({span.run for span in spans}), events, taken.stored)


def read_events(path: Path) -> Iterator[SoundEvent]:
    """The events of a record that can be kept, in order."""
    place = 0
    while part := list(read_record(path, place)):
        place = part[-1][1]
        for event, _ in part:
            if sound := sift(event):
                yield sound


def sift(event: dict[str, Any]) -> SoundEvent | None:
    """The event if it is within the limits, else None: another program wrote it."""
    try:
        return check_event(event)
    except MalformedError:
        return None


def tell_pick_up(folder: Path, dashboard: Path) -> str:
    """Imports a folder into a dashboard's, and says in one line what came of it. Never raises."""
    try:
        dashboard.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(Store(dashboard)) as store:
            found = pick_up(store, folder)
    except (NoRecordError, FullError, OSError, sqlite3.Error) as error:
        return f"not imported: {error}"
    names = ", ".join(found.runs)
    return f"run {names}: {found.stored} of {found.events} events are new; make dashboard"
