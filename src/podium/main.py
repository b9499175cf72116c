"""The run: the stages in order"""

import sys
import time
import traceback
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from podium.adoption import Plan
from podium.augment import crop_margin
from podium.cache import PixelError
from podium.checkpoint import CheckpointError
from podium.competition import Competition, read_competition
from podium.config import Config
from podium.crossval import cross_validate
from podium.devices import DeviceError
from podium.epochs import find_size
from podium.events import Reporter, write_json
from podium.fold_data import TrainingSet
from podium.folds import FoldError, write_folds
from podium.handles import BackboneError
from podium.hosts import is_first_host, leave_hosts
from podium.infer import answer_with_run, find_trained_run, read_run_rule
from podium.inputs import CompetitionError, wait_for_inputs
from podium.knobs import list_settings
from podium.looks import list_looks
from podium.model import open_session
from podium.network import check_backbone
from podium.override import SettingsError
from podium.pixels import read_images
from podium.policies import settle_augmentation
from podium.pseudo import PseudoError
from podium.recipe import describe_recipe, settle_recipe
from podium.results import describe_files, forget_results, write_status, write_submission_of
from podium.resume import (
    ResumeError,
    adopt_run,
    check_same_run,
    describe_run,
    find_unfinished,
    read_run,
    write_run,
)
from podium.runtime import (
    CONFIG,
    KAGGLE_WORKING,
    Runtime,
    describe_runtime,
    is_on_kaggle,
    open_runtime,
)
from podium.setbacks import DivergedError, OutOfMemoryError
from podium.settings import SOURCE
from podium.split import split_images
from podium.stretch import Halt
from podium.summary import summarise_run
from podium.teacher import Lesson, find_teacher, label_test_part
from podium.validate import SubmissionError
from podium.webhook import Watch
from podium.weights import prepare_backbone

# Errors whose message says what to do; the rest are bugs and keep their traceback.
EXPECTED_ERRORS = (
    BackboneError,
    CheckpointError,
    CompetitionError,
    DeviceError,
    DivergedError,
    FoldError,
    OutOfMemoryError,
    PixelError,
    PseudoError,
    ResumeError,
    SettingsError,
    SubmissionError,
)


def main(config: Config | SettingsError) -> int:
    """Runs Podium with the given settings; returns the exit code, 0 if all went well."""
    started = time.time()
    try:
        if isinstance(config, SettingsError):
            raise config
        runtime = open_runtime(config, keras.backend.backend(), started)
        report = Reporter(runtime.folder, leader=is_first_host(runtime.backend))
    except Exception as error:
        return end_early(error)
    report.say(f"Podium, built from {SOURCE[:12]}\n{describe_runtime(runtime)}")
    stopped = partial(write_status, runtime.folder, "stopped", "ended from outside")
    with closing(Watch(report, stopped)) as watch:
        return run_reported(config, runtime, report, watch)


def end_early(error: Exception) -> int:
    """Tells what stopped a run that had no folder yet: on Kaggle as of any run; a line at home."""
    if not is_on_kaggle():
        print(describe_failure(error), file=sys.stderr)
        return 1
    report = Reporter(KAGGLE_WORKING)
    with closing(Watch(report)) as watch:
        watch.open()
        return end_failed(error, KAGGLE_WORKING, report)


def run_reported(config: Config, runtime: Runtime, report: Reporter, watch: Watch) -> int:
    """Runs the stages between a first and a last event; returns the exit code."""
    report.emit(
        "run_started",
        folder=runtime.folder.name,
        source=SOURCE,
        accelerator=runtime.accelerator,
        devices=len(runtime.devices),
        deadline=runtime.deadline,
        settings=list_settings(config),
    )
    try:
        run_stages(config, runtime, report, watch)
    except BaseException as error:
        code = end_failed(error, runtime.folder, report, config.runtime.failure_exit)
        if not isinstance(error, Exception):
            raise
        return code
    if watch.is_asked():
        watch.leave()
        return 128 + watch.asked
    if report.last != "run_stopped":
        write_status(runtime.folder, "finished")
    return 0


def end_stopped(command: str, folder: Path, report: Reporter) -> None:
    """Says that a command has ended the run, which another session may go on with."""
    report.say(f"Stopped as asked; {folder / 'submission.csv'} is of what was trained till then")
    report.emit("files_listed", **describe_files(folder))
    report.emit("run_stopped", signal=None, command=command)
    write_status(folder, "stopped", "by whoever watches, after an epoch")


def end_failed(
    error: BaseException, folder: Path, report: Reporter, failure_exit: str = "auto"
) -> int:
    """Makes what stopped a run its last event, and says it; returns the exit code.

    On Kaggle that is 0 as well, if nothing else is set, since Kaggle may drop what a run that ends
    otherwise has written; status.json tells the two apart.
    """
    reason = "".join(traceback.format_exception(error))
    report.emit("run_failed", error=type(error).__name__, reason=reason)
    write_status(folder, "failed", report.hide(f"{type(error).__name__}: {error}"))
    print(report.hide(describe_failure(error)), file=sys.stderr, flush=True)
    zero = is_on_kaggle() if failure_exit == "auto" else failure_exit == "zero"
    return 0 if zero else 1


def describe_failure(error: BaseException) -> str:
    """The words of an error that says what to do, the traceback of any other."""
    if isinstance(error, EXPECTED_ERRORS):
        return f"Stopped: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def run_stages(config: Config, runtime: Runtime, report: Reporter, watch: Watch) -> None:
    """The competition; then training, or the answer of a run that was trained before."""
    try:
        unfinished = find_unfinished(config, runtime.folder)
        if unfinished != runtime.folder:
            forget_results(runtime.folder, config)
        write_status(runtime.folder, "running")
        wait_for_inputs(config.data, report)
    finally:  # the webhook's address may lie in an input that was mounted late
        watch.open()
    write_json(runtime.folder / "config.json", list_settings(config))
    list_looks(config.predict)  # raises if a view is none, before images are read
    open_session(runtime.precision, devices=1)
    check_backbone(config.model, find_size(config, 0.0))  # the smallest that it will see
    competition = read_competition(config.data, config.runtime.seed)
    report.say("Competition\n" + "\n".join(f"  {note}" for note in competition.notes))
    if config.predict.run:
        infer(config, runtime, competition, report)
        return
    config = find_teacher(config)
    go_on(unfinished, describe_run(config, runtime, competition), runtime.folder, report)
    if unfinished and (runtime.folder / "folds.csv").is_file():
        # Not dealt again: a library that reads images otherwise might find other copies.
        folds = replace(config.folds, file=str(runtime.folder / "folds.csv"))
        config = replace(config, folds=folds)
    train(config, runtime, competition, report, watch)


def go_on(
    unfinished: Path | None, description: dict[str, Any], folder: Path, report: Reporter
) -> None:
    """Takes over what an unfinished run has learned, if there is one, and it is the same run."""
    if unfinished:
        notes = check_same_run(read_run(unfinished), description)
        adopt_run(unfinished, folder)
        report.emit("run_resumed", folder=str(unfinished))
        report.say(f"Resume\n  the run in {unfinished} goes on")
        for note in notes:
            report.warn(note)
    write_run(description, folder)


def infer(config: Config, runtime: Runtime, competition: Competition, report: Reporter) -> None:
    """Answers with the models of an earlier run."""
    run = find_trained_run(config.predict.run or "attached")
    report.say(f"Inference\n  models of {run}")
    answers = answer_with_run(config, run, competition, runtime, report)
    rule = read_run_rule(run, competition.task)
    for warning in write_submission_of(competition, answers, rule, runtime.folder):
        report.warn(warning)
    summary = summarise_run(config, runtime, competition, report, "complete")
    write_json(runtime.folder / "summary.json", summary)
    seconds = round(time.time() - runtime.started, 1)
    report.emit("files_listed", **describe_files(runtime.folder))
    report.say(f"Submission  {runtime.folder / 'submission.csv'}")
    report.emit("run_finished", seconds=seconds, rows=len(competition.test))


def train(
    config: Config, runtime: Runtime, competition: Competition, report: Reporter, watch: Watch
) -> None:
    """Pixels and folds; then training, prediction, submission and report, fold by fold."""
    augment = settle_augmentation(
        config.augment, competition.classes, config.pixels.image_size, report
    )
    config = replace(config, augment=augment)
    report.say("Backbone")
    start = prepare_backbone(config.model, config.pixels.image_size, runtime.folder, report)
    family, task = start.backbone.family, competition.task
    config = settle_recipe(config, family, task.metric, exclusive=task.exclusive)
    report.say(f"  recipe: {describe_recipe(config, family)}")

    report.say("Pixels")
    side = config.pixels.image_size + crop_margin(config.augment, config.pixels.image_size)
    images = read_images(competition.train, side, "training", config.pixels, report)
    test = read_images(competition.test, side, "test", config.pixels, report)

    report.say("Folds")
    folds, leaks, pairs = split_images(config, competition.others, images, test, report)
    write_folds(images.table, folds, runtime.folder / "folds.csv")
    data = TrainingSet(images, folds, competition.task)
    if config.pseudo.run:
        data = label_test_part(Lesson(config, runtime, competition, data, test, pairs), report)

    report.say("Training: loss and accuracy, training → validation")
    plan = Plan(config, runtime, competition, start, data, test, leaks)
    watch.patient = True
    summary = cross_validate(plan, report, Halt(watch.is_asked, watch.is_ending))
    if watch.is_asked():
        return
    if watch.commands.stop and summary.get("run", {}).get("state") != "complete":
        end_stopped(watch.commands.stop, runtime.folder, report)
        return
    report.emit("files_listed", **describe_files(runtime.folder))
    figures = {"rows": len(competition.test), **summary["out_of_fold"]}
    places = (runtime.folder / name for name in ("submission.csv", "report.html"))
    report.say("Submission  {}\nReport      {}".format(*places))
    report.emit("run_finished", seconds=round(time.time() - runtime.started, 1), **figures)


if __name__ == "__main__":
    sys.exit(leave_hosts(main(CONFIG)))
