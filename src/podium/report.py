"""Report: one page that shows the run

Everything worth a look in one file, report.html: how good the model is and how sure that figure
is, how each fold learned, which classes it mixes up, and the images it got most wrong, because
looking at those is where the next idea comes from. It shows half a run as well as a whole one.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from podium.competition import Competition
from podium.config import list_knobs
from podium.metrics import count_confusions, score_probs
from podium.page import (
    REPORT_CSS,
    format_figure,
    plot_curves,
    render_heatmap,
    render_list,
    render_section,
    render_table,
    render_thumbnail,
)
from podium.record import RunRecord, measure_folds, read_run_record
from podium.storage import write_whole

HEATMAP_CLASSES = 30  # more classes than this do not fit a screen
WORST_IMAGES, TABLE_ROWS, PAIRS = 24, 200, 12


def write_report(folder: Path, competition: Competition) -> Path:
    """Writes report.html for a whole or half-finished run folder, whole or not at all."""
    run = read_run_record(folder, competition)
    classes = [html.escape(str(name)) for name in competition.classes]
    body = [
        render_headline(run, competition),
        render_warnings(run),
        render_curves(run.curves),
        render_section("Folds", "Each fold scores images it never saw.", render_folds(run)),
        render_confusion(run, classes),
        render_recall(run, classes),
        render_worst(run, competition, classes),
        render_settings(run.settings),
        render_section("Versions", "", render_list(run.part("run").get("versions") or {})),
        render_section("What was understood of the files", "", render_list(competition.notes)),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Podium run</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{REPORT_CSS}</style>\n<main>\n{''.join(body)}</main></html>\n"
    )
    path = folder / "report.html"
    write_whole(path, page.encode(errors="replace"))
    return path


def render_headline(run: RunRecord, competition: Competition) -> str:
    """Title, state, and the figures that matter as tiles; a figure that is not known has none."""
    about, counts, seconds = run.part("run"), run.part("counts"), run.part("seconds")
    score = run.part("out_of_fold")
    if not score and len(run.labels):
        score = score_probs(run.labels, run.oof.probs)._asdict()
    scored, folds = len(measure_folds(run)), counts.get("folds", len(set(run.folds.values())))
    tests = f"{counts.get('test', len(competition.test))} test images"
    trained = f"training {format_figure(seconds['train'], 's')}" if "train" in seconds else ""
    machine = f"{about.get('devices', '')} × {about.get('accelerator', '')}".strip(" ×")
    tiles = [
        render_score_tile("out-of-fold accuracy", score),
        (format_figure(score.get("log_loss"), ".4f"), "out-of-fold log loss", "lower is better"),
        render_score_tile("test accuracy, one model", run.part("test_single")),
        render_score_tile("test accuracy, all averaged", run.part("test")),
        (counts.get("train", len(competition.train)), "training images", tests),
        (len(competition.classes), "classes", ""),
        (f"{scored} of {folds}" if folds else "–", "folds scored", ""),
        (format_figure(seconds.get("total"), "s"), "in all", trained),
        (run.settings.get("model.backbone", "–"), "backbone", ""),
        (about.get("backend", "–"), "Keras backend", machine),
    ]
    facts = {"started": about.get("started"), "source": str(about.get("source") or "")[:12]}
    facts["metric"] = run.summary.get("metric")
    line = " · ".join(f"{name} {html.escape(str(fact))}" for name, fact in facts.items() if fact)
    cells = "".join(
        f'<div class="tile"><b>{html.escape(str(figure))}</b>{name}<small>{detail}</small></div>'
        for figure, name, detail in tiles
        if figure != "–"
    )
    state = html.escape(str(about.get("state", "not finished")))
    return (
        f"<h1>Podium run <span>{state}</span></h1><p>{line}</p>\n"
        f'<div class="grid tiles">{cells}</div>\n'
    )


def render_score_tile(name: str, score: Mapping[str, Any]) -> tuple[str, str, str]:
    """Accuracy, its name, and how sure it is."""
    low, high = (format_figure(end, ".1%") for end in score.get("interval") or (None, None))
    images = f"{score['n']} images" if "n" in score else ""
    return (
        format_figure(score.get("accuracy"), ".2%"),
        name,
        f"95% interval {low} to {high}, {images}",
    )


def render_warnings(run: RunRecord) -> str:
    """What went wrong without ending the run, where nobody can overlook it."""
    lines = [str(line) for line in run.summary.get("warnings") or []]
    for part, ids in run.part("unreadable").items():
        shown = ", ".join(map(str, ids[:TABLE_ROWS])) + (" …" if len(ids) > TABLE_ROWS else "")
        lines += [f"{len(ids)} unreadable {part} images: {shown}"] if ids else []
    box = render_section("Warnings", "", render_list(lines))
    return box.replace("<section>", '<section class="warn">', 1)


def render_curves(curves: Mapping[int, pd.DataFrame]) -> str:
    """One chart for each fold, all on the same scales, so that folds can be compared."""
    if not curves:
        return ""
    values = pd.concat(curves.values()).replace([np.inf, -np.inf], np.nan)
    tops = [values[["train/loss", "valid/loss"]].max().max(), values["learning_rate"].max()]
    low = values[["train/accuracy", "valid/accuracy"]].min().min()
    loss, rate = (1.05 * top if top > 0 else 1.0 for top in tops)
    limits = ((0.0, loss), (low - 0.05 * (1 - low) if low < 1 else 0.9, 1.01), (0.0, rate * 1.1))
    charts = "".join(plot_curves(fold, history, limits) for fold, history in curves.items())
    return render_section(
        "Learning curves",
        "Dashed: training images, augmented. Solid: validation images. The dotted line is where "
        "the whole network joins the head. A widening gap is overfitting.",
        f'<div class="grid" style="--w:18.5rem">{charts}</div>',
    )


def render_folds(run: RunRecord) -> str:
    """Every fold's figures, and their mean ± standard deviation over the folds."""
    scores = measure_folds(run)
    rows = []
    for fold in sorted(scores.keys() | run.curves.keys()):
        score, history = scores.get(fold, {}), run.curves.get(fold)
        figures = [format_figure(score.get("n"), "d"), format_figure(score.get("accuracy"), ".2%")]
        figures += [format_figure(score.get("log_loss"), ".4f")]
        figures += ["–", "–"] if history is None else [str(len(history))]
        figures += [] if history is None else [format_figure(float(history["seconds"].sum()), "s")]
        rows.append([str(fold), *figures])
    if len(scores) > 1:
        table = pd.DataFrame(list(scores.values())).reindex(columns=["accuracy", "log_loss"])
        for name, row in (("mean", table.mean()), ("± sd", table.std(ddof=1))):
            share, loss = (
                format_figure(row["accuracy"], ".2%"),
                format_figure(row["log_loss"], ".4f"),
            )
            rows.append([f"<b>{name}</b>", "", f"<b>{share}</b>", f"<b>{loss}</b>", "", ""])
    head = ["fold", "images", "accuracy", "log loss", "epochs", "time"]
    return render_table(head, rows) if rows else ""


def render_confusion(run: RunRecord, classes: Sequence[str]) -> str:
    """The pairs of classes most often confused, and for few classes every count as a heat map."""
    predicted = run.oof.probs.argmax(axis=1)
    wrong = predicted != run.labels
    pairs, counts = np.unique(
        np.stack([run.labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    lines = [
        f"<li>true {classes[pairs[place][0]]} → predicted {classes[pairs[place][1]]}: "
        f"{counts[place]} image{'s' if counts[place] > 1 else ''}</li>"
        for place in np.argsort(-counts, kind="stable")[:PAIRS]
    ]
    words = f"<ul>{''.join(lines)}</ul>" if lines else "No mistakes."
    heat = ""
    if len(classes) <= HEATMAP_CLASSES:
        heat = render_heatmap(count_confusions(run.labels, predicted, len(classes)), classes)
    hint = f"{int(wrong.sum())} of {len(wrong)} images are wrong. "
    if heat:
        hint += "Rows: the truth; columns: the prediction. Blue: right. Orange: wrong."
    return (
        render_section("Confusion", hint, f'<div class="pair">{heat}{words}</div>')
        if len(wrong)
        else ""
    )


def render_recall(run: RunRecord, classes: Sequence[str]) -> str:
    """Of each class's images, the share that was recognised; the weakest classes first."""
    hits = run.oof.probs.argmax(axis=1) == run.labels
    images = np.bincount(run.labels, minlength=len(classes))
    right = np.bincount(run.labels[hits], minlength=len(classes))
    recall = right / np.maximum(images, 1)
    present = np.flatnonzero(images)
    order = present[np.argsort(recall[present], kind="stable")][:TABLE_ROWS]
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
    truth = run.oof.probs[np.arange(len(run.labels)), run.labels]
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    cards = []
    for row in np.argsort(truth, kind="stable")[:WORST_IMAGES]:
        image_id, guess = str(run.oof.ids[row]), int(run.oof.probs[row].argmax())
        sure = format_figure(float(run.oof.probs[row, guess]), ".2%")
        cards.append(
            f"<figure>{render_thumbnail(paths[image_id])}<figcaption>"
            f"true <b>{classes[run.labels[row]]}</b><br>predicted <b>{classes[guess]}</b> {sure}"
            f"<br><small>{html.escape(image_id)}</small></figcaption></figure>"
        )
    grid = f'<div class="grid" style="--w:7.2rem">{"".join(cards)}</div>' if cards else ""
    hint = "The highest losses. Look for wrong labels, odd crops, and what the classes share."
    return render_section("Worst images", hint, grid)


def render_settings(settings: Mapping[str, Any]) -> str:
    """Settings that differ from their default, then, folded away, the others."""
    known = {knob.name: knob for knob in list_knobs()}
    changed, usual = list[list[str]](), list[list[str]]()
    for name, value in settings.items():
        default = known[name].default if name in known else None
        cells = [
            html.escape("none" if cell is None else str(cell)) for cell in (name, value, default)
        ]
        cells[0] = f"<code>{cells[0]}</code>"
        (changed if value != default else usual).append(cells)
    head = ["setting", "value", "default"]
    table = render_table(head, changed, "words") if changed else ""
    if usual:
        more = render_table(head, usual, "words")
        table += (
            f"<details><summary>{len(usual)} settings at their default</summary>{more}</details>"
        )
    return render_section("Settings", "Changed from the default:" if changed else "", table)
