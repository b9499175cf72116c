import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from podium.competition import Competition
from podium.predictions import Predictions, write_predictions
from podium.record import measure_folds, read_run_record, read_truths
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


def write_run(folder: Path, ids: list[str] = IDS) -> None:
    """Two folds of two images each, and the out-of-fold probabilities of these ids."""
    (folder / "folds.csv").write_text("id,label,fold\n007,0,0\n1e3,1,0\nNA,1,1\nb,0,1\n")
    rows = [IDS.index(one) for one in ids if one in IDS]
    probs = np.full((len(ids), 2), 0.5, np.float32)
    probs[[one in IDS for one in ids]] = PROBS[rows]
    write_predictions(Predictions(np.array(ids, np.str_), probs), folder / "oof.npz")


def test_an_empty_folder_is_an_empty_record(tmp_path: Path, competition: Competition):
    run = read_run_record(tmp_path, competition)
    assert run[:6] == ({}, {}, {}, {}, {}, [])
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


def test_what_was_found_of_batch_norm_is_read_where_it_can_be(tmp_path: Path):
    texts = {"fold10": '{"verdict": "lag"}', "fold9": '{"verdict": "none"}', "fold2": "half {"}
    for name, text in (texts | {"fold3": "[1]", "foldings": "{}"}).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "truth.json").write_text(text)
    truths = read_truths(tmp_path)
    assert list(truths.items()) == [(9, {"verdict": "none"}), (10, {"verdict": "lag"})]
