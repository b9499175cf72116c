"""Cross-validation: fold by fold, each trained on the others

After each fold there is a submission, of all models so far, and a report; the next fold only
makes them better. A fold that was done with before a run was killed is read, not trained again.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from podium.adoption import Plan, adopt_looks, look_at_own, open_viewer
from podium.attempt import describe_error
from podium.budget import Budget
from podium.checkpoint import forget_checkpoints
from podium.curves import write_curves
from podium.decide import Decision
from podium.events import Reporter, write_json
from podium.findings import tell_findings
from podium.hosts import ask_first_host
from podium.looks import count_looks, list_looks
from podium.model import open_session
from podium.planner import Planner
from podium.predict import predict_images
from podium.predictions import Predictions
from podium.questions import keep_questions
from podium.report import write_report
from podium.results import read_fold_answers, write_answers, write_fold_answers, write_submission_of
from podium.rules import plain_rule
from podium.stretch import Halt
from podium.summary import (
    ask_rule,
    decide_answers,
    describe_decision,
    format_score,
    summarise_run,
    summarise_scores,
)
from podium.task import Task
from podium.train import Session, Trained, train_fold


class Shown(NamedTuple):
    """The results so far, and what is to be said of them when they are the last."""

    summary: dict[str, Any]
    decision: Decision
    warnings: list[str]  # of the submission


def cross_validate(plan: Plan, report: Reporter, halt: Halt) -> dict[str, Any]:
    """Trains and answers as many folds as fit before the deadline; returns the summary.

    Told to stop at once, or to end after the epoch in hand, it leaves a checkpoint and, if there is
    none yet, a submission.
    """
    config, runtime, count = plan.config, plan.runtime, plan.config.folds.count
    planner = Planner(Budget(runtime.deadline), count, count_batches(plan), report)
    session = Session(runtime.folder, len(runtime.devices), report, planner, halt)
    viewer = open_viewer(plan, session)
    oof, answers, shown = list[Predictions](), list[Predictions](), None
    for fold in range(count):
        pair, trained = recall_fold(runtime.folder / f"fold{fold}"), None
        if pair is None and (fold == 0 or has_room(fold, count, session)):
            open_session(runtime.precision, len(runtime.devices))
            trained = train_fold(config, plan.start, plan.data, fold, session)
            pair = answer_fold(plan, trained, fold, report)
        if pair is None:
            break
        oof.append(pair[0])
        answers.append(pair[1])
        shown = show_results(plan, oof, answers, planner, report)
        report_fold(shown.summary["folds"][-1], runtime.folder, report)
        if trained:
            viewer.batch_size = config.pixels.batch_size // trained.parts
            look_at_own(plan, trained.model, fold, viewer, report)
        planner.end_fold()
    if shown is None or halt.at_once() or (len(oof) < count and ask_first_host(halt.soon())):
        return shown.summary if shown else {}
    adopted = adopt_looks(plan, oof, answers, viewer, report)
    if adopted:
        shown = show_results(plan, adopted.oof, adopted.answers, planner, report, adopted.fields)
    elif list_looks(config.predict):
        show_summary(plan, shown.summary, report)  # and what was said since
    if len(oof) == count:
        say_decision(plan.competition.task, shown.decision, shown.warnings, report)
    return shown.summary


def recall_fold(folder: Path) -> tuple[Predictions, Predictions] | None:
    """The answers of a fold that was done with, or None; it needs no checkpoint any more."""
    pair = read_fold_answers(folder)
    if pair is not None:
        forget_checkpoints(folder)
    return pair


def has_room(fold: int, count: int, session: Session) -> bool:
    """May another fold be begun, where those before it have answered?"""
    if ask_first_host(session.halt.soon()):
        return False
    fits = session.planner.fits_another()
    if not fits:
        session.report.warn(
            f"there is no time for more than {fold} of {count} folds; a run that goes on with this "
            f"one trains the rest"
        )
    return fits


def count_batches(plan: Plan) -> tuple[int, int]:
    """Batches of a validation, and of all that a fold answers, its looks at its own part too."""
    size, count = plan.config.pixels.batch_size, plan.config.folds.count
    checked = -(-len(plan.data.images.table) // (count * size))
    looks = 1 + math.ceil(count_looks(plan.config.predict))
    return checked, looks * checked + -(-len(plan.test.table) // size)


def answer_fold(
    plan: Plan, trained: Trained, fold: int, report: Reporter
) -> tuple[Predictions, Predictions] | None:
    """What a fold's model answers to its own part and to the test part, kept in its folder.

    A model that was stopped answers the test part alone, and only where nothing else has.
    """
    config, task, folder = plan.config, plan.competition.task, plan.runtime.folder
    size = config.pixels.batch_size // trained.parts
    predict = partial(predict_images, batch_size=size, exclusive=task.exclusive)
    if not trained.complete:
        if fold == 0:
            answers = predict(trained.model, plan.test, None)
            write_submission_of(plan.competition, answers, plain_rule(task), folder)
        return None
    own = predict(trained.model, plan.data.images, plan.data.folds == fold)
    pair = own, predict(trained.model, plan.test, None)
    keep_answers(folder / f"fold{fold}", pair, report)
    return pair


def keep_answers(folder: Path, pair: tuple[Predictions, Predictions], report: Reporter) -> None:
    """Writes what a fold answers, after which it needs no checkpoint; on a full disk before it."""
    try:
        write_fold_answers(folder, *pair)
    except OSError as error:
        report.warn(
            f"{folder} has no room for its answers ({error.strerror}); its checkpoints make some"
        )
        forget_checkpoints(folder)
        write_fold_answers(folder, *pair)
    forget_checkpoints(folder)


def show_results(
    plan: Plan,
    oof: list[Predictions],
    answers: list[Predictions],
    planner: Planner,
    report: Reporter,
    views: dict[str, Any] | None = None,
) -> Shown:
    """Scores the folds so far, writes the submission of their average, and shows both.

    `views` says by which looks they have answered, if not by the images as they are.
    """
    config, competition, folder = plan.config, plan.competition, plan.runtime.folder
    task, images = competition.task, plan.data.images
    decision = decide_answers(task, images.table, oof)
    warnings = write_answers(competition, oof, answers, decision, folder)
    scores = summarise_scores(task, images, plan.test, oof, answers, decision)
    state = "complete" if len(oof) == config.folds.count else "running"
    summary = summarise_run(config, plan.runtime, competition, report, state) | scores
    summary["plan"] = planner.plans
    summary["leaks"] = [leak._asdict() for leak in plan.leaks]
    summary["views"] = views
    keep_questions(folder, [ask_rule(task, decision)])
    show_summary(plan, summary, report)
    return Shown(summary, decision, warnings)


def show_summary(plan: Plan, summary: dict[str, Any], report: Reporter) -> None:
    """Writes summary and report as far as the run has got: one that is cut off has them too."""
    folder, competition = plan.runtime.folder, plan.competition
    write_json(folder / "summary.json", summary)
    try:
        write_report(folder, competition)
    except Exception as error:  # a page must not cost the folds to come, nor a finished run
        report.warn(f"the report could not be written ({describe_error(error)})")
    try:
        tell_findings(folder, competition, report)
    except Exception as error:  # nor must a page that is elsewhere
        report.warn(f"what was found could not be told ({describe_error(error)})")


def say_decision(task: Task, decision: Decision, warnings: list[str], report: Reporter) -> None:
    """Says how probabilities became answers, and what is odd about the submission."""
    if decision.comparison.difference:
        report.say(f"Answers\n  {describe_decision(task, decision)}")
    for warning in warnings:
        report.warn(warning)


def report_fold(score: dict[str, Any], folder: Path, report: Reporter) -> None:
    """Draws the curves and says how a fold went."""
    try:
        write_curves(folder, score["metric"])
    except Exception as error:  # a picture must not cost the folds to come
        report.warn(f"the curves could not be drawn ({describe_error(error)})")
    report.emit("fold_ended", **score)
    report.say(f"  fold {score['fold']}: {format_score(score)}; submission.csv is up to date")
