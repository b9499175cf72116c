"""What runs told, in SQLite: an event is acknowledged once it is on the disk.

A run's card is folded from its events in the same transaction, so that a list of runs never looks
at events. Events may come twice, late and out of order.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

LARGEST = 2_000_000_000  # bytes of the database
MOST_RUNS = 1000


class Span(NamedTuple):
    """The seqs of a session that a sender has told of whole: from the first to the last."""

    run: str
    session: str
    first: int
    last: int


class Taken(NamedTuple):
    """What became of events: how many were new, and how many were malformed and left out."""

    stored: int
    refused: int = 0
    replayed: bool = False  # the very same delivery has been here


class FullError(Exception):
    """There is room for no more runs, or no more events; the message says what to do."""


class Store:
    """The database in a folder; writes are one at a time, and reads do not wait for them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.db"
        self.lock = threading.RLock()

    def take(
        self,
        events: Iterable[Mapping[str, Any]],
        covered: Sequence[Span],
        source: str,
        now: float,
    ) -> Taken:
        """Stores what is new of the events, from "webhook", "relay", "import" or "keras".

        When it returns, they are on the disk. A malformed event is left out and counted; `covered`
        are the seqs that the sender told of, whether or not each is among the events. Raises
        FullError, or sqlite3.OperationalError if the disk is full or another process writes.
        """
        raise NotImplementedError
