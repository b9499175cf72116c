"""Whole runs of the stages after the pixels: what the deadline, a stop or a full disk leaves."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clocked_run import FOLD, STEPS, Clock, check_answers, make_plan, never, stop_at

from podium import crossval as crossval_room
from podium.crossval import cross_validate, keep_answers
from podium.events import Reporter
from podium.predictions import Predictions, read_predictions
from podium.questions import read_questions

# On the script the dry runs show this: they train, are killed and go on.
pytestmark = pytest.mark.modules

FAST = (10, 60)  # per cent of the time that all folds need; the others are long


@pytest.mark.parametrize(
    "share",
    [
        pytest.param(share, marks=() if share in FAST else pytest.mark.long)
        for share in range(10, 101, 10)
    ],
)
def test_whatever_the_deadline_there_is_a_submission_and_it_is_in_time(
    tmp_path: Path, clock: Clock, share: int
):
    deadline = 2 * FOLD * share / 100
    plan, report = make_plan(tmp_path, deadline), Reporter(tmp_path)
    summary = cross_validate(plan, report, never)
    check_answers(plan)
    assert clock.time <= deadline * 1.01
    done = [pd.read_csv(path)["updates"].iloc[-1] for path in tmp_path.glob("fold*/history.csv")]
    assert sum(done) >= 1
    assert (tmp_path / "fold0" / "test.npz").is_file()
    rates = pd.read_csv(tmp_path / "fold0" / "history.csv")["learning_rate"]
    if share <= 40:
        assert len(done) == 1
        assert any("there is no time for more than 1 of 2 folds" in one for one in report.warnings)
        assert summary["run"]["state"] == "running"
    if share >= 20:  # a shortened schedule comes down from 0.01: it is not cut off
        assert rates.iloc[-1] < 1e-3
        assert clock.time >= 0.5 * deadline


def test_with_time_enough_all_folds_have_their_whole_course(tmp_path: Path, clock: Clock):
    plan, report = make_plan(tmp_path, 2 * FOLD * 1.2), Reporter(tmp_path)
    summary = cross_validate(plan, report, never)
    assert clock.time == pytest.approx(2 * FOLD)
    assert summary["run"]["state"] == "complete"
    assert report.warnings == []
    assert [question.name for question in read_questions(tmp_path)] == ["answers"]
    assert summary["plan"][0].startswith("2 folds × 5 epochs need ")
    assert summary["plan"][0].endswith("with everything)")
    for fold in range(2):
        history = pd.read_csv(tmp_path / f"fold{fold}" / "history.csv")
        assert history["updates"].tolist() == [STEPS * epoch for epoch in range(1, 6)]
        assert not list((tmp_path / f"fold{fold}").glob("checkpoint*"))


def test_a_run_that_had_no_time_for_all_folds_trains_the_rest_when_it_goes_on(
    tmp_path: Path, clock: Clock
):
    cross_validate(make_plan(tmp_path, FOLD * 1.1), Reporter(tmp_path), never)
    assert not (tmp_path / "fold1").exists()
    first = (tmp_path / "fold0" / "model.keras").stat().st_mtime_ns
    spent, clock.time = clock.time, 0.0
    summary = cross_validate(make_plan(tmp_path, math.inf), Reporter(tmp_path), never)
    assert clock.time == pytest.approx(FOLD)
    assert spent <= FOLD * 1.1
    assert summary["run"]["state"] == "complete"
    assert (tmp_path / "fold0" / "model.keras").stat().st_mtime_ns == first
    assert len(read_predictions(tmp_path / "oof.npz").ids) == 2 * 16 * STEPS


def test_a_run_that_is_stopped_in_its_first_fold_leaves_a_checkpoint_and_a_submission(
    tmp_path: Path, clock: Clock
):
    plan = make_plan(tmp_path, 1e6)
    assert cross_validate(plan, Reporter(tmp_path), stop_at(clock, 40)) == {}
    check_answers(plan)
    assert list((tmp_path / "fold0").glob("checkpoint*.npz"))
    assert not (tmp_path / "fold0" / "test.npz").exists()


def test_a_run_that_is_stopped_later_keeps_the_submission_of_whole_folds(
    tmp_path: Path, clock: Clock
):
    plan = make_plan(tmp_path, 1e6)
    summary = cross_validate(plan, Reporter(tmp_path), stop_at(clock, FOLD + 40))
    assert summary["run"]["state"] == "running"
    check_answers(plan)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert len(told["folds"]) == 1
    assert list((tmp_path / "fold1").glob("checkpoint*.npz"))


@pytest.mark.parametrize("fold", [0, 1])
def test_a_run_that_is_to_end_after_its_epoch_ends_there_and_goes_on_from_there(
    tmp_path: Path, clock: Clock, fold: int
):
    plan = make_plan(tmp_path, 1e6)
    cross_validate(plan, Reporter(tmp_path), stop_at(clock, fold * FOLD + 40, soon=True))
    check_answers(plan)
    history = tmp_path / f"fold{fold}" / "history.csv"
    done = pd.read_csv(history)["updates"].tolist()
    assert 0 < len(done) < 5
    assert done[-1] == STEPS * len(done)  # whole epochs, none torn
    assert list(history.parent.glob("checkpoint*.npz"))
    told = json.loads((tmp_path / "summary.json").read_text())["folds"] if fold else []
    assert len(told) == fold
    summary = cross_validate(plan, Reporter(tmp_path), never)
    assert summary["run"]["state"] == "complete"
    assert pd.read_csv(history)["updates"].tolist() == [STEPS * epoch for epoch in range(1, 6)]


def test_a_run_that_is_to_end_before_it_has_learned_anything_learns_for_an_epoch(
    tmp_path: Path, clock: Clock
):
    plan = make_plan(tmp_path, 1e6)
    assert cross_validate(plan, Reporter(tmp_path), stop_at(clock, 0, soon=True)) == {}
    check_answers(plan)
    assert pd.read_csv(tmp_path / "fold0" / "history.csv")["updates"].tolist() == [STEPS]


def test_where_the_disk_is_full_checkpoints_make_room_for_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, report, write = tmp_path / "fold0", Reporter(tmp_path), crossval_room.write_fold_answers
    folder.mkdir()
    (folder / "checkpoint-1.npz").write_bytes(b"large")

    def write_if_there_is_room(*given: Any) -> None:
        if list(folder.glob("checkpoint-*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*given)

    monkeypatch.setattr(crossval_room, "write_fold_answers", write_if_there_is_room)
    answers = Predictions(np.array(["a"]), np.array([[0.25, 0.75]], np.float32))
    keep_answers(folder, (answers, answers), report)
    assert read_predictions(folder / "test.npz").probs.tolist() == [[0.25, 0.75]]
    (warning,) = report.warnings
    assert "has no room for its answers (No space left on device)" in warning
