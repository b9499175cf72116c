"""What it costs a run to be watched: emit alone, and training steps with a webhook and without.

    python bench/events.py [--json]

emit is timed 10,000 times with nobody listening to the file. Then 200 steps of 50 ms, half of it
computing in Python and half waiting as for a device, each followed by an event, run in turns
without a webhook, with one that answers, and with one that never does. The bars are those of the
issue: emit's 99th percentile below 1 ms, steps slowed by less than 0.5 %.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium.events import Reporter
from podium.webhook import Watch

STEP = 0.05  # seconds


def main() -> None:
    """Times and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    emits = time_emits(10_000)
    arms = {"none": "", "answers": serve_answers(), "never answers": serve_silence()}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.rounds):
        for name, address in arms.items():
            seconds[name].append(time_steps(options.steps, address))
    pairs = {
        name: [one / bare for one, bare in zip(values, seconds["none"], strict=True)]
        for name, values in seconds.items()
    }
    ratios = {name: statistics.median(values) for name, values in pairs.items() if name != "none"}
    p50, p99 = (1000 * emits[int(len(emits) * share)] for share in (0.5, 0.99))
    if options.json:
        print(json.dumps({"emit_ms": {"p50": p50, "p99": p99}, "ratios": ratios}))
        return
    most = 1000 * emits[-1]
    print(f"emit: median {p50:.3f} ms, 99th percentile {p99:.3f} ms, most {most:.1f} ms")
    for name, ratio in ratios.items():
        print(f"{options.steps} steps, a webhook that {name}: {100 * (ratio - 1):+.2f} %")


def time_emits(count: int) -> list[float]:
    """The seconds of each emit, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        report = Reporter(Path(folder))
        times = []
        for step in range(count):
            begun = time.perf_counter()
            report.emit("step_reached", fold=0, epoch=1, step=step, steps=count)
            times.append(time.perf_counter() - begun)
    return sorted(times)


def time_steps(steps: int, address: str) -> float:
    """The seconds of so many steps, an event after each."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = Reporter(Path(folder))
        report.say = lambda *_: None
        watch = Watch(report)
        watch.open({"PODIUM_WEBHOOK": address})
        begun = time.perf_counter()
        for step in range(steps):
            end = time.perf_counter() + STEP
            count_to(400_000)
            time.sleep(max(0.0, end - time.perf_counter()))
            report.emit("step_reached", fold=0, epoch=1, step=step, steps=steps)
        taken = time.perf_counter() - begun
        for delivery in watch.deliveries:  # not part of training
            delivery.closing.set()
        return taken


def count_to(number: int) -> int:
    """Work that holds Python's lock."""
    total = 0
    for one in range(number):
        total += one
    return total


def serve_answers() -> str:
    """The address of a receiver that takes everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def serve_silence() -> str:
    """The address of a receiver that takes the connection and says nothing."""
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    threading.Thread(target=lambda: [server.accept() for _ in iter(int, 1)], daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


if __name__ == "__main__":
    main()
    os._exit(0)  # threads that still wait for the silent receiver
