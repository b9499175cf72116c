"""What comes in: batches of events, epochs of Keras, and the wish that a run stop."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workbench.dashboard import keras_intake
from workbench.dashboard.door import Gate
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
from workbench.dashboard.stops import DeafError, UnknownRunError, ask_stop, list_pending, show_stop
from workbench.dashboard.store import Store


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


class Inbox:
    """The addresses that something is sent to."""

    def __init__(self, store: Store, keys: Keys, gate: Gate) -> None:
        self.store, self.keys, self.gate = store, keys, gate
        self.relay: Relay | None = None

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
            raise HTTPException(401, "from elsewhere the address needs the key of the start")
        if token is not None and not is_same(token, self.keys.write):
            raise HTTPException(401, "the address holds another key than the start shows")
        check_name("run", run)
        logs = keras_intake.read_logs(body, request.headers.get("content-type", ""))
        taken = await run_in_threadpool(keras_intake.take_epoch, self.store, run, logs, time.time())
        return JSONResponse({"stored": taken.stored})

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
        return JSONResponse(shown)
