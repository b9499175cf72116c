"""Whole runs of the stages after the pixels, under a clock that goes as fast as it is told."""

import errno
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_fold import CONFIG, START, TASK, make_set

from podium import crossval as crossval_room
from podium.budget import Budget
from podium.competition import Competition
from podium.crossval import Plan, cross_validate, keep_answers
from podium.events import Reporter
from podium.fold_data import FoldData
from podium.learning import ModelConfig, PredictConfig, TrainConfig
from podium.pixels import Images
from podium.predictions import Predictions, read_predictions
from podium.questions import read_questions
from podium.runtime import Runtime
from podium.stretch import Stretch
from podium.validate import check_submission

QUICK = replace(
    CONFIG,
    model=ModelConfig("tiny", "random", bn_momentum=0.5),
    train=TrainConfig(head_epochs=1, epochs=4),
    predict=PredictConfig(recalibrate="no"),
)
# Planted costs in seconds: of a phase's first update, of each, of a validation, of a prediction; a
# forward pass costs a little less than an update of the head.
START_COST, HEAD_COST, ALL_COST, CHECK_COST, ANSWER_COST = 1.0, 1.0, 2.5, 5.0, 4.0
STEPS = 13
FOLD = 2 * START_COST + STEPS * (HEAD_COST + 4 * ALL_COST) + 5 * CHECK_COST + 2 * ANSWER_COST


class Clock:
    """A clock that goes as it is told."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Has the stages take their planted time; nothing else takes any."""
    clock, seen = Clock(), set[int]()
    tick, mark, predict = Stretch.on_train_batch_end, FoldData.mark, crossval_room.predict_images

    def take_update(self: Stretch, batch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        clock.time += 0.0 if id(optimizer) in seen else START_COST
        seen.add(id(optimizer))
        kept.append(optimizer)  # so that no other takes its number
        clock.time += HEAD_COST if len(self.model.trainable_variables) == 2 else ALL_COST
        tick(self, batch, logs)

    def take_check(self: FoldData, *given: Any) -> Any:
        clock.time += CHECK_COST
        return mark(self, *given)

    def take_answer(*given: Any, **named: Any) -> Any:
        clock.time += ANSWER_COST
        return predict(*given, **named)

    kept = list[Any]()
    monkeypatch.setattr(Stretch, "on_train_batch_end", take_update)
    monkeypatch.setattr(FoldData, "mark", take_check)
    monkeypatch.setattr(crossval_room, "predict_images", take_answer)
    monkeypatch.setattr(crossval_room, "Budget", lambda deadline: Budget(deadline, clock))
    return clock


def make_plan(folder: Path, deadline: float) -> Plan:
    data = make_set(2 * 16 * STEPS)
    ids = [f"t{row}" for row in range(8)]
    table = pd.DataFrame({"id": ids, "path": ids})
    sample = pd.DataFrame({"id": ids, "label": ["dark"] * 8})
    competition = Competition(data.images.table, table, TASK, sample, ())
    test = Images(table, data.images.pixels[:8].copy(), [])
    runtime = Runtime("cpu", "tensorflow", ("CPU:0",), "float32", folder, 0.0, deadline, 0.0)
    return Plan(QUICK, runtime, competition, START, data, test, [])


def check_answers(plan: Plan) -> None:
    """The submission is there and valid."""
    submission = pd.read_csv(plan.runtime.folder / "submission.csv", dtype=str)
    check_submission(submission, plan.competition, None)


def never() -> bool:
    return False


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


def stop_at(clock: Clock, seconds: float) -> Any:
    return lambda: clock.time >= seconds


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
