"""Teacher: a finished run of the same images and folds labels test images

Its model of a fold answers, through many small changes of each image, what it never saw: the
images that validated it, which show how far it can be trusted, and the test part. What is found
is kept in the run folder, so that a run which goes on trains on the same labels.

Shapes: K folds, V views, N images out of fold, T test images, C classes.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.competition import Competition
from podium.config import Config
from podium.duplicates import Pairs
from podium.events import Reporter
from podium.fold_data import PseudoLabelled, TrainingSet
from podium.folds import find_folds, read_folds
from podium.infer import check_classes, find_trained_run, load_trained
from podium.model import open_session
from podium.pixels import Images, read_images
from podium.predict import predict_probs
from podium.pseudo import (
    FoldPoll,
    Poll,
    PseudoError,
    Selection,
    ban_copies,
    ban_groups,
    poll_views,
    select_labels,
)
from podium.pupil import RULE_RISK, Found, describe_found, describe_none, keep_found, recall_found
from podium.runtime import Runtime
from podium.views import Seen, draw_view

VIEWS_POLLED = 16


class Lesson(NamedTuple):
    """What a run has, to be taught with."""

    config: Config
    runtime: Runtime
    competition: Competition
    data: TrainingSet
    test: Images
    pairs: Pairs | None  # of nearly the same images, where they were looked for


def find_teacher(config: Config) -> Config:
    """The settings with the teacher's folder in pseudo.run, and its folds as folds.file.

    As they are without pseudo.run. Raises CompetitionError if there is no such run.
    """
    if config.pseudo.run is None:
        return config
    run = find_trained_run(config.pseudo.run, setting="pseudo.run")
    folds = replace(config.folds, file=config.folds.file or str(run))
    return replace(config, pseudo=replace(config.pseudo, run=str(run)), folds=folds)


def label_test_part(lesson: Lesson, report: Reporter) -> TrainingSet:
    """The training set with the labels of test images that each fold takes from the teacher.

    Writes pseudo.json, and pseudo.csv into the folder of each fold; reads these where the run goes
    on. Raises PseudoError if the task is another, or the teacher is not one of these folds.
    """
    config, folder = lesson.config, lesson.runtime.folder
    report.say(f"Pseudo-labels: the {config.pseudo.arm} arm")
    report.warn(f"pseudo.run is set: {RULE_RISK}")
    ids, classes = lesson.test.table["id"].tolist(), lesson.competition.classes
    labels = recall_found(folder, config.folds.count, ids, classes)
    if labels is None:
        check_teacher(lesson)
        polls = [poll_fold(lesson, fold, report) for fold in range(config.folds.count)]
        found = Found(config.pseudo, VIEWS_POLLED, classes, polls, select_all(lesson, polls))
        keep_found(found, ids, folder)
        labels = np.stack([one.labels for one in found.chosen])
        for line in describe_found(found):
            report.say(f"  {line}")
    if (labels < 0).all():
        most = int(lesson.data.images.table["label"].value_counts().max())
        report.warn(describe_none(config.pseudo, most))
    return lesson.data._replace(pseudo=PseudoLabelled(lesson.test, labels))


def check_teacher(lesson: Lesson) -> None:
    """Raises PseudoError unless the teacher's models can label for these folds."""
    config, run = lesson.config, Path(str(lesson.config.pseudo.run))
    if not lesson.competition.task.exclusive:
        raise PseudoError(
            "pseudo.run is set, but images of this competition may have several labels, and only "
            "one can be agreed on; unset pseudo.run"
        )
    check_classes(run, lesson.competition)
    ids, known = lesson.data.images.table["id"].tolist(), read_folds(str(run))
    folds = dict(zip(known["id"], known["fold"], strict=True))
    if [folds.get(image) for image in ids] != lesson.data.folds.tolist() or len(folds) != len(ids):
        raise PseudoError(
            f"pseudo.run is {run}, whose {find_folds(str(run)).name} deals {len(folds)} images "
            f"otherwise than this run its {len(ids)}, so that its models have seen what is to "
            f"validate; use the same images (data.*), and leave folds.file to pseudo.run"
        )
    lacking = [
        str(fold)
        for fold in range(config.folds.count)
        if not (run / f"fold{fold}" / "model.keras").is_file()
    ]
    if lacking:
        raise PseudoError(
            f"pseudo.run is {run}, which has no model of fold {', '.join(lacking)}; go on with "
            f"that run until all folds are trained (runtime.resume)"
        )


def poll_fold(lesson: Lesson, fold: int, report: Reporter) -> FoldPoll:
    """What the teacher's model of one fold says of that fold and of the test part."""
    config, runtime, data = lesson.config, lesson.runtime, lesson.data
    open_session(runtime.precision, len(runtime.devices))
    model = load_trained(Path(str(config.pseudo.run)) / f"fold{fold}" / "model.keras")
    rows = np.flatnonzero(data.folds == fold)

    def poll(images: Images, rows: NDArray[np.int64], part: str) -> Poll:
        if images.pixels.shape[1] != model.input_shape[1]:
            images = read_images(images.table, model.input_shape[1], part, config.pixels, report)
        views = (Seen(images.pixels, draw_view(at, flip=False)) for at in range(VIEWS_POLLED))
        size = config.pixels.batch_size
        return poll_views(np.stack([predict_probs(model, one, rows, size) for one in views]))

    truth = data.images.table["label"].to_numpy(np.int64)[rows]
    own = poll(data.images, rows, "training")
    return FoldPoll(own, truth, poll(lesson.test, np.arange(len(lesson.test.table)), "test"))


def select_all(lesson: Lesson, polls: list[FoldPoll]) -> list[Selection]:
    """The labels for each fold."""
    data, test, count = lesson.data, lesson.test, lesson.config.folds.count
    banned = ban_copies(lesson.pairs, data.folds, len(test.table), count)
    groups = find_test_groups(lesson)
    if groups is not None:
        given = data.images.table["group"].to_numpy(np.object_)
        banned |= ban_groups(given, data.folds, groups, count)
    classes, config = len(lesson.competition.classes), lesson.config.pseudo
    return [select_labels(polls, fold, banned[fold], classes, config) for fold in range(count)]


def find_test_groups(lesson: Lesson) -> NDArray[np.object_] | None:
    """The group of each test image, where the column that groups training images has it: [T]."""
    table, others = lesson.data.images.table, lesson.competition.others
    if "group" not in table or others is None:
        return None
    train, test = (one[~one.index.duplicated()] for one in others)
    for name in train.columns.intersection(test.columns):
        cells = train[name].reindex(table["id"].tolist()).fillna("")
        if (cells.to_numpy() == table["group"].to_numpy()).all():
            asked = test[name].reindex(lesson.test.table["id"].tolist()).fillna("")
            return asked.to_numpy(np.object_)
    return None
