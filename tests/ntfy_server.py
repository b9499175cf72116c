"""A small ntfy: what its documents and its source say of publishing, subscribing and limits.

Sources: ntfy's docs/publish.md ("Limitations"), docs/subscribe/api.md, and server/server.go,
server/visitor.go, server/message_cache.go of version 2.13: every publication counts as a message,
whether it becomes a text or a file; the count is reset at midnight UTC; reading costs a request and
no message; since=<an id that is gone> is everything; a text of the very limit becomes a file.
"""

import json
import queue
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LIMIT = 4096  # bytes of a text
CACHE, FILES = 12 * 3600, 3 * 3600  # seconds
LARGEST_FILE = 2 * 2**20
BURST, EVERY = 60, 5.0  # requests at once, and seconds till there is one more
TOPIC = r"[-_A-Za-z0-9]{1,64}"
UNITS = {"s": 1, "m": 60, "h": 3600}
DROP = object()

Message = dict[str, Any]


class NtfyError(Exception):
    """An answer that is no success, as the source words it."""

    def __init__(self, code: int, error: str) -> None:
        super().__init__(code)
        self.status = code // 100
        self.body = {"code": code, "http": self.status, "error": error}


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for a server."""

    protocol_version = "HTTP/1.1"
    ntfy: "NtfyServer"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            if self.ntfy.is_down:
                self.close_connection = True
                return
            self.ntfy.admit(self.command, self.path, dict(self.headers.items()))
            self.route(body)
        except NtfyError as refusal:
            self.reply(json.dumps(refusal.body).encode() + b"\n", refusal.status)
        except OSError:  # who asked is gone
            self.close_connection = True

    def route(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.command in ("POST", "PUT"):
            self.reply(write_line(self.ntfy.publish(parts.path, self.headers, body)))
        elif found := re.fullmatch(rf"/file/({TOPIC})(\.\w+)?", parts.path):
            self.reply(self.ntfy.read_file(found[1]))
        elif found := re.fullmatch(rf"/({TOPIC})/json", parts.path):
            self.list_messages(found[1], query)
        else:
            raise NtfyError(40401, "page not found")

    def list_messages(self, topic: str, query: dict[str, str]) -> None:
        polls = query.get("poll") in ("1", "yes", "true")
        since = query.get("since", "all" if polls else "none")
        if polls:
            self.reply(b"".join(map(write_line, self.ntfy.find_messages(topic, since))))
            return
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with self.ntfy.listen(topic) as heard:
            self.say({"event": "open", "topic": topic})
            for one in self.ntfy.find_messages(topic, since):
                self.say(one)
            while (one := self.ntfy.next_of(heard, topic)) is not DROP:
                self.say(one)
        self.close_connection = True

    def say(self, message: Message) -> None:
        line = write_line(message)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def reply(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


class NtfyServer:
    """Topics, their cached messages and who listens to them; its clock can be set on."""

    def __init__(self, quota: int = 250, takes_files: bool = True) -> None:
        self.quota, self.takes_files, self.keepalive = quota, takes_files, 45.0
        self.ahead = 0.0  # seconds that its clock is ahead
        self.messages: list[Message] = []
        self.files: dict[str, bytes] = {}
        self.listeners: list[tuple[str, queue.Queue[Any]]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        self.published, self.day = 0, 0
        self.tokens, self.filled = float(BURST), self.now()
        self.is_down = False
        self.lock = threading.Lock()
        handler = type("Handler", (Handler,), {"ntfy": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def now(self) -> float:
        return time.time() + self.ahead

    def admit(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Takes a request out of the bucket, which fills again."""
        with self.lock:
            self.requests.append((method, path, headers))
            now = self.now()
            self.tokens = min(BURST, self.tokens + (now - self.filled) / EVERY)
            self.filled = now
            if self.tokens < 1:
                raise NtfyError(42901, "limit reached: too many requests")
            self.tokens -= 1

    def publish(self, path: str, headers: Any, body: bytes) -> Message:
        """Keeps a message and tells who listens; the count comes first, whatever it becomes."""
        content: dict[str, Any] = {}
        if path == "/":
            content = json.loads(body)
            path, body = f"/{content['topic']}", content.get("message", "").encode()
        if not re.fullmatch(f"/{TOPIC}", path):
            raise NtfyError(40401, "page not found")
        with self.lock:
            if self.day != int(self.now() // 86_400):
                self.day, self.published = int(self.now() // 86_400), 0
            if self.published >= self.quota:
                raise NtfyError(42908, "limit reached: daily message quota reached")
            self.published += 1
            now = int(self.now())
            one: Message = {"id": secrets.token_hex(6), "time": now, "expires": now + CACHE}
            one |= {"event": "message", "topic": path[1:]}
            priority = int(headers.get("priority") or content.get("priority", 3))
            one |= {} if priority == 3 else {"priority": priority}
            one |= self.keep_body(one["id"], body)
            self.messages.append(one)
            for topic, heard in self.listeners:
                if topic == one["topic"]:
                    heard.put(one)
        return one

    def keep_body(self, name: str, body: bytes) -> Message:
        """A text, or a file where it is too long for one."""
        if len(body) < LIMIT:
            return {"message": body.decode().strip()}
        if not self.takes_files:
            raise NtfyError(40014, "invalid request: attachments not allowed")
        if len(body) > LARGEST_FILE:
            raise NtfyError(41301, "attachment too large, or bandwidth limit reached")
        self.files[name] = body
        file = {"name": "attachment.txt", "size": len(body), "url": f"{self.url}/file/{name}.txt"}
        file["expires"] = int(self.now()) + FILES
        return {"message": "You received a file: attachment.txt", "attachment": file}

    def read_file(self, name: str) -> bytes:
        kept = {one["id"]: one["attachment"] for one in self.messages if "attachment" in one}
        if name not in self.files or kept[name]["expires"] <= self.now():
            raise NtfyError(40401, "page not found")
        return self.files[name]

    def find_messages(self, topic: str, since: str) -> list[Message]:
        """The cached messages after an id, a time, or a while ago; of no known id, all."""
        with self.lock:
            cached = [one for one in self.messages if one["expires"] > self.now()]
            ids = [one["id"] for one in cached]
            mine = [one for one in cached if one["topic"] == topic]
            if since in ids:
                mine = [one for one in mine if ids.index(one["id"]) > ids.index(since)]
            elif since == "none":
                mine = []
            elif since.isdigit() and len(since) != 12:
                mine = [one for one in mine if one["time"] >= int(since)]
            elif since[:-1].isdigit() and since[-1] in UNITS:
                ago = self.now() - int(since[:-1]) * UNITS[since[-1]]
                mine = [one for one in mine if one["time"] >= int(ago)]
            elif since != "all" and len(since) != 12:
                raise NtfyError(40008, "invalid since parameter")
            return mine

    @contextmanager
    def listen(self, topic: str) -> Iterator[queue.Queue[Any]]:
        heard: queue.Queue[Any] = queue.Queue()
        with self.lock:
            self.listeners.append((topic, heard))
        try:
            yield heard
        finally:
            with self.lock:
                self.listeners.remove((topic, heard))

    def next_of(self, heard: queue.Queue[Any], topic: str) -> Any:
        try:
            return heard.get(timeout=self.keepalive)
        except queue.Empty:
            return {"event": "keepalive", "topic": topic}

    def drop_listeners(self) -> None:
        """Ends all streams, as a proxy or a restart does."""
        with self.lock:
            for _, heard in self.listeners:
                heard.put(DROP)


def write_line(message: Message) -> bytes:
    stamp = {"id": secrets.token_hex(6), "time": int(time.time())}
    line = json.dumps(stamp | message, separators=(",", ":"))
    # Go writes these so, inside JSON.
    return "".join(f"\\u{ord(one):04x}" if one in "<>&" else one for one in line).encode() + b"\n"


@contextmanager
def serve_ntfy(quota: int = 250, takes_files: bool = True) -> Iterator[NtfyServer]:
    server = NtfyServer(quota, takes_files)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.drop_listeners()
        server.http.shutdown()
        server.http.server_close()
        thread.join()
