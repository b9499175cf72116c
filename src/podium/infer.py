"""Inference: the models of an earlier run answer a competition's test part

For code competitions, whose hidden test images are there only while a script without internet
runs: a first script trains, and its output is attached to a second one, which is the same script
with predict.run set.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from podium.attempt import describe_error
from podium.competition import Competition
from podium.config import Config
from podium.events import Reporter
from podium.hosts import ask_first_host
from podium.inputs import CompetitionError
from podium.looks import NoTimeError, Viewer, read_use
from podium.model import open_session
from podium.pixels import Images, read_images
from podium.predict import predict_images
from podium.predictions import Predictions, average_predictions
from podium.rules import Rule, find_rule
from podium.runtime import KAGGLE_INPUT, Runtime
from podium.task import Task

RUN_DEPTH = 4  # folders below /kaggle/input in which an attached run is looked for


def find_trained_run(
    name: str, inputs: Path = KAGGLE_INPUT, *, setting: str = "predict.run"
) -> Path:
    """The folder of the run: the one that a setting names, or the one that is attached.

    Raises CompetitionError if there is none, or if several are attached.
    """
    if name != "attached":
        found = [Path(name)] if list(Path(name).glob("fold*/model.keras")) else []
        looked = name
    else:
        found, looked = sorted(list_runs(inputs)), str(inputs)
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise CompetitionError(
            f"{setting} is {name}: looked under {looked} for one run with fold0/model.keras and "
            f"found {names}; attach the training kernel's output, or name its folder"
        )
    return found[0]


def list_runs(inputs: Path) -> set[Path]:
    """The folders below that hold a fold with its model."""
    runs = set()
    for folder, below, files in os.walk(inputs):
        if len(Path(folder).relative_to(inputs).parts) > RUN_DEPTH:
            below.clear()
        if "model.keras" in files and Path(folder).name.startswith("fold"):
            runs.add(Path(folder).parent)
    return runs


def answer_with_run(
    config: Config, run: Path, competition: Competition, runtime: Runtime, report: Reporter
) -> Predictions:
    """Predicts the test images with every fold's model: their average, by image id.

    Raises CompetitionError if the models were trained for other classes or cannot be loaded.
    """
    check_classes(run, competition)
    paths = sorted(run.glob("fold*/model.keras"), key=lambda path: int(path.parent.name[4:]))
    asker = Asker(config, read_summary(run), competition, runtime, report)
    answers, test = list[Predictions](), None
    for place, path in enumerate(paths):
        open_session(runtime.precision, len(runtime.devices))
        model = load_trained(path)
        if test is None:  # all folds see the same pixels
            side = model.input_shape[1]
            test = read_images(competition.test, side, "test", config.pixels, report)
        answers.append(asker.ask(model, test, len(paths) - place))
        del model  # the next one needs the room that it takes on the device
        report.say(f"  {path.parent.name}: {len(answers[-1].ids)} images predicted")
    return average_predictions(answers)


class Asker:
    """Asks models as the run that trained them does, by several looks if it uses them."""

    def __init__(
        self,
        config: Config,
        summary: Mapping[str, Any],
        competition: Competition,
        runtime: Runtime,
        report: Reporter,
    ) -> None:
        self.use, self.report = read_use(summary, competition.task), report
        self.exclusive = competition.task.exclusive
        self.viewer = Viewer(
            config.pixels.batch_size,
            lambda seconds: bool(ask_first_host(time.time() + seconds < runtime.deadline)),
            time.time,
            exclusive=self.exclusive,
            flip=self.use is not None and self.use.flip,
        )

    def ask(self, model: keras.Model, images: Images, models: int) -> Predictions:
        """What a model says of all images; it is the first of so many that are left.

        Where time is too short for all looks, it and those after it answer by one.
        """
        size, exclusive = self.viewer.batch_size, self.exclusive
        began = time.time()
        plain = predict_images(model, images, None, size, exclusive=exclusive)
        if self.use is None:
            return plain
        self.viewer.pace = (time.time() - began) / len(plain.ids)
        looks = None
        try:
            if self.use.extra:
                self.viewer.check(models * len(plain.ids) * self.use.views)
                looks = self.viewer.look(model, images, None, self.use.extra)
        except NoTimeError as error:
            self.report.warn(f"the run's views are not used from here on: {error}")
            self.use = None
            return plain
        return self.use.answer(plain, looks, exclusive=exclusive)


def read_run_rule(run: Path, task: Task) -> Rule:
    """How the run's own out-of-fold answers were decided; the plain rule if that metric differs."""
    return find_rule(read_summary(run), task)


def read_summary(run: Path) -> dict[str, Any]:
    """What a run's summary.json says."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary


def check_classes(run: Path, competition: Competition) -> None:
    """Raises CompetitionError unless the run was trained for these classes in this order."""
    try:
        trained = read_summary(run)["classes"]
    except (OSError, ValueError, KeyError) as error:
        raise CompetitionError(
            f"{run / 'summary.json'} does not tell the run's classes ({describe_error(error)}); "
            f"it is written with the first fold's answers: attach a run that got so far"
        ) from error
    if trained != list(competition.classes):
        raise CompetitionError(
            f"the run in {run} knows {len(trained)} classes ({', '.join(trained[:5])}…), the "
            f"competition has {len(competition.classes)} "
            f"({', '.join(competition.classes[:5])}…); attach the run that was trained for it"
        )


def load_trained(path: Path) -> keras.Model:
    """Loads a fold's model; raises CompetitionError if that fails."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        raise CompetitionError(
            f"{path} cannot be loaded ({describe_error(error)}); a model around a SavedModel needs "
            f"that module in the place where it was"
        ) from error
