"""Speaks with ntfy of one topic: reads its messages and files, and publishes to it.

Each wait has an end: for the answer, for the next line, and for a line that does not end. Nothing
that is raised here holds the topic, and no address that a message names is ever fetched.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from podium.attempt import call_in_time
from podium.post import (
    ATTEMPT_SECONDS,
    WAITS,
    Answer,
    NoAnswerError,
    Post,
    RefusedError,
    Request,
    read_json,
)
from podium.relay import QUIET

SILENCE = 150.0  # seconds in which a line must come; ntfy says that it is there each 45
LONGEST_LINE = 64_000  # bytes; a full text whose every letter is escaped has 25,000
LONGEST_FILE = 200_000  # bytes; one event has 64,000 at most
FILE_SECONDS = 20.0


class Topic:
    """A topic of an ntfy server, as "https://ntfy.sh/topic"."""

    def __init__(self, url: str) -> None:
        self.url, self.post = url, Post()
        self.origin, _, self.name = url.rpartition("/")
        self.host = str(urlsplit(url).hostname)
        self.response: requests.Response | None = None

    def read(self, since: str, *, polls: bool) -> Iterator[dict[str, Any]]:
        """Yields what the topic says since a time, until the connection ends.

        That is its messages, and that it is open and alive; after those that ntfy holds it ends, if
        it `polls`. Raises RefusedError or NoAnswerError, or what requests and urllib3 raise.
        """
        query = {"since": since, **({"poll": "1"} if polls else {})}
        # In a thread that can be left: a header may drip for ever.
        with call_in_time(lambda: self.ask(query), ATTEMPT_SECONDS) as self.response:
            answer = Answer(self.response.status_code, self.response.headers, None)
            if answer.status != 200:
                raise RefusedError(answer)
            for line in read_lines(self.response.raw):
                message = read_json(line)
                if isinstance(message, dict):
                    yield message

    def ask(self, query: dict[str, str]) -> requests.Response:
        """Asks for messages; the answer is still to be read."""
        return requests.get(
            f"{self.url}/json",
            params=query,
            headers={"Accept-Encoding": "identity"},
            timeout=(WAITS[0], SILENCE),
            stream=True,
            allow_redirects=False,
        )

    def interrupt(self) -> None:
        """Ends the reading, from another thread."""
        if response := self.response:
            with contextlib.suppress(Exception):  # it may have ended in this moment
                response.raw.shutdown()

    def read_text(self, message: dict[str, Any]) -> str | None:
        """The text of a message, or of the file that was made of it; None if that is gone."""
        if not isinstance(message.get("attachment"), dict):
            return str(message.get("message"))
        name = message["id"]
        if not re.fullmatch("[-_A-Za-z0-9]{1,64}", name):
            return None
        content: bytes | None = call_in_time(
            lambda: fetch_file(f"{self.origin}/file/{name}"), FILE_SECONDS
        )
        return None if content is None else content.decode(errors="replace")

    def publish(self, text: bytes, tail: str) -> None:
        """Publishes to the topic whose name has that tail; raises RefusedError or NoAnswerError."""
        self.post(Request("POST", self.url + tail, data=text, headers=QUIET))


def read_lines(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    """Yields the lines of a stream; raises NoAnswerError if one does not end in time, or at all."""
    rest, heard = b"", time.monotonic()
    while chunk := raw.read1(65_536, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        heard = time.monotonic() if lines else heard
        if len(rest) > LONGEST_LINE or time.monotonic() - heard > SILENCE:
            raise NoAnswerError("a line that does not end")


def fetch_file(url: str) -> bytes | None:
    """What ntfy keeps as a file, or None if it is gone, refused or too long."""
    with requests.get(url, timeout=WAITS, stream=True, allow_redirects=False) as response:
        if response.status_code != 200:
            return None
        content = response.raw.read(LONGEST_FILE + 1, decode_content=True)
        return content if len(content) <= LONGEST_FILE else None
