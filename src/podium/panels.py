"""Panels: how each fold learned, drawn one below the other

Loss, the metric, speed and what was left of the session against epochs; the learning rate against
updates. All folds have the same panels on the same scales, so that they can be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from podium.histories import TRACES, has_values, list_changes, list_followed
from podium.metrics import METRICS
from podium.page import CHART_STYLE, export_chart, render_section
from podium.task import MetricName

Limits = tuple[float, float]
DECADES = 100.0  # largest over smallest value from which an axis is logarithmic
DEEPEST = 1e-4  # of the largest value, the smallest that such an axis shows
MARKED = 25  # epochs from which validation is a line without dots
MINUTES = 2 * 3600.0  # seconds up to which time is shown in minutes


class Panel(NamedTuple):
    """One of a fold's panels: its name, what it draws, and its scale, which all folds share."""

    name: str
    columns: tuple[str, ...]
    limits: Limits
    height: float = 1.0
    axis: str = "epoch"  # or "updates"
    span: Limits = (0.5, 1.5)  # of that axis
    log: bool = False
    unit: float = 1.0  # that the columns are divided by


def render_curves(curves: Mapping[int, pd.DataFrame], metric: MetricName | None) -> str:
    """A chart for each fold, side by side; nothing where no epoch has ended."""
    if not curves:
        return ""
    panels = list_panels(curves, metric)
    charts = "".join(plot_fold(fold, history, panels) for fold, history in curves.items())
    hint = (
        "Dashed: training images, augmented. Solid: validation images. The dotted line is where "
        "the whole network joins the head. A widening gap is overfitting."
    )
    if has_values(curves, "clean/metric"):
        hint += " Squares: training images as the test part is seen."
    if has_values(curves, "recalibrated/metric"):
        hint += " Diamonds: validation with batch norm's statistics taken anew."
    return render_section(
        "Learning curves", hint, f'<div class="grid" style="--w:18.5rem">{charts}</div>'
    )


def list_panels(curves: Mapping[int, pd.DataFrame], metric: MetricName | None) -> list[Panel]:
    """The panels that these folds have values for, with scales that hold all of them."""
    loss, score = list_followed(curves, metric)
    whole = pd.concat([one.dropna(axis=1, how="all") for one in curves.values()])
    epochs = (0.5, float(whole["epoch"].max()) + 0.5)
    panels = [
        Panel(*loss, find_limits(whole, loss.columns), 3, span=epochs),
        Panel(*score, limit_score(whole, score.columns, metric), 3, span=epochs),
    ]
    if has_values(curves, "images_per_second"):
        columns = ("images_per_second",)
        panels += [Panel("images/s", columns, find_limits(whole, columns), 1.1, span=epochs)]
    if has_values(curves, "left"):
        short = whole["left"].max() < MINUTES
        unit, name = (60.0, "min left") if short else (3600.0, "h left")
        low, high = (bound / unit for bound in find_limits(whole, ("left",)))
        low = min(low, -0.3 * high)  # the deadline is named below its line
        panels += [Panel(name, ("left",), (low, high), 1.4, span=epochs, unit=unit)]
    if has_values(curves, "learning_rate"):
        panels += [make_rate_panel(whole, epochs, updates=has_values(curves, "updates"))]
    return panels


def make_rate_panel(whole: pd.DataFrame, epochs: Limits, *, updates: bool) -> Panel:
    """The learning rate, against epochs where an older run did not count updates.

    Its scale is logarithmic where it spans decades.
    """
    rates = whole["learning_rate"][whole["learning_rate"] > 0]
    log = bool(len(rates)) and rates.max() > DECADES * rates.min()
    limits = find_limits(whole, ("learning_rate",))
    if log:
        limits = (max(rates.min() / 1.5, rates.max() * DEEPEST), rates.max() * 1.5)
    axis, span = "epoch", epochs
    if updates:
        axis, span = "updates", (0.0, 1.02 * float(whole["updates"].max()))
    return Panel("rate", ("learning_rate",), limits, 1.4, axis, span, log)


def find_limits(whole: pd.DataFrame, columns: Iterable[str]) -> Limits:
    """From zero, or below it, to a little above the largest value."""
    values = whole.reindex(columns=list(columns))
    low, high = float(values.min().min()), float(values.max().max())
    return min(0.0, 1.05 * low if low < 0 else 0.0), 1.05 * high if high > 0 else 1.0


def limit_score(whole: pd.DataFrame, columns: Iterable[str], metric: MetricName | None) -> Limits:
    """From a little below the smallest value to the best that the metric can be."""
    best = METRICS[metric].perfect if metric and metric != "log_loss" else 1.0
    low = float(whole.reindex(columns=list(columns)).min().min())
    return (low - 0.05 * (best - low) if low < best else best - 0.1), best + 0.01


def plot_fold(fold: int, history: pd.DataFrame, panels: Sequence[Panel]) -> str:
    """One fold's panels as inline SVG."""
    heights = [panel.height for panel in panels]
    with mpl.rc_context(CHART_STYLE | {"font.size": 9.0, "axes.grid": True}):
        figure = Figure(figsize=(3.7, 0.62 * sum(heights)), layout="constrained")
        places = figure.subplots(len(panels), 1, height_ratios=heights)
        for place, panel in zip(places, panels, strict=True):
            draw_panel(place, panel, history)
        last = [panel.axis for panel in panels].count("epoch") - 1
        for place in places[:last]:
            place.tick_params(labelbottom=False)
        if panels[last].name != "rate":
            places[last].set_xlabel("epoch")
        places[0].set_title(f"Fold {fold}", loc="left", fontweight="bold")
        draw_legends(places[0], places[1])
        figure.align_ylabels()
        return export_chart(figure, f"fold{fold}", f"Learning curves of fold {fold}")


def draw_panel(place: Any, panel: Panel, history: pd.DataFrame) -> None:
    """Draws one panel: its scale, where training changes, its values."""
    place.set(ylabel=panel.name, ylim=panel.limits, xlim=panel.span)
    place.spines[["top", "right"]].set_visible(False)
    place.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    if panel.log:
        place.set_yscale("log")
        place.yaxis.set_minor_formatter(NullFormatter())
    elif panel.height < 2:
        place.yaxis.set_major_locator(MaxNLocator(2))
        place.yaxis.set_major_formatter("{x:g}")
    if panel.name == "rate":
        place.set_xlabel(f"{panel.axis} (rate: the learning rate)")
    mark_changes(place, panel, history)
    for column in panel.columns:
        style = TRACES.get(column.split("/")[0], {"color": "#5c6675", "label": ""})
        look = {"markersize": 3.0 if "/" in column else 2.0} | style
        if "marker" in style:
            look |= {"markersize": 4.5, "markerfacecolor": "none"}
        elif (len(history) < MARKED and not column.startswith("train/")) or len(history) == 1:
            look["marker"] = "o"
        if history[column].notna().any():
            place.plot(history[panel.axis], history[column] / panel.unit, **look)


def mark_changes(place: Any, panel: Panel, history: pd.DataFrame) -> None:
    """Dotted lines where a phase ends or the size of images changes, and the deadline as one."""
    above: dict[str, Any] = {"transform": place.get_xaxis_transform(), "fontsize": 8}
    dotted: dict[str, Any] = {"color": "#5c6675", "linestyle": ":", "linewidth": 1}
    borders = list_changes(history, "phase", panel.axis)
    sizes = list_changes(history, "image_size", panel.axis)
    for border in {*borders, *sizes}:
        place.axvline(border, **dotted)
    if borders and panel.height == 3 and panel.name != "loss":
        place.text(borders[0], 1.02, "head\u00a0", ha="right", **above)
        place.text(borders[0], 1.02, "\u00a0all", **above)
    if sizes and panel.name == "images/s":
        sides = history["image_size"].dropna().astype(int).tolist()
        place.text(panel.span[0], 1.04, f"{sides[0]} px", **above)
        place.text(panel.span[1], 1.04, f"{sides[-1]} px", ha="right", **above)
    if panel.name.endswith("left"):
        place.axhline(0, color="#d55e00", linewidth=1)
        place.text(panel.span[0], 0, "\u00a0deadline", color="#d55e00", va="top", fontsize=8)


def draw_legends(loss: Any, score: Any) -> None:
    """Names the lines above the loss, and the marks inside the panel that has them."""
    for place in (loss, score):
        handles, labels = place.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))
        marks = {name: one for name, one in named.items() if one.get_linestyle() == "None"}
        if marks:
            box = {"loc": "best", "fontsize": 7.5, "handletextpad": 0.2, "frameon": False}
            place.add_artist(place.legend(marks.values(), marks.keys(), **box))
        lines = {name: one for name, one in named.items() if name not in marks}
        if place is loss and lines:
            above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2, "frameon": False}
            place.legend(lines.values(), lines.keys(), **above)
