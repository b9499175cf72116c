import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks import make_competition, make_predictions

from podium.checkpoint import Checkpoint, write_checkpoint
from podium.config import Config, FoldsConfig
from podium.folds import FoldError
from podium.knobs import list_knobs
from podium.learning import ScheduleConfig
from podium.override import read_config
from podium.predictions import write_predictions
from podium.resume import (
    FREE_SETTINGS,
    ResumeError,
    adopt_run,
    check_same_run,
    describe_run,
    find_unfinished,
    list_finished_folds,
    read_run,
    write_run,
)
from podium.runtime import Runtime

COMPETITION = make_competition(["x", "y"], "label")
RUNTIME = Runtime("gpu", "jax", ("gpu:0",), "mixed_float16", Path(), 0.0, 1.0)


def describe(*words: str, runtime: Runtime = RUNTIME, competition: Any = COMPETITION) -> Any:
    return describe_run(read_config(words), runtime, competition)


def finish_fold(folder: Path, fold: int) -> None:
    (folder / f"fold{fold}").mkdir(parents=True, exist_ok=True)
    for name in ("oof.npz", "test.npz"):
        write_predictions(make_predictions(["a", "b"], 3), folder / f"fold{fold}" / name)


def make_run(folder: Path, finished: int = 1, state: str = "running") -> Path:
    """A run of 5 folds, some of them finished, the next one with a checkpoint."""
    for fold in range(finished):
        finish_fold(folder, fold)
    if finished < 5:
        (folder / f"fold{finished}").mkdir(parents=True)
        write_checkpoint(folder / f"fold{finished}", Checkpoint({}, {"a": np.ones(2)}))
    (folder / "folds.csv").write_text("id,label,fold\na,0,0\n")
    (folder / "status.json").write_text(json.dumps({"state": state}))
    write_run(describe(), folder)
    return folder


def resuming(value: str, **sections: Any) -> Config:
    return replace(read_config([f"--runtime.resume={value}"]), **sections)


def test_a_run_goes_on_with_itself(tmp_path: Path):
    write_run(describe(), tmp_path)
    assert check_same_run(read_run(tmp_path), describe()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train.epochs=9"], r"settings: train.epochs was 8 and is 9; set it back, or runtime.r"),
        (["--pixels.batch_size=64"], "pixels.batch_size was 32 and is 64; set it back"),
        (["--model.drop_path=0.5"], "model.drop_path was none and is 0.5; set it back"),
        (["--head.hidden=1"], "head.hidden was 0 and is 1; set it back"),
        (["--predict.recalibrate=no"], "predict.recalibrate was if-better and is no; set it back"),
        (["--folds.count=4"], "folds.count was 5 and is 4"),
        (["--data.metric=qwk"], "data.metric was auto and is qwk"),
        (
            ["--runtime.seed=1", "--augment.policy=none"],
            "runtime.seed was 0 and is 1; augment.policy was flip-crop and is none; set them back",
        ),
    ],
)
def test_each_setting_that_changed_is_named_with_both_values(words: list[str], message: str):
    with pytest.raises(ResumeError, match=message):
        check_same_run(describe(), describe(*words))


def test_a_run_goes_on_in_another_place_and_for_another_time():
    free: dict[str, Any] = {
        "runtime.folder": "elsewhere",
        "runtime.session_hours": 2.0,
        "runtime.reserve_minutes": 3.0,
        "runtime.resume": "no",
        "runtime.failure_exit": "one",
        "runtime.accelerator": "gpu",
        "runtime.devices": 1,
        "data.folder": "/kaggle/input/elsewhere",
        "data.sample_submission": "elsewhere.csv",
        "data.solution": "elsewhere.csv",
        "pixels.cache": "none",
        "pixels.cache_share": 0.1,
        "augment.workers": 1,
        "train.checkpoint_minutes": 1.0,
        "predict.run": "attached",
        "predict.views": "flip",
        "predict.most_views": 48,
    }
    assert set(free) | {"schedule.range_test"} == FREE_SETTINGS
    assert {knob.name for knob in list_knobs()} >= FREE_SETTINGS
    config = replace(read_config([], free), schedule=ScheduleConfig(range_test=True))
    assert check_same_run(describe(), describe_run(config, RUNTIME, COMPETITION)) == []


def test_backend_and_precision_are_compared_as_they_were_settled():
    same = describe("--runtime.backend=jax", "--runtime.precision=mixed_float16")
    assert check_same_run(describe(), same) == []
    other = describe(runtime=replace(RUNTIME, backend="tensorflow", precision="float32"))
    words = "runtime.backend was jax and is tensorflow; runtime.precision was mixed_float16 and is"
    with pytest.raises(ResumeError, match=words):
        check_same_run(describe(), other)


def test_other_devices_and_another_script_are_told_and_allowed():
    was = describe() | {"source": "a" * 64}
    now = describe(runtime=replace(RUNTIME, devices=("gpu:0", "gpu:1"))) | {"source": "b" * 64}
    devices, source = check_same_run(was, now)
    assert devices.startswith("the run was begun on 1 devices and goes on on 2: sums are taken in")
    assert "another version of the script (aaaaaaaaaaaa, now bbbbbbbbbbbb)" in source


def test_a_setting_that_one_version_of_the_script_lacks_is_not_compared():
    was = describe()
    del was["settings"]["train.clean_epochs"]
    was["settings"]["train.gone"] = 3
    assert check_same_run(was, describe()) == []


def change_labels(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(label=table["label"].to_numpy()[::-1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": change_labels(COMPETITION.train)}, "files: the training images' ids, labels"),
        ({"train": COMPETITION.train[:3]}, "the training images' ids, labels and groups differ;"),
        ({"train": COMPETITION.train.assign(group="p")}, "the training images' ids, labels and gr"),
        ({"test": COMPETITION.test[::-1]}, "the test images' ids differ; attach the files that"),
        ({"task": COMPETITION.task._replace(classes=("a", "b", "c"))}, "the classes and what is"),
        ({"task": COMPETITION.task._replace(metric="qwk")}, "the classes and what is asked differ"),
    ],
)
def test_another_competition_is_refused(changed: Any, message: str):
    with pytest.raises(ResumeError, match=message):
        check_same_run(describe(), describe(competition=replace(COMPETITION, **changed)))


def test_where_the_same_images_lie_is_of_no_matter():
    moved = replace(COMPETITION, train=COMPETITION.train.assign(path="/elsewhere"))
    moved = replace(moved, test=moved.test.assign(path="/elsewhere", label=0))
    assert check_same_run(describe(), describe(competition=moved)) == []


def test_folds_of_a_file_count_by_what_is_in_it(tmp_path: Path):
    files = [tmp_path / name for name in ("one.csv", "two.csv", "other.csv")]
    for path, fold in zip(files, (0, 0, 1), strict=True):
        path.write_text(f"id,label,fold\na,0,{fold}\n")
    one, two, other = (describe(f"--folds.file={path}") for path in files)
    assert check_same_run(one, two) == []
    with pytest.raises(ResumeError, match="folds.file was a file of digest .* and is a file of"):
        check_same_run(one, other)
    with pytest.raises(ResumeError, match="folds.file was none and is a file of digest"):
        check_same_run(describe(), one)
    with pytest.raises(FoldError, match="cannot be read"):
        describe(f"--folds.file={tmp_path / 'none.csv'}")


@pytest.mark.parametrize("state", ["running", "failed", "stopped", "finished"])
def test_a_run_with_folds_left_is_gone_on_with_however_it_ended(tmp_path: Path, state: str):
    run = make_run(tmp_path / "run", state=state)
    assert find_unfinished(Config(), run, tmp_path / "input") == run
    assert find_unfinished(Config(), tmp_path / "new", tmp_path) == run
    assert find_unfinished(resuming(str(run)), tmp_path / "new", tmp_path / "input") == run
    assert find_unfinished(resuming("no"), run, tmp_path) is None


def test_a_checkpoint_alone_is_enough_to_go_on_with(tmp_path: Path):
    run = make_run(tmp_path, finished=0)
    assert find_unfinished(Config(), run, tmp_path / "input") == run


def test_with_all_folds_finished_only_a_run_that_did_not_finish_goes_on(tmp_path: Path):
    run = make_run(tmp_path / "run", finished=5, state="finished")
    assert find_unfinished(Config(), run, tmp_path / "input") is None
    assert find_unfinished(Config(), tmp_path / "new", tmp_path) is None
    for text in ('{"state": "running"}', "[]", "no json"):
        (run / "status.json").write_text(text)
        assert find_unfinished(Config(), run, tmp_path / "input") == run


def test_a_run_that_has_learned_nothing_is_none(tmp_path: Path):
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "history.csv").touch()
    write_run(describe(), tmp_path)
    assert find_unfinished(Config(), tmp_path, tmp_path / "input") is None


def test_the_run_folder_goes_before_what_is_attached(tmp_path: Path):
    own, other = make_run(tmp_path / "own"), make_run(tmp_path / "input" / "other")
    assert find_unfinished(Config(), own, tmp_path / "input") == own
    assert find_unfinished(Config(), tmp_path / "new", tmp_path / "input") == other


@pytest.mark.parametrize("place", ["kernel", "notebooks/alice/kernel", "a/b/c/kernel"])
def test_an_attached_run_is_found_wherever_it_is_mounted(tmp_path: Path, place: str):
    run = make_run(tmp_path / place)
    assert find_unfinished(Config(), tmp_path / "new", tmp_path) == run
    assert find_unfinished(Config(), tmp_path / "new", tmp_path / "none") is None


def test_a_run_too_deep_in_the_inputs_is_not_looked_for(tmp_path: Path):
    make_run(tmp_path / "a/b/c/d/kernel")
    assert find_unfinished(Config(), tmp_path / "new", tmp_path) is None


def test_of_several_attached_runs_one_must_be_named(tmp_path: Path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    make_run(tmp_path / "whole", finished=5, state="finished")
    words = f"several unfinished runs are attached: {one}, {two}; set runtime.resume to one of"
    with pytest.raises(ResumeError, match=words):
        find_unfinished(Config(), tmp_path / "new", tmp_path)
    assert find_unfinished(resuming(str(two)), tmp_path / "new", tmp_path) == two


@pytest.mark.parametrize("kind", ["none", "empty", "finished"])
def test_a_folder_without_an_unfinished_run_cannot_be_named(tmp_path: Path, kind: str):
    if kind == "finished":
        make_run(tmp_path / kind, finished=5, state="finished")
    elif kind == "empty":
        (tmp_path / kind).mkdir()
    words = f"runtime.resume is {tmp_path / kind}, which holds no unfinished run"
    with pytest.raises(ResumeError, match=words):
        find_unfinished(resuming(str(tmp_path / kind)), tmp_path, tmp_path)


def test_a_run_that_is_there_for_its_folds_or_its_models_is_not_gone_on_with(tmp_path: Path):
    run = make_run(tmp_path / "run")
    for file in (run, run / "folds.csv", run / ".." / "run"):
        config = resuming("auto", folds=FoldsConfig(file=str(file)))
        assert find_unfinished(config, tmp_path / "new", tmp_path) is None
        assert find_unfinished(config, run, tmp_path / "none") is None
    config = read_config([f"--predict.run={run}"])
    assert find_unfinished(config, tmp_path / "new", tmp_path) is None
    other = make_run(tmp_path / "other")
    config = resuming("auto", folds=FoldsConfig(file=str(run)))
    assert find_unfinished(config, tmp_path / "new", tmp_path) == other


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"settings": {}}'])
def test_a_damaged_account_of_a_run_that_has_learned_is_not_thrown_away(tmp_path: Path, text: str):
    run = make_run(tmp_path)
    (run / "run.json").write_text(text)
    with pytest.raises(ResumeError, match="run.json does not tell how that run was begun"):
        find_unfinished(Config(), run, tmp_path / "none")


def test_a_foreign_account_among_the_inputs_is_passed_over(tmp_path: Path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "run.json").write_text("[]")
    assert find_unfinished(Config(), tmp_path / "new", tmp_path) is None


@given(data=st.data())
def test_a_torn_fold_is_not_finished(tmp_path_factory: pytest.TempPathFactory, data: Any):
    folder = tmp_path_factory.mktemp("run")
    for fold in range(2):
        finish_fold(folder, fold)
    assert list_finished_folds(folder, 5) == [0, 1]
    assert list_finished_folds(folder, 1) == [0]
    path = folder / "fold0" / data.draw(st.sampled_from(["oof.npz", "test.npz"]))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert list_finished_folds(folder, 5) == [1]
    path.unlink()
    assert list_finished_folds(folder, 5) == [1]


def list_contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_an_adopted_run_is_there_as_it_was_and_can_be_written_to(tmp_path: Path):
    source, folder = make_run(tmp_path / "input"), tmp_path / "working"
    (source / "fold0" / "model.keras").write_bytes(b"model")
    (source / "fold1" / "checkpoint-2.npz.half").write_bytes(b"half")
    (source / "events.jsonl").write_text("of the session before")
    for path in source.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    finish_fold(folder, 4)  # of another run, and not to be taken for one of this
    (folder / "events.jsonl").write_text("of this session")
    adopt_run(source, folder)
    there, here = list_contents(source), list_contents(folder)
    left_out = {"fold1/checkpoint-2.npz.half", "events.jsonl", "status.json"}
    assert here.pop("events.jsonl") == b"of this session"
    assert here == {name: there[name] for name in there if name not in left_out}
    assert all((folder / name).stat().st_mode & 0o200 for name in here)
    assert find_unfinished(Config(), folder, tmp_path / "none") == folder
    for path in source.rglob("*"):
        path.chmod(0o755)


def test_a_run_that_is_adopted_where_it_lies_stays_as_it_is(tmp_path: Path):
    run = make_run(tmp_path / "run")
    before = list_contents(run)
    adopt_run(tmp_path / "run" / ".." / "run", run)
    assert list_contents(run) == before


def test_without_room_a_run_is_not_adopted_by_half(tmp_path: Path):
    source, folder = make_run(tmp_path / "input"), tmp_path / "working"
    make_run(folder)
    (folder / "folds.csv.half").symlink_to("/dev/full")
    with pytest.raises(ResumeError, match=r"cannot be copied to .*No space left.*free room there"):
        adopt_run(source, folder)
    assert find_unfinished(Config(), folder, tmp_path / "none") is None


COPIER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from podium.resume import adopt_run
sources = [Path(name) for name in sys.argv[2:4]]
for turn in range(10**9):
    adopt_run(sources[turn % 2], Path(sys.argv[4]))
    print(turn, flush=True)
"""


def test_a_copy_killed_in_the_middle_is_no_run_and_is_made_anew(tmp_path: Path):
    sources = [make_run(tmp_path / name, finished=3) for name in ("one", "two")]
    for number, source in enumerate(sources):
        for fold in range(3):
            (source / f"fold{fold}" / "model.keras").write_bytes(bytes([number]) * 2_000_000)
        (source / "fold3" / "history.csv").write_text(str(number))
        (source / "status.json").unlink()
    source, folder = Path(__file__).resolve().parents[1] / "src", tmp_path / "working"
    folder.mkdir()
    cut = 0
    for turns in (0, 1, 2, 3):
        words = [sys.executable, "-c", COPIER, *map(str, [source, *sources, folder])]
        copier = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while turns == 0 and not list(folder.glob("fold0/*")):
            pass
        for _ in range(turns):
            copier.stdout.readline()
        copier.send_signal(signal.SIGKILL)
        copier.communicate()
        if find_unfinished(Config(), folder, tmp_path / "none") == folder:
            there = list_contents(folder)
            assert there in [list_contents(source) for source in sources]
        else:
            cut += 1
        adopt_run(sources[0], folder)
        assert not (folder / "fold0" / "model.keras.half").exists()
        assert list_contents(folder) == list_contents(sources[0])
    assert cut
