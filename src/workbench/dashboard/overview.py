"""All runs at a glance: their cards, what they have in common, and how their senders are."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from podium.card import clean_text
from workbench.dashboard.details import find_settings
from workbench.dashboard.progress import read_progress, show_card
from workbench.dashboard.stops import show_stop
from workbench.dashboard.taking import find_version

OWN = ("runtime.folder",)  # settings that differ between any two runs
RUN_COLUMNS = "id, run, source, name, seen, missing, progress"


def list_cards(db: sqlite3.Connection, now: float, after: int = -1) -> dict[str, Any]:
    """The cards of runs that changed after a version, the newest first."""
    rows = db.execute(
        f"SELECT {RUN_COLUMNS} FROM runs WHERE version > ? ORDER BY seen DESC",  # noqa: S608
        (after,),
    )
    cards = [make_card(db, row, now) for row in rows.fetchall()]
    return {"version": find_version(db), "runs": cards}


def find_cards(db: sqlite3.Connection, now: float, runs: Sequence[str]) -> list[dict[str, Any]]:
    """The cards of runs by name, in that order; those that are not known are left out."""
    return [make_card(db, row, now) for row in find_rows(db, runs)]


def find_rows(db: sqlite3.Connection, runs: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of runs by name."""
    for run in runs:
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE run = ?"  # noqa: S608
        yield from db.execute(query, (run,)).fetchall()


def make_card(db: sqlite3.Connection, row: tuple[Any, ...], now: float) -> dict[str, Any]:
    """A card: what the events say, and what the database knows beside them."""
    number, run, source, name, seen, missing, kept = row
    progress = read_progress(json.loads(kept))
    card = show_card(progress)
    card["name"] = clean_text(name, 200) or card["name"]
    if source == "keras":
        card |= {"title": card["name"], "machine": ""}
    known = {"source": source, "seen": seen, "missing": missing, "quiet": source == "relay"}
    return {"run": run, **card, **known, "stop": show_stop(db, number, now)}


def list_health(db: sqlite3.Connection, now: float) -> dict[str, Any]:
    """How the senders are, as their last heartbeats say, and how large the store is."""
    rows = db.execute(f"SELECT {RUN_COLUMNS} FROM runs ORDER BY seen DESC").fetchall()  # noqa: S608
    # None is ever deleted, so that the last row's number is their count.
    events = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0]
    pages, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    store = {"events": events, "bytes": pages * size, "runs": len(rows)}
    return {"now": now, "runs": [describe_sender(row) for row in rows], "store": store}


def describe_sender(row: tuple[Any, ...]) -> dict[str, Any]:
    """How the sender of one run is."""
    _, run, _, _, seen, missing, kept = row
    progress = read_progress(json.loads(kept))
    pulse = {"memory_free": None, "disk_free": None, "deliveries": None} | progress.pulse
    key = {
        "run": run,
        "title": clean_text(progress.card.title, 200),
        "seen": seen,
        "told": progress.told,
    }
    lag = seen - progress.told
    return {**key, "lag": lag, **pulse, "deliveries": pulse["deliveries"] or [], "missing": missing}


def compare_runs(db: sqlite3.Connection, now: float, runs: Sequence[str]) -> dict[str, Any]:
    """Runs side by side: the settings that are not the same in all, and the scores."""
    rows = list(find_rows(db, runs))
    settings = [find_settings(db, row[0]) for row in rows]
    names = dict.fromkeys(name for one in settings for name in one if name not in OWN)
    values = {name: [one.get(name) for one in settings] for name in names}
    differing = [
        {"name": name, "values": found}
        for name, found in values.items()
        if any(value != found[0] for value in found)
    ]
    shown = {"run": "run", "metric": "metric", "folds": "scores"}
    shown |= {name: name for name in ("mean", "sd", "result")}
    cards = [make_card(db, row, now) for row in rows]
    scores = [{name: card[key] for name, key in shown.items()} for card in cards]
    return {"settings": differing, "scores": scores}
