"""Epochs as keras.callbacks.RemoteMonitor posts them: a form or JSON, without run, fold or time.

It counts from 0, repeats nothing that failed, and does not say when a training begins: an epoch
that does not come after the last is the first of another, which is shown as a fold of its own.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from podium.events import clean_values
from workbench.dashboard.limits import MalformedError, check_event
from workbench.dashboard.series import LARGEST, NAMED
from workbench.dashboard.store import Span, Store, Taken

LONGEST_LIST = 20  # of a metric that has a figure for each class
RENAMED = {"lr": "learning_rate"}


def read_logs(body: bytes, kind: str) -> dict[str, Any]:
    """The figures of one epoch, from a form's field `data` or from JSON; NaN becomes null.

    Raises MalformedError.
    """
    try:
        text = body.decode()
        if not kind.startswith("application/json"):
            text = parse_qs(text, strict_parsing=True, errors="strict", max_num_fields=9)["data"][0]
        logs = json.loads(text)
        logs = clean_values(logs, LONGEST_LIST) if isinstance(logs, dict) else {}
    except (ValueError, KeyError, RecursionError):
        raise MalformedError("a RemoteMonitor posts JSON, or a form with JSON as data") from None
    epoch = logs.get("epoch")
    if type(epoch) is not int or not 0 <= epoch < LARGEST:
        raise MalformedError("epoch must be a whole number from 0 on")
    return logs


def take_epoch(store: Store, run: str, logs: Mapping[str, Any], now: float) -> Taken:
    """Stores an epoch of a run; one that is the last once more, figure for figure, is a retry.

    Raises MalformedError if it is no event within the limits, or the run's name is another's.
    """
    with store.lock:
        with store.reading() as db:
            sessions, last = find_last(db, run)
        figures = {"epoch": logs["epoch"] + 1, **name_figures(logs)}
        if last and all(last.get(name) == value for name, value in figures.items()):
            return Taken(0)
        begins = not last or figures["epoch"] <= last["epoch"]
        session = f"fit{sessions + begins}"
        seq = 1 if begins else int(last["seq"]) + 1
        key = {"run": run, "session": session, "seq": seq, "time": round(now, 3)}
        event = {**key, "event": "epoch_ended", "fold": sessions + begins - 1, **figures}
        span = Span(run, session, seq, seq)
        return store.take([check_event(event)], [span], "keras", now, name=run)


def name_figures(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The figures under Podium's names: val_loss → valid/loss, loss → train/loss."""
    figures = dict[str, Any]()
    for given, value in logs.items():
        name = RENAMED.get(given, given)
        if name in NAMED or name == "fold":
            figures[name] = value
        elif name.startswith("val_"):
            figures["valid/" + name.removeprefix("val_")] = value
        elif name != "epoch":
            figures["train/" + name] = value
    return figures


def find_last(db: sqlite3.Connection, run: str) -> tuple[int, dict[str, Any]]:
    """How many trainings a run has had, and its last epoch; raises MalformedError."""
    found = db.execute("SELECT id, source FROM runs WHERE run = ?", (run,)).fetchone()
    if not found:
        return 0, {}
    if found[1] != "keras":
        raise MalformedError("a run of that name came another way; name this one otherwise")
    rows = db.execute(
        "SELECT id FROM sessions WHERE run = ? AND session LIKE 'fit%' ORDER BY id", found[:1]
    ).fetchall()
    seq, body = db.execute(
        "SELECT seq, body FROM events WHERE session = ? ORDER BY seq DESC LIMIT 1", rows[-1]
    ).fetchone()
    return len(rows), {"seq": seq, **json.loads(body)}
