import errno
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from podium import diary as diary_room
from podium.diary import Diary, EpochWatch
from podium.events import Reporter, read_record

ROW = {
    "phase": "all", "epoch": 2, "updates": 20, "train/loss": 0.5, "train/accuracy": 0.75,
    "valid/loss": 0.625, "valid/accuracy": 0.5, "valid/metric": float("nan"),
    "clean/metric": None, "learning_rate": 1e-3, "seconds": 2.0, "images_per_second": 64.0,
}  # fmt: skip


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path, 1, "qwk", Reporter(tmp_path))


def test_an_epoch_is_a_row_a_line_and_an_event(diary: Diary, capsys: pytest.CaptureFixture[str]):
    diary.add(ROW, 9)
    row = pd.read_csv(diary.path).iloc[0]
    assert (row["epoch"], row["train/loss"]) == (2, 0.5)
    assert pd.isna(row["valid/metric"])
    assert pd.isna(row["clean/metric"])
    assert "fold 1 epoch  2/9 all   loss 0.500 → 0.625  acc" in capsys.readouterr().out
    event, line = [event for event, _ in read_record(diary.report.path)]
    assert line["text"].startswith("  fold 1 epoch  2/9 all")
    assert (event["event"], event["epochs"], event["valid/metric"]) == ("epoch_ended", 9, None)


def test_rows_stand_under_one_header(diary: Diary):
    for _ in range(2):
        diary.append(ROW)
    assert len(diary.path.read_text().splitlines()) == 3


def test_epochs_after_the_checkpoint_are_forgotten_and_a_torn_row_too(diary: Diary):
    for updates in (10, 20, 30):
        diary.append(ROW | {"updates": updates})
    text = diary.path.read_text()
    diary.path.write_text(text[:-20])
    diary.start_at(40)
    assert pd.read_csv(diary.path)["updates"].tolist() == [10, 20]
    diary.start_at(10)
    assert pd.read_csv(diary.path)["updates"].tolist() == [10]
    diary.append(ROW)
    assert pd.read_csv(diary.path)["updates"].tolist() == [10, 20]
    diary.start_at(0)
    assert not diary.path.exists()


def test_a_full_disk_is_warned_of_once_and_costs_only_rows(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*given: Any, **named: Any) -> io.StringIO:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(diary_room.Path, "open", refuse)
    diary.append(ROW)
    diary.append(ROW)
    monkeypatch.undo()
    (warning,) = diary.report.warnings
    assert "history.csv cannot be written (No space left on device)" in warning


def test_a_long_epoch_says_now_and_then_that_it_is_alive(diary: Diary):
    diary.speak(1, 4, 9)
    diary.spoke -= 60
    diary.speak(1, 5, 9)
    event, line = [event for event, _ in read_record(diary.report.path)]
    assert line["text"] == "  fold 1 epoch 1: step 5 of 9"
    place = {name: event[name] for name in ("event", "fold", "epoch", "step", "steps")}
    assert place == {"event": "step_reached", "fold": 1, "epoch": 1, "step": 5, "steps": 9}


def test_images_per_second_are_those_of_training_and_not_of_validation():
    watch = EpochWatch(100.0)
    watch.add(150, 3.0)
    watch.add(50, 1.0)
    assert watch.read(110.0) == {"seconds": 10.0, "images_per_second": 50.0}
