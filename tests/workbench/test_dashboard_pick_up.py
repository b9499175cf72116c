"""Run folders that are taken in: what no network brought."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sample_run import make_events

from podium.events import Reporter
from workbench.dashboard.overview import list_cards
from workbench.dashboard.pick_up import NoRecordError, PickedUp, pick_up, tell_pick_up
from workbench.dashboard.series import read_curves
from workbench.dashboard.store import Span, Store

NOW = 1_790_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "dashboard"
    folder.mkdir()
    with closing(Store(folder)) as opened:
        yield opened


def write_record(folder: Path, lines: list[str]) -> Path:
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(lines))
    return folder


def test_a_folder_is_taken_in_whole_and_once_and_fills_what_the_relay_missed(
    store: Store, tmp_path: Path
):
    events = list(make_events())
    folder = write_record(tmp_path / "digits-v3", [json.dumps(one) + "\n" for one in events])
    live = [one for one in events if one["seq"] not in (1, 5, 6)]
    spans = [Span("4042", "5e551014", *ends) for ends in ((2, 4), (7, len(events)))]
    store.take(live, spans, "relay", NOW)
    with store.reading() as db:
        assert list_cards(db, NOW)["runs"][0]["missing"] == 3
    assert pick_up(store, folder) == PickedUp(["4042"], len(events), 3)
    assert pick_up(store, folder) == PickedUp(["4042"], len(events), 0)
    with store.reading() as db:
        (card,) = list_cards(db, NOW)["runs"]
        assert [len(curve.block) for curve in read_curves(db, 1)] == [3, 3]
    assert (card["name"], card["missing"], card["state"]) == ("digits-v3", 0, "finished")
    assert (card["source"], card["seen"]) == ("relay", NOW)
    assert card["title"] == "keras:EfficientNetV2B0, 224 px"  # of the event that came last


def test_what_podium_s_own_reporter_wrote_is_taken_in(store: Store, tmp_path: Path):
    report = Reporter(tmp_path)
    for epoch in range(3000):
        report.emit("epoch_ended", fold=0, epoch=epoch, **{"valid/loss": float("nan")})
    assert pick_up(store, tmp_path) == PickedUp([report.run], 3000, 3000)


def test_torn_and_foreign_lines_cost_only_themselves(store: Store, tmp_path: Path):
    lines = [json.dumps(one) + "\n" for one in make_events()]
    lines[3] = lines[3][:40] + "\n"
    lines[5] = '{"run": 1, "session": "a", "seq": "x", "time": 0, "event": []}\n'
    folder = write_record(tmp_path / "torn", [*lines, lines[0][:-1]])
    assert pick_up(store, folder).stored == len(lines) - 2
    with store.reading() as db:
        assert list_cards(db, NOW)["runs"][0]["missing"] == 0  # there is no more to come


def test_a_folder_without_a_record_is_told_what_to_name(store: Store, tmp_path: Path):
    with pytest.raises(NoRecordError, match="has no events.jsonl; name a run's folder"):
        pick_up(store, tmp_path)


def test_a_pull_is_told_in_one_line_what_came_of_its_import(tmp_path: Path):
    lines = [json.dumps(one) + "\n" for one in make_events()]
    folder = write_record(tmp_path / "run", lines)
    dashboard = tmp_path / "new" / "dashboard"
    assert tell_pick_up(folder, dashboard).startswith("run 4042: 17 of 17 events are new")
    assert "not imported: " in tell_pick_up(tmp_path, dashboard)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "\n" not in tell_pick_up(folder, place)
        assert tell_pick_up(folder, place).startswith("not imported: ")
    (dashboard / "events.db").write_bytes(b"no database" * 1000)
    assert tell_pick_up(folder, dashboard).startswith("not imported: ")


def test_taking_in_opens_no_large_library(tmp_path: Path):
    import subprocess

    program = (
        "import sys, workbench.dashboard.__main__, workbench.collect\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'scipy', 'sklearn', 'pandas', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(source)},
    )
    assert done.stdout == "[]\n"
