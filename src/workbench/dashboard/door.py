"""Who may come in: the Host, the origin and the login of each request, and what each answer says.

On the loopback address everybody at this machine may read. From elsewhere one needs a cookie, and
gets it by a link that the start prints and that is good once.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.dashboard.keys import is_same
from workbench.dashboard.store import Store

COOKIE = "podium"
COOKIE_SECONDS = 30 * 24 * 3600
NEAR = ("127.0.0.1", "localhost", "::1")
OWN_KEYS = ("/ingest", "/keras/", "/publish/", "/enter")  # what asks for a key of its own
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """Which names this server answers to, and who is let in."""

    def __init__(self, store: Store, listen: str, port: int, hosts: Iterable[str] = ()) -> None:
        self.store, self.listen, self.port = store, listen, port
        self.hosts = {host.lower() for host in hosts}
        self.near = is_near(listen)
        self.code = secrets.token_urlsafe(24)

    @property
    def needs_login(self) -> bool:
        """Can others than those at this machine come here?"""
        return not self.near or bool(self.hosts)

    def knows_host(self, host: str) -> bool:
        """Is the Host one of ours? A page elsewhere whose name points here has its own.

        An address in digits is nobody's name, so that any will do once we listen to the outside.
        """
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if name in self.hosts:
            return True
        own = name in (*NEAR, self.listen) or (not self.near and is_address(name))
        return own and port == self.port

    def enter(self, code: str, now: float) -> str | None:
        """A cookie for the one who has the code, which then is another; else None."""
        if not is_same(code, self.code):
            return None
        self.code, cookie = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        with self.store.writing() as db:
            db.execute("DELETE FROM logins WHERE until < ?", (now,))
            db.execute(
                "INSERT INTO logins VALUES (?, ?)", (hash_cookie(cookie), now + COOKIE_SECONDS)
            )
        return cookie

    def has_entered(self, cookie: str, now: float) -> bool:
        """Is this a cookie that was given out and is still good?"""
        with self.store.reading() as db:
            query = "SELECT 1 FROM logins WHERE hash = ? AND until > ?"
            return db.execute(query, (hash_cookie(cookie), now)).fetchone() is not None


def is_near(listen: str) -> bool:
    """Does only this machine reach an address that is listened to?"""
    return listen == "localhost" or (
        is_address(listen) and ipaddress.ip_address(listen).is_loopback
    )


def is_address(name: str) -> bool:
    """Is it an address in digits?"""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def hash_cookie(cookie: str) -> str:
    """What is kept of a cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()


class Door:
    """Stands before the whole application; refuses, and puts its headers on every answer."""

    def __init__(self, app: ASGIApp, gate: Gate, clock: Callable[[], float]) -> None:
        self.app, self.gate, self.clock = app, gate, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = await self.refuse(Request(scope))
        app = refusal or self.app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await app(scope, receive, send_guarded)

    async def refuse(self, request: Request) -> PlainTextResponse | None:
        """The answer to what may not come in, or None."""
        host = request.headers.get("host", "")
        if not self.gate.knows_host(host):
            return refuse(421, "this host is not ours; --host allows another name")
        origin = request.headers.get("origin")
        asks = request.method in ("GET", "HEAD")
        if not asks and origin is not None and not is_own(origin, host):
            return refuse(403, "this comes from a page of another site")
        if not self.gate.needs_login or request.url.path.startswith(OWN_KEYS):
            return None
        cookie = request.cookies.get(COOKIE, "")
        if await run_in_threadpool(self.gate.has_entered, cookie, self.clock()):
            return None
        return refuse(401, "open the link that the terminal shows; it lets one browser in")


def is_own(origin: str, host: str) -> bool:
    """Is a request's origin the host that it was sent to?"""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def refuse(status: int, words: str) -> PlainTextResponse:
    """An answer that says what is wrong, in plain text."""
    return PlainTextResponse(words, status)
