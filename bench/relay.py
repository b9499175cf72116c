"""What a relay takes: how many epochs fit into a message, and how many messages a long run sends.

    python bench/relay.py [--json]

The run has 5 folds of 30 epochs in 12 hours, from midnight UTC on, with a heartbeat each minute, a
plan after each epoch and a line in the log; time is counted, not waited for. ntfy.sh takes 250
messages a day.
"""

import argparse
import base64
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium.config import Config
from podium.knobs import list_settings
from podium.post import Answer, Request
from podium.relay import RelaySink

HOURS, FOLDS, EPOCHS = 12, 5, 30
MIDNIGHT = 1_763_942_400.0
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


def main() -> None:
    """Counts and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    events = list(make_run())
    figures = {"epochs_in_a_message": count_epochs(events), **count_messages(events)}
    if options.json:
        print(json.dumps(figures))
        return
    print(f"epochs in a message: {figures['epochs_in_a_message']}")
    print(f"{HOURS} h of {FOLDS} folds of {EPOCHS} epochs: {figures['messages']} messages,")
    print(f"  {figures['bytes']} bytes, the longest {figures['longest']}")
    print(f"  events known {figures['delay']:.0f} s after they happened (median)")


def make_run() -> Iterator[dict[str, Any]]:
    """The events of the run, in order."""
    dice, last = random.Random(0), HOURS * 3600  # noqa: S311
    seconds = last / FOLDS / EPOCHS
    told = [(0.0, "run_started", {"settings": list_settings(Config()), "deadline": last})]
    told += [(60.0 * minute, "heartbeat", make_pulse(dice)) for minute in range(last // 60)]
    for fold in range(FOLDS):
        for epoch in range(1, EPOCHS + 1):
            moment = (fold * EPOCHS + epoch) * seconds
            told.append((moment, "epoch_ended", make_epoch(dice, fold, epoch, seconds)))
            told.append((moment, "line_said", {"text": "a line as the log has it " * 4}))
            told.append((moment, "plan_made", make_plan(dice, fold)))
        score = {"value": dice.random(), "interval": [dice.random(), dice.random()]}
        told.append((moment + 1, "fold_ended", {"fold": fold, "metric": "accuracy", **score}))
    told.append((last + 2.0, "run_finished", {"rows": 10_000, "seconds": last}))
    for seq, (moment, event, values) in enumerate(sorted(told, key=lambda one: one[0]), 1):
        key = {"run": "1a2b3c4d", "session": "1a2b3c4d", "seq": seq}
        yield {**key, "time": round(MIDNIGHT + moment, 3), "event": event, **values}


def make_epoch(dice: random.Random, fold: int, epoch: int, seconds: float) -> dict[str, Any]:
    """An epoch's figures, with as many digits as a run has."""
    names = "train/loss train/accuracy valid/loss valid/accuracy valid/metric learning_rate"
    figures = {name: dice.random() for name in names.split()}
    figures |= {"clean/metric": None, "recalibrated/metric": None, "image_size": 224}
    figures |= {"seconds": seconds + dice.random(), "images_per_second": 900 + dice.random()}
    key = {"fold": fold, "epochs": EPOCHS, "phase": "all", "epoch": epoch}
    return {**key, "updates": 390 * epoch, **figures, "left": 1e5 * dice.random()}


def make_pulse(dice: random.Random) -> dict[str, Any]:
    """A heartbeat."""
    delivery = {"name": "relay", "unsent": 4000, "acked": dice.random(), "refused": 0}
    delivery |= {"parked": False, "skipped": 0, "trouble": ""}
    free = {"memory_free": dice.randrange(2**34), "disk_free": dice.randrange(2**34)}
    return {**free, "deliveries": [delivery]}


def make_plan(dice: random.Random, fold: int) -> dict[str, Any]:
    """A plan."""
    shares = [1.0] * (FOLDS - fold)
    return {"fold": fold, "shares": shares, "seconds": dice.random(), "words": "all of it fits"}


def count_epochs(events: list[dict[str, Any]]) -> int:
    """The epochs that one message holds."""
    epochs = [one for one in events if one["event"] == "epoch_ended"]
    return RelaySink("https://ntfy.example/topic", SECRET).choose(epochs).stop


def count_messages(events: list[dict[str, Any]]) -> dict[str, float]:
    """Hands the events over one by one, as they happen, to a sink that keeps its pauses."""
    sink, memory, pending = RelaySink("https://ntfy.example/topic", SECRET), dict[str, Any](), []
    sizes, delays, turn = list[int](), list[float](), 0.0

    def send(request: Request) -> Answer:
        sizes.extend([len(request.data or b"")] if request.method == "POST" else [])
        return Answer(200, {}, None)

    for event in events:
        pending.append(event)
        now = event["time"]
        chosen = sink.choose(pending)
        urgent = sink.is_urgent(pending[chosen])
        if not pending[chosen] or not (urgent or now >= turn):
            continue
        with mock.patch.object(time, "time", lambda now=now: now):
            sink.deliver(pending[chosen], memory, send)
        sink.note(pending[: chosen.stop])
        delays += [now - one["time"] for one in pending[chosen]]
        pending = pending[chosen.stop :]
        turn = turn if urgent else now + sink.pause
    delay = sorted(delays)[len(delays) // 2]
    return {"messages": len(sizes), "bytes": sum(sizes), "longest": max(sizes), "delay": delay}


if __name__ == "__main__":
    main()
