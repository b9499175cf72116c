"""Pulse: a sign of life each minute, from a thread of its own

Whoever watches can tell a long epoch from a run that is gone, and what has not reached them yet.
It comes in the reply to such signs that a command reaches a run in good time.
"""

import shutil
import threading
from collections.abc import Sequence

from podium.cache import measure_memory
from podium.delivery import Delivery
from podium.events import Reporter

PULSE_SECONDS = 60.0


class Pulse(threading.Thread):
    """Emits a heartbeat each minute until it is closed."""

    def __init__(self, report: Reporter, deliveries: Sequence[Delivery]) -> None:
        super().__init__(name="podium-pulse", daemon=True)
        self.report, self.deliveries = report, deliveries
        self.closing = threading.Event()

    def run(self) -> None:
        """One after another."""
        while not self.closing.wait(PULSE_SECONDS):
            self.beat()

    def beat(self) -> None:
        """Emits what is free, in bytes, and how each delivery stands."""
        try:
            disk_free: int | None = shutil.disk_usage(self.report.folder).free
        except OSError:  # the folder is gone; the run will notice by itself
            disk_free = None
        self.report.emit(
            "heartbeat",
            memory_free=measure_memory() or None,
            disk_free=disk_free,
            deliveries=[one.describe() for one in self.deliveries],
        )

    def close(self) -> None:
        """Ends it."""
        self.closing.set()
