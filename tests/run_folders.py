"""Folders of runs that ended, without training anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from podium.predictions import Predictions, write_predictions

CLASSES = ("cat", "dog", "emu")


def make_history(epochs: int = 3, **columns: Any) -> pd.DataFrame:
    """An epoch a row; columns are added or put in the place of those."""
    falling = np.linspace(2, 1, epochs)
    values = {"phase": "all", "epoch": range(1, epochs + 1), "learning_rate": 0.001}
    values |= dict.fromkeys(("train/loss", "valid/loss"), falling)
    values |= dict.fromkeys(("train/accuracy", "valid/accuracy"), 1 - falling / 3)
    return pd.DataFrame(values | columns)


def make_run_folder(
    folder: Path,
    *,
    settings: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    folds: int = 2,
    wrong: int = 10,
    images: int = 60,
) -> Path:
    """A run of some folds, the first `wrong` images of which it got wrong."""
    folder.mkdir(parents=True)
    usual = {"runtime.folder": str(folder), "model.backbone": "tiny", "optimizer.name": "adamw"}
    (folder / "config.json").write_text(json.dumps(usual | (settings or {})))
    score = {"n": images, "value": 1 - wrong / images, "interval": [0.7, 0.9], "log_loss": 0.3}
    told = {"metric": "accuracy", "answer": "label", "classes": CLASSES, "out_of_fold": score}
    told |= {"run": {"state": "complete"}, "counts": {"folds": folds}, "seconds": {"total": 7200}}
    (folder / "summary.json").write_text(json.dumps(told | (summary or {})))
    for fold in range(folds):
        (folder / f"fold{fold}").mkdir()
        make_history().to_csv(folder / f"fold{fold}" / "history.csv", index=False)
    labels = np.arange(images) % len(CLASSES)
    ids = [f"image-{row}" for row in range(images)]
    table = pd.DataFrame({"id": ids, "label": labels, "fold": np.arange(images) % folds})
    table.to_csv(folder / "folds.csv", index=False)
    answered = np.where(np.arange(images) < wrong, (labels + 1) % len(CLASSES), labels)
    probs = np.eye(len(CLASSES), dtype=np.float32)[answered] * 0.7 + 0.1
    order = np.argsort(np.arange(images) % folds, kind="stable")
    predictions = Predictions(np.array(ids)[order], probs[order])
    write_predictions(predictions, folder / "oof.npz")
    return folder
