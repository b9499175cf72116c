"""Reads what runs tell through an ntfy topic, and publishes the words back to them.

A thread first asks for all that the relay still holds, then listens. It goes on from the time of
the last message, a little before it: ntfy's own marker, an id, misses what several of its nodes
stored out of order. What comes twice is known by its key. Nothing that a message says is fetched,
but the file that ntfy made of a long text, by the message's id from the relay itself.
"""

import contextlib
import hashlib
import json
import random
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

from podium.attempt import call_in_time
from podium.card import ENDINGS
from podium.post import (
    ATTEMPT_SECONDS,
    WAITS,
    Answer,
    NoAnswerError,
    Post,
    RefusedError,
    Request,
    read_json,
    read_wait,
)
from podium.relay import DAY, QUIET, RELAY_QUOTA, RELAY_RESERVE, Seal, SealError
from workbench.dashboard.store import FullError, Span, Store

SILENCE = 150.0  # seconds in which a line must come; ntfy says that it is there each 45
LONGEST_LINE = 64_000  # bytes; a full text whose every letter is escaped has 25,000
LONGEST_FILE = 200_000  # bytes; one event has 64,000 at most
FILE_SECONDS = 20.0
OVERLAP = 120  # seconds before the last message, from where on is asked again
STEADY = 60.0  # seconds that a stream lasts before its end is no failure
LONGEST_WAIT = 300.0  # seconds between two tries
REFUSED_WAIT = 60.0  # seconds at least, if the relay says that it is too much
LAST_SEQ = 2**53  # of JSON's integers
SCHEMA = "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, mark TEXT) WITHOUT ROWID"


class Letter(NamedTuple):
    """What a sealed message says."""

    span: Span
    time: float
    sent: int  # messages of the sender today
    pause: float  # seconds in which the sender tells nothing, unless something rings
    events: list[Any]


class RelayReader(threading.Thread):
    """Listens to the topic of `url`, "https://ntfy.sh/topic", and stores what was sealed for it.

    Nothing that it says or raises holds the topic or the secret.
    """

    def __init__(self, url: str, secret: str, store: Store) -> None:
        super().__init__(name="relay", daemon=True)
        self.url, self.store, self.seal, self.post = url, store, Seal(secret), Post()
        self.origin, _, self.topic = url.rpartition("/")
        self.host = str(urlsplit(url).hostname)
        self.name_of_mark = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.connected, self.trouble, self.failures = False, "", 0
        self.messages = self.rejected = 0
        self.known: deque[str] = deque(maxlen=1000)  # ids of messages that were taken
        self.last = 0  # when the newest message came to the relay, seconds since 1970
        self.sent = (0.0, 0)  # the newest letter's time, and its sender's messages of the day
        self.running: dict[str, tuple[float, float]] = {}  # run → when it last told, its pause
        self.recall()
        self.dice = random.Random()  # noqa: S311
        self.stopping = threading.Event()
        self.response: requests.Response | None = None

    def recall(self) -> None:
        """Goes on where an earlier process stopped."""
        with self.store.writing() as db:
            db.execute(SCHEMA)
            found = db.execute("SELECT mark FROM marks WHERE name = ?", (self.name_of_mark,))
            mark = json.loads((found.fetchone() or ["{}"])[0])
        self.last, self.sent = mark.get("last", 0), tuple(mark.get("sent", (0.0, 0)))
        self.running = {run: tuple(one) for run, one in mark.get("running", {}).items()}

    def remember(self) -> None:
        """Keeps how far it came."""
        mark = json.dumps({"last": self.last, "sent": self.sent, "running": self.running})
        with self.store.writing() as db:
            db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (self.name_of_mark, mark))

    def run(self) -> None:
        """Listens until it is stopped, whatever happens meanwhile."""
        while not self.stopping.is_set():
            begun, asked = time.monotonic(), 0.0
            try:
                self.listen(polls=True)
                self.listen(polls=False)
                self.trouble = "the relay ended the connection"
            except RefusedError as refusal:
                self.trouble = f"the relay refuses with {refusal}"
                asked = find_wait(refusal)
            except (FullError, sqlite3.Error) as error:
                self.trouble = f"what comes cannot be kept: {error}"
            except (OSError, urllib3.exceptions.HTTPError, NoAnswerError) as error:
                # Of requests, too; its words may hold the address.
                self.trouble = f"the relay cannot be reached ({type(error).__name__})"
            except Exception as error:  # one odd message must not silence the runs
                self.trouble = f"what comes cannot be read ({type(error).__name__})"
            self.connected = False
            self.failures = 0 if time.monotonic() - begun > STEADY else self.failures + 1
            self.back_off(self.failures, asked)

    def back_off(self, failures: int, asked: float) -> None:
        """Waits, with full jitter, but no less than was asked."""
        longest = min(LONGEST_WAIT, 2.0 ** min(failures, 10))
        self.stopping.wait(max(asked, self.dice.uniform(0, longest)))

    def close(self) -> None:
        """Ends the thread, wherever it waits."""
        self.stopping.set()
        if response := self.response:
            with contextlib.suppress(Exception):  # it may have ended in this moment
                response.raw.shutdown()
        self.join(WAITS[0])

    def listen(self, *, polls: bool) -> None:
        """Takes all that the relay holds, or that and what comes, until the connection ends."""
        query = {"since": str(self.last - OVERLAP) if self.last else "all"}
        query |= {"poll": "1"} if polls else {}
        with call_in_time(lambda: self.ask(query), ATTEMPT_SECONDS) as self.response:
            if self.response.status_code != 200:
                raise RefusedError(Answer(self.response.status_code, self.response.headers, None))
            self.connected = True
            for line in read_lines(self.response.raw):
                if self.stopping.is_set():
                    return
                message = read_json(line)
                if isinstance(message, dict) and message.get("event") == "message":
                    self.take(message)

    def ask(self, query: dict[str, str]) -> requests.Response:
        """Asks for the topic's messages; the answer is still to be read."""
        return requests.get(
            f"{self.url}/json",
            params=query,
            headers={"Accept-Encoding": "identity"},
            timeout=(WAITS[0], SILENCE),
            stream=True,
            allow_redirects=False,
        )

    def take(self, message: Mapping[str, Any]) -> None:
        """Stores what a message says, or counts it as rejected; either way it is done with."""
        name, moment = message.get("id"), message.get("time")
        if not isinstance(name, str) or not isinstance(moment, int) or name in self.known:
            return
        try:
            text = self.read_text(message, name)
            if text is not None:
                self.keep(read_letter(self.seal.open(self.topic, text)), moment)
        except SealError:
            self.rejected += 1
        self.known.append(name)
        self.last = max(self.last, moment)
        self.remember()

    def keep(self, letter: Letter, moment: float) -> None:
        """Stores the events, and notes how its run tells."""
        self.store.take(letter.events, [letter.span], "relay", time.time())
        self.messages += 1
        self.sent = max(self.sent, (letter.time, letter.sent))
        self.running[letter.span.run] = (moment, letter.pause)
        if any(isinstance(one, dict) and one.get("event") in ENDINGS for one in letter.events):
            del self.running[letter.span.run]

    def read_text(self, message: Mapping[str, Any], name: str) -> str | None:
        """The text of a message, or of the file that was made of it; None if that is gone."""
        file = message.get("attachment")
        if not isinstance(file, dict):
            return str(message.get("message"))
        if not re.fullmatch("[-_A-Za-z0-9]{1,64}", name):
            return None
        text: str | None = call_in_time(
            lambda: fetch_file(f"{self.origin}/file/{name}"), FILE_SECONDS
        )
        return text

    def tell(self, command: Mapping[str, Any]) -> None:
        """Publishes a command, sealed, as soon as the relay takes it and while it is valid."""
        threading.Thread(target=self.publish, args=[command], daemon=True).start()

    def publish(self, command: Mapping[str, Any]) -> None:
        """Tries until it is published, or has expired."""
        text = self.seal.close(f"{self.topic}-ctl", {"commands": [command]})
        request = Request("POST", f"{self.url}-ctl", data=text, headers=QUIET)
        failures = 0
        while time.time() < command["expires"] and not self.stopping.is_set():
            failures, asked = failures + 1, 0.0
            try:
                self.post(request)
                return
            except RefusedError as refusal:
                asked = find_wait(refusal)
            except NoAnswerError:
                pass
            self.back_off(failures, asked)

    def health(self) -> dict[str, Any]:
        """How the relay does, for the page; `sent_today` is what the sender counts."""
        now = time.time()
        told, sent = self.sent
        return {
            "topic_host": self.host,
            "connected": self.connected,
            "last": self.last or None,
            "messages": self.messages,
            "rejected": self.rejected,
            "sent_today": sent if told // DAY == now // DAY else None,
            "quota": RELAY_QUOTA,
            "words": " ".join(self.list_words(now)),
        }

    def list_words(self, now: float) -> Iterator[str]:
        """What a person should know, a sentence each; none if all is well."""
        if not self.connected and self.trouble:
            yield f"Not connected: {self.trouble}. It is tried again."
        quiet = [now - told for told, pause in self.running.values() if now - told > 2 * pause]
        if self.connected and quiet:
            yield (
                f"Nothing for {max(quiet) / 60:.0f} min: the relay's daily quota may be used up, "
                "or the run is gone; what it says meanwhile comes with make pull."
            )
        told, sent = self.sent
        if told // DAY == now // DAY and sent >= RELAY_QUOTA - RELAY_RESERVE:
            yield (
                f"{sent} of the day's {RELAY_QUOTA} messages are sent: runs tell less often until "
                "midnight UTC."
            )
        if self.rejected:
            yield f"{self.rejected} messages were not sealed with this key, and are left out."


def read_lines(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    """Yields the lines of a stream; raises NoAnswerError if one does not end in time, or at all."""
    rest, heard = b"", time.monotonic()
    while chunk := raw.read1(65_536, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        heard = time.monotonic() if lines else heard
        if len(rest) > LONGEST_LINE or time.monotonic() - heard > SILENCE:
            raise NoAnswerError("a line that does not end")


def read_letter(content: Any) -> Letter:
    """A letter from what was sealed; raises SealError if it is none."""
    try:
        key, seqs = (content["run"], content["session"]), (content["first"], content["last"])
        letter = Letter(
            Span(*key, *seqs),
            float(content["time"]),
            int(content["sent"]),
            float(content["pause"]),
            list(content["events"]),
        )
    except (KeyError, TypeError, ValueError):
        raise SealError("it is no letter") from None
    if not all(isinstance(one, str) for one in key) or not all(type(one) is int for one in seqs):
        raise SealError("it is no letter")
    if not 1 <= letter.span.first <= letter.span.last <= LAST_SEQ:
        raise SealError("it is no letter")
    return letter


def find_wait(refusal: RefusedError) -> float:
    """The seconds to wait after a refusal: who asks again too soon is banned."""
    return max(REFUSED_WAIT, read_wait(refusal.answer))


def fetch_file(url: str) -> str | None:
    """A text that ntfy keeps as a file, or None if it is gone, refused or too long."""
    with requests.get(url, timeout=WAITS, stream=True, allow_redirects=False) as response:
        if response.status_code != 200:
            return None
        content = response.raw.read(LONGEST_FILE + 1, decode_content=True)
        return content.decode(errors="replace") if len(content) <= LONGEST_FILE else None
