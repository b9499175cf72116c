"""All that a saved page holds: runs as they are now, with their pictures."""

import base64
import sqlite3
from collections.abc import Sequence
from typing import Any

from workbench.dashboard.details import describe_run
from workbench.dashboard.overview import compare_runs, find_cards, find_rows
from workbench.dashboard.series import read_curves, show_curve


def gather_report(db: sqlite3.Connection, now: float, runs: Sequence[str]) -> dict[str, Any]:
    """What the addresses of the page would answer about some runs."""
    rows = list(find_rows(db, runs))
    cards = find_cards(db, now, runs)
    curves = [show_curve(row[1], curve) for row in rows for curve in read_curves(db, row[0])]
    details = {
        row[1]: {"card": card, **embed_images(db, describe_run(db, row[0]))}
        for row, card in zip(rows, cards, strict=True)
    }
    compared = compare_runs(db, now, runs)
    return {
        "now": now,
        "runs": cards,
        "series": {"runs": curves},
        "details": details,
        "compare": compared,
    }


def embed_images(db: sqlite3.Connection, details: dict[str, Any]) -> dict[str, Any]:
    """The details with pictures in place of their addresses."""
    return {**details, "images": [embed_image(db, one) for one in details["images"]]}


def embed_image(db: sqlite3.Connection, shown: dict[str, Any]) -> dict[str, Any]:
    """A picture's words with itself as a data URL."""
    name = str(shown["url"]).removeprefix("/image/").removesuffix(".jpg")
    found = db.execute("SELECT jpeg FROM images WHERE name = ?", (name,)).fetchone()
    code = base64.b64encode(found[0]).decode() if found else ""
    return {**shown, "url": f"data:image/jpeg;base64,{code}" if found else None}
