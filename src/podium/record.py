"""Record: what a run folder holds, as far as the run has got"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.competition import Competition
from podium.metrics import score_probs
from podium.predictions import Predictions, read_predictions

CURVES = ["phase", "epoch", "learning_rate", "seconds"]
CURVES += ["train/loss", "valid/loss", "train/accuracy", "valid/accuracy"]


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
