"""Races whose runs are played: what they write is there, and nothing is trained."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import make_run_folder

from podium.knobs import list_settings
from podium.override import read_config
from podium.predictions import Predictions
from podium.questions import read_questions
from podium.results import write_fold_answers
from workbench import race as race_room
from workbench import race_runs
from workbench.arms import make_race
from workbench.race import main
from workbench.race_runs import choose_half, read_source

ROOT = Path(__file__).resolve().parents[2]
WRONG = {"none": 30, "flip-crop": 21, "light": 4, "mixup": 25}  # of 60 images


class Stage:
    """Plays the script: each run writes a folder, and its command line is kept."""

    def __init__(self, out: Path) -> None:
        self.out, self.failing, self.source = out, "", "one"
        self.played = list[str]()
        self.settings = dict[str, dict[str, Any]]()

    def play(self, script: Path, words: list[str]) -> int:
        config = read_config(words, {})
        settings = json.loads(json.dumps(list_settings(config)))
        folder = Path(str(config.runtime.folder))
        name = str(folder.relative_to(self.out))
        self.played.append(name)
        self.settings[name] = settings
        if name == self.failing:
            return 1
        shutil.rmtree(folder, ignore_errors=True)
        wrong = WRONG[config.augment.policy]
        make_run_folder(folder, settings=settings, wrong=wrong, folds=config.folds.count)
        state = {"state": "finished", "source": self.source}
        (folder / "status.json").write_text(json.dumps(state))
        answers = Predictions(np.array(["x"]), np.ones((1, 3), np.float32))
        for fold in range(config.folds.count):
            write_fold_answers(folder / f"fold{fold}", answers, answers)
        return 0


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path / "out")
    monkeypatch.setattr(race_runs, "run_as_kaggle", stage.play)
    monkeypatch.setattr(race_room, "build_script", lambda: None)
    monkeypatch.setattr(race_runs, "read_source", lambda script: stage.source)
    return stage


@pytest.fixture
def race(stage: Stage, tmp_path: Path) -> Callable[..., int]:
    def run(
        *words: str, policies: str = "none flip-crop light mixup", options: Sequence[str] = ()
    ) -> int:
        stage.played.clear()
        (tmp_path / "data").mkdir(exist_ok=True)
        own = ["--augment", policies, "--out", str(stage.out), "--data", str(tmp_path / "data")]
        return main([*own, *options, "--", "--folds.count=5", *words])

    return run


def test_all_run_at_a_quarter_and_the_better_half_and_the_plain_arm_at_full_length(
    race: Callable[..., int], stage: Stage, capsys: pytest.CaptureFixture[str]
):
    assert race("--train.epochs=10", "--train.head_epochs=2") == 0
    early = [f"quarter/{name}" for name in WRONG]
    assert stage.played == [*early, "none", "flip-crop", "light"]
    assert {stage.settings[name]["train.epochs"] for name in early} == {3}
    assert {stage.settings[name]["train.head_epochs"] for name in early} == {1}
    assert {stage.settings[name]["train.epochs"] for name in stage.played[4:]} == {10}
    (question,) = read_questions(stage.out)
    assert (question.name, question.chosen) == ("augment", "light")
    assert [option.name for option in question.options] == ["none", "flip-crop", "light"]
    assert any("behind at a quarter of it: mixup 0.5833" in note for note in question.notes)
    told = capsys.readouterr().out
    assert "Race: none at a quarter, 1 of 4: 260 epochs to go" in told
    assert "Race: light, 3 of 3: 60 epochs to go, about 0 min" in told
    assert "→ light: light is better than none: accuracy +0.4333" in told
    assert f'make report RUNS="{stage.out}/none {stage.out}/flip-crop {stage.out}/light"' in told


def test_two_arms_run_at_full_length_at_once(race: Callable[..., int], stage: Stage):
    assert race(policies="none light") == 0
    assert stage.played == ["none", "light"]


def test_arms_differ_in_what_is_raced_and_keep_the_folds_of_the_first_run(
    race: Callable[..., int], stage: Stage
):
    assert race(policies="none light") == 0
    one, two = (stage.settings[name] for name in ("none", "light"))
    differing = {name for name in one if one[name] != two[name]}
    assert differing == {"augment.policy", "runtime.folder", "folds.file"}
    assert one["folds.file"] is None
    assert two["folds.file"] == str(stage.out / "folds.csv")
    assert (stage.out / "folds.csv").read_bytes() == (stage.out / "none/folds.csv").read_bytes()


def test_all_images_are_raced_on_where_a_rehearsal_would_take_a_few(
    race: Callable[..., int], stage: Stage
):
    assert race(policies="none light") == 0
    assert stage.settings["none"]["data.limit"] is None
    assert stage.settings["none"]["data.test_limit"] is None


def test_a_race_that_was_cut_off_goes_on_after_the_arms_that_ended(
    race: Callable[..., int], stage: Stage, capsys: pytest.CaptureFixture[str]
):
    stage.failing = "light"
    assert race() == 1
    assert "light ended with code 1; what the arms before it have done is kept" in (
        capsys.readouterr().err
    )
    stage.failing = ""
    assert race() == 0
    assert stage.played == ["light"]
    assert "none, 1 of 3: it has ended before, and stands" in capsys.readouterr().out
    assert race() == 0
    assert stage.played == []


def test_a_changed_setting_a_new_script_or_other_folds_start_an_arm_anew_and_are_said(
    race: Callable[..., int], stage: Stage, capsys: pytest.CaptureFixture[str]
):
    assert race(policies="none light") == 0
    assert race("--train.epochs=3", policies="none light") == 0
    assert stage.played == ["none", "light"]
    assert stage.settings["none"]["runtime.resume"] == "no"
    assert "it starts anew, as train.epochs was 8 and is 3; " in capsys.readouterr().out
    stage.source = "two"
    assert race("--train.epochs=3", policies="none light") == 0
    assert stage.played == ["none", "light"]
    assert "as the script is another version; " in capsys.readouterr().out
    with (stage.out / "none" / "folds.csv").open("a") as file:
        file.write("more,0,1\n")
    assert race("--train.epochs=3", policies="none light") == 0
    assert stage.played == ["light"]
    assert "as the folds are others; " in capsys.readouterr().out


def test_a_run_that_was_begun_goes_on_and_one_with_a_torn_file_starts_anew(
    race: Callable[..., int], stage: Stage
):
    assert race(policies="none light") == 0
    (stage.out / "none" / "fold1" / "test.npz").unlink()
    (stage.out / "light" / "config.json").write_text('{"torn')
    assert race(policies="none light") == 0
    assert stage.played == ["none", "light"]
    assert stage.settings["none"]["runtime.resume"] == "auto"
    assert stage.settings["light"]["runtime.resume"] == "no"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--augment.policy=light"], "ARGS sets augment.policy, which the race itself sets"),
        (["--runtime.folder=x"], "ARGS sets runtime.folder"),
        (["--train.epoch=3"], "unknown setting 'train.epoch'; did you mean"),
        (["--folds.count=1"], "folds.count must be 2 to 20"),
    ],
)
def test_what_cannot_be_raced_is_refused_before_anything_runs(
    race: Callable[..., int],
    stage: Stage,
    words: list[str],
    refusal: str,
    capsys: pytest.CaptureFixture[str],
):
    assert race(*words) == 1
    assert refusal in capsys.readouterr().err
    assert stage.played == []


def test_half_of_those_beside_the_plain_arm_go_on_whichever_way_the_metric_goes():
    race = make_race({"lr": "1e-5 1e-4 1e-3 1e-2"})
    for metric, places in (("accuracy", [0, 1, 3]), ("log_loss", [0, 1, 2])):
        scores = [0.1, 0.4, 0.2, 0.4]
        summaries = [{"metric": metric, "out_of_fold": {"value": score}} for score in scores]
        assert choose_half(race, summaries) == places
    race = make_race({"lr": "1e-5 1e-4 1e-3"})
    assert choose_half(race, [{"metric": "auc", "out_of_fold": {"value": 1}}] * 3) == [0, 1]


def test_the_digest_of_a_script_is_read_from_it():
    digest = read_source(ROOT / "kernel" / "podium.py")
    assert digest is not None
    assert len(digest) == 64


def test_each_seed_is_a_run_on_the_same_folds_and_the_first_one_is_halved(
    stage: Stage, race: Callable[..., int]
):
    assert race(options=["--seeds", "3 5"]) == 0
    early, full = stage.played[:4], stage.played[4:]
    assert {stage.settings[name]["runtime.seed"] for name in early} == {3}
    names = [*("none", "none-seed5", "flip-crop", "flip-crop-seed5", "light", "light-seed5")]
    assert full == names
    assert [stage.settings[name]["runtime.seed"] for name in full] == [3, 5] * 3
    assert {stage.settings[name]["folds.file"] for name in full} == {str(stage.out / "folds.csv")}


def test_seeds_and_frozen_backbones_are_refused_where_they_cannot_be(
    stage: Stage, race: Callable[..., int], capsys: pytest.CaptureFixture[str]
):
    assert race(options=["--seeds", "0 0"]) == 1
    assert 'SEEDS takes whole numbers, each once, such as "0 1 2", not "0 0"' in (
        capsys.readouterr().err
    )
    assert race("--runtime.seed=4", options=["--seeds", "0 1"]) == 1
    assert "ARGS sets runtime.seed" in capsys.readouterr().err
    assert race(options=["--frozen"]) == 1
    assert "FROZEN=1 is for HEAD alone" in capsys.readouterr().err
    assert stage.played == []
