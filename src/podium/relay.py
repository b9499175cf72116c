"""Relay: events through an ntfy topic, sealed

For a dashboard that no address leads to: the run publishes, the dashboard subscribes, and who
holds the topic between them can read nothing. The limits are those of ntfy's documents
("Publishing") and of its source (server.go, visitor.go): a text of less than 4,096 bytes, or a
file is made of it, which is a message too and is kept three hours, not twelve; 250 messages a day
for an address, counted until midnight UTC; and who goes on sending while refused is banned.
"""

import base64
import hashlib
import hmac
import json
import os
import time
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

from podium.card import ENDINGS
from podium.commands import Obey, ignore
from podium.post import Answer, NoAnswerError, RefusedError, Request, read_json
from podium.sinks import Event, EventSink, Memory, Send

LONGEST_TOPIC = 60  # letters; ntfy's 64, less those of "-ctl"
LONGEST_PACKED = 3_200  # bytes, compressed: with nonce, tag and base 85, below 4,096
LONGEST_UNPACKED = 4_000_000  # bytes of what a message may become
NONCE = 12  # bytes
RELAY_QUOTA = 250  # messages a day
RELAY_RESERVE = 50  # of them, for what may not wait; the rest is then told more rarely
RELAY_PAUSE = 180.0  # seconds
SLOW_RELAY_PAUSE = 600.0  # less than a command is valid
DAY = 86_400
NOT_RELAYED = ("line_said", "image_shown")  # they would fill the day's messages
PASSING = ("heartbeat", "step_reached", "plan_made")  # of these the last says it all
QUIET = {"Priority": "1", "Firebase": "no"}  # a message that wakes no phone
URGENT = ("run_started", "fold_ended", "warning_raised", *ENDINGS)


class SealError(ValueError):
    """A text that was not sealed with this secret for this topic, or is not what it should be."""


class Seal:
    """Seals JSON for a topic: zlib, AES-256-GCM with the topic as associated data, base 85.

    The key is derived from the signing secret and used for nothing else. Raises ImportError where
    the package cryptography is missing.
    """

    def __init__(self, secret: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = base64.b64decode(secret.removeprefix("whsec_"))
        self.cipher = AESGCM(hmac.new(key, b"podium relay", hashlib.sha256).digest())

    def close(self, topic: str, content: Any) -> bytes:
        """The sealed text, in letters that JSON need not escape."""
        nonce = os.urandom(NONCE)
        return base64.b85encode(nonce + self.cipher.encrypt(nonce, pack(content), topic.encode()))

    def open(self, topic: str, text: str | bytes) -> Any:
        """The content; raises SealError."""
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.b85decode(text)
            packed = self.cipher.decrypt(sealed[:NONCE], sealed[NONCE:], topic.encode())
            return json.loads(zlib.decompressobj().decompress(packed, LONGEST_UNPACKED))
        except (ValueError, InvalidTag, zlib.error, RecursionError):
            raise SealError("it was not sealed with this secret for this topic") from None


def pack(content: Any) -> bytes:
    """JSON, compressed."""
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)


class RelaySink(EventSink):
    """Publishes sealed messages, as few as the day's quota asks, and hears commands after each.

    A message names the events that it answers for, from `first` to `last` of a session: those that
    it leaves out are not missing. One event that is too long for a text goes as a file.
    """

    name, pause, largest, rings = "relay", RELAY_PAUSE, 1000, True

    def __init__(self, url: str, secret: str, obey: Obey = ignore) -> None:
        self.url, self.secret, self.obey = url, secret, obey
        self.seal = Seal(secret)
        self.topic = url.rpartition("/")[2]
        self.told = ("", 0)  # the session, and the first event that no message has answered for
        self.sent = 0  # messages today
        self.has_more = False  # is there more than one message to send?

    def choose(self, events: Sequence[Event]) -> slice:
        """As many of a session as fit into a message; one that does not fit is alone in it."""
        start = next((place for place, one in enumerate(events) if is_relayed(one)), len(events))
        rest = events[start:]
        session = list(takewhile(lambda one: one["session"] == rest[0]["session"], rest))

        def is_too_long(count: int) -> bool:
            return len(pack(self.write(session[:count]))) > LONGEST_PACKED

        count = len(session)
        if count and is_too_long(count):
            count = 1 + bisect_left(range(2, count), True, key=is_too_long)
        self.has_more = start + count < len(events)
        return slice(start, start + count)

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """Does one ring, or is there more than a message? Not once the quota is used up."""
        rings = any(one["event"] in URGENT for one in events)
        return bool(events) and (rings or self.has_more) and self.sent < RELAY_QUOTA

    def note(self, events: Sequence[Event]) -> None:
        """What is left out is answered for by the next message; what was refused, by none."""
        for one in events:
            if one["session"] != self.told[0]:
                self.told = (one["session"], one["seq"])
            if is_relayed(one):
                self.told = (one["session"], one["seq"] + 1)

    def write(self, events: Sequence[Event]) -> dict[str, Any]:
        """The content of a message."""
        first, last = events[0], events[-1]
        session, seq = self.told
        return {
            "run": first["run"],
            "session": first["session"],
            "first": seq if session == first["session"] else first["seq"],
            "last": last["seq"],
            "time": round(time.time(), 3),
            "sent": self.sent,
            "pause": self.pause,
            "events": thin_out(events),
        }

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Publishes a message, which wakes no phone, and hears what commands there are."""
        today = int(time.time() // DAY)
        if memory.get("day") != today:
            memory.update(day=today, sent=0)
        self.sent = memory["sent"] + 1
        slow = self.sent > RELAY_QUOTA - RELAY_RESERVE
        self.pause = SLOW_RELAY_PAUSE if slow else RELAY_PAUSE
        text = self.seal.close(self.topic, self.write(events))
        send(Request("POST", self.url, data=text, headers=QUIET))
        memory["sent"] = self.sent
        if not self.has_more:
            self.hear(send)

    def hear(self, send: Send) -> None:
        """Obeys the commands of the last quarter of an hour, as long as one is valid.

        Reading is no message. What is not heard now is heard the next time: what was told need not
        be told again for it.
        """
        try:
            answer = send(Request("GET", f"{self.url}-ctl/json?poll=1&since=15m"))
        except (RefusedError, NoAnswerError):
            return
        for text in list_texts(answer):
            with suppress(SealError):  # whoever knows the topic can write there
                self.obey(self.seal.open(f"{self.topic}-ctl", text), self.secret)


def is_relayed(event: Event) -> bool:
    """Is it an event that a message is sent for?"""
    return event["event"] not in NOT_RELAYED


def thin_out(events: Sequence[Event]) -> list[Event]:
    """The events of a message: of those that say how things stand, the last."""
    last = {one["event"]: one["seq"] for one in events}
    return [
        one
        for one in events
        if is_relayed(one) and (one["event"] not in PASSING or one["seq"] == last[one["event"]])
    ]


def list_texts(answer: Answer) -> list[str]:
    """The messages of a topic, as /json lists them, a line each."""
    lines = [read_json(line) for line in answer.content.splitlines()]
    return [str(one["message"]) for one in lines if isinstance(one, dict) and "message" in one]
