"""Both arms are played: what they write is there, and nothing is trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import CLASSES, make_history, make_run_folder

from podium.knobs import list_settings
from podium.override import read_config
from podium.predictions import Predictions
from podium.pseudo import EDGES
from podium.questions import read_questions
from podium.results import write_fold_answers
from workbench import pseudo_race as pseudo_room
from workbench import race_runs
from workbench.pseudo_race import find_settings, main


class Stage:
    """Plays the script: an arm gets so many images wrong, in so many updates."""

    def __init__(self) -> None:
        self.wrong, self.updates = {"control": 20, "pseudo": 5}, {"control": 90, "pseudo": 90}
        self.settings = dict[str, dict[str, Any]]()

    def play(self, script: Path, words: list[str]) -> int:
        config = read_config(words, {})
        folder, arm = Path(str(config.runtime.folder)), config.pseudo.arm
        settings = json.loads(json.dumps(list_settings(config)))
        self.settings[arm] = settings
        shutil.rmtree(folder, ignore_errors=True)
        make_run_folder(folder, settings=settings, wrong=self.wrong[arm])
        answers = Predictions(np.array(["x"]), np.ones((1, 3), np.float32))
        for fold in range(2):
            history = make_history(updates=[30, 60, self.updates[arm]], seconds=1.0)
            history["images_per_second"] = 100.0 if arm == "control" else 1000.0
            history["seconds"] = 9.0 if arm == "control" else 1.0
            history["valid/metric"] = 0.9
            history.to_csv(folder / f"fold{fold}" / "history.csv", index=False)
            write_fold_answers(folder / f"fold{fold}", answers, answers)
        bands = [{"name": str(edge), "n": 10, "right": 9} for edge in EDGES]
        labelled = {"accepted": 7, "of": 40, "classes": dict(zip(CLASSES, (5, 0, 2), strict=True))}
        record = {"bands": bands, "views": 16, "folds": [labelled, labelled]}
        (folder / "pseudo.json").write_text(json.dumps(record))
        (folder / "status.json").write_text('{"state": "finished", "source": "one"}')
        return 0


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(race_runs, "run_as_kaggle", stage.play)
    monkeypatch.setattr(pseudo_room, "build_script", lambda: None)
    monkeypatch.setattr(race_runs, "read_source", lambda script: "one")
    return stage


@pytest.fixture
def race(stage: Stage, tmp_path: Path) -> Callable[..., int]:
    settings = {"folds.count": 2, "folds.file": "x", "train.epochs": 3, "data.folder": "data"}
    make_run_folder(tmp_path / "teacher", settings={**settings, "gone.setting": 1})

    def run(*words: str, out: str = "out", seeds: str = "") -> int:
        own = ["--run", str(tmp_path / "teacher"), "--out", str(tmp_path / out), "--seeds", seeds]
        return main([*own, "--", *words])

    return run


def test_the_arms_differ_in_nothing_but_the_labels_and_are_as_their_teacher_was(
    race: Callable[..., int], stage: Stage, tmp_path: Path
):
    assert race("--pseudo.precision=0.9") == 0
    control, pseudo = stage.settings["control"], stage.settings["pseudo"]
    differing = {name for name in control if control[name] != pseudo[name]}
    assert differing == {"pseudo.arm", "runtime.folder", "folds.file"}
    assert control["folds.file"] is None  # the teacher's
    assert control["pseudo.run"] == str(tmp_path / "teacher")
    assert control["train.epochs"] == 3
    assert control["pseudo.precision"] == 0.9
    assert Path(control["data.folder"]).is_absolute()
    assert "gone.setting" not in find_settings(tmp_path / "teacher")


def test_labels_are_kept_where_the_gate_says_so_and_the_words_name_the_submission(
    race: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert race() == 0
    (question,) = read_questions(tmp_path / "out")
    assert (question.name, question.asks) == ("pseudo", "Do pseudo-labels help?")
    assert [option.name for option in question.options] == ["control", "pseudo"]
    assert question.chosen == "pseudo"
    assert question.answer.startswith("pseudo is better than control: accuracy +0.2500")
    assert question.answer.endswith(f"submit: {tmp_path}/out/pseudo/submission.csv")
    notes = "\n".join(question.notes)
    assert "0.95: 90.0% of 10" in notes
    assert "fold 1: 7 of 40 test images were labelled (cat 5, emu 2)" in notes
    assert "read the rules" in notes
    assert "→ pseudo: pseudo is better" in capsys.readouterr().out


def test_labels_that_are_not_shown_to_help_are_left_out_though_they_be_cheaper(
    race: Callable[..., int], stage: Stage, tmp_path: Path
):
    stage.wrong["pseudo"] = 19
    assert race() == 0
    (question,) = read_questions(tmp_path / "out")
    assert question.chosen == "control"
    assert question.answer.endswith("control/submission.csv")


def test_each_arm_is_trained_with_every_seed(race: Callable[..., int], tmp_path: Path):
    assert race(seeds="3 4") == 0
    folders = {path.parent.name for path in (tmp_path / "out").glob("*/oof.npz")}
    assert folders == {"control", "control-seed4", "pseudo", "pseudo-seed4"}


def test_arms_of_different_updates_decide_nothing(
    race: Callable[..., int], stage: Stage, tmp_path: Path
):
    stage.updates["control"] = 61
    assert race() == 0
    (question,) = read_questions(tmp_path / "out")
    assert question.chosen == "control"
    assert "as many updates (fold 0: 61 and 90, fold 1: 61 and 90)" in question.answer


@pytest.mark.parametrize(
    ("words", "out", "refusal"),
    [
        (["--pseudo.arm=control"], "out", "ARGS sets pseudo.arm, which the race itself sets"),
        (["--folds.file=x"], "out", "ARGS sets folds.file"),
        (["--pseudo.precison=0.9"], "out", "did you mean"),
        ([], "teacher", "holds the teacher, which must stay as it is"),
        ([], ".", "holds the teacher"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(
    race: Callable[..., int],
    stage: Stage,
    words: list[str],
    out: str,
    refusal: str,
    capsys: pytest.CaptureFixture[str],
):
    assert race(*words, out=out) == 1
    assert refusal in capsys.readouterr().err
    assert not stage.settings
