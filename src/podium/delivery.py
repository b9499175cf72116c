"""Delivery: from the record to a sink, at least once

One daemon thread for each sink reads events.jsonl from where it stopped, delivers, and writes
down how far it came. So nothing waits for a network, a killed run goes on where it was, and a
receiver that keys events by (run, session, seq) has each exactly once.
"""

import contextlib
import json
import math
import random
import threading
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from podium.events import Reporter, read_record
from podium.post import NoAnswerError, Post, RefusedError, read_wait
from podium.sinks import Event, Memory, Sink
from podium.storage import write_whole

LONGEST_BACKOFF = 60.0  # seconds
PARKED_FOR = 600.0  # seconds between two tries of a webhook that is gone or forbidden
QUOTA_USED_UP = 42908  # ntfy: all messages of the day are sent


class Pending(NamedTuple):
    """The events of the next delivery, and the byte of the record where the last of them ends."""

    events: Sequence[Event]
    end: int


class Delivery(threading.Thread):
    """Delivers the events of a reporter to one sink until it is closed. Never raises."""

    def __init__(self, sink: Sink, report: Reporter, place: Path) -> None:
        super().__init__(name=f"podium-{sink.name}", daemon=True)
        self.sink, self.report, self.place, self.post = sink, report, place, Post()
        self.memory: Memory = read_memory(place)
        self.room = sink.largest  # events in the next delivery
        self.failures, self.parked, self.skipped = 0, False, 0
        self.trouble = ""  # what went wrong last, without the address
        self.limited = 0  # answers 429
        self.acked: float | None = None  # when something was taken last, seconds since 1970
        self.next_try = self.next_turn = 0.0  # after a failure; out of politeness
        # Its own: what a run draws must not depend on a network.
        self.dice = random.Random()  # noqa: S311
        self.asked = 0.0  # the part of `next_try` that the server asked for
        self.end, self.hurried = math.inf, False  # when it ends at the latest, once it is closed
        self.done = False  # closed, and nothing is left
        self.closing, self.woken = threading.Event(), threading.Event()
        report.listeners.append(self.woken)

    def run(self) -> None:
        """Delivers what is pending, waits for more, ends when it is closed and all is delivered."""
        self.recall()
        while self.go_on():
            pass

    def go_on(self) -> bool:
        """Makes a delivery, or waits for what it lacks; False if that was all."""
        self.woken.clear()
        # Asked before reading: what was said before the end was set is then read for certain.
        last = self.closing.is_set()
        if last:
            self.hurry()
        if self.next_try > self.end:
            return False
        # Nothing is read while nothing may be sent: each event of a busy run wakes this thread.
        if not self.has_come(self.next_try if last or self.sink.rings else self.find_turn()):
            return True
        pending = self.read_pending()
        if not pending.events and not self.sink.is_behind:
            if last:
                self.done = True
                return False
            self.woken.wait()
        elif last or self.sink.is_urgent(pending.events) or self.has_come(self.find_turn()):
            self.try_delivery(pending)
        return True

    def hurry(self) -> None:
        """At the end jitter is waived, once; what the server asked for is not."""
        if not self.hurried:
            self.hurried, self.failures, self.next_try = True, 0, self.asked

    def find_turn(self) -> float:
        """When a delivery that does not ring may be made."""
        return max(self.next_try, self.next_turn)

    def has_come(self, due: float) -> bool:
        """Says whether a time has come; if not, waits for it or until something new is said."""
        wait = due - time.monotonic()
        if wait > 0:
            self.woken.wait(wait)
        return wait <= 0

    def end_by(self, moment: float) -> None:
        """Closes it; what is not delivered by then (as time.monotonic counts) stays in the record.

        It ends before, if it may not try again in time.
        """
        self.end = moment
        self.closing.set()
        self.woken.set()

    def close(self, seconds: float) -> None:
        """Gives the rest so many seconds, and waits for it."""
        self.end_by(time.monotonic() + seconds)
        self.join(seconds)

    def recall(self) -> None:
        """Takes note of what an earlier session delivered."""
        place = 0
        while part := list(read_record(self.report.path, place)):
            self.sink.note([event for event, end in part if end <= self.memory["offset"]])
            place = part[-1][1]

    def read_pending(self) -> Pending:
        """The events of the next delivery; those before it, which need none, are done with."""
        while True:
            start = self.memory["offset"]
            part = list(islice(read_record(self.report.path, start), self.room))
            events, ends = [event for event, _ in part], [start, *(end for _, end in part)]
            chosen = self.sink.choose(events)
            if chosen.start:
                self.sink.note(events[: chosen.start])
                self.memory["offset"] = ends[chosen.start]
            if events[chosen] or not events:
                return Pending(events[chosen], ends[chosen.stop])

    def try_delivery(self, pending: Pending) -> None:
        """One delivery; its outcome decides when the next is tried and what it holds."""
        urgent = self.sink.is_urgent(pending.events)
        try:
            self.sink.deliver(pending.events, self.memory, self.post)
        except NoAnswerError as error:
            self.trouble = str(error)
            self.back_off(0.0)
        except RefusedError as refusal:
            self.trouble = str(refusal)
            self.handle_refusal(refusal, pending)
        except Exception as error:  # one odd event must not silence the run
            self.trouble = type(error).__name__
            self.narrow(pending)
        else:
            self.acked = time.time()
            self.accept(pending)
            if not urgent:
                self.next_turn = time.monotonic() + self.sink.pause
        self.remember()

    def accept(self, pending: Pending) -> None:
        """What was pending is done with."""
        self.sink.note(pending.events)
        self.memory["offset"] = pending.end
        self.failures, self.parked, self.room = 0, False, self.sink.largest

    def handle_refusal(self, refusal: RefusedError, pending: Pending) -> None:
        """Waits, parks, or looks for the one event that is never taken."""
        status = refusal.answer.status
        self.limited += status == 429
        if status == 429 or status >= 500:
            used_up = refusal.code == QUOTA_USED_UP
            self.back_off(PARKED_FOR if used_up else read_wait(refusal.answer))
        elif refusal.is_of_content:
            self.narrow(pending)
        else:
            self.park(status)

    def back_off(self, asked: float) -> None:
        """Full jitter, doubled with each failure (Brooker 2015), but no less than was asked."""
        self.failures += 1
        longest = min(LONGEST_BACKOFF, 0.5 * 2 ** min(self.failures, 10))
        self.asked = time.monotonic() + asked
        self.next_try = max(self.asked, time.monotonic() + self.dice.uniform(0, longest))

    def park(self, status: int) -> None:
        """A webhook that is gone or forbidden is said once and tried now and then."""
        if not self.parked:
            self.report.print(
                f"! the {self.sink.name} webhook refuses with status {status}; its address may be "
                f"wrong or revoked. It is tried each {PARKED_FOR / 60:.0f} minutes, and nothing is "
                f"lost: events.jsonl has it all"
            )
        self.parked = True
        self.next_try = time.monotonic() + PARKED_FOR

    def narrow(self, pending: Pending) -> None:
        """Halves a delivery that is not taken, down to the one event at fault, and leaves that out.

        A card that is not taken is given up until it has changed.
        """
        if len(pending.events) > 1:
            self.room = len(pending.events) // 2
            return
        if not self.skipped:
            self.report.print(
                f"! the {self.sink.name} webhook does not take an event ({self.trouble})"
            )
        self.skipped += 1
        self.accept(pending)

    def describe(self) -> dict[str, Any]:
        """How it stands, for a heartbeat: bytes of the record unsent, seconds since 1970."""
        try:
            size = self.report.path.stat().st_size
        except OSError:
            size = 0
        return {
            "name": self.sink.name,
            "unsent": max(0, size - int(self.memory["offset"])),
            "acked": self.acked,
            "refused": self.limited,
            "skipped": self.skipped,
            "parked": self.parked,
            "trouble": self.trouble,
        }

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
