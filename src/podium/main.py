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

from podium.attempt import describe_error
from podium.augment import crop_margin
from podium.cache import PixelError
from podium.competition import Competition, read_competition
from podium.config import Config
from podium.curves import write_curves
from podium.decide import Decision
from podium.devices import DeviceError
from podium.events import Reporter
from podium.folds import FoldError, write_folds
from podium.handles import BackboneError
from podium.hosts import is_first_host, leave_hosts
from podium.infer import answer_with_run, find_trained_run, read_run_rule
from podium.inputs import CompetitionError, wait_for_inputs
from podium.knobs import list_settings
from podium.model import open_session
from podium.network import check_backbone
from podium.override import SettingsError
from podium.pixels import read_images
from podium.policies import settle_augmentation
from podium.predict import predict_images
from podium.predictions import Predictions
from podium.report import write_report
from podium.results import forget_results, write_answers, write_status, write_submission_of
from podium.runtime import (
    CONFIG,
    KAGGLE_WORKING,
    Runtime,
    describe_runtime,
    is_on_kaggle,
    open_runtime,
)
from podium.settings import SOURCE
from podium.split import split_images
from podium.summary import (
    decide_answers,
    describe_decision,
    format_score,
    summarise_run,
    summarise_scores,
    write_json,
)
from podium.task import Task
from podium.train import TrainingSet, train_fold
from podium.validate import SubmissionError
from podium.webhook import Watch
from podium.weights import prepare_backbone

# Errors whose message says what to do; the rest are bugs and keep their traceback.
EXPECTED_ERRORS = (
    BackboneError,
    CompetitionError,
    DeviceError,
    FoldError,
    PixelError,
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
        source=SOURCE,
        accelerator=runtime.accelerator,
        devices=len(runtime.devices),
        deadline=runtime.deadline,
        settings=list_settings(config),
    )
    try:
        run_stages(config, runtime, report, watch)
    except BaseException as error:
        code = end_failed(error, runtime.folder, report)
        if not isinstance(error, Exception):
            raise
        return code
    write_status(runtime.folder, "finished")
    return 0


def end_failed(error: BaseException, folder: Path, report: Reporter) -> int:
    """Makes what stopped a run its last event, and says it; returns the exit code.

    On Kaggle that is 0 as well, since Kaggle may drop what a run that ends otherwise has written;
    status.json tells the two apart.
    """
    reason = "".join(traceback.format_exception(error))
    report.emit("run_failed", error=type(error).__name__, reason=reason)
    write_status(folder, "failed", report.hide(f"{type(error).__name__}: {error}"))
    print(report.hide(describe_failure(error)), file=sys.stderr, flush=True)
    return 0 if is_on_kaggle() else 1


def describe_failure(error: BaseException) -> str:
    """The words of an error that says what to do, the traceback of any other."""
    if isinstance(error, EXPECTED_ERRORS):
        return f"Stopped: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def run_stages(config: Config, runtime: Runtime, report: Reporter, watch: Watch) -> None:
    """The competition; then training, or the answer of a run that was trained before."""
    try:
        forget_results(runtime.folder, config.predict.run, config.folds.file)
        write_status(runtime.folder, "running")
        wait_for_inputs(config.data, report)
    finally:  # the webhook's address may lie in an input that was mounted late
        watch.open()
    write_json(runtime.folder / "config.json", list_settings(config))
    open_session(runtime.precision, devices=1)
    check_backbone(config.model, config.pixels.image_size)
    competition = read_competition(config.data, config.runtime.seed)
    report.say("Competition\n" + "\n".join(f"  {note}" for note in competition.notes))
    if config.predict.run:
        infer(config, runtime, competition, report)
    else:
        train(config, runtime, competition, report)


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
    report.emit("run_finished", seconds=seconds, rows=len(competition.test))
    report.say(f"Submission  {runtime.folder / 'submission.csv'}")


def train(config: Config, runtime: Runtime, competition: Competition, report: Reporter) -> None:
    """Pixels and folds; then training, prediction, submission and report, fold by fold."""
    augment = settle_augmentation(
        config.augment, competition.classes, config.pixels.image_size, report
    )
    config = replace(config, augment=augment)
    report.say("Backbone")
    start = prepare_backbone(config.model, config.pixels.image_size, runtime.folder, report)

    report.say("Pixels")
    side = config.pixels.image_size + crop_margin(config.augment, config.pixels.image_size)
    images = read_images(competition.train, side, "training", config.pixels, report)
    test = read_images(competition.test, side, "test", config.pixels, report)

    report.say("Folds")
    folds, leaks = split_images(config, competition.others, images, test, report)
    write_folds(images.table, folds, runtime.folder / "folds.csv")

    report.say("Training: loss and accuracy, training → validation")
    oof, answers, task = list[Predictions](), list[Predictions](), competition.task
    predict = partial(predict_images, batch_size=config.pixels.batch_size, exclusive=task.exclusive)
    for fold in range(config.folds.count):
        open_session(runtime.precision, len(runtime.devices))
        data = TrainingSet(images, folds, task)
        model = train_fold(config, start, data, fold, runtime.folder / f"fold{fold}", report)
        oof.append(predict(model, images, folds == fold))
        answers.append(predict(model, test, None))
        del model  # the next one needs the room that it and its optimizer take on the device
        decision = decide_answers(task, images.table, oof)
        warnings = write_answers(competition, oof, answers, decision, runtime.folder)
        scores = summarise_scores(task, images, test, oof, answers, decision)
        report_fold(scores["folds"][-1], runtime.folder, report)
        if len(oof) == config.folds.count:
            say_decision(task, decision, warnings, report)
        state = "complete" if len(oof) == config.folds.count else "running"
        summary = summarise_run(config, runtime, competition, report, state) | scores
        summary["leaks"] = [leak._asdict() for leak in leaks]
        write_json(runtime.folder / "summary.json", summary)
        show_run(competition, runtime.folder, report)

    figures = {"rows": len(competition.test), **summary["out_of_fold"]}
    report.emit("run_finished", seconds=round(time.time() - runtime.started, 1), **figures)
    places = (runtime.folder / name for name in ("submission.csv", "report.html"))
    report.say("Submission  {}\nReport      {}".format(*places))


def show_run(competition: Competition, folder: Path, report: Reporter) -> None:
    """Writes the report as far as the run has got, so that a run that is cut off has one too."""
    try:
        write_report(folder, competition)
    except Exception as error:  # a page must not cost the folds to come, nor a finished run
        report.warn(f"the report could not be written ({describe_error(error)})")


def say_decision(task: Task, decision: Decision, warnings: list[str], report: Reporter) -> None:
    """Says how probabilities became answers, and what is odd about the submission."""
    if decision.comparison.difference:
        report.say(f"Answers\n  {describe_decision(task, decision)}")
    for warning in warnings:
        report.warn(warning)


def report_fold(score: dict[str, Any], folder: Path, report: Reporter) -> None:
    """Draws the curves and says how a fold went."""
    try:
        write_curves(folder)
    except Exception as error:  # a picture must not cost the folds to come
        report.warn(f"the curves could not be drawn ({describe_error(error)})")
    report.emit("fold_ended", **score)
    report.say(f"  fold {score['fold']}: {format_score(score)}; submission.csv is up to date")


if __name__ == "__main__":
    sys.exit(leave_hosts(main(CONFIG)))
