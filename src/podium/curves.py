"""Curves: one picture of all folds so far, for a phone"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from podium.histories import TRACES, list_changes, list_followed, read_histories
from podium.sinks import CURVES_FILE
from podium.storage import write_whole
from podium.task import MetricName


def write_curves(folder: Path, metric: MetricName | None = None) -> None:
    """Draws loss and the metric of every fold in the run folder into curves.png.

    The newest fold is in front, the others are pale. Dotted lines are where everything trains, and
    where the size of images changes.
    """
    histories = read_histories(folder)
    figure = Figure(figsize=(5.2, 2.6), dpi=140, layout="constrained")
    panels = figure.subplots(1, 2)
    last = max((history["epoch"].max() for history in histories.values()), default=1)
    for panel, followed in zip(panels, list_followed(histories, metric), strict=True):
        panel.set(title=followed.name, xlabel="epoch", xlim=(0.5, last + 0.5))
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        panel.grid(alpha=0.3)
        for fold, history in histories.items():
            draw_fold(panel, followed.columns, history, fold, newest=fold == max(histories))
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=7)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(folder / CURVES_FILE, drawn.getvalue())


def draw_fold(
    panel: Any, columns: Sequence[str], history: pd.DataFrame, fold: int, *, newest: bool
) -> None:
    """Draws a fold into one panel: in front with all there is, or as pale lines."""
    look: dict[str, Any] = {"markersize": 4, "alpha": 0.35, "linewidth": 1.0}
    if newest:
        look |= {"alpha": 1.0, "linewidth": 1.8}
        for place in (*list_changes(history, "phase"), *list_changes(history, "image_size")):
            panel.axvline(place, color="#5c6675", linestyle=":", linewidth=0.8)
    for column in columns:
        style = dict(TRACES[column.split("/")[0]])
        style["label"] = f"{style['label']}, fold {fold}" if newest else ""
        if "marker" in style:
            style["markerfacecolor"] = "none"
        elif len(history) == 1:
            style["marker"] = "o"  # a line of one point would not be seen
        if history[column].notna().any() and (newest or style["linestyle"]):
            panel.plot(history["epoch"], history[column], **look | style)
