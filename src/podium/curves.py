"""Curves: one picture of all folds so far, for a phone"""

import io
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from podium.sinks import CURVES_FILE
from podium.storage import write_whole


def write_curves(folder: Path) -> None:
    """Draws loss and accuracy of every fold in the run folder into curves.png."""
    paths = sorted(folder.glob("fold*/history.csv"), key=lambda path: int(path.parent.name[4:]))
    histories = [pd.read_csv(path) for path in paths]
    figure = Figure(figsize=(5.2, 2.6), dpi=140, layout="constrained")
    for panel, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        panel.set(title=name, xlabel="epoch")
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        for place, history in enumerate(histories):
            newest = place == len(histories) - 1
            style = {"alpha": 1.0 if newest else 0.35, "linewidth": 1.8 if newest else 1.0}
            for part, colour, dash in (("train", "#d55e00", "--"), ("valid", "#0072b2", "-")):
                label = f"{part}, fold {place}" if newest else None
                values = history[f"{part}/{name}"]
                panel.plot(history["epoch"], values, dash, color=colour, label=label, **style)
        if histories:
            panel.legend(frameon=False, fontsize=7)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(folder / CURVES_FILE, drawn.getvalue())
