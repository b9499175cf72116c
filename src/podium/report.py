"""Report: one page that shows the run

Everything worth a look in one file, report.html: how good the model is and how sure that figure is,
how each fold learned, which classes it mixes up, and the images it got most wrong, because looking
at those is where the next idea comes from. The page needs no network and no script, fits a phone,
follows the reader's dark mode, and is written anew after every fold, so it also shows half a run.
"""

import base64
import html
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageOps

from podium.competition import Competition
from podium.config import list_knobs
from podium.metrics import count_confusions, score_probs
from podium.predictions import Predictions, read_predictions

HEATMAP_CLASSES = 30  # more classes than this do not fit a screen
WORST_IMAGES, THUMBNAIL_SIDE, TABLE_ROWS, PAIRS = 24, 96, 200, 12
CURVES = ["phase", "epoch", "learning_rate", "seconds"]
CURVES += ["train/loss", "valid/loss", "train/accuracy", "valid/accuracy"]
# The colours that charts are drawn in, and the page's own that take their place, light or dark.
CHART_COLOURS = {"#0072b2": "valid", "#d55e00": "train", "#5c6675": "soft", "#dfe3e9": "line"}
CHART_STYLE = {"text.color": "#5c6675", "axes.labelcolor": "#5c6675", "axes.edgecolor": "#dfe3e9"}
CHART_STYLE |= {"xtick.color": "#5c6675", "ytick.color": "#5c6675", "grid.color": "#dfe3e9"}
CHART_STYLE |= {"svg.fonttype": "none", "svg.hashsalt": "podium"}
REPORT_CSS = """
:root{color-scheme:light dark;--page:#f3f5f8;--card:#fff;--ink:#18202c;--soft:#5c6675;
--line:#dfe3e9;--valid:#0072b2;--train:#d55e00;--hit:0 114 178;--miss:213 94 0;--warn:#fff4dd}
@media(prefers-color-scheme:dark){:root{--page:#0f1319;--card:#181e27;--ink:#e7ebf1;--soft:#9ba7b7;
--line:#2d3643;--valid:#56b4e9;--train:#f0934a;--hit:26 122 186;--miss:205 92 10;--warn:#2e2613}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:72rem;margin:auto;padding:clamp(.75rem,3vw,2.5rem);overflow-wrap:anywhere}
h1{font-size:2.4rem;line-height:1.1;margin:0;letter-spacing:-.02em}h2{font-size:1.15rem;margin:0}
h1 span{font-size:.85rem;letter-spacing:0;padding:.3em .8em;border-radius:2em;vertical-align:middle;
background:rgb(var(--hit)/.14);color:var(--valid);display:inline-block}ul{margin:0;padding-left:1.2em}
small,p,summary{color:var(--soft);font-size:.85rem}p{margin:.1rem 0 1rem}summary{padding:.6rem 0}
section,.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:clamp(.8rem,2.5vw,1.5rem)}section{margin-top:1rem}
.warn{background:var(--warn);border-color:#e69f00}.grid{display:grid;gap:.75rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--w)),1fr))}
.tile{padding:.8rem 1rem;display:flex;flex-direction:column}.tile:first-child{grid-column:span 2}
.tile b{font-size:1.45rem;line-height:1.25}.tile:first-child b{font-size:2.2rem;color:var(--valid)}
.chart{width:100%;height:auto;display:block}.chart *{stroke-linejoin:round}
.chart text{font-family:inherit!important}.wide{overflow:auto;max-height:34rem}
table{border-collapse:collapse;width:100%}th{color:var(--soft);font-size:.85rem}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line)}
tr>:first-child,.words *{text-align:left}.heat{width:auto;margin-bottom:.8rem}
.heat *{padding:0;border:0;text-align:center}.heat i{display:grid;place-items:center;height:1.9rem;
min-width:1.6rem;margin:1px;border-radius:6px;font-size:.8rem}.heat b{display:block;
max-width:7.5rem;max-height:7.5rem;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;padding:.2rem .35rem}
.heat .tall{writing-mode:vertical-rl}.hit,.miss{font-style:normal;background:rgb(var(--c)/var(--a))}
.hit{--c:var(--hit)}.miss{--c:var(--miss)}.on{color:#fff}.bar{display:block;border-radius:4px;
background:linear-gradient(90deg,rgb(var(--hit)/.3) var(--w),#0000 0);padding:0 .4em}
figure{margin:0;font-size:.85rem;line-height:1.35;text-align:center}.thumb{width:96px;height:96px;
margin:0 auto .3rem;object-fit:contain;border-radius:8px;display:grid;place-items:center;
background:var(--page);color:var(--soft)}.pixels{image-rendering:pixelated}
"""


def render_section(title: str, hint: str, body: str) -> str:
    """A card with a heading and a line on how to read it; nothing if the body is empty."""
    hint = f'<p class="hint">{hint}</p>'
    return f"<section><h2>{title}</h2>{hint}{body}</section>\n" if body else ""


def render_list(lines: Iterable[object] | Mapping[str, object]) -> str:
    """A list of plain texts, or of the names and values of a mapping."""
    if isinstance(lines, Mapping):
        lines = [f"{name} {value}" for name, value in lines.items()]
    items = "".join(f"<li>{html.escape(str(line))}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already; a narrow screen scrolls it."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f'<div class="wide"><table class="{kind}"><tr>{top}\n{body}</table></div>'


def format_figure(value: object, style: str) -> str:
    """Formats a number: style is a format such as ".4f", "%" for a share or "s" for seconds."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if style == "%":
        return f"{value:.2%}".replace("%", " %")
    if style == "s":
        hours, minutes = divmod(round(value / 60), 60)
        long = f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
        return long if value >= 90 else f"{value:.1f} s"
    return f"{value:{style}}"


def plot_curves(fold: int, history: pd.DataFrame, limits: Sequence[tuple[float, float]]) -> str:
    """One fold's loss, accuracy and learning rate over the epochs, as inline SVG."""
    epochs, head = history["epoch"], history["phase"] == "head"
    with mpl.rc_context(CHART_STYLE | {"font.size": 9.0, "axes.grid": True}):
        figure = Figure(figsize=(3.7, 4.1), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1])
        for panel, name, limit in zip(panels, ("loss", "accuracy", "rate"), limits, strict=True):
            panel.set(ylabel=name, ylim=limit)
            panel.spines[["top", "right"]].set_visible(False)
            if head.any() and not head.all():
                panel.axvline(epochs[head].max() + 0.5, color="#5c6675", linestyle=":", linewidth=1)
        for panel, name in zip(panels, ("loss", "accuracy"), strict=False):
            panel.plot(epochs, history[f"train/{name}"], "--", color="#d55e00", label="training")
            style = {"color": "#0072b2", "marker": "o" if len(history) < 25 else "", "ms": 3}
            panel.plot(epochs, history[f"valid/{name}"], label="validation", **style)
        panels[2].plot(epochs, history["learning_rate"], color="#5c6675", drawstyle="steps-mid")
        panels[2].yaxis.set_major_locator(MaxNLocator(2))
        panels[2].yaxis.set_major_formatter("{x:g}")
        panels[2].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[2].set_xlabel("epoch (rate: the learning rate)")
        panels[0].set_title(f"Fold {fold}", loc="left", fontweight="bold")
        panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
        figure.align_ylabels()
        return export_chart(figure, f"fold{fold}", f"Learning curves of fold {fold}")


def export_chart(figure: Figure, prefix: str, label: str) -> str:
    """Turns a figure into inline SVG in the page's colours; its ids start with the prefix."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<svg) | (width|height)="[\d.]+pt"', " ", svg)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg.replace("xlink:href", "href"))
    for colour, name in CHART_COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{label}"', 1)


def render_heatmap(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Counts [C, C] as a table: blue by share of the row, orange by share of the worst mistake."""
    worst = max(1, int((counts - np.diag(np.diag(counts))).max()))
    rows = []
    for truth, row in enumerate(counts.tolist()):
        cells = [f"<b>{classes[truth]}</b>"]
        for guess, count in enumerate(row):
            share = count / max(1, sum(row)) if guess == truth else 0.15 + 0.75 * count / worst
            kind = ("hit" if guess == truth else "miss") + (" on" if share > 0.5 else "")
            shade = f' class="{kind}" style="--a:{share:.2f}"' if count else ""
            cells.append(f"<i{shade}>{count or ''}</i>")
        rows.append(cells)
    tall = ' class="tall"' if max(map(len, classes)) > 2 else ""
    return render_table(["", *(f"<b{tall}>{name}</b>" for name in classes)], rows, "heat")


def render_thumbnail(path: object) -> str:
    """An image as a data URI, upright and at most 96 px a side, or a placeholder."""
    try:
        with Image.open(str(path)) as file:
            file.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":  # 16-bit and float: from darkest to brightest
                grey = np.asarray(image, np.float64)
                grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-9) * 255
                image = Image.fromarray(grey.astype(np.uint8))
            image = image.convert("RGBA")
    except Exception:  # a broken file may raise anything, and one image must not cost the page
        return '<div class="thumb">unreadable</div>'
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    tiny = max(image.size) <= THUMBNAIL_SIDE // 2
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    data = io.BytesIO()
    flat.save(data, "PNG" if tiny else "JPEG")
    kind, text = "png" if tiny else "jpeg", base64.b64encode(data.getvalue()).decode()
    style = "thumb pixels" if tiny else "thumb"
    return f'<img class="{style}" alt="" src="data:image/{kind};base64,{text}">'


class RunRecord(NamedTuple):
    """What a run folder holds, as far as the run has got."""

    summary: dict[str, Any]  # {} until the run has written one
    settings: dict[str, Any]  # dotted names
    folds: dict[str, int]  # image id → fold
    curves: dict[int, pd.DataFrame]  # fold → one row an epoch
    oof: Predictions  # [N], [N, C]
    labels: NDArray[np.int64]  # [N], the truth of oof

    def part(self, name: str) -> dict[str, Any]:
        """One part of the summary, empty where the summary has none."""
        return self.summary.get(name) or {}


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
    half = folder / "report.half"
    half.write_text(page, encoding="utf-8", errors="replace")
    return half.replace(folder / "report.html")


def read_run_record(folder: Path, competition: Competition) -> RunRecord:
    """Reads what there is; what is not there yet is empty."""
    settings, summary = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for path in (folder / "config.json", folder / "summary.json")
    )
    folds = dict[str, int]()
    if (folder / "folds.csv").is_file():
        table = pd.read_csv(folder / "folds.csv", dtype={"id": str}, keep_default_na=False)
        folds = dict(zip(table["id"], table["fold"].astype(int), strict=True))
    curves = {
        int(path.parent.name[4:]): pd.read_csv(path).reindex(columns=CURVES)
        for path in folder.glob("fold*/history.csv")
        if path.parent.name[4:].isdecimal()
    }
    curves = {fold: curves[fold] for fold in sorted(curves) if len(curves[fold])}
    oof = Predictions(np.array([], np.str_), np.zeros((0, len(competition.classes)), np.float32))
    if (folder / "oof.npz").is_file():
        oof = read_predictions(folder / "oof.npz")
    truth = competition.train.set_index("id")["label"].reindex(oof.ids.tolist())
    known = truth.notna().to_numpy()
    labels = truth[known].to_numpy(np.int64)
    return RunRecord(
        summary, settings, folds, curves, Predictions(oof.ids[known], oof.probs[known]), labels
    )


def render_headline(run: RunRecord, competition: Competition) -> str:
    """Title, state, and the figures that matter as tiles; a figure that is not known has none."""
    about, counts, seconds = run.part("run"), run.part("counts"), run.part("seconds")
    score = run.part("out_of_fold")
    if not score and len(run.labels):
        score = score_probs(run.labels, run.oof.probs)._asdict()
    scored, folds = len(measure_folds(run)), counts.get("folds", len(set(run.folds.values())))
    tests = f"{counts.get('test', len(competition.test))} test images"
    trained = f"training {format_figure(seconds.get('train'), 's')}"
    machine = f"{about.get('devices', '')} × {about.get('accelerator', '')}".strip(" ×")
    tiles = [
        render_score_tile("out-of-fold accuracy", score),
        (format_figure(score.get("log_loss"), ".4f"), "out-of-fold log loss", "lower is better"),
        render_score_tile("test accuracy", run.part("test")),
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
        f'<div class="grid" style="--w:9.4rem">{cells}</div>\n'
    )


def render_score_tile(name: str, score: Mapping[str, Any]) -> tuple[str, str, str]:
    """Accuracy, its name, and how sure it is."""
    low, high = (format_figure(end, "%") for end in score.get("interval") or (None, None))
    images = f"{score['n']} images" if "n" in score else ""
    return (
        format_figure(score.get("accuracy"), "%"),
        name,
        f"95 % interval {low} to {high}, {images}",
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


def measure_folds(run: RunRecord) -> dict[int, dict[str, Any]]:
    """The summary's figures for each fold, or those of the out-of-fold probabilities so far."""
    scores = {
        int(row["fold"]): dict(row) for row in run.summary.get("folds") or [] if "fold" in row
    }
    if scores:
        return scores
    fold_of = np.array([run.folds.get(image_id, -1) for image_id in run.oof.ids.tolist()])
    return {
        int(fold): score_probs(
            run.labels[fold_of == fold], run.oof.probs[fold_of == fold]
        )._asdict()
        for fold in np.unique(fold_of[fold_of >= 0])
    }


def render_folds(run: RunRecord) -> str:
    """Every fold's figures, and their mean ± standard deviation over the folds."""
    scores = measure_folds(run)
    rows = []
    for fold in sorted(scores.keys() | run.curves.keys()):
        score, history = scores.get(fold, {}), run.curves.get(fold)
        figures = [format_figure(score.get("n"), "d"), format_figure(score.get("accuracy"), "%")]
        figures += [format_figure(score.get("log_loss"), ".4f")]
        figures += ["–", "–"] if history is None else [str(len(history))]
        figures += [] if history is None else [format_figure(float(history["seconds"].sum()), "s")]
        rows.append([str(fold), *figures])
    if len(scores) > 1:
        cells = []
        for name, style in (("accuracy", "%"), ("log_loss", ".4f")):
            values = [
                float(score[name]) for score in scores.values() if score.get(name) is not None
            ]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            mean = float(np.mean(values)) if values else None
            cells.append(f"<b>{format_figure(mean, style)}</b> ± {format_figure(spread, style)}")
        rows.append(["mean ± sd", "", *cells, "", ""])
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
    return render_section("Confusion", hint, heat + words) if len(wrong) else ""


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
        share = format_figure(float(recall[label]), "%")
        bar = f'<span class="bar" style="--w:{recall[label]:.1%}">{share}</span>'
        rows.append([classes[label], str(images[label]), str(right[label]), bar])
    hint = "Weakest first: the share of a class's images that was recognised."
    table = render_table(["class", "images", "right", "recall"], rows)
    return render_section("Recall by class", hint, table if rows else "")


def render_worst(run: RunRecord, competition: Competition, classes: Sequence[str]) -> str:
    """The images with the highest out-of-fold loss: wrong labels, odd images, hard cases."""
    truth = run.oof.probs[np.arange(len(run.labels)), run.labels]
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    cards = []
    for row in np.argsort(truth, kind="stable")[:WORST_IMAGES]:
        image_id, guess = str(run.oof.ids[row]), int(run.oof.probs[row].argmax())
        sure = format_figure(float(run.oof.probs[row, guess]), "%")
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
