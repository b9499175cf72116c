"""Mistakes: which classes a run mixes up, and the images it got most wrong

Looking at those is where the next idea comes from.
"""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from podium.competition import Competition
from podium.metrics import count_confusions
from podium.page import (
    format_figure,
    render_heatmap,
    render_section,
    render_table,
    render_thumbnail,
)
from podium.record import RunRecord
from podium.tallies import find_named, tally_surprise

HEATMAP_CLASSES = 30  # more classes than this do not fit a screen
WORST_IMAGES, RECALL_ROWS, PAIRS, CLASSES_SHOWN = 24, 200, 12, 5


def render_confusion(run: RunRecord, classes: Sequence[str]) -> str:
    """The pairs of classes most often confused, and for few classes every count as a heat map."""
    if not run.task.exclusive or not len(run.targets):
        return ""
    labels, predicted = run.targets.argmax(axis=1), run.answers.argmax(axis=1)
    wrong = predicted != labels
    pairs, counts = np.unique(
        np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    lines = [
        f"<li>true {classes[pairs[place][0]]} → predicted {classes[pairs[place][1]]}: "
        f"{counts[place]} image{'s' if counts[place] > 1 else ''}</li>"
        for place in np.argsort(-counts, kind="stable")[:PAIRS]
    ]
    words = f"<ul>{''.join(lines)}</ul>" if lines else "No mistakes."
    heat = ""
    if len(classes) <= HEATMAP_CLASSES:
        heat = render_heatmap(count_confusions(labels, predicted, len(classes)), classes)
    hint = f"{int(wrong.sum())} of {len(wrong)} images are wrong. "
    if heat:
        hint += "Rows: the truth; columns: the prediction. Blue: right. Orange: wrong."
    return render_section("Confusion", hint, f'<div class="pair">{heat}{words}</div>')


def render_recall(run: RunRecord, classes: Sequence[str]) -> str:
    """Of each class's images, the share that was recognised; the weakest classes first."""
    found = find_named(run.task, run.answers)
    images = run.targets.sum(axis=0, dtype=np.int64)
    right = (run.targets * found).sum(axis=0, dtype=np.int64)
    recall = right / np.maximum(images, 1)
    present = np.flatnonzero(images)
    order = present[np.argsort(recall[present], kind="stable")][:RECALL_ROWS]
    rows = []
    for label in order:
        share = format_figure(float(recall[label]), ".2%")
        bar = f'<span class="bar" style="--w:{recall[label]:.1%}">{share}</span>'
        rows.append([classes[label], str(images[label]), str(right[label]), bar])
    hint = "Weakest first: the share of a class's images that was recognised."
    table = render_table(["class", "images", "right", "recall"], rows, "last")
    return render_section("Recall by class", hint, table if rows else "")


def render_worst(run: RunRecord, competition: Competition, classes: Sequence[str]) -> str:
    """The images with the highest out-of-fold loss: wrong labels, odd images, hard cases."""
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    losses = tally_surprise(run.task, run.targets, run.oof.probs).ravel()
    found = find_named(run.task, run.answers)
    cards = []
    for row in np.argsort(-losses, kind="stable")[:WORST_IMAGES]:
        image_id, probs = str(run.oof.ids[row]), run.oof.probs[row]
        truth = name_classes(run.targets[row], classes)
        guess = name_classes(found[row], classes, probs)
        cards.append(
            f"<figure>{render_thumbnail(paths[image_id])}<figcaption>"
            f"true {truth}<br>predicted {guess}"
            f"<br><small>{html.escape(image_id)}</small></figcaption></figure>"
        )
    grid = f'<div class="grid" style="--w:7.2rem">{"".join(cards)}</div>' if cards else ""
    hint = "The highest losses. Look for wrong labels, odd crops, and what the classes share."
    return render_section("Worst images", hint, grid)


def name_classes(
    chosen: NDArray[np.uint8], classes: Sequence[str], probs: NDArray[np.float32] | None = None
) -> str:
    """The chosen classes of one image, a few of them, each with its probability if given."""
    places = np.flatnonzero(chosen)
    sure = {} if probs is None else {place: f" {probs[place]:.2%}" for place in places}
    names = [f"<b>{classes[place]}</b>{sure.get(place, '')}" for place in places[:CLASSES_SHOWN]]
    more = [] if len(places) <= CLASSES_SHOWN else ["…"]
    return ", ".join([*names, *more]) or "nothing"
