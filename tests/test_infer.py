import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from folders import make_csv_competition

from podium import main as main_room
from podium import teacher as teacher_room
from podium.blends import Blend
from podium.competition import read_competition
from podium.config import Config, DataConfig
from podium.events import Reporter
from podium.infer import answer_with_run, find_trained_run, list_runs, load_trained
from podium.inputs import CompetitionError
from podium.looks import Use, use_fields
from podium.main import main
from podium.override import read_config
from podium.pixels import read_images
from podium.predict import predict_probs
from podium.predictions import read_predictions

RUNTIME: Any = SimpleNamespace(precision="float32", devices=("cpu",))
QUICK = ["--preset=dry-run", "--pixels.image_size=16", "--pixels.batch_size=8", "--train.epochs=1"]


@pytest.fixture(autouse=True)
def own_distribution():
    yield
    keras.distribution.set_distribution(None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a competition, `data`, and a run that was trained on it in grey, `run`."""
    folder = tmp_path_factory.mktemp("trained")
    make_csv_competition(folder / "data")
    words = [f"--data.folder={folder / 'data'}", f"--runtime.folder={folder / 'run'}"]
    assert main(read_config([*QUICK, *words, "--pixels.colour=grey"])) == 0
    keras.distribution.set_distribution(None)
    return folder


def test_the_models_of_a_run_answer_as_they_did_when_they_were_trained(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Also of grey pixels, of which the session that answers knows nothing."""
    words = [f"--data.folder={trained / 'data'}", f"--runtime.folder={tmp_path}"]
    assert main(read_config([*QUICK, *words, f"--predict.run={trained / 'run'}"])) == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "submission.csv"), pd.read_csv(trained / "run" / "submission.csv")
    )
    ours, theirs = (read_predictions(one / "test.npz") for one in (tmp_path, trained / "run"))
    np.testing.assert_allclose(ours.probs, theirs.probs, atol=1e-5)
    assert "fold1: 4 images predicted" in capsys.readouterr().out
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    names = [json.loads(line)["event"] for line in lines]
    assert names[-1] == "run_finished"
    assert not list(tmp_path.glob("fold*"))


@pytest.mark.parametrize("left", [1e6, 0.0])
def test_a_run_answers_by_the_views_that_it_uses_where_there_is_time(
    trained: Path, tmp_path: Path, left: float
):
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    summary = json.loads((run / "summary.json").read_text())
    blend = Blend("mean", (0.25, 0.75))
    summary["views"] = use_fields(Use(("identity", "flip"), blend, 1.0, flip=False))
    (run / "summary.json").write_text(json.dumps(summary))
    competition = read_competition(DataConfig(folder=str(trained / "data")), 0)
    runtime: Any = SimpleNamespace(**vars(RUNTIME), deadline=time.time() + left)
    report, config = Reporter(tmp_path), read_config(QUICK)
    answers = answer_with_run(config, run, competition, runtime, report)
    plain = read_predictions(run / "test.npz")
    if left == 0:
        assert len(report.warnings) == 1
        assert report.warnings[0].startswith("the run's views are not used from here on: ")
        np.testing.assert_allclose(answers.probs, plain.probs, atol=1e-5)
        return
    assert report.warnings == []
    images = read_images(competition.test, 18, "test", config.pixels, report)
    models = [load_trained(path) for path in sorted(run.glob("fold*/model.keras"))]
    mirrored = [
        predict_probs(model, images.pixels[:, :, ::-1], np.arange(4), 8) for model in models
    ]
    expected = 0.25 * plain.probs + 0.75 * np.mean(mirrored, axis=0)
    np.testing.assert_allclose(answers.probs, expected, atol=1e-5)


@pytest.mark.parametrize("place", ["kernel", "notebooks/alice/kernel", "a/b/c/kernel"])
def test_an_attached_run_is_found_wherever_it_is_mounted(tmp_path: Path, place: str):
    model = tmp_path / place / "fold0" / "model.keras"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"")
    assert list_runs(tmp_path) == {tmp_path / place}
    assert find_trained_run("attached", tmp_path) == tmp_path / place
    assert find_trained_run(str(tmp_path / place)) == tmp_path / place


def test_no_run_or_two_are_an_error_that_names_them(tmp_path: Path):
    with pytest.raises(CompetitionError, match="and found none; attach the training kernel's"):
        find_trained_run("attached", tmp_path)
    with pytest.raises(CompetitionError, match="predict.run is /no/such/run: looked under"):
        find_trained_run("/no/such/run")
    for name in ("one", "two"):
        (tmp_path / name / "fold0").mkdir(parents=True)
        (tmp_path / name / "fold0" / "model.keras").write_bytes(b"")
    with pytest.raises(CompetitionError, match="found .*/one, .*/two; attach"):
        find_trained_run("attached", tmp_path)


def test_a_run_of_other_classes_or_with_a_broken_model_is_refused(trained: Path, tmp_path: Path):
    competition = read_competition(DataConfig(folder=str(trained / "data")), 0)
    report = Reporter(tmp_path)
    run = tmp_path / "run"
    (run / "fold0").mkdir(parents=True)
    (run / "fold0" / "model.keras").write_bytes(b"no model")
    with pytest.raises(CompetitionError, match=r"does not tell the run's classes \(FileNotF"):
        answer_with_run(Config(), run, competition, RUNTIME, report)
    (run / "summary.json").write_text(json.dumps({"classes": ["cat", "dog", "cow"]}))
    with pytest.raises(CompetitionError, match=r"knows 3 classes \(cat, dog, cow…\), the comp"):
        answer_with_run(Config(), run, competition, RUNTIME, report)
    (run / "summary.json").write_text(json.dumps({"classes": list(competition.classes)}))
    with pytest.raises(CompetitionError, match=r"fold0/model.keras cannot be loaded \("):
        answer_with_run(Config(), run, competition, RUNTIME, report)


@pytest.mark.modules
def test_a_run_that_another_one_teaches_trains_on_its_folds_and_labels(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = list[Any]()
    monkeypatch.setattr(teacher_room, "VIEWS_POLLED", 2)
    monkeypatch.setattr(
        main_room, "cross_validate", lambda plan, *_: seen.append(plan) or {"out_of_fold": {}}
    )
    words = [f"--data.folder={trained / 'data'}", f"--runtime.folder={tmp_path}"]
    taught = [f"--pseudo.run={trained / 'run'}", "--pseudo.arm=control", "--pseudo.precision=0.5"]
    assert main(read_config([*QUICK, *words, *taught])) == 0
    (plan,) = seen
    assert plan.data.pseudo.labels.shape == (2, 4)
    assert plan.config.pseudo.run == str(trained / "run")
    told = json.loads((tmp_path / "pseudo.json").read_text())
    assert told["arm"] == "control"
    assert sum(band["n"] for band in told["bands"]) == 20
    folds = [pd.read_csv(one / "folds.csv") for one in (tmp_path, trained / "run")]
    pd.testing.assert_frame_equal(*folds)
    assert "labels made by models, or hand labelling" in (tmp_path / "events.jsonl").read_text()
    settings = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert settings["pseudo.run"].startswith("a run of digest ")
