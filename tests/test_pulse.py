import threading
from pathlib import Path

import pytest
from receivers import serve, wait_until
from sample_run import make_events

from podium import pulse as pulse_room
from podium.delivery import Delivery
from podium.events import Reporter, read_record
from podium.pulse import Pulse
from podium.sinks import JsonSink


def beats(report: Reporter) -> list[dict]:
    return [event for event, _ in read_record(report.path) if event["event"] == "heartbeat"]


def test_a_heart_beats_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pulse_room, "PULSE_SECONDS", 0.01)
    report = Reporter(tmp_path)
    pulse = Pulse(report, [])
    pulse.start()
    wait_until(lambda: len(beats(report)) >= 3)
    pulse.close()
    pulse.join(5.0)
    assert not pulse.is_alive()
    first = beats(report)[0]
    assert first["disk_free"] > 0
    assert first["memory_free"] is None or first["memory_free"] > 0
    assert first["deliveries"] == []


def test_a_beat_says_nothing_of_how_the_run_stands(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("run_finished")
    Pulse(report, []).beat()
    report.say("Submission  submission.csv")
    assert report.last == "run_finished"


def test_a_run_whose_folder_is_gone_beats_on(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    report = Reporter(folder)
    folder.rmdir()
    Pulse(report, []).beat()
    assert report.lost == 1  # there is nowhere to write it


@pytest.mark.enable_socket
def test_a_beat_tells_what_has_not_reached_a_webhook_and_why(tmp_path: Path):
    """The server takes nothing until it is told to."""
    takes = threading.Event()
    with serve(lambda _: (200 if takes.is_set() else 429, {"retry-after": "0"}, {})) as server:
        report = Reporter(tmp_path)
        delivery = Delivery(JsonSink(server.url), report, tmp_path / "webhook-json.json")
        delivery.start()
        for event in make_events():
            report.emit(event["event"], number=event["seq"])
        wait_until(lambda: len(server.received) > 1)
        Pulse(report, [delivery]).beat()
        (told,) = beats(report)[-1]["deliveries"]
        assert told["name"] == "json"
        assert told["unsent"] > 0
        assert told["refused"] >= 1
        assert told["acked"] is None
        assert told["trouble"] == "status 429"
        takes.set()
        delivery.close(10.0)
        state = delivery.describe()
        assert (state["unsent"], state["skipped"], state["parked"]) == (0, 0, False)
        assert state["acked"] is not None
