"""Sinks: who is told of the run, and in which words

Programs get every event, in batches; people get one card that is edited in place, and a message
of its own for what should ring.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

from podium.card import URGENT, Card, News, update_card
from podium.post import Answer, Request

Event = Mapping[str, Any]
Memory = dict[str, Any]  # what a sink must know after a restart; it is kept as JSON
CURVES_FILE = "curves.png"  # in the run folder, drawn when a fold has ended


class Send(Protocol):
    """Sends a request and returns the answer; raises RefusedError or NoAnswerError."""

    def __call__(self, request: Request) -> Answer:  # noqa: D102
        ...


class Sink(Protocol):
    """Where events go. What was delivered before an error is in the memory, not to be repeated."""

    name: str  # for the log, where the address may not stand
    pause: float  # least seconds between two deliveries
    largest: int  # events in one delivery

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """Should these events not wait for the pause to end?"""
        ...

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Delivers events, in order; raises what `send` raises."""
        ...


def sign(secret: str, name: str, moment: int, body: bytes) -> str:
    """The signature of a body, as Standard Webhooks has it (standardwebhooks.com, 2023)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{name}.{moment}.".encode() + body
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class EventSink:
    """What the sinks for programs share: a second of pause, in which events gather."""

    name, pause, largest = "events", 1.0, 200

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """A second is soon enough."""
        return False


class JsonSink(EventSink):
    """Posts batches as JSON, {"events": [...]}, signed if there is a secret."""

    name = "json"

    def __init__(self, url: str, secret: str = "") -> None:
        self.url, self.secret = url, secret

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Posts all at once. A retry bears the same id and a new time."""
        body = json.dumps({"events": list(events)}, allow_nan=False).encode()
        first, last = events[0], events[-1]
        name = "{}-{}-{}".format(first["run"], first["session"], first["seq"])
        name += "-{}-{}".format(last["session"], last["seq"])
        moment = int(time.time())
        headers = {"content-type": "application/json", "webhook-id": name}
        headers["webhook-timestamp"] = str(moment)
        if self.secret:
            headers["webhook-signature"] = sign(self.secret, name, moment, body)
        send(Request("POST", self.url, data=body, headers=headers))


class KerasSink(EventSink):
    """Speaks as keras.callbacks.RemoteMonitor does: one post for each epoch, form or JSON."""

    name = "keras"

    def __init__(self, url: str, *, form: bool = True) -> None:
        self.url, self.form = url, form

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Posts the epochs, one by one."""
        for event in skip_told(events, memory):
            if event["event"] == "epoch_ended":
                logs = read_logs(event)
                if self.form:
                    send(Request("POST", self.url, data={"data": json.dumps(logs)}))
                else:
                    send(Request("POST", self.url, json=logs))
            tell(event, memory)


def read_logs(event: Event) -> dict[str, Any]:
    """An epoch under Keras's names, counted from 0 as Keras counts."""
    logs = {"epoch": event["epoch"] - 1}
    for name, value in event.items():
        part, slash, figure = name.partition("/")
        if slash:
            logs[("val_" if part == "valid" else "") + figure] = value
    return {**logs, "learning_rate": event.get("learning_rate"), "fold": event.get("fold")}


def skip_told(events: Sequence[Event], memory: Memory) -> Iterator[Event]:
    """The events after the last one that was told, all if that is none of them."""
    told = memory.get("told")
    keys = [[event["session"], event["seq"]] for event in events]
    yield from events[keys.index(told) + 1 if told in keys else 0 :]


def tell(event: Event, memory: Memory) -> None:
    """Remembers that an event was told."""
    memory["told"] = [event["session"], event["seq"]]


class CardSink:
    """What the sinks for people share: news first, one by one, then the card if it changed."""

    name, pause, largest = "card", 15.0, 10_000

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.curves = url, folder / CURVES_FILE
        self.card = Card()

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """News should ring at once; a card may wait."""
        return any(event["event"] in URGENT for event in events)

    def recall(self, events: Sequence[Event]) -> None:
        """Makes the card again from events that were delivered by an earlier session."""
        self.card = reduce(lambda card, event: update_card(card, event)[0], events, self.card)

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Tells the news and shows the card as it is after the events."""
        card, fresh = self.card, list(skip_told(events, memory))
        for event in events:
            card, news = update_card(card, event)
            if news and event in fresh:
                self.tell_news(news, card, memory, send)
                tell(event, memory)
        if card != self.card:
            self.show_card(card, memory, send)
        self.card = card

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """Sends a message that rings."""
        raise NotImplementedError

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Sends the card, or changes the one that was sent before."""
        raise NotImplementedError

    def read_curves(self) -> bytes | None:
        """The picture of the curves, or None if there is none yet."""
        try:
            return self.curves.read_bytes()
        except OSError:
            return None
