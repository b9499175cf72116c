"""A fold so small that it trains in a second: bright images are class 1, dark ones class 0."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from podium.backbones import find_backbone
from podium.budget import Budget
from podium.config import AugmentConfig, Config, FoldsConfig, PixelsConfig
from podium.events import Reporter
from podium.fold_data import TrainingSet
from podium.learning import (
    HeadConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from podium.network import Start
from podium.pixels import Images
from podium.planner import Planner
from podium.stretch import Halt
from podium.task import Task
from podium.train import Session

CONFIG = replace(
    Config(),
    folds=FoldsConfig(2),
    model=ModelConfig("tiny", "random"),
    head=HeadConfig(dropout=0.0),
    pixels=PixelsConfig(image_size=16, batch_size=16),
    augment=AugmentConfig("flip-crop", flip="no"),
    optimizer=OptimizerConfig("adamw", weight_decay=1e-4),
    schedule=ScheduleConfig(head_lr=1e-2, peak_lr=1e-2),
    train=TrainConfig(head_epochs=1, epochs=4),
)

START = Start(find_backbone("tiny"), "inception")
TASK = Task("label", ("dark", "bright"))


def make_set(images: int = 50) -> TrainingSet:
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 2
    pixels = rng.integers(0, 100, (images, 18, 18, 3)) + 120 * labels[:, None, None, None]
    ids = [f"{row:03d}" for row in range(images)]
    table = pd.DataFrame({"id": ids, "path": ids, "label": labels})
    return TrainingSet(Images(table, pixels.astype(np.uint8), []), np.arange(images) // 2 % 2, TASK)


def make_session(
    folder: Path,
    stopping: Callable[[], bool] = lambda: False,
    ending: Callable[[], bool] = lambda: False,
    budget: Budget | None = None,
) -> Session:
    """A session with time for anything, unless a budget says otherwise."""
    report = Reporter(folder)
    planner = Planner(budget or Budget(time.time() + 1e6), CONFIG.folds.count, (2, 4), report)
    return Session(folder, 1, report, planner, Halt(stopping, ending))
