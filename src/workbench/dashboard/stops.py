"""Words back to a run: to stop after its epoch, signed, for a quarter of an hour.

A run is never reached from outside: it finds its commands in the answers to what it sends.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from podium.signing import sign
from workbench.dashboard.progress import OVER, read_progress

COMMAND_SECONDS = 900  # for which a run may obey
LISTENING = ("webhook", "relay")  # sources of runs that read what comes back
SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
  id TEXT PRIMARY KEY, run INTEGER, session TEXT, expires INTEGER, taken REAL, command TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commanded ON commands (run)
"""


class UnknownRunError(Exception):
    """There is no run of that name."""


class DeafError(Exception):
    """The run cannot be told to stop; the message says why."""


def ask_stop(db: sqlite3.Connection, secret: str, run: str, now: float) -> dict[str, Any]:
    """The command for a run's newest session to stop; asked twice, it is the same.

    Raises UnknownRunError, or DeafError if the run is over or does not listen.
    """
    found = db.execute("SELECT id, source, progress FROM runs WHERE run = ?", (run,)).fetchone()
    if not found:
        raise UnknownRunError
    row, source, kept = found
    if source not in LISTENING:
        raise DeafError(f"it came by {source}, on which nothing goes back")
    progress = read_progress(json.loads(kept))
    if progress.card.state in OVER:
        raise DeafError(f"it is {progress.card.state} already")
    (session,) = db.execute(
        "SELECT session FROM sessions WHERE id = ?", (progress.place.session,)
    ).fetchone()
    for command in list_pending(db, [(run, session)], now):
        return command
    command = make_command(secret, run, session, int(now) + COMMAND_SECONDS)
    db.execute(
        "INSERT INTO commands (id, run, session, expires, command) VALUES (?, ?, ?, ?, ?)",
        (command["id"], row, session, command["expires"], json.dumps(command)),
    )
    db.execute("UPDATE runs SET version = (SELECT max(version) + 1 FROM runs) WHERE id = ?", (row,))
    return command


def make_command(secret: str, run: str, session: str, expires: int) -> dict[str, Any]:
    """A command that nobody else can make, for one session of one run."""
    name = secrets.token_hex(8)
    signature = sign(secret, name, expires, f"stop {run} {session}".encode())
    key = {"id": name, "op": "stop", "run": run, "session": session}
    return {**key, "expires": expires, "signature": signature}


def list_pending(
    db: sqlite3.Connection, sessions: Iterable[tuple[str, str]], now: float
) -> list[dict[str, Any]]:
    """The commands for sessions, as (run, session), that are neither taken nor expired."""
    return [
        json.loads(command)
        for run, session in sessions
        for (command,) in db.execute(
            "SELECT command FROM commands JOIN runs ON runs.id = commands.run WHERE runs.run = ? "
            "AND session = ? AND taken IS NULL AND expires > ?",
            (run, session, now),
        )
    ]


def note_taken(db: sqlite3.Connection, run: int, event: Mapping[str, Any]) -> None:
    """Notes that the run obeys: it names the command in an event."""
    db.execute(
        "UPDATE commands SET taken = ? WHERE id = ? AND run = ?",
        (event["time"], str(event["command"]), run),
    )


def show_stop(db: sqlite3.Connection, run: int, now: float) -> dict[str, Any] | None:
    """What became of the last command for a run, or None if there was none."""
    found = db.execute(
        "SELECT id, expires, taken FROM commands WHERE run = ? ORDER BY expires DESC LIMIT 1",
        (run,),
    ).fetchone()
    if not found:
        return None
    name, expires, taken = found
    asked = "asked" if expires > now else "expired"
    return {"id": name, "state": "taken" if taken is not None else asked, "expires": expires}
