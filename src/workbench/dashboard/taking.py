"""What events change: their own rows, curves, and the card of their run, in one transaction.

A run's card is folded from its events as they come, so that a list of runs never looks at events.
Events may come twice, late and out of order: where some belong before what is folded, the card is
folded anew.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from workbench.dashboard import series, stops
from workbench.dashboard.limits import MalformedError, SoundEvent, check_event
from workbench.dashboard.progress import (
    Place,
    Progress,
    advance,
    read_progress,
    write_progress,
)

LARGEST = 2_000_000_000  # bytes of the database
MOST_RUNS = 1000
REMEMBERED = 900  # seconds for which a delivery is known again; a signature is good for 300
KEYS = ("run", "session", "seq", "event", "time")  # of an event, in columns of their own
# These are read on curves and cards; only the others are ever looked up by name.
RARE = "event NOT IN ('epoch_ended', 'step_reached', 'heartbeat')"


class Span(NamedTuple):
    """The seqs of a session that a sender has told of whole: from the first to the last."""

    run: str
    session: str
    first: int
    last: int


class Delivery(NamedTuple):
    """What names a signed request: its id and its time."""

    id: str
    moment: int


class Taken(NamedTuple):
    """What became of events: how many were new, and how many were malformed and left out."""

    stored: int
    refused: int = 0
    replayed: bool = False  # this very request has been here


class FullError(Exception):
    """There is room for no more runs, or no more events; the message says what to do."""


class Taking:
    """One transaction in which events come in."""

    def __init__(self, db: sqlite3.Connection, source: str, now: float, name: str) -> None:
        self.db, self.source, self.now, self.name = db, source, now, name
        self.stored = self.refused = 0
        self.version = find_version(db) + 1
        self.runs = dict[str, int]()
        self.sessions = dict[tuple[int, str], int]()
        self.oldest = dict[int, dict[int, int]]()  # run → session → the least seq that is new
        self.points = dict[int, list[series.Point]]()

    def add(self, event: Mapping[str, Any]) -> None:
        """Stores an event, unless it is malformed or known."""
        try:
            event = check_event(event)
        except MalformedError:
            self.refused += 1
            return
        run = self.find_run(event["run"])
        session = self.find_session(run, event)
        body = json.dumps({key: value for key, value in event.items() if key not in KEYS})
        row = (session, event["seq"], event["event"], event["time"], body)
        cursor = self.db.execute(
            "INSERT OR IGNORE INTO events (session, seq, event, time, body) VALUES (?, ?, ?, ?, ?)",
            row,
        )
        if cursor.rowcount:
            self.note(run, session, event)

    def note(self, run: int, session: int, event: SoundEvent) -> None:
        """What a new event means beside its own row."""
        self.stored += 1
        oldest = self.oldest.setdefault(run, {})
        oldest[session] = min(oldest.get(session, event["seq"]), event["seq"])
        if event.picture:
            self.db.execute(
                "INSERT OR IGNORE INTO images VALUES (?, ?)", (event["image"], event.picture)
            )
        if event["event"] == "epoch_ended" and (point := series.read_point(event)):
            self.points.setdefault(run, []).append(point)
            if len(self.points[run]) >= series.CHUNK:  # an import may bring any number
                series.add_points(self.db, run, self.points.pop(run), self.version)
        if event.get("command"):  # that it takes, or that stopped it
            stops.note_taken(self.db, run, event)

    def find_run(self, run: str) -> int:
        """The run's row, made if it is new; raises FullError if there is no room for it."""
        if run in self.runs:
            return self.runs[run]
        found = self.db.execute("SELECT id FROM runs WHERE run = ?", (run,)).fetchone()
        check_room(self.db, new=not found)
        fresh = json.dumps(write_progress(Progress()))
        self.db.execute(
            "INSERT OR IGNORE INTO runs (run, version, source, name, seen, missing, progress) "
            "VALUES (?, ?, ?, '', 0, 0, ?)",
            (run, self.version, self.source, fresh),
        )
        self.db.execute(
            "UPDATE runs SET name = :name, version = :version "
            "WHERE run = :run AND name != :name AND :name != ''",
            {"name": self.name, "version": self.version, "run": run},
        )
        (row,) = self.db.execute("SELECT id FROM runs WHERE run = ?", (run,)).fetchone()
        self.runs[run] = int(row)
        return self.runs[run]

    def find_session(self, run: int, event: SoundEvent) -> int:
        """The session's row; it began with the event of its least seq."""
        key = (run, event["session"])
        if key not in self.sessions:
            self.db.execute(
                "INSERT OR IGNORE INTO sessions (run, session, seq, started, spans) "
                "VALUES (?, ?, ?, ?, '[]')",
                (*key, event["seq"], event["time"]),
            )
            self.sessions[key] = self.db.execute(
                "SELECT id FROM sessions WHERE run = ? AND session = ?", key
            ).fetchone()[0]
        row = self.sessions[key]
        self.db.execute(
            "UPDATE sessions SET seq = :seq, started = :time WHERE id = :row AND seq > :seq",
            {"seq": event["seq"], "time": event["time"], "row": row},
        )
        return row

    def finish(self, covered: Sequence[Span]) -> None:
        """Brings the cards and the curves of the runs up to date, and what is missing of them."""
        for run, points in self.points.items():
            series.add_points(self.db, run, points, self.version)
        for span in covered:
            self.cover(span)
        for run, oldest in self.oldest.items():
            progress = fold_events(self.db, run, oldest)
            live = self.source != "import"  # what a folder tells is no sign of life
            seen = self.now if live else min(self.now, progress.told)
            kept = json.dumps(write_progress(progress))
            self.db.execute(
                "UPDATE runs SET version = ?, seen = max(seen, ?), progress = ? WHERE id = ?",
                (self.version, seen, kept, run),
            )
            if live:
                self.db.execute("UPDATE runs SET source = ? WHERE id = ?", (self.source, run))

    def cover(self, span: Span) -> None:
        """Notes which seqs of a session are known, and counts those that are missing."""
        row = self.db.execute(
            "SELECT sessions.id, runs.id, spans FROM sessions JOIN runs ON runs.id = sessions.run "
            "WHERE runs.run = ? AND session = ?",
            (span.run, span.session),
        ).fetchone()
        if not row:  # nothing of it could be kept
            return
        session, run, kept = row[0], row[1], json.loads(row[2])
        spans = join_spans([*kept, [span.first, span.last]])
        if spans == kept:
            return
        self.db.execute("UPDATE sessions SET spans = ? WHERE id = ?", (json.dumps(spans), session))
        every = self.db.execute("SELECT spans FROM sessions WHERE run = ?", (run,))
        missing = sum(
            last - first + 1 for (text,) in every for first, last in list_gaps(json.loads(text))
        )
        self.db.execute(
            "UPDATE runs SET missing = ?, version = ? WHERE id = ?", (missing, self.version, run)
        )


def note_delivery(db: sqlite3.Connection, delivery: Delivery, now: float) -> bool:
    """Remembers a request; False if this very one has been here."""
    db.execute("DELETE FROM deliveries WHERE moment < ?", (now - REMEMBERED,))
    return db.execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", delivery).rowcount == 1


def check_room(db: sqlite3.Connection, *, new: bool) -> None:
    """Raises FullError if nothing more is to be kept, or no new run."""
    pages, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    if pages * size > LARGEST:
        raise FullError(f"the database has {LARGEST} bytes; move it away, and begin a new one")
    if new and db.execute("SELECT count(*) FROM runs").fetchone()[0] >= MOST_RUNS:
        raise FullError(f"there are {MOST_RUNS} runs; move the database away, and begin a new one")


def find_version(db: sqlite3.Connection) -> int:
    """The number of the last change; each write that changes a run counts on."""
    return int(db.execute("SELECT coalesce(max(version), 0) FROM runs").fetchone()[0])


def join_spans(spans: Iterable[list[int]]) -> list[list[int]]:
    """Spans in order; those that overlap or touch are one."""
    joined = list[list[int]]()
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined


def list_gaps(spans: Sequence[Sequence[int]]) -> list[list[int]]:
    """What is missing from 1 to the last that is known, of spans as `join_spans` gives them."""
    ends = [0, *(last for _, last in spans)]
    gaps = [[end + 1, first - 1] for end, (first, _) in zip(ends, spans, strict=False)]
    return [gap for gap in gaps if gap[0] <= gap[1]]


def fold_events(db: sqlite3.Connection, run: int, oldest: Mapping[int, int]) -> Progress:
    """A run's progress with its new events; from the very first if some came late.

    `oldest` is the least new seq of each session that has new events.
    """
    kept = db.execute("SELECT progress FROM runs WHERE id = ?", (run,)).fetchone()[0]
    progress = read_progress(json.loads(kept))
    rows = db.execute("SELECT id FROM sessions WHERE run = ? ORDER BY started, id", (run,))
    sessions = [row for (row,) in rows]
    current = progress.place.session
    begun = sessions.index(current) if current else 0
    if any(one in oldest for one in sessions[:begun]) or (
        oldest.get(current, progress.place.seq + 1) <= progress.place.seq
    ):
        progress, begun = Progress(), 0
    for session in sessions[begun:]:
        start = progress.place.seq if session == progress.place.session else 0
        for event in list_events(db, session, start):
            progress, start = advance(progress, event), event["seq"]
        progress = replace(progress, place=Place(session, start))
    return progress


def list_events(db: sqlite3.Connection, session: int, after: int) -> Iterator[dict[str, Any]]:
    """The events of a session that come after a seq, in order, without the names of the run."""
    rows = db.execute(
        "SELECT seq, event, time, body FROM events WHERE session = ? AND seq > ? ORDER BY seq",
        (session, after),
    )
    for seq, event, time, body in rows:
        yield {"seq": seq, "event": event, "time": time, **json.loads(body)}
