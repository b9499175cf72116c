"""Real local servers that stand for the receivers of webhooks, good and bad."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs


class Received(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def parts(self) -> dict[str, bytes]:
        """The parts of a multipart body, by name."""
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + self.body)
        return {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.iter_parts()
        }


Reply = tuple[int, dict[str, str], Any]
Behaviour = Callable[[Received], Reply]


class Server:
    """Answers as it is told, and keeps what it received."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave, self.received = behave, list[Received]()
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Received(self.command, self.path, headers, body)
                with server.lock:
                    server.received.append(request)
                    status, extra, content = server.behave(request)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(behave: Behaviour = lambda request: (200, {}, {})) -> Iterator[Server]:
    server = Server(behave)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


@contextmanager
def serve_socket(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server below HTTP: it hangs, drips, or talks garbage. Yields its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                one, _ = listening.accept()
            except OSError:
                return
            taken.append(one)
            threading.Thread(target=handle, args=(one,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for one in taken:
            one.close()
        thread.join()


@contextmanager
def swallow() -> Iterator[str]:
    """A host that swallows every packet.

    Linux drops the handshakes that do not fit into a full queue, as a firewall drops them.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


def hang(connection: socket.socket) -> None:
    """Accepts and never answers."""
    connection.recv(65_536)
    time.sleep(3600)


def drip(connection: socket.socket) -> None:
    """One byte of a header each 50 ms, for ever: each read succeeds, the answer never comes."""
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nx-drip: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)
    except OSError:
        return


def babble(connection: socket.socket) -> None:
    """What is no HTTP."""
    try:
        connection.recv(65_536)
        connection.sendall(b"\x16\x03\x01garbage\r\n\r\n")
        connection.close()
    except OSError:
        return


def wait_until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Returns what became true, or fails."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found
