"""Findings: what a run mixes up, and the images it got most wrong

Of the out-of-fold answers so far. The report shows them, and events tell whoever watches.
"""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.competition import Competition
from podium.events import Reporter
from podium.page import draw_thumbnail
from podium.questions import question_fields
from podium.record import RunRecord, read_run_record
from podium.tallies import find_named, tally_surprise

MOST_TOLD = 20  # pairs of classes, and weak classes, in an event
IMAGES_TOLD, IMAGE_QUALITY = 8, 60  # of JPEG: any 96 px then fit into an event's longest text


class Mix(NamedTuple):
    """Images of one class that were taken for another."""

    truth: int
    guess: int
    images: int


class Recall(NamedTuple):
    """How many of a class's images were recognised."""

    label: int
    images: int
    right: int


def count_mixes(run: RunRecord) -> list[Mix]:
    """The classes that are taken for one another, most images first; one label an image only."""
    if not run.task.exclusive or not len(run.targets):
        return []
    labels, answers = run.targets.argmax(axis=1), run.answers.argmax(axis=1)
    wrong = answers != labels
    pairs, counts = np.unique(
        np.stack([labels[wrong], answers[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    rows = np.column_stack([pairs, counts])[order].tolist()
    return [Mix(truth, guess, images) for truth, guess, images in rows]


def rank_recalls(run: RunRecord) -> list[Recall]:
    """Each class that has images, the weakest first."""
    found = find_named(run.task, run.answers)
    images = run.targets.sum(axis=0, dtype=np.int64)
    right = (run.targets * found).sum(axis=0, dtype=np.int64)
    present = np.flatnonzero(images)
    order = present[np.argsort(right[present] / images[present], kind="stable")]
    return [Recall(int(one), int(images[one]), int(right[one])) for one in order]


def rank_worst(run: RunRecord) -> NDArray[np.int64]:
    """Rows of the out-of-fold answers, the highest loss first."""
    losses = tally_surprise(run.task, run.targets, run.oof.probs).ravel()
    return np.argsort(-losses, kind="stable")


def tell_findings(folder: Path, competition: Competition, report: Reporter) -> None:
    """Emits what the run of a folder has found so far, for a page that is elsewhere."""
    run, classes = read_run_record(folder, competition), competition.classes
    wrong = (run.targets != find_named(run.task, run.answers)).any(axis=1)
    report.emit(
        "mistakes_counted",
        wrong=int(wrong.sum()),
        of=len(wrong),
        pairs=[(classes[a], classes[b], n) for a, b, n in count_mixes(run)[:MOST_TOLD]],
        weakest=[(classes[label], *counts) for label, *counts in rank_recalls(run)[:MOST_TOLD]],
    )
    for question in run.questions:
        report.emit("question_answered", **question_fields(question))
    tell_worst(run, competition, report)


def tell_worst(run: RunRecord, competition: Competition, report: Reporter) -> None:
    """Emits the images that were got most wrong, as small JPEGs."""
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    found, classes = find_named(run.task, run.answers), competition.classes
    for place, row in enumerate(rank_worst(run)[:IMAGES_TOLD]):
        image = draw_thumbnail(paths[str(run.oof.ids[row])])
        if image is None:
            continue
        guesses = np.flatnonzero(found[row])
        data = io.BytesIO()
        image.save(data, "JPEG", quality=IMAGE_QUALITY)
        report.emit(
            "image_shown",
            place=place,
            folds=len(run.part("folds")),
            id=run.oof.ids[row],
            truth=", ".join(classes[one] for one in np.flatnonzero(run.targets[row])),
            guess=", ".join(classes[one] for one in guesses),
            prob=float(run.oof.probs[row][guesses].max(initial=0.0)),
            jpeg=base64.b64encode(data.getvalue()).decode(),
        )
