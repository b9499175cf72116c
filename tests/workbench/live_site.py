"""A dashboard's real server on 127.0.0.1, and a sender that signs as Podium does."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
import uvicorn
from receivers import wait_until

from podium.signing import sign
from workbench.dashboard.door import Gate
from workbench.dashboard.keys import open_keys
from workbench.dashboard.site import Site, make_app
from workbench.dashboard.store import Store

EVERYWHERE = "0.0.0.0"
get = partial(requests.get, timeout=30)
post = partial(requests.post, timeout=30)


def sign_body(secret: str, body: bytes, name: str, moment: int) -> dict[str, str]:
    """The headers of a body that is signed as Podium signs it."""
    signature = sign(secret, name, moment, body)
    key = {"webhook-id": name, "webhook-timestamp": str(moment)}
    return {**key, "webhook-signature": signature, "content-type": "application/json"}


class LiveSite:
    """A server that is up, and its insides."""

    def __init__(self, folder: Path, listen: str, hosts: Sequence[str], relay: Any) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.store, self.keys = Store(folder), open_keys(folder)
        self.gate = Gate(self.store, listen, self.port, hosts)
        self.links = list[str]()
        files = {"index.html": b"<!doctype html>the page", "app.js": b"1"}
        self.site = Site(self.store, self.keys, self.gate, files, self.note_link, relay)
        config = uvicorn.Config(
            make_app(self.site), log_level="warning", access_log=False, ws="none"
        )
        self.server = uvicorn.Server(config)

    def note_link(self) -> None:
        self.links.append(self.gate.code)

    def sign(self, body: bytes, name: str = "", moment: float | None = None) -> dict[str, str]:
        """The headers of a signed body."""
        name, moment = name or f"id-{time.monotonic_ns()}", int(moment or time.time())
        return sign_body(self.keys.secret, body, name, moment)

    def post(self, body: bytes, **headers: str) -> requests.Response:
        """A signed request to /ingest."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return post(self.url + "/ingest", body, headers=self.sign(body) | named)

    def tell(self, events: Sequence[Any]) -> dict[str, Any]:
        """Events in one batch, taken."""
        answer = self.post(json.dumps({"events": list(events)}).encode())
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        """What the page is answered."""
        answer = get(self.url + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def count(self) -> int:
        """Events that are stored."""
        with self.store.reading() as db:
            return int(db.execute("SELECT count(*) FROM events").fetchone()[0])


@contextmanager
def serve_site(
    folder: Path, listen: str = "127.0.0.1", hosts: Sequence[str] = (), relay: Any = None
) -> Iterator[LiveSite]:
    live = LiveSite(folder, listen, hosts, relay)
    thread = threading.Thread(target=live.server.run, args=([live.socket],), daemon=True)
    thread.start()
    wait_until(lambda: live.server.started)
    try:
        yield live
    finally:
        live.server.should_exit = True
        thread.join()
        live.socket.close()


def make_event(seq: int = 1, name: str = "line_said", /, **values: Any) -> dict[str, Any]:
    """An event of a run."""
    key = {"run": "4042", "session": "5e551014", "seq": seq, "time": 1_764_000_000.0 + seq}
    return {**key, "event": name, **values}
