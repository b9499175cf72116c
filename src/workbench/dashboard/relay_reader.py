"""Reads what runs tell through an ntfy topic, and publishes the words back to them.

A thread first asks for all that the relay still holds, then listens. It goes on from the time of
the last message, a little before it: ntfy's own marker, an id, passes over what several of its
nodes stored out of order. What comes twice is known by its key.
"""

import hashlib
import json
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import urllib3

from podium.card import ENDINGS
from podium.post import WAITS, NoAnswerError, RefusedError, read_wait
from podium.relay import DAY, RELAY_QUOTA, RELAY_RESERVE, Seal, SealError
from workbench.dashboard.ntfy_topic import Topic
from workbench.dashboard.store import FullError, Span, Store

OVERLAP = 120  # seconds before the last message, from where on is asked again
STEADY = 60.0  # seconds that a stream lasts before its end is no failure
LONGEST_WAIT = 300.0  # seconds between two tries
REFUSED_WAIT = 60.0  # seconds at least after a refusal: who asks again too soon is banned
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
        self.topic, self.seal, self.store = Topic(url), Seal(secret), store
        self.connected, self.trouble, self.failures = False, "", 0
        self.messages = self.rejected = 0
        self.known: deque[str] = deque(maxlen=1000)  # ids of messages that are done with
        self.last = 0  # when the newest message came to the relay, seconds since 1970
        self.sent = (0.0, 0)  # the newest letter's time, and its sender's messages of the day
        self.running: dict[str, tuple[float, float]] = {}  # run → when it last told, its pause
        self.mark_name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.recall()
        self.dice = random.Random()  # noqa: S311
        self.stopping = threading.Event()

    def recall(self) -> None:
        """Goes on where an earlier process stopped."""
        with self.store.writing() as db:
            db.execute(SCHEMA)
            found = db.execute("SELECT mark FROM marks WHERE name = ?", (self.mark_name,))
            mark = json.loads((found.fetchone() or ["{}"])[0])
        self.last, self.sent = mark.get("last", 0), tuple(mark.get("sent", (0.0, 0)))
        self.running = {run: tuple(one) for run, one in mark.get("running", {}).items()}

    def remember(self) -> None:
        """Keeps how far it came."""
        mark = json.dumps({"last": self.last, "sent": self.sent, "running": self.running})
        with self.store.writing() as db:
            db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (self.mark_name, mark))

    def run(self) -> None:
        """Listens until it is closed, whatever happens meanwhile."""
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
        self.topic.interrupt()
        self.join(WAITS[0])

    def listen(self, *, polls: bool) -> None:
        """Takes all that the relay holds, or that and what comes, until the connection ends."""
        since = str(self.last - OVERLAP) if self.last else "all"
        for message in self.topic.read(since, polls=polls):
            self.connected = True
            if self.stopping.is_set():
                return
            if message.get("event") == "message":
                self.take(message)

    def take(self, message: dict[str, Any]) -> None:
        """Stores what a message says, or counts it as rejected; either way it is done with."""
        name, moment = message.get("id"), message.get("time")
        if not isinstance(name, str) or not isinstance(moment, int) or name in self.known:
            return
        try:
            text = self.topic.read_text(message)
            if text is not None:
                self.keep(read_letter(self.seal.open(self.topic.name, text)), moment)
        except SealError:
            self.rejected += 1
        self.last = max(self.last, moment)
        self.remember()
        self.known.append(name)

    def keep(self, letter: Letter, moment: float) -> None:
        """Stores the events, and notes how their run tells."""
        self.store.take(letter.events, [letter.span], "relay", time.time())
        self.messages += 1
        self.sent = max(self.sent, (letter.time, letter.sent))
        self.running[letter.span.run] = (moment, letter.pause)
        if any(isinstance(one, dict) and one.get("event") in ENDINGS for one in letter.events):
            del self.running[letter.span.run]

    def tell(self, command: Mapping[str, Any]) -> None:
        """Publishes a command, sealed, as soon as the relay takes it and while it is valid."""
        threading.Thread(target=self.publish, args=[command], daemon=True).start()

    def publish(self, command: Mapping[str, Any]) -> None:
        """Tries until it is published, or has expired."""
        text = self.seal.close(f"{self.topic.name}-ctl", {"commands": [command]})
        failures = 0
        while time.time() < command["expires"] and not self.stopping.is_set():
            failures, asked = failures + 1, 0.0
            try:
                self.topic.publish(text, "-ctl")
                return
            except RefusedError as refusal:
                asked = find_wait(refusal)
            except NoAnswerError:
                pass  # it is tried again
            self.back_off(failures, asked)

    def health(self) -> dict[str, Any]:
        """How the relay does, for the page; `sent_today` is what the sender counts."""
        now = time.time()
        told, sent = self.sent
        return {
            "topic_host": self.topic.host,
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
        running = list(self.running.values())  # which the thread changes meanwhile
        quiet = [now - told for told, pause in running if now - told > 2 * pause]
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


def read_letter(content: Any) -> Letter:
    """A letter from what was sealed; raises SealError if it is none."""
    try:
        names, seqs = (content["run"], content["session"]), (content["first"], content["last"])
        numbers = float(content["time"]), int(content["sent"]), float(content["pause"])
        events = list(content["events"])
    except (KeyError, TypeError, ValueError):
        raise SealError("it is no letter") from None
    typed = all(type(one) is str for one in names) and all(type(one) is int for one in seqs)
    if not typed or not 1 <= seqs[0] <= seqs[1] <= LAST_SEQ:
        raise SealError("it is no letter")
    return Letter(Span(*names, *seqs), *numbers, events)


def find_wait(refusal: RefusedError) -> float:
    """The seconds to wait after a refusal."""
    return max(REFUSED_WAIT, read_wait(refusal.answer))
