"""The live page's addresses: what is asked of each, and what it answers."""

import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from workbench.dashboard import keras_intake
from workbench.dashboard.details import describe_run
from workbench.dashboard.door import COOKIE, COOKIE_SECONDS, Door, Gate, refuse
from workbench.dashboard.intake import (
    check_signature,
    list_spans,
    read_body,
    read_events,
    read_json,
    unpack_body,
)
from workbench.dashboard.keys import Keys, is_same
from workbench.dashboard.limits import MalformedError, check_name
from workbench.dashboard.overview import (
    compare_runs,
    find_cards,
    find_rows,
    list_cards,
    list_health,
)
from workbench.dashboard.series import read_curves, show_curve
from workbench.dashboard.stops import (
    DeafError,
    UnknownRunError,
    ask_stop,
    list_pending,
    show_stop,
)
from workbench.dashboard.store import FullError, Store
from workbench.dashboard.taking import find_version

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
MOST_COMPARED = 20  # runs whose curves are asked for at once
RETRY_SECONDS = "5"  # when the disk is full, or another process writes
ENTERED = '<!doctype html><meta http-equiv="refresh" content="0; url=/"><a href="/">Runs</a>'


class Relay(Protocol):
    """What reads a relay's messages into the store, and passes commands on."""

    def health(self) -> dict[str, Any]:
        """How it is, for the page."""
        ...

    def tell(self, command: Mapping[str, Any]) -> None:
        """Sends a command to where the run looks for it."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Site:
    """What the addresses have in common: the store, the keys, and who is let in."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        gate: Gate,
        say: Callable[[str], None],
        open_relay: Callable[[], Relay] | None = None,
    ) -> None:
        self.store, self.keys, self.gate, self.say = store, keys, gate, say
        self.open_relay = open_relay
        self.relay: Relay | None = None
        self.files = read_files(PAGE)

    @asynccontextmanager
    async def live(self, _: Starlette) -> AsyncIterator[None]:
        """Listens to the relay, if there is one, for as long as the site is up."""
        self.relay = self.open_relay() if self.open_relay else None
        yield
        if self.relay:
            await run_in_threadpool(self.relay.close)
        self.store.close()

    async def ingest(self, request: Request) -> Response:
        """POST /ingest: signed batches of events."""
        body = await read_body(request)
        return await run_in_threadpool(self.take_batch, request.headers, body)

    def take_batch(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Stores a batch, and answers with the commands for its sessions.

        The very same request once more is a retry or was overheard: it is told nothing.
        """
        now = time.time()
        delivery = check_signature(headers, body, self.keys.secret, now)
        events = read_events(unpack_body(body, headers.get("content-encoding", "")))
        spans = list_spans(events)
        taken = self.store.take(events, spans, "webhook", now, delivery=delivery)
        commands = []
        if not taken.replayed:
            with self.store.reading() as db:
                commands = list_pending(db, [(span.run, span.session) for span in spans], now)
        return JSONResponse({"stored": taken.stored, "commands": commands})

    async def keras(self, request: Request) -> Response:
        """POST from keras.callbacks.RemoteMonitor, which can sign nothing."""
        body = await read_body(request)
        run, token = request.path_params.get("run", "keras"), request.path_params.get("write")
        if token is None and self.gate.needs_login:
            raise HTTPException(
                401, "from elsewhere the address needs the key that the start shows"
            )
        if token is not None and not is_same(token, self.keys.write):
            raise HTTPException(401, "the address holds another key than the start shows")
        check_name("run", run)
        logs = keras_intake.read_logs(body, request.headers.get("content-type", ""))
        taken = await run_in_threadpool(keras_intake.take_epoch, self.store, run, logs, time.time())
        return JSONResponse({"stored": taken.stored})

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

    def ask_relay(self) -> dict[str, Any] | None:
        """How the relay is, or None without one."""
        return self.relay.health() if self.relay else None

    async def stop(self, request: Request) -> Response:
        """POST /api/stop: asks a run to stop after its epoch."""
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise HTTPException(415, "send JSON")
        body = read_json(await read_body(request))
        run = body.get("run") if isinstance(body, dict) else None
        if not isinstance(run, str):
            raise MalformedError("run must name a run")
        return await run_in_threadpool(self.stop_run, run)

    def stop_run(self, run: str) -> Response:
        """Makes the command, and passes it to the relay; else the run finds it when it sends."""
        now = time.time()
        check_name("run", run)
        try:
            with self.store.writing() as db:
                command = ask_stop(db, self.keys.secret, run, now)
                (number,) = db.execute("SELECT id FROM runs WHERE run = ?", (run,)).fetchone()
                shown = show_stop(db, number, now)
        except UnknownRunError:
            raise HTTPException(404, "there is no such run") from None
        except DeafError as error:
            raise HTTPException(409, str(error)) from None
        if self.relay:
            self.relay.tell(command)
        return show(shown)

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

    def enter(self, request: Request) -> Response:
        """GET /enter: the link that lets one browser in.

        It answers with a page and not with a redirect: a strict cookie is not sent on one that
        comes from another site.
        """
        cookie = self.gate.enter(request.query_params.get("code", ""), time.time())
        if cookie is None:
            raise HTTPException(401, "this link was used; the terminal shows a new one")
        self.say("somebody has entered; a new link lets another browser in:")
        answer = HTMLResponse(ENTERED)
        answer.set_cookie(COOKIE, cookie, max_age=COOKIE_SECONDS, httponly=True, samesite="strict")
        return answer

    def file(self, request: Request) -> Response:
        """GET /…: a file of the page, of those that were there at the start."""
        name = request.path_params.get("name") or "index.html"
        if name not in self.files:
            raise HTTPException(404, "there is no such file")
        kind, content = self.files[name]
        return Response(content, media_type=kind)


def make_app(site: Site) -> ASGIApp:
    """The application: the door, the routes, and what goes wrong in words."""
    routes = [
        Route("/ingest", site.ingest, methods=["POST"]),
        Route("/keras/{write}/{run}/publish/epoch/end/", site.keras, methods=["POST"]),
        Route("/publish/epoch/end/", site.keras, methods=["POST"]),
        Route("/api/runs", site.runs),
        Route("/api/series", site.series),
        Route("/api/run/{run}", site.run),
        Route("/api/compare", site.compare),
        Route("/api/health", site.health),
        Route("/api/stop", site.stop, methods=["POST"]),
        Route("/image/{name}.jpg", site.image),
        Route("/enter", site.enter),
        Route("/", site.file),
        Route("/{name:path}", site.file),
    ]
    handlers: Mapping[Any, Any] = {
        HTTPException: lambda _, error: JSONResponse(
            {"error": error.detail}, error.status_code, error.headers
        ),
        MalformedError: lambda _, error: refuse(400, str(error)),
        FullError: lambda _, error: refuse(403, str(error)),
        sqlite3.OperationalError: answer_full,
        ClientDisconnect: lambda *_: refuse(400, "the body was cut off"),
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=site.live)
    return Door(app, site.gate, time.time)


def answer_full(_: Request, error: Exception) -> Response:
    """A full disk, or another process that writes, is no sender's fault: it may come again."""
    answer = refuse(503, f"nothing can be stored now: {error}")
    answer.headers["retry-after"] = RETRY_SECONDS
    return answer


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


def read_files(folder: Path) -> dict[str, tuple[str, bytes]]:
    """The files of the page, by their address: what lies elsewhere can never be asked for."""
    return {
        path.relative_to(folder).as_posix(): (KINDS[path.suffix], path.read_bytes())
        for path in folder.rglob("*")
        if path.suffix in KINDS
    }
