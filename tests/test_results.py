import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import make_csv_competition

from podium.competition import read_competition
from podium.config import Config, DataConfig, FoldsConfig
from podium.learning import PredictConfig, PseudoConfig
from podium.predictions import Predictions, read_predictions
from podium.pseudo import PseudoError
from podium.results import forget_results, write_answers, write_status
from podium.summary import decide_answers

STAYS = ("events.jsonl", "webhook-json.json", "notes.txt")
MODELS = ("fold0/model.keras", "fold0/history.csv", "summary.json", "oof.npz", "report.html")
MODELS += ("decisions.json",)
ANSWERS = ("status.json", "submission.csv", "test.npz")


def fill(folder: Path) -> Path:
    for name in (*STAYS, *MODELS, *ANSWERS):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    return folder


def list_names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_an_earlier_run_left_is_removed_but_for_the_record(tmp_path: Path):
    forget_results(fill(tmp_path), Config())
    assert list_names(tmp_path) == set(STAYS)


def test_a_run_that_is_to_answer_in_its_own_folder_keeps_what_it_was_trained_to(tmp_path: Path):
    own = PredictConfig(run=str(tmp_path / "other" / ".." / "run"))
    forget_results(fill(tmp_path / "run"), replace(Config(), predict=own))
    assert list_names(tmp_path / "run") == {*STAYS, *MODELS}


def test_folds_that_are_to_be_used_again_are_not_removed(tmp_path: Path):
    for named in (tmp_path, tmp_path / "folds.csv"):
        (tmp_path / "folds.csv").write_text("id,label,fold\n")
        forget_results(fill(tmp_path), replace(Config(), folds=FoldsConfig(file=str(named))))
        assert list_names(tmp_path) == {*STAYS, "folds.csv"}
    other = FoldsConfig(file=str(tmp_path / "other.csv"))
    forget_results(tmp_path, replace(Config(), folds=other))
    assert list_names(tmp_path) == set(STAYS)


def test_the_folder_of_a_teacher_is_not_that_of_its_pupil(tmp_path: Path):
    taught = replace(Config(), pseudo=PseudoConfig(run=str(tmp_path / "other" / "..")))
    with pytest.raises(PseudoError, match="which is the run folder, .*; set runtime.folder to"):
        forget_results(fill(tmp_path), taught)
    assert list_names(tmp_path) == {*STAYS, *MODELS, *ANSWERS}


def test_a_status_says_how_the_run_stands_and_whether_there_is_a_submission(tmp_path: Path):
    write_status(tmp_path, "running")
    assert json.loads((tmp_path / "status.json").read_text())["submission"] is False
    (tmp_path / "submission.csv").touch()
    write_status(tmp_path, "failed", "OSError: no room")
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["submission"]) == ("failed", True)
    assert status["error"] == "OSError: no room"


def test_a_status_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_status(tmp_path / "no" / "folder", "finished")
    assert capsys.readouterr().err == (
        "! status.json could not be written (No such file or directory)\n"
    )


def test_answers_so_far_make_the_submission_of_their_average(tmp_path: Path):
    folder = make_csv_competition(tmp_path / "data")
    competition = read_competition(DataConfig(folder=str(folder)), 0)
    asked = competition.test["id"].to_numpy(str)
    sure = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.4, 0.6]], np.float32)
    unsure = np.array([[0.2, 0.8], [0.5, 0.5], [0.4, 0.6], [0.1, 0.9]], np.float32)
    parts = [Predictions(np.array([name]), sure[:1]) for name in ("000.png", "001.png")]
    decision = decide_answers(competition.task, competition.train, parts)
    answers = [Predictions(asked, sure), Predictions(asked[::-1], unsure)]
    write_answers(competition, parts, answers, decision, tmp_path)
    assert pd.read_csv(tmp_path / "submission.csv")["kind"].tolist() == ["cat", "cat", "dog", "dog"]
    blend = read_predictions(tmp_path / "test.npz")
    np.testing.assert_allclose(blend.probs, (sure + unsure[::-1]) / 2)
    assert read_predictions(tmp_path / "oof.npz").ids.tolist() == ["000.png", "001.png"]
