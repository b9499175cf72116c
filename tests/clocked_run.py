"""Whole runs of the stages after the pixels, under a clock that goes as fast as it is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_fold import CONFIG, START, TASK, make_set

from podium import crossval as crossval_room
from podium.adoption import Plan
from podium.budget import Budget
from podium.competition import Competition
from podium.fold_data import FoldData
from podium.learning import ModelConfig, PredictConfig, TrainConfig
from podium.looks import Viewer
from podium.pixels import Images
from podium.runtime import Runtime
from podium.stretch import Halt, Stretch
from podium.validate import check_submission

QUICK = replace(
    CONFIG,
    model=ModelConfig("tiny", "random", bn_momentum=0.5),
    train=TrainConfig(head_epochs=1, epochs=4),
    predict=PredictConfig(recalibrate="no", views="none"),
)
# Planted costs in seconds: of a phase's first update, of each, of a validation, of a prediction; a
# forward pass costs a little less than an update of the head.
START_COST, HEAD_COST, ALL_COST, CHECK_COST, ANSWER_COST = 1.0, 1.0, 2.5, 5.0, 4.0
LOOK_COST = 3.0  # of one look at a part
STEPS = 13
FOLD = 2 * START_COST + STEPS * (HEAD_COST + 4 * ALL_COST) + 5 * CHECK_COST + 2 * ANSWER_COST


class Clock:
    """A clock that goes as it is told."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


def plant_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
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

    def take_look(*given: Any) -> Any:
        clock.time += LOOK_COST
        return ask(*given)

    ask = Viewer.ask
    monkeypatch.setattr(Viewer, "ask", take_look)
    monkeypatch.setattr(crossval_room, "Budget", lambda deadline: Budget(deadline, clock))
    return clock


def make_plan(folder: Path, deadline: float, images: int = 2 * 16 * STEPS, **predict: Any) -> Plan:
    config = replace(QUICK, predict=replace(QUICK.predict, **predict))
    data = make_set(images)
    ids = [f"t{row}" for row in range(8)]
    table = pd.DataFrame({"id": ids, "path": ids})
    sample = pd.DataFrame({"id": ids, "label": ["dark"] * 8})
    competition = Competition(data.images.table, table, TASK, sample, ())
    test = Images(table, data.images.pixels[:8].copy(), [])
    runtime = Runtime("cpu", "tensorflow", ("CPU:0",), "float32", folder, 0.0, deadline, 0.0)
    return Plan(config, runtime, competition, START, data, test, [])


def check_answers(plan: Plan) -> None:
    """The submission is there and valid."""
    submission = pd.read_csv(plan.runtime.folder / "submission.csv", dtype=str)
    check_submission(submission, plan.competition, None)


never = Halt(lambda: False, lambda: False)


def stop_at(clock: Clock, seconds: float, *, soon: bool = False) -> Halt:
    """Asks to end at once from a moment on, or after the epoch in hand."""

    def is_asked() -> bool:
        return clock.time >= seconds

    return Halt(never.at_once if soon else is_asked, is_asked)
