import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.events import Reporter, clean_value, clean_values


def read_events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_an_event_is_one_line_of_json(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("fold_started", fold=1)
    report.emit("fold_ended", fold=1, score=np.float32(0.5))
    events = read_events(tmp_path)
    assert [event["event"] for event in events] == ["fold_started", "fold_ended"]
    assert events[1]["score"] == 0.5


def test_numbers_that_json_does_not_know_become_null():
    values = {"loss": float("nan"), "list": [np.inf, np.int64(3)], "deep": {"x": -np.inf}}
    assert clean_values(values) == {"loss": None, "list": [None, 3], "deep": {"x": None}}


def test_what_cannot_be_written_is_counted_and_stops_nothing(tmp_path: Path):
    report = Reporter(tmp_path / "missing")
    report.emit("epoch_ended", loss=0.1)
    assert report.lost == 1


def test_a_full_disk_stops_nothing(tmp_path: Path):
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    report = Reporter(tmp_path)
    report.emit("epoch_ended", loss=0.1)
    assert report.lost == 1


def test_a_circular_value_is_lost_and_stops_nothing(tmp_path: Path):
    loop: list[object] = []
    loop.append(loop)
    report = Reporter(tmp_path)
    report.emit("epoch_ended", loop=loop)
    assert report.lost == 1


def test_a_warning_is_said_recorded_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = Reporter(tmp_path)
    report.warn("random weights")
    assert capsys.readouterr().out == "! random weights\n"
    assert read_events(tmp_path)[0]["text"] == "random weights"
    assert report.warnings == ["random weights"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_like)
def test_a_cleaned_value_is_strict_json(value: object):
    json.dumps(clean_value(value), allow_nan=False)
