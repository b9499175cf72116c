"""Post: one request to a webhook, within a hard limit

The address of a webhook is a secret: whoever has it can post. So nothing that a library says of a
request leaves this section; what is said of a failure is its kind alone.
"""

import email.utils
import json
import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests

from podium.attempt import call_in_time

ATTEMPT_SECONDS = 10.0  # hard, for a server that drips or a name server that is silent
WAITS = (3.05, 7.0)  # seconds for a connection, and between two bytes
LONGEST_ANSWER = 65_536  # bytes
LONGEST_WAIT = 3600.0  # seconds; no server may ask for more
HANGING = 2  # requests that may still hang when the next is sent


class Request(NamedTuple):
    """What is sent: the body is JSON, a form, bytes, or a form with files."""

    method: str
    url: str
    json: Any = None
    data: bytes | Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None  # name, content, media type
    headers: Mapping[str, str] | None = None


class Answer(NamedTuple):
    """What came back; the body is its content as JSON, or None."""

    status: int
    headers: Mapping[str, str]
    body: Any
    content: bytes = b""


class NoAnswerError(Exception):
    """No connection, no answer in time, or too many requests that still hang."""


class RefusedError(Exception):
    """The server answered, but not with success; says the status alone."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer

    @property
    def code(self) -> int:
        """The service's own error code, as Discord and ntfy give it; 0 if there is none."""
        body = self.answer.body
        code = body.get("code", 0) if isinstance(body, dict) else 0
        return code if isinstance(code, int) else 0

    @property
    def words(self) -> str:
        """What Telegram has in place of codes; "" if there is nothing of it."""
        body = self.answer.body
        return str(body.get("description", "")) if isinstance(body, dict) else ""

    @property
    def is_of_content(self) -> bool:
        """Is it what was sent that is not taken, and not who sent it, or when?"""
        return self.answer.status in (400, 413, 415, 422)


class GoneError(RefusedError):
    """The refusal of an address under which there is nobody, whatever the status says."""

    @property
    def is_of_content(self) -> bool:
        """No: nothing else would be taken either."""
        return False


class Post:
    """Sends requests one by one; at most two may be left hanging."""

    def __init__(self) -> None:
        self.slots = threading.Semaphore(HANGING)
        logging.getLogger("urllib3.connectionpool").addFilter(hide_requests)

    def __call__(self, request: Request) -> Answer:
        """Returns the answer if it is a success; raises RefusedError or NoAnswerError."""
        try:
            answer: Answer = call_in_time(lambda: self.send(request), ATTEMPT_SECONDS)
        except NoAnswerError:
            raise
        except Exception as error:  # whatever a library raises, its words may hold the address
            raise NoAnswerError(type(error).__name__) from None
        if not 200 <= answer.status < 300:
            raise RefusedError(answer)
        return answer

    def send(self, request: Request) -> Answer:
        """Sends in the thread that takes the slot, so that a thread that never ran holds none."""
        if not self.slots.acquire(blocking=False):
            raise NoAnswerError("earlier requests still hang")
        try:
            return send_request(request)
        finally:
            self.slots.release()


def hide_requests(record: logging.LogRecord) -> bool:
    """Keeps urllib3's lines about requests, which show the address's path, out of all logs."""
    return not record.name.startswith("urllib3")


def send_request(request: Request) -> Answer:
    """Sends and reads a limited answer. Redirects are not followed: they would show the path."""
    with requests.request(
        request.method,
        request.url,
        json=request.json,
        data=request.data,
        files=request.files,
        headers=request.headers,
        timeout=WAITS,
        stream=True,
        allow_redirects=False,
    ) as response:
        content = response.raw.read(LONGEST_ANSWER, decode_content=True)
        return Answer(response.status_code, response.headers, read_json(content), content)


def read_json(content: bytes) -> Any:
    """The JSON of an answer, or None if it is something else."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def read_wait(answer: Answer) -> float:
    """The seconds that a server asks to wait: in a header, or in the body as Discord and Telegram.

    Never more than an hour; 0 if it does not ask.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    parameters = body.get("parameters")
    asked = [answer.headers.get("Retry-After"), body.get("retry_after")]
    asked += [parameters.get("retry_after")] if isinstance(parameters, dict) else []
    return min(LONGEST_WAIT, max(0.0, *map(read_seconds, asked)))


def read_seconds(value: Any) -> float:
    """Seconds from a number, or from a date (RFC 9110, 10.2.3); 0 if it is neither."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = email.utils.parsedate_to_datetime(str(value)).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return seconds if math.isfinite(seconds) else (0.0 if math.isnan(seconds) else LONGEST_WAIT)
