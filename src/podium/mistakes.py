"""Mistakes: which classes a run mixes up, and the images it got most wrong

Looking at those is where the next idea comes from.
"""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from podium.competition import Competition
from podium.findings import count_mixes, rank_recalls, rank_worst
from podium.metrics import count_confusions
from podium.page import (
    format_figure,
    render_heatmap,
    render_section,
    render_table,
    render_thumbnail,
)
from podium.record import RunRecord
from podium.tallies import find_named

HEATMAP_CLASSES = 30  # more classes than this do not fit a screen
WORST_IMAGES, RECALL_ROWS, PAIRS, CLASSES_SHOWN = 24, 200, 12, 5


def render_confusion(run: RunRecord, classes: Sequence[str]) -> str:
    """The pairs of classes most often confused, and for few classes every count as a heat map."""
    if not run.task.exclusive or not len(run.targets):
        return ""
    mixes = count_mixes(run)
    wrong = sum(mix.images for mix in mixes)
    lines = [
        f"<li>true {classes[mix.truth]} → predicted {classes[mix.guess]}: "
        f"{mix.images} image{'s' if mix.images > 1 else ''}</li>"
        for mix in mixes[:PAIRS]
    ]
    words = f"<ul>{''.join(lines)}</ul>" if lines else "No mistakes."
    heat = ""
    if len(classes) <= HEATMAP_CLASSES:
        labels, answers = run.targets.argmax(axis=1), run.answers.argmax(axis=1)
        heat = render_heatmap(count_confusions(labels, answers, len(classes)), classes)
    hint = f"{wrong} of {len(run.targets)} images are wrong. "
    if heat:
        hint += "Rows: the truth; columns: the prediction. Blue: right. Orange: wrong."
    return render_section("Confusion", hint, f'<div class="pair">{heat}{words}</div>')


def render_recall(run: RunRecord, classes: Sequence[str]) -> str:
    """Of each class's images, the share that was recognised; the weakest classes first."""
    rows = []
    for label, images, right in rank_recalls(run)[:RECALL_ROWS]:
        share = format_figure(right / images, ".2%")
        bar = f'<span class="bar" style="--w:{right / images:.1%}">{share}</span>'
        rows.append([classes[label], str(images), str(right), bar])
    hint = "Weakest first: the share of a class's images that was recognised."
    table = render_table(["class", "images", "right", "recall"], rows, "last")
    return render_section("Recall by class", hint, table if rows else "")


def render_worst(run: RunRecord, competition: Competition, classes: Sequence[str]) -> str:
    """The images with the highest out-of-fold loss: wrong labels, odd images, hard cases."""
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    found = find_named(run.task, run.answers)
    cards = []
    for row in rank_worst(run)[:WORST_IMAGES]:
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
