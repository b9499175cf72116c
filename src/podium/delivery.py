"""Delivery: from the record to a sink, at least once

One daemon thread for each sink reads events.jsonl from where it stopped, delivers, and writes
down how far it came. So nothing waits for a network, a killed run goes on where it was, and a
receiver that keys events by (run, session, seq) has each exactly once.
"""

import contextlib
import json
import random
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from podium.events import Reporter, read_record
from podium.post import NoAnswerError, Post, RefusedError, read_wait
from podium.sinks import CardSink, Event, Memory, Sink
from podium.storage import write_whole

LONGEST_BACKOFF = 60.0  # seconds
PARKED_FOR = 600.0  # seconds between two tries of a webhook that is gone or forbidden
TOO_LARGE = (400, 413, 422)  # the batch, or one event in it, is not taken


class Pending(NamedTuple):
    """Events not yet delivered, and the byte of the record where the last of them ends."""

    events: list[Event]
    end: int


class Delivery(threading.Thread):
    """Delivers the events of a reporter to one sink until it is closed. Never raises."""

    def __init__(self, sink: Sink, report: Reporter, place: Path) -> None:
        super().__init__(name=f"podium-{sink.name}", daemon=True)
        self.sink, self.report, self.place, self.post = sink, report, place, Post()
        self.memory: Memory = read_memory(place)
        self.room = sink.largest  # events in the next delivery
        self.failures, self.parked, self.skipped = 0, False, 0
        self.next_try = self.next_turn = 0.0  # after a failure; out of politeness
        self.closing, self.woken = threading.Event(), threading.Event()
        report.listeners.append(self.woken)

    def run(self) -> None:
        """Delivers what is pending, waits for more, ends when it is closed and all is delivered."""
        self.recall()
        while True:
            self.woken.clear()
            # Asked before reading: what was said before the end was set is then read for certain.
            last = self.closing.is_set()
            pending = self.read_pending()
            if pending.events:
                if self.wait_turn(pending):
                    self.try_delivery(pending)
            elif last:
                return
            else:
                self.woken.wait()

    def close(self, seconds: float) -> None:
        """Gives the rest that many seconds; what is not delivered then stays in the record."""
        self.closing.set()
        self.woken.set()
        self.join(seconds)

    def recall(self) -> None:
        """A card that an earlier session began is made again from the record."""
        if isinstance(self.sink, CardSink):
            place = 0
            while part := list(read_record(self.report.path, place)):
                self.sink.recall([one for one, end in part if end <= self.memory["offset"]])
                place = part[-1][1]

    def read_pending(self) -> Pending:
        """The next events, as many as fit into one delivery."""
        start = self.memory["offset"]
        part = list(islice(read_record(self.report.path, start), self.room))
        return Pending([event for event, _ in part], part[-1][1] if part else start)

    def wait_turn(self, pending: Pending) -> bool:
        """Says whether it is time; if not, waits until it is or until something new happened."""
        urgent = self.closing.is_set() or self.sink.is_urgent(pending.events)
        due = self.next_try if urgent else max(self.next_try, self.next_turn)
        wait = due - time.monotonic()
        if wait > 0:
            self.woken.wait(wait)
        return wait <= 0

    def try_delivery(self, pending: Pending) -> None:
        """One delivery; its outcome decides when the next is tried and what it holds."""
        try:
            self.sink.deliver(pending.events, self.memory, self.post)
        except NoAnswerError:
            self.back_off(0.0)
        except RefusedError as refusal:
            self.handle_refusal(refusal, pending)
        except Exception as error:  # one odd event must not silence the run
            self.skip(pending, type(error).__name__)
        else:
            self.accept(pending)
            self.next_turn = time.monotonic() + self.sink.pause
        self.remember()

    def accept(self, pending: Pending) -> None:
        """All that was pending is done with."""
        self.memory["offset"] = pending.end
        self.failures, self.parked, self.room = 0, False, self.sink.largest

    def handle_refusal(self, refusal: RefusedError, pending: Pending) -> None:
        """Waits, parks, halves the batch, or leaves out one event that is never taken."""
        status = refusal.answer.status
        if status == 429 or status >= 500:
            self.back_off(read_wait(refusal.answer))
        elif status not in TOO_LARGE:
            self.park(status)
        elif len(pending.events) > 1 and not isinstance(self.sink, CardSink):
            self.room = len(pending.events) // 2
        else:
            self.skip(pending, f"status {status}")

    def back_off(self, asked: float) -> None:
        """Full jitter, doubled with each failure (Brooker 2015), but no less than was asked."""
        self.failures += 1
        longest = min(LONGEST_BACKOFF, 0.5 * 2 ** min(self.failures, 10))
        self.next_try = time.monotonic() + max(asked, random.uniform(0, longest))  # noqa: S311

    def park(self, status: int) -> None:
        """A webhook that is gone or forbidden is said once and tried now and then."""
        if not self.parked:
            self.report.say(
                f"! the {self.sink.name} webhook refuses with status {status}; its address may be "
                f"wrong or revoked. It is tried each {PARKED_FOR / 60:.0f} minutes, and nothing is "
                f"lost: events.jsonl has it all"
            )
        self.parked = True
        self.next_try = time.monotonic() + PARKED_FOR

    def skip(self, pending: Pending, reason: str) -> None:
        """Leaves out what the sink never takes."""
        if not self.skipped:
            self.report.say(f"! the {self.sink.name} webhook does not take an event ({reason})")
        self.skipped += len(pending.events)
        self.accept(pending)

    def remember(self) -> None:
        """Keeps how far the sink came. On a full disk it may be told twice, which it can bear."""
        with contextlib.suppress(OSError):
            write_whole(self.place, json.dumps(self.memory).encode())


def read_memory(place: Path) -> dict[str, Any]:
    """What the sink knew when the last session ended."""
    try:
        memory = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        memory = {}
    return {"offset": 0, **(memory if isinstance(memory, dict) else {})}
