"""The form of a submission: from the competition, or from a run's own submission."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import make_csv_competition
from run_folders import CLASSES
from test_blend_runs import T, draw_probs, make_member

from podium.predictions import Predictions, read_predictions, write_predictions
from workbench.answer_form import find_form
from workbench.past_members import BlendError, PastMembers, read_members
from workbench.past_runs import PastRun, read_past_runs


def read(folder: Path) -> tuple[PastRun, PastMembers]:
    (run,) = read_past_runs([folder])
    return run, read_members([run])


def ask_for_probabilities(folder: Path, columns: tuple[str, ...]) -> None:
    """Makes a run's answers probabilities, in columns of that order."""
    path = folder / "summary.json"
    told = {"answer": "probabilities", "metric": "log_loss"}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    test = read_predictions(folder / "test.npz")
    table = pd.DataFrame(test.probs, columns=list(CLASSES)).map("{:.6f}".format)
    table.insert(0, "image", test.ids)
    table[["image", *CLASSES]].set_axis(["image", *columns], axis=1).to_csv(
        folder / "submission.csv", index=False
    )


def test_the_form_is_that_of_the_competition_where_it_lies_here(tmp_path: Path):
    """Also where the run's own submission is gone."""
    folder = make_member(tmp_path / "run", 0)
    data = make_csv_competition(tmp_path / "data")
    settings = {"data.folder": str(data), "data.metric": "auto", "runtime.seed": 0}
    (folder / "config.json").write_text(json.dumps(settings))
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["cat", "dog"]}))
    ids = np.array([f"{row}.png" for row in range(500, 504)])
    write_predictions(Predictions(ids, np.full((4, 2), 0.5, np.float32)), folder / "test.npz")
    labels = np.arange(120) % 2
    images = np.array([f"image-{row}" for row in range(120)])
    probs = draw_probs(0, labels, 2.0)[:, :2]
    write_predictions(Predictions(images, probs), folder / "oof.npz")
    table = pd.DataFrame({"id": images, "label": labels, "fold": labels})
    table.to_csv(folder / "folds.csv", index=False)
    (folder / "submission.csv").unlink()
    form = find_form(*read(folder))
    assert form.sample.columns.tolist() == ["image", "kind"]
    assert form.sample["image"].tolist() == ids.tolist()
    assert len(form.train) == 20


def test_else_it_is_that_of_the_runs_own_submission(tmp_path: Path):
    form = find_form(*read(make_member(tmp_path / "run", 0)))
    assert form.sample.shape == (T, 2)
    assert form.test["path"].isna().tolist() == [True] + [False] * (T - 1)
    assert len(form.train) == 120
    assert form.classes == CLASSES


def test_columns_of_probabilities_are_told_by_what_is_in_them(tmp_path: Path):
    folder = make_member(tmp_path / "run", 0)
    ask_for_probabilities(folder, CLASSES)
    assert find_form(*read(folder)).sample.columns.tolist() == ["image", *CLASSES]
    table = pd.read_csv(folder / "submission.csv", dtype=str)
    table[["image", "dog", "cat", "emu"]].to_csv(folder / "submission.csv", index=False)
    with pytest.raises(BlendError, match="not what its test.npz and its rule make"):
        find_form(*read(folder))


def test_several_labels_an_image_have_a_form_too(tmp_path: Path):
    folder = make_member(tmp_path / "run", 0)
    path = folder / "summary.json"
    told = {"answer": "labels", "metric": "samples_f1"}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    test = read_predictions(folder / "test.npz")
    cells = [
        " ".join(CLASSES[c] for c in np.flatnonzero(row >= 0.5)) or CLASSES[row.argmax()]
        for row in test.probs
    ]
    pd.DataFrame({"image": test.ids, "kinds": cells}).to_csv(folder / "submission.csv", index=False)
    form = find_form(*read(folder))
    assert form.train["label"][0] == (0,)
    assert not form.task.exclusive
