"""Adoption: several views of the test part, where they are shown to help

Each fold's model sees its own part in all ways that are asked for, which costs little, and what
it says of them is kept. The test part it sees only in those that all folds together show to gain,
when there is a submission; that one stands if time, models or room are missing.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.attempt import describe_error
from podium.competition import Competition
from podium.config import Config
from podium.events import Reporter
from podium.fold_data import TrainingSet
from podium.hosts import ask_first_host
from podium.infer import load_trained
from podium.inputs import CompetitionError
from podium.leaks import Leak
from podium.looks import (
    ADAPTIVE,
    Looks,
    NoTimeError,
    Use,
    Viewer,
    join_looks,
    list_looks,
    read_looks,
    use_fields,
    write_looks,
)
from podium.model import open_session
from podium.network import Start
from podium.pixels import Images
from podium.predictions import Predictions
from podium.questions import keep_questions
from podium.results import write_undecided
from podium.runtime import Runtime
from podium.summary import find_targets
from podium.train import Session
from podium.tta import Judgement, judge_looks, withdraw
from podium.views import IDENTITY

OWN_FILE, TEST_FILE = "views.npz", "test-views.npz"


class Plan(NamedTuple):
    """What all folds of a run have in common."""

    config: Config
    runtime: Runtime
    competition: Competition
    start: Start
    data: TrainingSet
    test: Images
    leaks: list[Leak]


class Part(NamedTuple):
    """Images that a fold's model looks at, how, and the file that keeps it."""

    file: str
    names: tuple[str, ...]
    images: Images
    chosen: NDArray[np.bool_] | None  # None is all

    @property
    def ids(self) -> NDArray[np.str_]:
        """Of the images: [N]."""
        ids: NDArray[np.str_] = self.images.table["id"].to_numpy(str)
        return ids if self.chosen is None else ids[self.chosen]


class Adopted(NamedTuple):
    """Each fold's answers, own part and test part, by the looks that are used."""

    oof: list[Predictions]
    answers: list[Predictions]
    fields: dict[str, Any]  # for the summary, by which a later session answers likewise


def open_viewer(plan: Plan, session: Session) -> Viewer:
    """Who looks, until time is short or the run is asked to end."""

    def goes_on(seconds: float) -> bool:
        return bool(ask_first_host(session.planner.affords(seconds) and not session.halt.soon()))

    return Viewer(
        plan.config.pixels.batch_size,
        goes_on,
        session.planner.now,
        exclusive=plan.competition.task.exclusive,
        flip=plan.config.augment.flip == "yes",
    )


def find_own(plan: Plan, fold: int) -> Part:
    """A fold's own part, which judges the looks that are asked for."""
    names = list_looks(plan.config.predict)
    return Part(OWN_FILE, names, plan.data.images, plan.data.folds == fold)


def look_at_own(
    plan: Plan, model: keras.Model, fold: int, viewer: Viewer, report: Reporter
) -> None:
    """Has a fold's model look at its own part while it is at hand.

    What there is no time for is left to `adopt_looks`, or to a run that goes on with this one.
    """
    part = find_own(plan, fold)
    if part.names:
        with suppress(NoTimeError):
            viewer.check(len(part.ids) * len(part.names))
            look(plan, fold, part, viewer, report, model)


def look(
    plan: Plan,
    fold: int,
    part: Part,
    viewer: Viewer,
    report: Reporter,
    model: keras.Model | None = None,
) -> Looks:
    """What a fold's model says of a part; read where it was kept, else asked and kept.

    Raises NoTimeError, or CompetitionError if the model is needed and cannot be loaded.
    """
    folder = plan.runtime.folder / f"fold{fold}"
    kept = read_looks(folder / part.file, part.names, part.ids)
    if kept is not None:
        viewer.pace = float((kept.seconds / kept.taken)[-1])
        return kept
    if model is None:
        open_session(plan.runtime.precision, len(plan.runtime.devices))
        model = load_trained(folder / "model.keras")
    looks = viewer.look(model, part.images, part.chosen, part.names)
    try:
        write_looks(looks, folder / part.file)
    except OSError as error:
        report.warn(f"{folder / part.file} cannot be written ({error.strerror}); nothing is lost")
    return looks


def adopt_looks(
    plan: Plan,
    oof: Sequence[Predictions],
    answers: Sequence[Predictions],
    viewer: Viewer,
    report: Reporter,
) -> Adopted | None:
    """Judges the looks on all folds; their answers where they are shown to gain, else None.

    Keeps the questions, and says what the evidence says. What is missing is warned of.
    """
    if not list_looks(plan.config.predict):
        return None
    if len(oof) < 2:
        report.say("Test-time augmentation is not tried: it is judged on two folds or more")
        return None
    try:
        own = [look(plan, fold, find_own(plan, fold), viewer, report) for fold in range(len(oof))]
    except (NoTimeError, CompetitionError) as error:
        report.warn(f"test-time augmentation is not tried: {error}")
        return None
    verdict, task = judge_own(plan, own), plan.competition.task
    use = find_use(verdict, own, viewer)
    test, why = list[Looks | None](), ""
    try:
        test = list(look_at_test(plan, len(oof), use, viewer, report))
    except (NoTimeError, CompetitionError) as error:
        why = str(error)
        report.warn(f"views are shown to help, and are not used: {why}")
    keep_verdict(plan, verdict, why, report)
    if any(name.startswith(ADAPTIVE) for name in verdict.names):
        list_undecided(plan, own, test, report)
    if why or use is None:
        return None
    ends = np.cumsum([len(one.ids) for one in own])[:-1]
    nested = np.split(verdict.choice.probs, ends)
    return Adopted(
        [Predictions(one.ids, probs) for one, probs in zip(own, nested, strict=True)],
        [
            use.answer(plain, looks, exclusive=task.exclusive)
            for plain, looks in zip(answers, test, strict=True)
        ],
        use_fields(use),
    )


def list_undecided(
    plan: Plan, own: Sequence[Looks], test: Sequence[Looks | None], report: Reporter
) -> None:
    """Lists the images of both parts that stayed open after the most views."""
    parts = [("training", one) for one in own] + [("test", one) for one in test if one]
    undecided = [(part, one.ids[one.undecided]) for part, one in parts]
    write_undecided(undecided, plan.runtime.folder, report)


def judge_own(plan: Plan, own: Sequence[Looks]) -> Judgement:
    """What the folds' looks at their own parts say, all together."""
    looks, task = join_looks(own), plan.competition.task
    folds = np.repeat(np.arange(len(own)), [len(one.ids) for one in own])
    return judge_looks(task, find_targets(task, plan.data.images.table, looks.ids), looks, folds)


def find_use(verdict: Judgement, own: Sequence[Looks], viewer: Viewer) -> Use | None:
    """The looks that are used; None where that is the image as it is, and nothing else is done."""
    blend = verdict.choice.blend
    counted = [place for place, weight in enumerate(blend.weights) if weight]
    further = [place for place in counted if verdict.names[place] != IDENTITY.name]
    views = float(join_looks(own).taken[further].sum())
    blend = blend._replace(weights=tuple(blend.weights[place] for place in counted))
    use = Use(tuple(verdict.names[place] for place in counted), blend, views, viewer.flip)
    return use if further or blend.power != 1 else None


def look_at_test(
    plan: Plan, folds: int, use: Use | None, viewer: Viewer, report: Reporter
) -> Iterator[Looks | None]:
    """Each fold's looks at the test part beside the image as it is; None where none are used.

    Raises NoTimeError before the first look if there is no time for all, and CompetitionError.
    """
    if use is None or not use.extra:
        yield from [None] * folds
        return
    part = Part(TEST_FILE, use.extra, plan.test, None)
    for fold in range(folds):
        viewer.check((folds - fold) * len(part.ids) * use.views)
        yield look(plan, fold, part, viewer, report)


def keep_verdict(plan: Plan, verdict: Judgement, why: str, report: Reporter) -> None:
    """Keeps the questions and says their answers; `why` is the reason not to do as they say."""
    questions = [withdraw(one, why) if why else one for one in verdict.questions]
    report.say("Test-time augmentation")
    for question in questions:
        report.say(f"  {question.asks} {question.answer}")
        for note in question.notes:
            report.say(f"  {note}")
    try:
        keep_questions(plan.runtime.folder, questions)
    except (OSError, ValueError) as error:
        report.warn(f"decisions.json cannot be kept ({describe_error(error)})")
