"""One run in full: its settings, what it found, its log, and what of it never came."""

import json
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from podium.card import clean_text
from podium.config import Config
from podium.knobs import list_settings
from workbench.dashboard.progress import read_progress
from workbench.dashboard.taking import RARE, list_gaps

LONGEST_LOG = 300  # lines
MOST_SHOWN = 100  # of warnings, questions, and pictures


def describe_run(db: sqlite3.Connection, run: int) -> dict[str, Any]:
    """What a page about one run shows beside its card."""
    kept = db.execute("SELECT progress FROM runs WHERE id = ?", (run,)).fetchone()[0]
    settings = find_settings(db, run)
    changed = list_changed(settings)
    mistakes = find_last(db, run, "mistakes_counted")
    files = find_last(db, run, "files_listed")
    return {
        "settings": settings,
        "changed": changed,
        "source": find_last(db, run, "run_started").get("source"),
        "reproduce": write_command(changed),
        "questions": list_questions(db, run),
        "mistakes": mistakes or None,
        "images": list_images(db, run),
        "log": list(list_log(db, run))[-LONGEST_LOG:],
        "warnings": [
            {"time": event["time"], "text": clean_text(event.get("text", ""), 2000)}
            for event in list_last(db, run, "warning_raised", MOST_SHOWN)
        ],
        "files": files.get("files") or [],
        "submission": files.get("submission"),
        "sessions": list_sessions(db, run),
        "plan": clean_text(read_progress(json.loads(kept)).plan, 2000),
        "traceback": clean_text(find_last(db, run, "run_failed").get("reason") or "", 8000),
    }


def list_last(db: sqlite3.Connection, run: int, name: str, most: int) -> Iterator[dict[str, Any]]:
    """The last events of a name, the oldest first."""
    query = f"""
SELECT events.time, body FROM sessions JOIN events ON events.session = sessions.id
WHERE sessions.run = ? AND event = ? AND {RARE}
ORDER BY sessions.started DESC, sessions.id DESC, events.seq DESC LIMIT ?
"""  # noqa: S608
    rows = db.execute(query, (run, name, most))
    for time, body in reversed(rows.fetchall()):
        yield {"time": time, **json.loads(body)}


def list_log(db: sqlite3.Connection, run: int) -> Iterator[dict[str, Any]]:
    """The last lines of the log, of which an event may hold several, the oldest first."""
    for event in list_last(db, run, "line_said", LONGEST_LOG):
        for line in str(event.get("text", "")).splitlines():
            yield {"time": event["time"], "text": clean_text(line, 2000)}


def find_last(db: sqlite3.Connection, run: int, name: str) -> dict[str, Any]:
    """The last event of a name, or nothing."""
    return next(list_last(db, run, name, 1), {})


def find_settings(db: sqlite3.Connection, run: int) -> dict[str, Any]:
    """The settings of a run, as its newest session has them."""
    settings = find_last(db, run, "run_started").get("settings")
    return settings if isinstance(settings, dict) else {}


def list_changed(settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The settings that are not the default: name → the default and the value.

    One that this version does not know has null as its default.
    """
    defaults = json.loads(json.dumps(list_settings(Config())))  # as an event tells them
    return {
        name: [defaults.get(name), value]
        for name, value in settings.items()
        if name not in defaults or defaults[name] != value
    }


def write_command(changed: Mapping[str, list[Any]]) -> str:
    """The command line that runs it again; it is shown, and never run from here."""
    words = ["python", "kernel/podium.py"]
    for name, (_, value) in changed.items():
        words += [f"--{name}", write_setting(value)]
    return clean_text(shlex.join(words), 8000)


def write_setting(value: object) -> str:
    """A setting as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def list_questions(db: sqlite3.Connection, run: int) -> list[dict[str, Any]]:
    """What the run was asked to show; of one that was decided again, the last answer."""
    answered = list_last(db, run, "question_answered", MOST_SHOWN)
    return list({str(one.get("name")): one for one in answered}.values())


def list_images(db: sqlite3.Connection, run: int) -> list[dict[str, Any]]:
    """The pictures shown last: a new count of folds replaces what was shown before."""
    shown = list(list_last(db, run, "image_shown", MOST_SHOWN))
    folds = shown[-1].get("folds") if shown else None
    places = {
        one["place"]: one
        for one in shown
        if one.get("folds") == folds and type(one.get("place")) is int
    }
    return [
        {
            **{name: one.get(name) for name in ("place", "id", "truth", "guess", "prob")},
            "url": f"/image/{one['image']}.jpg" if "image" in one else None,
        }
        for one in places.values()
    ]


def list_sessions(db: sqlite3.Connection, run: int) -> list[dict[str, Any]]:
    """The processes that the run went through, and the seqs that never came."""
    rows = db.execute(
        "SELECT session, started, seq, spans FROM sessions WHERE run = ? ORDER BY started, id",
        (run,),
    )
    sessions = []
    for session, started, first, text in rows:
        spans = json.loads(text)
        key = {"session": session, "started": started, "first": first}
        last = spans[-1][1] if spans else first
        sessions.append({**key, "last": last, "missing": list_gaps(spans)})
    return sessions
