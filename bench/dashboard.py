"""How fast the live page is with many long runs, and beside TensorBoard on the same curves.

    python bench/dashboard.py [--runs 20] [--epochs 50000] [--peer] [--json]

The runs' events (an epoch each) are stored as a sender's are. The server then runs in a process of
its own, and a headless Chromium opens the page at 360 px: first paint is the browser's own first
contentful paint, "cards" until all runs are shown, "curves" until six runs are compared. A poll is
the request that the open page makes each two seconds, after one more batch of events has come. The
server's memory is its largest resident set. The bars are those of the issue: first paint below 1 s,
a poll below 100 ms, memory below 200 MB. With --peer, TensorBoard reads the loss curves of the same
runs, written as its own files; it is asked for all of them, as its page does.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from workbench.browser import open_browser
from workbench.dashboard.store import Span, Store

FOLDS, COMPARED, POLLS, BATCH = 5, 6, 15, 1000
SETTINGS = {"model.backbone": "tiny", "pixels.image_size": 32, "folds.count": FOLDS}


def main() -> None:
    """Fills, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=50_000, help="of one run, over all folds")
    parser.add_argument("--peer", action="store_true", help="TensorBoard too: minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {"events_per_second": fill(folder / "ours", options.runs, options.epochs)}
        with serve(folder / "ours") as (server, address):
            figures |= look(address, options.runs)
            figures |= time_polls(address, folder / "ours", options.runs, options.epochs)
            figures["memory_mb"] = read_peak(server.pid) / 1e6
        if options.peer:
            figures |= time_tensorboard(folder / "peer", options.runs, options.epochs)
    if options.json:
        ratios = {"all_curves_against_tensorboard": figures["curves_s"] / figures["peer_s"]}
        print(json.dumps(figures | {"ratios": ratios if options.peer else {}}))
        return
    print(f"{options.runs} runs of {options.epochs} epochs, {os.cpu_count()} cores")
    for name, figure in figures.items():
        print(f"  {name:28} {figure:10.3f}")


def make_events(run: int, epochs: int) -> Iterator[dict[str, Any]]:
    """The events of a run: its start, and epochs whose losses fall."""
    key = {"run": f"run{run:02}", "session": "5e551014"}
    start = {"accelerator": "gpu", "devices": 1, "deadline": time.time() + 3e4, "source": "0"}
    begun = time.time() - 10 * epochs
    yield key | start | {"seq": 1, "time": begun, "event": "run_started", "settings": SETTINGS}
    for epoch in range(epochs):
        fold, number = divmod(epoch, epochs // FOLDS)
        loss = 2.0 / (1 + number / 100) + 0.01 * ((epoch * 7919 + run) % 100) / 100
        yield key | {
            "seq": epoch + 2,
            "time": begun + 10.0 * epoch,
            "event": "epoch_ended",
            "fold": fold,
            "epochs": epochs // FOLDS,
            "epoch": number + 1,
            "updates": 100 * (number + 1),
            "phase": "all",
            "metric": "accuracy",
            "train/loss": loss,
            "valid/loss": loss * 1.1,
            "train/accuracy": 1 - loss / 3,
            "valid/accuracy": 1 - loss / 2.8,
            "valid/metric": 1 - loss / 2.8,
            "learning_rate": 1e-3,
            "images_per_second": 900.0,
            "seconds": 10.0,
        }


def fill(folder: Path, runs: int, epochs: int) -> float:
    """Stores the runs in batches, as a server does; returns events a second."""
    folder.mkdir()
    store, begun = Store(folder), time.perf_counter()
    for run in range(runs):
        batch = list[dict[str, Any]]()
        for event in make_events(run, epochs):
            batch.append(event)
            if len(batch) == BATCH:
                take(store, batch)
                batch = []
        take(store, batch)
    store.close()
    return runs * epochs / (time.perf_counter() - begun)


def take(store: Store, batch: list[dict[str, Any]]) -> None:
    """Stores a batch."""
    if batch:
        ends = (batch[0]["run"], batch[0]["session"], batch[0]["seq"], batch[-1]["seq"])
        store.take(batch, [Span(*ends)], "webhook", time.time())


@contextmanager
def serve(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server in a process of its own, and its address."""
    command = [sys.executable, "-m", "workbench.dashboard", "--folder", str(folder), "--port", "0"]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server, re.search(r"http://[^/\s]+", server.stdout.readline())[0]
        finally:
            server.terminate()


def look(address: str, runs: int) -> dict[str, float]:
    """Seconds until a phone's browser shows the page, the cards, and six runs' curves."""
    with open_browser(viewport={"width": 360, "height": 800}) as browser:
        paints, cards = list[float](), list[float]()
        for _ in range(5):
            tab, begun = browser.new_page(), time.perf_counter()
            tab.goto(f"{address}/#/")
            tab.locator(".card").nth(runs - 1).wait_for()
            cards.append(time.perf_counter() - begun)
            paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            paints.append(tab.evaluate(paint) / 1000)
            tab.close()
        names = ",".join(f"run{run:02}" for run in range(min(COMPARED, runs)))
        tab, begun = browser.new_page(), time.perf_counter()
        tab.goto(f"{address}/#/compare?runs={names}")
        tab.wait_for_selector(".plot canvas", timeout=60_000)
        curves = time.perf_counter() - begun
    median = statistics.median
    return {"first_paint_s": median(paints), "cards_s": median(cards), "curves_s": curves}


def time_polls(address: str, folder: Path, runs: int, epochs: int) -> dict[str, float]:
    """Median milliseconds of what an open page asks, after news in one run, or in all compared."""
    names = [f"run{run:02}" for run in range(min(COMPARED, runs))]
    views = {"runs": "/api/runs?", "run": f"/api/series?runs={names[0]}"}
    views["compare"] = f"/api/series?runs={','.join(names)}"
    store, times = Store(folder), {name: list[float]() for name in views}
    versions = {name: ask(address + view)["version"] for name, view in views.items()}
    for poll in range(POLLS):
        for run, name in enumerate(names):
            _, event, *_ = make_events(run, 2 * FOLDS)
            place = {"seq": epochs + 2 + poll, "epoch": epochs + poll, "fold": FOLDS - 1}
            take(store, [event | place | {"run": name, "time": time.time()}])
        for name, view in views.items():
            begun = time.perf_counter()
            told = ask(f"{address}{view}&after={versions[name]}")
            times[name].append(1000 * (time.perf_counter() - begun))
            versions[name] = told["version"]
            if not told["runs"]:
                sys.exit(f"{view} told nothing of the news")
    store.close()
    return {f"poll_{name}_ms": statistics.median(values) for name, values in times.items()}


def ask(url: str) -> dict[str, Any]:
    """What the server answers."""
    told: dict[str, Any] = requests.get(url, timeout=60).json()
    return told


def read_peak(process: int) -> int:
    """The largest resident set of a process, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def time_tensorboard(folder: Path, runs: int, epochs: int) -> dict[str, float]:
    """Seconds until TensorBoard gives all loss curves after its start, and its memory."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for run in range(runs):
        writer = EventFileWriter(str(folder / f"run{run:02}"), max_queue_size=10_000)
        for event in list(make_events(run, epochs))[1:]:
            step = (event["seq"] - 2) % (2**31)
            values = [
                Summary.Value(tag=name, simple_value=event[name])
                for name in ("train/loss", "valid/loss")
            ]
            at = event["time"]
            writer.add_event(Event(wall_time=at, step=step, summary=Summary(value=values)))
        writer.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--logdir", str(folder), "--port", str(port), "--load_fast", "false"]
    command = [sys.executable, "-m", "tensorboard.main", *words]
    silent = subprocess.DEVNULL
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=silent, stderr=silent) as server:
        try:
            wait_for_tags(f"http://127.0.0.1:{port}", runs, epochs)
            return {
                "peer_s": time.perf_counter() - begun,
                "peer_memory_mb": read_peak(server.pid) / 1e6,
            }
        finally:
            server.terminate()


def wait_for_tags(address: str, runs: int, epochs: int) -> None:
    """Returns once the last step of the last run can be had."""
    url = f"{address}/data/plugin/scalars/scalars?tag=valid/loss&run=run{runs - 1:02}"
    while True:
        try:
            answer = requests.get(url, timeout=60)
            if answer.ok and answer.json()[-1][1] >= epochs - 1:
                return
        except (requests.ConnectionError, ValueError):
            pass
        time.sleep(0.2)


if __name__ == "__main__":
    main()
