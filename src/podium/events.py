"""Events: what the run says, to the reader of the log and to programs

Every stage tells the reporter; the reporter appends one JSON line to events.jsonl, the run's own
record, and prints a line where a person would want one. It never stops the run: an event that
cannot be written is counted and lost.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Reporter:
    """Appends events to `events.jsonl` in the run folder, and prints lines for people."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self.lost = 0  # events that could not be written
        self.warnings: list[str] = []  # shown again in the report

    def emit(self, event: str, **values: Any) -> None:
        """Appends one event; its name is past tense ("fold_started"). Never raises."""
        try:
            record = {"time": round(time.time(), 3), "event": event, **clean_values(values)}
            line = json.dumps(record, allow_nan=False, default=str)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except (OSError, RecursionError, TypeError, ValueError):
            self.lost += 1

    def say(self, text: str) -> None:
        """Prints at once: Kaggle's log shows whole lines, and the run may be watched."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Says something that a person should look at, and keeps it for the report."""
        self.warnings.append(text)
        self.say(f"! {text}")
        self.emit("warning_raised", text=text)


def clean_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turns NumPy scalars into numbers and NaN or infinity into null, as strict JSON wants."""
    return {str(name): clean_value(value) for name, value in values.items()}


def clean_value(value: Any) -> Any:
    """One value made fit for strict JSON."""
    if isinstance(value, Mapping):
        return clean_values(value)
    if isinstance(value, list | tuple):
        return [clean_value(one) for one in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
