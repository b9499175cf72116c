"""What runs told, in SQLite: an event is acknowledged once it is on the disk.

One connection writes, and each reader has its own, which sees the database as it was when it began.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from workbench.dashboard import series, stops
from workbench.dashboard.taking import (
    RARE,
    Delivery,
    FullError,
    Span,
    Taken,
    Taking,
    note_delivery,
)

__all__ = ["Delivery", "FullError", "Span", "Store", "Taken"]  # what a caller of `take` needs

FOLDER = Path(__file__).resolve().parents[3] / "runs" / "dashboard"
PATIENCE = 5.0  # seconds to wait for another process that writes
VERSION = 1  # of the schema
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY, run TEXT UNIQUE, version INTEGER, source TEXT, name TEXT, seen REAL,
  missing INTEGER, progress TEXT
);
CREATE INDEX IF NOT EXISTS changes ON runs (version);
CREATE TABLE IF NOT EXISTS sessions (
  id INTEGER PRIMARY KEY, run INTEGER, session TEXT, seq INTEGER, started REAL, spans TEXT,
  UNIQUE (run, session)
);
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, session INTEGER, seq INTEGER, event TEXT, time REAL, body TEXT,
  UNIQUE (session, seq)
);
CREATE INDEX IF NOT EXISTS rare ON events (session, event) WHERE {RARE};
CREATE TABLE IF NOT EXISTS images (name TEXT PRIMARY KEY, jpeg BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
  id TEXT, moment INTEGER, PRIMARY KEY (id, moment)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logins (hash TEXT PRIMARY KEY, until REAL) WITHOUT ROWID;
{series.SCHEMA};
{stops.SCHEMA};
PRAGMA user_version = {VERSION};
"""


class Store:
    """The database in a folder; writes are one at a time, and reads do not wait for them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.db"
        self.lock = threading.RLock()
        self.writer = self.open("rwc", check_same_thread=False)
        self.writer.execute("PRAGMA journal_mode = WAL")
        self.writer.execute("PRAGMA synchronous = FULL")
        found = self.writer.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            self.writer.close()
            raise FullError(f"{self.path} is of version {found}, not {VERSION}; move it away")
        self.writer.executescript(SCHEMA)

    def open(self, mode: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
        """A connection, to read ("ro") or to write."""
        return sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode={mode}",
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=check_same_thread,
            uri=True,
        )

    def close(self) -> None:
        """Closes the database; what was acknowledged is in it anyway."""
        with self.lock:
            self.writer.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the database as it is now, whatever is written meanwhile."""
        with closing(self.open("ro")) as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The one connection that writes; all of it is kept, or nothing."""
        with self.lock:
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                if self.writer.in_transaction:  # a full disk has ended it already
                    self.writer.execute("ROLLBACK")
                raise

    def take(
        self,
        events: Iterable[Mapping[str, Any]],
        covered: Sequence[Span],
        source: str,
        now: float,
        *,
        delivery: Delivery | None = None,
        name: str = "",
    ) -> Taken:
        """Stores what is new of the events, from "webhook", "relay", "import" or "keras".

        When it returns, they are on the disk. A malformed event is left out and counted; `covered`
        are the seqs that the sender told of, whether or not each is among the events. `name` is
        that of a run, where it is known better than its events do. Raises FullError, or
        sqlite3.OperationalError if the disk is full or another process writes.
        """
        with self.writing() as db:
            if delivery and not note_delivery(db, delivery, now):
                return Taken(0, replayed=True)
            taking = Taking(db, source, now, name)
            for event in events:
                taking.add(event)
            taking.finish(covered)
            return Taken(taking.stored, taking.refused)
