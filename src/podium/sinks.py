"""Sinks: who is told of the run, and in which words

Programs get every event, in batches; people get one card that is edited in place, and a message
of its own for what should ring.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

from podium.card import Card, News, update_card
from podium.commands import Obey, ignore
from podium.post import Answer, RefusedError, Request
from podium.signing import sign

Event = Mapping[str, Any]
Memory = dict[str, Any]  # what a sink must know after a restart; it is kept as JSON
CURVES_FILE = "curves.png"  # in the run folder, drawn when a fold has ended


class Send(Protocol):
    """Sends a request and returns the answer; raises RefusedError or NoAnswerError."""

    def __call__(self, request: Request) -> Answer:  # noqa: D102
        ...


class Sink(Protocol):
    """Where events go, one delivery after the other; nothing of one is repeated for another."""

    name: str  # for the log, where the address may not stand
    pause: float  # least seconds between two deliveries
    largest: int  # events that are looked at for one delivery
    rings: bool  # may events be urgent? They are then looked at during a pause

    @property
    def is_behind(self) -> bool:
        """Is there something to deliver although no event is pending?"""
        ...

    def choose(self, events: Sequence[Event]) -> slice:
        """Which of the next events make the next delivery; those before them need none."""
        ...

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """Do the events that were chosen wait for no pause?"""
        ...

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Makes one delivery, of the chosen events or of what is behind; raises as `send` does."""
        ...

    def note(self, events: Sequence[Event]) -> None:
        """Takes note of events that are done with: delivered, left out, or in need of neither."""
        ...


class EventSink:
    """What the sinks for programs share: a second of pause, in which events gather."""

    name, pause, largest, rings, is_behind = "events", 1.0, 200, False, False

    def choose(self, events: Sequence[Event]) -> slice:
        """All of them."""
        return slice(0, len(events))

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """They can wait."""
        return False

    def note(self, events: Sequence[Event]) -> None:
        """There is nothing to remember."""


class JsonSink(EventSink):
    """Posts batches as JSON, {"events": [...]}, signed if there is a secret; obeys the reply."""

    name = "json"

    def __init__(self, url: str, secret: str = "", obey: Obey = ignore) -> None:
        self.url, self.secret, self.obey = url, secret, obey

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
        answer = send(Request("POST", self.url, data=body, headers=headers))
        self.obey(answer.body, self.secret)


class KerasSink(EventSink):
    """Speaks as keras.callbacks.RemoteMonitor does: one post for each epoch, form or JSON."""

    name, pause = "keras", 0.0

    def __init__(self, url: str, *, form: bool = True) -> None:
        self.url, self.form = url, form

    def choose(self, events: Sequence[Event]) -> slice:
        """The next epoch."""
        epochs = (place for place, one in enumerate(events) if one["event"] == "epoch_ended")
        return choose_one(events, next(epochs, None))

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Posts the epoch."""
        for logs in map(read_logs, events):
            if self.form:
                send(Request("POST", self.url, data={"data": json.dumps(logs)}))
            else:
                send(Request("POST", self.url, json=logs))


def choose_one(events: Sequence[Event], place: int | None) -> slice:
    """The one event at a place; without a place none, and all need no delivery."""
    return slice(len(events), len(events)) if place is None else slice(place, place + 1)


def read_logs(event: Event) -> dict[str, Any]:
    """An epoch under Keras's names, counted from 0 as Keras counts."""
    logs = {"epoch": event["epoch"] - 1}
    for name, value in event.items():
        part, slash, figure = name.partition("/")
        if slash:
            logs[("val_" if part == "valid" else "") + figure] = value
    return {**logs, "learning_rate": event.get("learning_rate"), "fold": event.get("fold")}


class CardSink:
    """What the sinks for people share: news that ring, one by one, and a card that follows."""

    name, pause, largest, rings = "card", 15.0, 200, True

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.curves = url, folder / CURVES_FILE
        self.card = self.shown = Card()  # after the events so far; as people see it

    @property
    def is_behind(self) -> bool:
        """Has the card changed since it was shown?"""
        return self.card != self.shown

    def choose(self, events: Sequence[Event]) -> slice:
        """The first event that is news: others change only the card."""
        card = self.card
        for place, event in enumerate(events):
            card, news = update_card(card, event)
            if news:
                return choose_one(events, place)
        return choose_one(events, None)

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """News ring at once; the card waits for its pause."""
        return bool(events)

    def note(self, events: Sequence[Event]) -> None:
        """Makes the card what it is after the events; after none, what was delivered was it."""
        self.card = reduce(lambda card, event: update_card(card, event)[0], events, self.card)
        if not events:
            self.shown = self.card

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Tells the news that an event is, or shows the card."""
        for event in events:
            card, news = update_card(self.card, event)
            if news:
                self.tell_news(news, card, memory, send)
        if not events:
            self.show_card(self.card, memory, send)

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


def send_with_picture(
    write: Callable[[bytes | None], Request], picture: bytes | None, send: Send
) -> Answer:
    """Sends a message with its picture, or without one where it is the picture that is refused."""
    try:
        return send(write(picture))
    except RefusedError as refusal:
        if picture is None or not refusal.is_of_content:
            raise
        return send(write(None))
