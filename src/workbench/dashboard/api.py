"""What the page asks for: cards, curves, one run, comparisons, health, pictures and files."""

import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from workbench.dashboard.csv_file import write_csv
from workbench.dashboard.details import describe_run
from workbench.dashboard.gather import gather_report
from workbench.dashboard.limits import MalformedError
from workbench.dashboard.overview import (
    compare_runs,
    find_cards,
    find_rows,
    list_cards,
    list_health,
)
from workbench.dashboard.series import read_curves, show_curve
from workbench.dashboard.static_report import render
from workbench.dashboard.store import Store
from workbench.dashboard.taking import find_version
from workbench.dashboard.tensorboard_files import write_tensorboard
from workbench.dashboard.uplot import UplotError

ATTACHED = {"content-disposition": "attachment"}  # to be kept, and never shown as ours
MOST_COMPARED = 20  # runs whose curves are asked for at once


class Api:
    """The addresses that only read; `ask_relay` says how the relay is, None without one."""

    def __init__(self, store: Store, ask_relay: Callable[[], dict[str, Any] | None]) -> None:
        self.store, self.ask_relay = store, ask_relay

    def runs(self, request: Request) -> Response:
        """GET /api/runs: the cards that changed."""
        now, after = time.time(), read_after(request)
        with self.store.reading() as db:
            return show({"now": now, "relay": self.ask_relay(), **list_cards(db, now, after)})

    def series(self, request: Request) -> Response:
        """GET /api/series: the curves that changed, of the runs named."""
        after = read_after(request)
        with self.store.reading() as db:
            curves = [
                show_curve(row[1], curve)
                for row in find_rows(db, read_names(request))
                for curve in read_curves(db, row[0], after)
            ]
            return show({"version": find_version(db), "runs": curves})

    def run(self, request: Request) -> Response:
        """GET /api/run/<run>: all of one run."""
        with self.store.reading() as db:
            row = find_row(db, request)
            (card,) = find_cards(db, time.time(), row[1:2])
            return show({"card": card, **describe_run(db, row[0])})

    def compare(self, request: Request) -> Response:
        """GET /api/compare: settings that differ, and scores."""
        with self.store.reading() as db:
            return show(compare_runs(db, time.time(), read_names(request)))

    def health(self, _: Request) -> Response:
        """GET /api/health: how senders, relay and store are."""
        with self.store.reading() as db:
            return show({**list_health(db, time.time()), "relay": self.ask_relay()})

    def image(self, request: Request) -> Response:
        """GET /image/<sha256>.jpg: a picture that a run showed."""
        with self.store.reading() as db:
            found = db.execute(
                "SELECT jpeg FROM images WHERE name = ?", (request.path_params["name"],)
            ).fetchone()
        if not found:
            raise HTTPException(404, "there is no such picture")
        # Its name is made of its content, which therefore never changes.
        headers = {"cache-control": "private, max-age=31536000, immutable"}
        return Response(found[0], headers=headers, media_type="image/jpeg")

    def csv(self, request: Request) -> Response:
        """GET /export/<run>.csv: every epoch."""
        with self.store.reading() as db:
            row = find_row(db, request)
            (card,) = find_cards(db, time.time(), row[1:2])
            text = "".join(write_csv(db, row[0], card))
        return Response(text, headers=ATTACHED, media_type="text/csv")

    def tensorboard(self, request: Request) -> Response:
        """GET /export/<run>.tensorboard.zip: a folder to unpack where TensorBoard looks."""
        with self.store.reading() as db:
            row = find_row(db, request)
            (card,) = find_cards(db, time.time(), row[1:2])
            place = Path(tempfile.mkdtemp())
            write_tensorboard(db, row[0], card, place / "runs")
        file = shutil.make_archive(str(place / "tensorboard"), "zip", place / "runs")
        task = BackgroundTask(shutil.rmtree, place)
        return FileResponse(file, headers=ATTACHED, media_type="application/zip", background=task)

    def html(self, request: Request) -> Response:
        """GET /export/<run>.html: the page as one file, as the run is now."""
        with self.store.reading() as db:
            row = find_row(db, request)
            report = gather_report(db, time.time(), row[1:2])
        try:
            return Response(render(report), headers=ATTACHED, media_type="text/html")
        except UplotError as error:
            raise HTTPException(503, str(error)) from None


def show(content: Any) -> Response:
    """Strict JSON."""
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")


def read_after(request: Request) -> int:
    """The version that the page has; raises MalformedError."""
    text = request.query_params.get("after", "-1")
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise MalformedError("after must be a version")
    return int(text)


def read_names(request: Request) -> list[str]:
    """The runs that are asked for; raises MalformedError."""
    names = [name for name in request.query_params.get("runs", "").split(",") if name]
    if len(names) > MOST_COMPARED:
        raise MalformedError(f"runs may name {MOST_COMPARED}")
    return names


def find_row(db: sqlite3.Connection, request: Request) -> tuple[Any, ...]:
    """The row of the run in the path; raises HTTPException 404."""
    for row in find_rows(db, [request.path_params["run"]]):
        return row
    raise HTTPException(404, "there is no such run")
