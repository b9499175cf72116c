"""Run charts: the curves of several runs in one picture, a colour and a dash for each run.

The mean over folds is a line in front, its folds are thin ones behind it.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from podium.histories import has_values, list_followed
from podium.page import CHART_STYLE, export_chart
from podium.panels import DECADES, DEEPEST
from workbench.past_runs import MOST_RUNS, PastRun

# Of each run in order: its colour in light and dark, and its dashes. Each has a contrast of 3 to
# its ground, and neighbours differ in lightness or hue for every eye.
LOOKS = (
    ("#0072b2", "#56b4e9", "-"),
    ("#d55e00", "#f0934a", "--"),
    ("#00795a", "#2fc39a", "-."),
    ("#aa4499", "#e29bd0", ":"),
    ("#8a6500", "#e6c04a", (0, (6, 1.5))),
    ("#18202c", "#e7ebf1", (0, (3, 1, 1, 1, 1, 1))),
)
assert len(LOOKS) == MOST_RUNS  # noqa: S101


class Overlay(NamedTuple):
    """One picture: its name, and of each run in order the column that it draws, if it has one."""

    name: str
    columns: tuple[str | None, ...]
    axis: str = "epoch"  # or "updates"
    log: bool = False


def list_overlays(runs: Sequence[PastRun]) -> list[Overlay]:
    """Validation loss, the metric, once for each metric that the runs have, and learning rates."""
    followed = [list_followed(run.curves, run.metric)[1] for run in runs]
    column_of = [next(one for one in score.columns if "valid/" in one) for score in followed]
    overlays = [Overlay("validation loss", ("valid/loss",) * len(runs))]
    for name in dict.fromkeys(score.name for score in followed):
        columns = tuple(
            column if score.name == name else None
            for score, column in zip(followed, column_of, strict=True)
        )
        overlays.append(Overlay(f"validation {name}", columns))
    counted = all(has_values(run.curves, "updates") for run in runs)
    rates = [one["learning_rate"] for run in runs for one in run.curves.values()]
    whole = pd.concat(rates) if rates else pd.Series(dtype=float)
    spans = bool(whole.max() > DECADES * whole[whole > 0].min())
    axis = "updates" if counted else "epoch"
    overlays.append(Overlay("learning rate", ("learning_rate",) * len(runs), axis, spans))
    return [one for one in overlays if list_drawn(one, runs)]


def list_drawn(overlay: Overlay, runs: Sequence[PastRun]) -> dict[int, str]:
    """The column that each run, by its place, has values of to draw there."""
    pairs = enumerate(zip(runs, overlay.columns, strict=True))
    return {place: one for place, (run, one) in pairs if one and has_values(run.curves, one)}


def draw_overlay(place: Any, overlay: Overlay, runs: Sequence[PastRun]) -> None:
    """Draws all runs into one panel."""
    place.spines[["top", "right"]].set_visible(False)
    place.set_title(overlay.name, loc="left", fontweight="bold")
    place.set_xlabel(overlay.axis)
    place.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    for number, column in list_drawn(overlay, runs).items():
        run, (colour, _, dash) = runs[number], LOOKS[number]
        folds = [one.set_index(overlay.axis)[column] for one in run.curves.values()]
        style: dict[str, Any] = {"color": colour, "linestyle": dash}
        for fold in folds if len(folds) > 1 else []:
            place.plot(fold.index, fold, alpha=0.35, linewidth=0.7, **style)
        mean = pd.concat(folds, axis=1).mean(axis=1, skipna=False).dropna()
        if len(mean) == 1:
            style["marker"] = "o"
        place.plot(mean.index, mean, linewidth=1.8, label=run.name, **style)
    if overlay.log:
        place.set_yscale("log")
        place.yaxis.set_minor_formatter(NullFormatter())
        low, high = place.get_ylim()
        place.set_ylim(max(low, high * DEEPEST), high)
    elif overlay.name == "learning rate":
        place.set_ylim(bottom=0)


def draw_svg(overlay: Overlay, runs: Sequence[PastRun], prefix: str) -> str:
    """One panel as inline SVG in the page's colours; its runs are named by the page."""
    with mpl.rc_context(CHART_STYLE | {"font.size": 9.0, "axes.grid": True}):
        figure = Figure(figsize=(3.7, 2.7), layout="constrained")
        draw_overlay(figure.subplots(), overlay, runs)
        svg = export_chart(figure, prefix, overlay.name)
    for number, (colour, _, _) in enumerate(LOOKS):
        svg = svg.replace(colour, f"var(--run{number})")
    return svg


def draw_png(overlays: Sequence[Overlay], runs: Sequence[PastRun]) -> bytes:
    """All panels side by side, with the runs' names below, as PNG."""
    with mpl.rc_context({"font.size": 9.0, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(3.6 * len(overlays), 3.2), dpi=140, layout="constrained")
        panels = figure.subplots(1, len(overlays), squeeze=False)[0]
        named = dict[str, Any]()
        for panel, overlay in zip(panels, overlays, strict=True):
            draw_overlay(panel, overlay, runs)
            handles, labels = panel.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        below: dict[str, Any] = {"loc": "outside lower center", "ncols": len(runs)}
        figure.legend(named.values(), named.keys(), frameon=False, **below)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
    return drawn.getvalue()
