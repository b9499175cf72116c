import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from podium.competition import Competition
from podium.predictions import Predictions, write_predictions
from podium.record import CURVES, measure_folds, read_run_record
from podium.task import Task

IDS = ["007", "1e3", "NA", "b"]
LABELS = [0, 1, 1, 0]
PROBS = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]], np.float32)


@pytest.fixture
def competition() -> Competition:
    return Competition(
        train=pd.DataFrame({"id": IDS, "path": "none.png", "label": LABELS}),
        test=pd.DataFrame({"id": ["t"], "path": None}),
        sample=pd.DataFrame({"id": ["t"], "label": ["cat"]}),
        task=Task("label", ("cat", "dog")),
        notes=(),
    )


def write_history(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "history.csv").write_text(text)


def write_run(folder: Path, ids: list[str] = IDS) -> None:
    """Two folds of two images each, and the out-of-fold probabilities of these ids."""
    (folder / "folds.csv").write_text("id,label,fold\n007,0,0\n1e3,1,0\nNA,1,1\nb,0,1\n")
    rows = [IDS.index(one) for one in ids if one in IDS]
    probs = np.full((len(ids), 2), 0.5, np.float32)
    probs[[one in IDS for one in ids]] = PROBS[rows]
    write_predictions(Predictions(np.array(ids, np.str_), probs), folder / "oof.npz")


def test_an_empty_folder_is_an_empty_record(tmp_path: Path, competition: Competition):
    run = read_run_record(tmp_path, competition)
    assert (run.summary, run.settings, run.folds, run.curves) == ({}, {}, {}, {})
    assert run.oof.probs.shape == (0, 2)
    assert (len(run.oof.ids), len(run.targets)) == (0, 0)
    assert run.part("out_of_fold") == {}
    assert measure_folds(run) == {}


def test_ids_stay_text_even_where_they_look_like_numbers_or_gaps(
    tmp_path: Path, competition: Competition
):
    write_run(tmp_path)
    assert read_run_record(tmp_path, competition).folds == {"007": 0, "1e3": 0, "NA": 1, "b": 1}


def test_probabilities_meet_their_labels_by_id_and_unknown_ids_are_left_out(
    tmp_path: Path, competition: Competition
):
    write_run(tmp_path, ["b", "a stranger", "1e3"])
    run = read_run_record(tmp_path, competition)
    assert run.oof.ids.tolist() == ["b", "1e3"]
    assert run.targets.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_array_equal(run.oof.probs, PROBS[[3, 1]])


def test_without_a_summary_folds_are_measured_from_the_probabilities(
    tmp_path: Path, competition: Competition
):
    write_run(tmp_path)
    scores = measure_folds(read_run_record(tmp_path, competition))
    assert {fold: (row["n"], row["value"]) for fold, row in scores.items()} == {
        0: (2, 1.0),
        1: (2, 0.5),
    }


def test_the_figures_of_the_summary_win_over_those_of_the_probabilities(
    tmp_path: Path, competition: Competition
):
    write_run(tmp_path)
    rows = [{"fold": 1, "value": 0.25}, {"note": "a row without a fold"}]
    (tmp_path / "summary.json").write_text(json.dumps({"folds": rows}))
    run = read_run_record(tmp_path, competition)
    assert measure_folds(run) == {1: {"fold": 1, "value": 0.25}}


def test_curves_are_in_the_order_of_folds_and_have_every_column(
    tmp_path: Path, competition: Competition
):
    for fold in (10, 9, 2):
        write_history(tmp_path / f"fold{fold}", "epoch,train/loss,more\n1,0.5,x\n2,nan,x\n")
    write_history(tmp_path / "foldings", "epoch\n1\n")  # not ours
    write_history(tmp_path / "fold3", "phase,epoch\n")  # no epoch has ended
    curves = read_run_record(tmp_path, competition).curves
    assert list(curves) == [2, 9, 10]
    assert list(curves[2].columns) == CURVES
    assert curves[2]["train/loss"].isna().tolist() == [False, True]
    assert curves[2]["valid/loss"].isna().all()


def test_a_row_that_was_cut_off_leaves_the_rows_before_it(tmp_path: Path, competition: Competition):
    write_history(tmp_path / "fold0", "phase,epoch,learning_rate,seconds\nhead,1,0.1,2\nall,2,0.")
    curve = read_run_record(tmp_path, competition).curves[0]
    assert curve["epoch"].tolist() == [1, 2]
    assert curve["seconds"].isna().tolist() == [False, True]
