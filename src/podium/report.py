"""Report: one page that shows the run

Everything worth a look in one file, report.html: how good the model is and how sure that figure
is, how each fold learned, which classes it mixes up, and the images it got most wrong, because
looking at those is where the next idea comes from. It shows half a run as well as a whole one.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from podium.competition import Competition
from podium.knobs import list_knobs
from podium.metrics import METRICS
from podium.mistakes import render_confusion, render_recall, render_worst
from podium.page import (
    REPORT_CSS,
    format_figure,
    render_list,
    render_section,
    render_table,
)
from podium.panels import render_curves
from podium.proofs import PROOF_CSS, render_evidence
from podium.questions import Question
from podium.record import RunRecord, measure_folds, read_run_record, score_record
from podium.storage import write_whole

IDS_SHOWN = 200
TRUTH_COLUMNS = ("moving", "anew", "augmented", "training", "lag", "shift", "gap", "± se", "kept")


def write_report(
    folder: Path, competition: Competition, questions: Sequence[Question] = ()
) -> Path:
    """Writes report.html for a whole or half-finished run folder, whole or not at all.

    Questions that other folders answered are shown behind the run's own.
    """
    run = read_run_record(folder, competition)
    classes = [html.escape(str(name)) for name in competition.classes]
    body = [
        render_headline(run, competition),
        render_warnings(run),
        render_evidence([*run.questions, *questions]),
        render_lines(run, "plan", "Plan", "What fits before the deadline."),
        render_curves(run.curves, run.task.metric),
        render_truths(run.truths),
        render_section("Folds", "Each fold scores images it never saw.", render_folds(run)),
        render_leaks(run),
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
        f"<style>{REPORT_CSS}{PROOF_CSS}</style>\n<main>\n{''.join(body)}</main></html>\n"
    )
    path = folder / "report.html"
    write_whole(path, page.encode(errors="replace"))
    return path


def render_headline(run: RunRecord, competition: Competition) -> str:
    """Title, state, and the figures that matter as tiles; a figure that is not known has none."""
    about, counts, seconds = run.part("run"), run.part("counts"), run.part("seconds")
    score = run.part("out_of_fold")
    if not score and len(run.targets):
        score = score_record(run)._asdict()
    metric = METRICS[competition.task.metric].title
    scored, folds = len(measure_folds(run)), counts.get("folds", len(set(run.folds.values())))
    tests = f"{counts.get('test', len(competition.test))} test images"
    trained = f"training {format_figure(seconds['train'], 's')}" if "train" in seconds else ""
    machine = f"{about.get('devices', '')} × {about.get('accelerator', '')}".strip(" ×")
    tiles = [
        render_score_tile(f"out-of-fold {metric}", score),
        *([] if metric == "log loss" else [render_loss_tile(score)]),
        render_score_tile(f"test {metric}, one model", run.part("test_single")),
        render_score_tile(f"test {metric}, all averaged", run.part("test")),
        (counts.get("train", len(competition.train)), "training images", tests),
        (len(competition.classes), "classes", ""),
        (f"{scored} of {folds}" if folds else "–", "folds scored", ""),
        (format_figure(seconds.get("total"), "s"), "in all", trained),
        (run.settings.get("model.backbone", "–"), "backbone", ""),
        (about.get("backend", "–"), "Keras backend", machine),
    ]
    facts = {"started": about.get("started"), "source": str(about.get("source") or "")[:12]}
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
    """A score, its name, and how sure it is."""
    low, high = (format_figure(end, ".4f") for end in score.get("interval") or (None, None))
    images = f"{score['n']} images" if "n" in score else ""
    return (
        format_figure(score.get("value"), ".4f"),
        name,
        f"95% interval {low} to {high}, {images}",
    )


def render_loss_tile(score: Mapping[str, Any]) -> tuple[str, str, str]:
    """The loss that training minimises."""
    return format_figure(score.get("log_loss"), ".4f"), "out-of-fold log loss", "lower is better"


def render_warnings(run: RunRecord) -> str:
    """What went wrong without ending the run, where nobody can overlook it."""
    lines = [str(line) for line in run.summary.get("warnings") or []]
    for part, ids in run.part("unreadable").items():
        shown = ", ".join(map(str, ids[:IDS_SHOWN])) + (" …" if len(ids) > IDS_SHOWN else "")
        lines += [f"{len(ids)} unreadable {part} images: {shown}"] if ids else []
    box = render_section("Warnings", "", render_list(lines))
    return box.replace("<section>", '<section class="warn">', 1)


def render_lines(run: RunRecord, part: str, title: str, hint: str) -> str:
    """A list of words that the summary holds; nothing where it has none."""
    lines = run.summary.get(part)
    return render_section(title, hint, render_list(lines if isinstance(lines, list) else []))


def render_truths(truths: Mapping[int, Mapping[str, Any]]) -> str:
    """What batch norm does to each fold's validation: its parts as differences of the metric."""
    words, rows = list[str](), list[list[str]]()
    for fold, truth in truths.items():
        words += [f"Fold {fold}: {truth['words']}"] if truth.get("words") else []
        kept = "–" if truth.get("kept") is None else "yes" if truth["kept"] else "no"
        figures = [format_figure(truth.get(name), ".4f") for name in ("e", "c", "a", "t")]
        parts = [format_figure(truth.get(name), "+.4f") for name in ("lag", "shift", "gap")]
        error = format_figure(truth.get("se"), ".4f")
        cells = [html.escape(str(truth.get("verdict", "–"))), *figures, *parts, error, kept]
        rows.append([str(fold), *cells])
    head = ["fold", "verdict", *TRUTH_COLUMNS]
    hint = (
        "The metric on validation images with the moving statistics, with statistics taken anew on "
        "clean and on augmented training images, and on clean training images. Lag is anew minus "
        "moving, shift clean minus augmented, gap training minus anew."
    )
    table = render_table(head, rows) if rows else ""
    return render_section("Batch norm", hint, render_list(words) + table)


def render_folds(run: RunRecord) -> str:
    """Every fold's figures, and their mean ± standard deviation over the folds."""
    scores, rows = measure_folds(run), []
    figures = {"value": METRICS[run.task.metric].title}
    figures |= {} if run.task.metric == "log_loss" else {"log_loss": "log loss"}
    for fold in sorted(scores.keys() | run.curves.keys()):
        score, history = scores.get(fold, {}), run.curves.get(fold)
        cells = [str(fold), format_figure(score.get("n"), "d")]
        cells += [format_figure(score.get(column), ".4f") for column in figures]
        cells += ["–", "–"] if history is None else [str(len(history))]
        cells += [] if history is None else [format_figure(float(history["seconds"].sum()), "s")]
        rows.append(cells)
    if len(scores) > 1:
        table = pd.DataFrame(list(scores.values())).reindex(columns=list(figures))
        for name, row in (("mean", table.mean()), ("± sd", table.std(ddof=1))):
            cells = [f"<b>{format_figure(row[column], '.4f')}</b>" for column in figures]
            rows.append([f"<b>{name}</b>", "", *cells, "", ""])
    head = ["fold", "images", *figures.values(), "epochs", "time"]
    return render_table(head, rows) if rows else ""


def render_leaks(run: RunRecord) -> str:
    """What the audit found that may make the score look better than the network is."""
    rows = [
        [
            html.escape(str(leak.get("check"))),
            html.escape(str(leak.get("text"))),
            "to be looked at" if leak.get("serious") else "to know",
        ]
        for leak in run.summary.get("leaks") or []
    ]
    table = render_table(["looked for", "found", ""], rows, "words") if rows else ""
    return render_section("Leak audit", "What may flatter the out-of-fold score.", table)


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
