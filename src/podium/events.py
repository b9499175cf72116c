"""Events: what the run says, to the reader of the log and to programs

Every stage tells the reporter; the reporter appends one JSON line to events.jsonl, the run's own
record, and prints a line where a person would want one. What is sent to a webhook is read from
there. The reporter never stops the run: an event that cannot be written is counted and lost.
"""

import json
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from podium.storage import write_whole

LONGEST_LIST = 100  # of an array or a list, the values that an event keeps
LONGEST_TEXT = 8_000  # characters; of a longer text the end is kept, where a traceback says most
LONGEST_LINE = 64_000  # bytes of one event
LONGEST_READ = 256_000  # bytes of the record read at once
ASIDES = ("line_said", "heartbeat")  # events that say nothing of how the run stands


class Reporter:
    """Appends events to `events.jsonl` in the run folder, and prints lines for people.

    An event's key is (run, session, seq): the run is what an earlier session in the folder began,
    the session is this process. Of several hosts only the leader reports.
    """

    def __init__(self, folder: Path, *, leader: bool = True) -> None:
        self.folder, self.path = folder, folder / "events.jsonl"
        self.leader, self.process = leader, os.getpid()
        self.session = secrets.token_hex(4)
        self.run = next((str(one["run"]) for one, _ in read_record(self.path)), self.session)
        self.seq = self.lost = 0  # events, and those of them that could not be written
        self.last = ""  # the newest event's name, but for asides
        self.torn = is_torn(self.path)  # a killed process may have left half a line
        self.warnings: list[str] = []  # shown again in the report
        self.hidden: list[str] = []  # secrets, which no line may hold
        self.listeners: list[threading.Event] = []  # set at every event
        self.lock = threading.Lock()

    def emit(self, event: str, **values: Any) -> None:
        """Appends one event; its name is past tense ("fold_started"). Never raises.

        Does nothing in a process that was forked off: its parent reports.
        """
        if not self.leader or os.getpid() != self.process:
            return
        with self.lock:
            try:
                self.seq += 1
                self.last = self.last if event in ASIDES else event
                key = {"run": self.run, "session": self.session, "seq": self.seq}
                record = {**key, "time": round(time.time(), 3), "event": event}
                values = clean_values(values, LONGEST_LIST)
                line = json.dumps(record | values, allow_nan=False, default=str)
                if len(line) > LONGEST_LINE:
                    line = json.dumps(record | {"too_long": len(line)})
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n" * self.torn + self.hide(line) + "\n")
                self.torn = False
            except Exception:  # a value may raise anything when it is asked what it is
                self.lost, self.torn = self.lost + 1, self.path.exists()
        for listener in self.listeners:
            listener.set()

    def say(self, text: str) -> None:
        """Prints a line of the log, and tells whoever watches from elsewhere."""
        self.print(text)
        self.emit("line_said", text=text)

    def print(self, text: str) -> None:
        """Prints at once, as Kaggle's log shows whole lines; what concerns a delivery only so."""
        if self.leader:
            print(self.hide(text), flush=True)

    def warn(self, text: str) -> None:
        """Says something that a person should look at, and keeps it for the report."""
        self.warnings.append(self.hide(text))
        self.print(f"! {text}")
        self.emit("warning_raised", text=text)

    def hide(self, text: str) -> str:
        """The text without the secrets that this run was given."""
        for secret in self.hidden:
            text = text.replace(secret, "…")
        return text


def is_torn(path: Path) -> bool:
    """Does the record end in the middle of a line?"""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # there is none yet, or it is empty
        return False


def read_record(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields the events from a byte of the record on, each with the byte where it ends.

    Reads a limited part, whole lines only. Lines that a killed process left torn are passed over.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            lines = file.read(LONGEST_READ).split(b"\n")
    except OSError:
        return
    for line in lines[:-1]:  # what follows the last line's end is not whole yet
        start += len(line) + 1
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and {"run", "session", "seq", "time", "event"} <= event.keys():
            yield event, start


def clean_values(values: Mapping[str, Any], most: int | None = None) -> dict[str, Any]:
    """Turns values into what strict JSON knows: plain numbers, and null for NaN or infinity.

    Of a list it keeps so many values at most.
    """
    return {str(name): clean_value(value, most) for name, value in values.items()}


def clean_value(value: Any, most: int | None = None) -> Any:
    """One value made fit for strict JSON; arrays and tensors become short lists."""
    if isinstance(value, Mapping):
        return clean_values(value, most)
    if isinstance(value, list | tuple):
        return [clean_value(one, most) for one in value[:most]]
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"…{value[-LONGEST_TEXT:]}"
    if hasattr(value, "__array__"):  # NumPy, JAX and TensorFlow alike
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        if array.dtype.kind not in "biuOSU":  # bfloat16 has a kind of its own
            array = array.astype(np.float64)
        short = array.ravel()[:LONGEST_LIST].tolist()
        return clean_value(short if array.ndim else short[0])
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_whole(path, json.dumps(clean_values(content), indent=1, allow_nan=False).encode())
