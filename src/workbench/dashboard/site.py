"""The live page's server: its addresses, its files, and what goes wrong in words."""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from workbench.dashboard.api import Api
from workbench.dashboard.door import COOKIE, COOKIE_SECONDS, Door, Gate, refuse
from workbench.dashboard.inbox import Inbox, Relay
from workbench.dashboard.keys import Keys
from workbench.dashboard.limits import MalformedError
from workbench.dashboard.store import FullError, Store

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
RETRY_SECONDS = "5"  # when the disk is full, or another process writes
ENTERED = '<!doctype html><meta http-equiv="refresh" content="0; url=/"><a href="/">Runs</a>'


class Site:
    """What is up for as long as the server is: store, relay and files."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        gate: Gate,
        files: Mapping[str, bytes],
        tell_link: Callable[[], None],
        open_relay: Callable[[], Relay] | None = None,
    ) -> None:
        self.store, self.gate, self.files = store, gate, files
        self.tell_link, self.open_relay = tell_link, open_relay
        self.inbox = Inbox(store, keys, gate)
        self.api = Api(store, self.ask_relay)

    @asynccontextmanager
    async def live(self, _: Starlette) -> AsyncIterator[None]:
        """Listens to the relay, if there is one, for as long as the site is up."""
        if self.open_relay:
            self.inbox.relay = self.open_relay()
        yield
        if self.inbox.relay:
            await run_in_threadpool(self.inbox.relay.close)
        self.store.close()

    def ask_relay(self) -> dict[str, Any] | None:
        """How the relay is, or None without one."""
        return self.inbox.relay.health() if self.inbox.relay else None

    def enter(self, request: Request) -> Response:
        """GET /enter: the link that lets one browser in.

        It answers with a page and not with a redirect: a strict cookie is not sent on one that
        comes from another site.
        """
        cookie = self.gate.enter(request.query_params.get("code", ""), time.time())
        if cookie is None:
            raise HTTPException(401, "this link was used; the terminal shows a new one")
        self.tell_link()
        answer = HTMLResponse(ENTERED)
        answer.set_cookie(COOKIE, cookie, max_age=COOKIE_SECONDS, httponly=True, samesite="strict")
        return answer

    def file(self, request: Request) -> Response:
        """GET / and /page/…: a file of the page, of those that were there at the start."""
        name = request.path_params.get("name", "index.html")
        if name not in self.files:
            raise HTTPException(404, "there is no such file")
        return Response(self.files[name], media_type=KINDS[Path(name).suffix])


def make_app(site: Site) -> ASGIApp:
    """The application behind its door, which sees every request and every answer."""
    inbox, api = site.inbox, site.api
    routes = [
        Route("/ingest", inbox.ingest, methods=["POST"]),
        Route("/keras/{write}/{run}/publish/epoch/end/", inbox.keras, methods=["POST"]),
        Route("/publish/epoch/end/", inbox.keras, methods=["POST"]),
        Route("/api/stop", inbox.stop, methods=["POST"]),
        Route("/api/runs", api.runs),
        Route("/api/series", api.series),
        Route("/api/run/{run}", api.run),
        Route("/api/compare", api.compare),
        Route("/api/health", api.health),
        Route("/image/{name}.jpg", api.image),
        Route("/export/{run}.csv", api.csv),
        Route("/export/{run}.tensorboard.zip", api.tensorboard),
        Route("/export/{run}.html", api.html),
        Route("/enter", site.enter),
        Route("/", site.file),
        Route("/page/{name}", site.file),
    ]
    handlers: Mapping[Any, Any] = {
        HTTPException: answer_refused,
        MalformedError: lambda _, error: refuse(400, str(error)),
        FullError: lambda _, error: refuse(403, str(error)),
        sqlite3.OperationalError: answer_full,
        ClientDisconnect: lambda *_: refuse(400, "the body was cut off"),
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=site.live)
    return Door(app, site.gate, time.time)


def answer_refused(_: Request, error: HTTPException) -> Response:
    """What is wrong, in plain text, with the headers that belong to the status."""
    return PlainTextResponse(error.detail, error.status_code, error.headers)


def answer_full(_: Request, error: Exception) -> Response:
    """A full disk, or another process that writes, is no sender's fault: it may come again."""
    answer = refuse(503, f"nothing can be stored now: {error}")
    answer.headers["retry-after"] = RETRY_SECONDS
    return answer


def read_files(library: Mapping[str, Path]) -> dict[str, bytes]:
    """The files of the page by name, with a library's: what lies elsewhere can't be asked for."""
    own = {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}
    return {name: path.read_bytes() for name, path in {**own, **library}.items()}
