import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from folders import make_csv_competition
from layouts import REPLICAS
from receivers import serve

from podium.competition import read_competition
from podium.config import DataConfig
from podium.diary import Diary
from podium.events import ASIDES, Reporter
from podium.inputs import CompetitionError
from podium.main import main as run_podium
from podium.override import SettingsError, read_config
from podium.predictions import read_predictions
from podium.webhook import Watch

pytestmark = [
    pytest.mark.modules,  # the dry runs run the script whole
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:Even though the .*eagerly` option is set:UserWarning"),
]
QUICK = [
    "--preset=dry-run",
    "--pixels.image_size=16",
    "--pixels.batch_size=8",
    "--train.epochs=1",
]


@pytest.fixture(autouse=True)
def own_distribution():
    """A run shares batches over all devices; the next test must not."""
    yield
    keras.distribution.set_distribution(None)


def main(words: list[str]) -> int:
    try:
        return run_podium(read_config(words))
    except SettingsError as mistakes:
        return run_podium(mistakes)


def run(folder: Path, *words: str) -> tuple[int, Path]:
    target = folder / "run"
    data = [f"--data.folder={folder / 'data'}", f"--runtime.folder={target}"]
    return main([*QUICK, *data, *words]), target


def events_of(target: Path) -> list[str]:
    lines = (target / "events.jsonl").read_text().splitlines()
    return name_events(map(json.loads, lines))


def name_events(events: Iterable[dict[str, Any]]) -> list[str]:
    """What was told of how the run stands."""
    return [event["event"] for event in events if event["event"] not in ASIDES]


@pytest.mark.modules
def test_a_run_leaves_a_submission_a_report_and_every_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_csv_competition(tmp_path / "data")
    code, target = run(tmp_path)
    assert code == 0
    assert sorted(path.name for path in target.iterdir()) == [
        "config.json", "curves.png", "decisions.json", "events.jsonl", "fold0", "fold1",
        "folds.csv", "oof.npz", "report.html", "run.json", "status.json",
        "submission.csv", "summary.json", "test.npz",
    ]  # fmt: skip
    submission = pd.read_csv(target / "submission.csv")
    sample = pd.read_csv(tmp_path / "data" / "sample_submission.csv")
    assert submission["image"].tolist() == sample["image"].tolist()
    assert set(submission["kind"]) <= {"cat", "dog"}
    oof = read_predictions(target / "oof.npz")
    assert sorted(oof.ids) == [f"{row:03d}.png" for row in range(20)]
    assert json.loads((target / "config.json").read_text())["pixels.image_size"] == 16
    printed = capsys.readouterr().out
    assert "labels: column 'kind' of train.csv" in printed
    assert "fold 1 epoch  2/2 all" in printed


@pytest.mark.modules
def test_each_fold_is_predicted_by_the_model_that_did_not_see_it(tmp_path: Path):
    make_csv_competition(tmp_path / "data")
    _, target = run(tmp_path)
    oof = read_predictions(target / "oof.npz")
    folds = pd.read_csv(target / "folds.csv").set_index("id")["fold"]
    competition = read_competition(DataConfig(folder=str(tmp_path / "data")), 0)
    from podium.pixels import decode_image

    for fold in (0, 1):
        model = keras.models.load_model(target / f"fold{fold}" / "model.keras")
        side = model.input_shape[1]
        rows = [row for row, image in enumerate(oof.ids) if folds[image] == fold]
        paths = competition.train.set_index("id")["path"]
        pixels = np.stack([decode_image(paths[oof.ids[row]], side) for row in rows])
        padded = np.resize(pixels, (16, *pixels.shape[1:]))
        logits = model.predict(padded, batch_size=8, verbose=0)[: len(rows)]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected = odds / odds.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(oof.probs[rows], expected, atol=1e-4)


def test_probabilities_are_submitted_where_the_sample_asks_for_them(tmp_path: Path):
    data = make_csv_competition(tmp_path / "data")
    rows = "".join(f"{row}.png,0.5,0.5\n" for row in range(500, 504))
    (data / "sample_submission.csv").write_text("image,dog,cat\n" + rows)
    code, target = run(tmp_path)
    assert code == 0
    submission = pd.read_csv(target / "submission.csv")
    np.testing.assert_allclose(submission[["dog", "cat"]].sum(axis=1), 1, atol=1e-6)


@pytest.mark.modules
def test_broken_images_are_listed_and_broken_test_images_get_the_prior(tmp_path: Path):
    data = make_csv_competition(tmp_path / "data")
    (data / "train" / "004.png").write_bytes(b"broken")
    (data / "test" / "502.png").write_bytes(b"broken")
    (data / "test" / "503.png").unlink()
    code, target = run(tmp_path)
    assert code == 0
    summary = json.loads((target / "summary.json").read_text())
    assert summary["unreadable"] == {"training": ["004.png"], "test": ["502.png"]}
    assert read_predictions(target / "test.npz").ids.tolist() == ["500.png", "501.png"]
    assert len(pd.read_csv(target / "submission.csv")) == 4
    page = (target / "report.html").read_text()
    assert "004.png" in page
    assert "502.png" in page


def test_a_missing_sample_submission_is_one_line_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = make_csv_competition(tmp_path / "data")
    (data / "sample_submission.csv").unlink()
    code, target = run(tmp_path, "--data.holdout=0")
    assert code == 1
    error = capsys.readouterr().err
    assert error.startswith("Stopped: found no sample submission in ")
    assert "Traceback" not in error
    assert events_of(target) == ["run_started", "run_failed"]


def test_a_mistaken_setting_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]):
    assert main(["--train.epoch=3"]) == 1
    assert capsys.readouterr().err == (
        "Stopped: unknown setting 'train.epoch'; did you mean 'train.epochs'?\n"
    )


def test_an_unwritable_run_folder_stops_the_run_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*QUICK, "--runtime.folder=/proc/podium"]) == 1
    assert "the run folder /proc/podium cannot be written to" in capsys.readouterr().err


def test_a_full_disk_at_the_submission_ends_the_run_and_keeps_the_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_csv_competition(tmp_path / "data")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "submission.csv.half").symlink_to("/dev/full")
    code, target = run(tmp_path)
    assert code == 1
    assert "could not be written: No space left on device" in capsys.readouterr().err
    assert read_predictions(target / "test.npz").ids.tolist()
    assert events_of(target)[-1] == "run_failed"


def test_a_bug_keeps_its_traceback_and_is_an_event(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    import podium.main

    make_csv_competition(tmp_path / "data")
    monkeypatch.setattr(podium.main, "split_images", lambda *_: 1 / 0)
    code, target = run(tmp_path)
    assert code == 1
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err
    last = json.loads((target / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["error"]) == ("run_failed", "ZeroDivisionError")
    assert "Traceback" in last["reason"]
    status = json.loads((target / "status.json").read_text())
    assert (status["state"], status["submission"]) == ("failed", False)
    assert status["error"] == "ZeroDivisionError: division by zero"


def fail_in_second_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    import podium.crossval

    train_fold, seen = podium.crossval.train_fold, []

    def train_once(*given):
        seen.append(given)
        return train_fold(*given) if len(seen) == 1 else 1 / 0

    monkeypatch.setattr(podium.crossval, "train_fold", train_once)


def test_on_kaggle_a_run_that_fails_late_ends_with_0_a_status_and_its_submission(
    tmp_path: Path, monkeypatch
):
    make_csv_competition(tmp_path / "data")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    fail_in_second_fold(monkeypatch)
    code, target = run(tmp_path)
    assert code == 0
    status = json.loads((target / "status.json").read_text())
    assert (status["state"], status["submission"]) == ("failed", True)
    assert len(pd.read_csv(target / "submission.csv")) == 4


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs virtual devices")
def test_a_batch_that_the_devices_do_not_divide_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, _ = run(tmp_path, "--pixels.batch_size=12")
    assert code == 1
    assert capsys.readouterr().err == (
        "Stopped: pixels.batch_size is 12, which 8 devices do not divide; use 8 or 16\n"
    )


@pytest.mark.slow
def test_random_weights_of_a_known_backbone_are_warned_of_and_reported(tmp_path: Path):
    make_csv_competition(tmp_path / "data")
    words = ["--model.backbone=keras:MobileNetV3Small", "--pixels.image_size=32"]
    words += ["--model.weights=random"]
    words += ["--folds.count=2", "--train.head_epochs=0", "--train.epochs=1"]
    code, target = run(tmp_path, *words, "--predict.recalibrate=no")
    assert code == 0
    warning = json.loads((target / "summary.json").read_text())["warnings"][0]
    assert warning.startswith("keras:MobileNetV3Small starts from random weights")
    assert "starts from random weights" in (target / "report.html").read_text()


def test_every_fold_trains_in_the_precision_and_on_the_devices_of_the_run(
    tmp_path: Path, monkeypatch
):
    """Keras forgets both when its session is cleared between two folds."""
    import podium.crossval

    make_csv_competition(tmp_path / "data")
    train_fold, seen = podium.crossval.train_fold, []

    def look(*arguments):
        shared = keras.distribution.distribution()
        devices = len(shared.device_mesh.devices.ravel()) if shared else 1
        seen.append((keras.config.dtype_policy().name, devices))
        return train_fold(*arguments)

    monkeypatch.setattr(podium.crossval, "train_fold", look)
    try:
        code, _ = run(tmp_path, "--runtime.precision=mixed_bfloat16")
    finally:
        keras.config.set_dtype_policy("float32")
    assert code == 0
    devices = 8 if keras.backend.backend() == "jax" else 1
    assert seen == [("mixed_bfloat16", devices)] * 2


RESULTS = [
    "config.json", "curves.png", "fold4/history.csv", "fold4/model.keras", "folds.csv", "oof.npz",
    "report.html", "status.json", "submission.csv", "summary.json", "test.npz",
]  # fmt: skip


def leave_results(target: Path) -> None:
    (target / "fold4").mkdir(parents=True)
    for name in RESULTS:
        (target / name).write_text("of an earlier run")


def test_nothing_of_an_earlier_run_passes_for_this_ones(tmp_path: Path, monkeypatch):
    import podium.main

    leave_results(tmp_path / "run")
    seen = []

    def look(*_: object) -> None:
        seen.append(json.loads((tmp_path / "run" / "status.json").read_text()))
        raise CompetitionError("enough")

    monkeypatch.setattr(podium.main, "read_competition", look)
    code, target = run(tmp_path)
    assert code == 1
    assert [(status["state"], status["submission"]) for status in seen] == [("running", False)]
    assert json.loads((target / "status.json").read_text())["submission"] is False
    left = {path.name for path in target.rglob("*") if path.is_file()}
    assert left == {"config.json", "events.jsonl", "status.json"}


def test_a_run_that_answers_in_its_own_folder_keeps_its_models(tmp_path: Path):
    leave_results(tmp_path / "run")
    code, target = run(tmp_path, f"--predict.run={tmp_path / 'run'}")
    assert code == 1  # there is no competition
    assert (target / "fold4" / "model.keras").read_text() == "of an earlier run"
    assert (target / "summary.json").is_file()
    assert not (target / "submission.csv").exists()
    assert not (target / "test.npz").exists()


def test_curves_that_cannot_be_drawn_cost_no_fold(tmp_path: Path, monkeypatch):
    import podium.crossval

    make_csv_competition(tmp_path / "data")
    monkeypatch.setattr(podium.crossval, "write_curves", lambda *_: 1 / 0)
    code, target = run(tmp_path)
    assert code == 0
    warnings = json.loads((target / "summary.json").read_text())["warnings"]
    assert sum("the curves could not be drawn (ZeroDivisionError" in one for one in warnings) == 2


def test_a_report_that_cannot_be_written_costs_no_fold(tmp_path: Path, monkeypatch):
    import podium.crossval

    make_csv_competition(tmp_path / "data")
    monkeypatch.setattr(podium.crossval, "write_report", lambda *_: 1 / 0)
    code, target = run(tmp_path)
    assert code == 0
    assert events_of(target)[-1] == "run_finished"
    assert (target / "submission.csv").is_file()


def test_a_run_that_is_cut_off_has_a_report_and_models_that_answer(tmp_path: Path, monkeypatch):
    make_csv_competition(tmp_path / "data")
    fail_in_second_fold(monkeypatch)
    code, target = run(tmp_path)
    assert code == 1
    assert json.loads((target / "summary.json").read_text())["run"]["state"] == "running"
    page = (target / "report.html").read_text()
    assert "1 of 2" in page
    words = [f"--data.folder={tmp_path / 'data'}", f"--runtime.folder={tmp_path / 'answer'}"]
    assert main([*QUICK, *words, f"--predict.run={target}"]) == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(target / "submission.csv"), pd.read_csv(tmp_path / "answer/submission.csv")
    )


def test_on_kaggle_a_machine_that_is_not_as_asked_ends_with_0_and_a_status(
    tmp_path: Path, monkeypatch
):
    import podium.main

    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setattr(podium.main, "KAGGLE_WORKING", tmp_path)
    assert main([*QUICK, "--runtime.accelerator=tpu"]) == 0
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "failed"
    assert "runtime.accelerator is tpu, but" in status["error"]


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch) -> Path:
    """Kaggle's working folder."""
    import podium.main

    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setattr(podium.main, "KAGGLE_WORKING", tmp_path)
    return tmp_path


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_on_kaggle_whatever_stops_a_run_before_it_began_ends_with_0_and_is_told(
    kaggle: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    import podium.main

    def refuse(*_: object) -> None:
        raise RuntimeError("The TPU is already in use by process 7")

    monkeypatch.setattr(podium.main, "open_runtime", refuse)
    with serve() as server:
        monkeypatch.setenv("PODIUM_WEBHOOK", server.url)
        assert main(QUICK) == 0
        told = [one for request in server.received for one in request.json["events"]]
    status = json.loads((kaggle / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["error"] == "RuntimeError: The TPU is already in use by process 7"
    assert events_of(kaggle) == ["run_failed"] == [one["event"] for one in told]
    assert "Traceback" in told[0]["reason"]
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    assert main(QUICK) == 1
    assert "RuntimeError: The TPU is already in use" in capsys.readouterr().err


def test_on_kaggle_mistaken_settings_end_with_0_and_a_status(kaggle: Path):
    assert main(["--train.epoch=3"]) == 0
    status = json.loads((kaggle / "status.json").read_text())
    assert status["state"] == "failed"
    assert "unknown setting 'train.epoch'; did you mean 'train.epochs'?" in status["error"]
    assert events_of(kaggle) == ["run_failed"]


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_an_address_that_is_mounted_late_is_found_and_told_everything(tmp_path: Path, monkeypatch):
    import podium.main
    from podium import webhook

    monkeypatch.setattr(webhook.find_secret, "__defaults__", ({}, tmp_path / "input"))
    mounted = tmp_path / "input" / "podium-webhook" / "podium-webhook.txt"
    with serve() as server:

        def mount(*_: object) -> None:
            mounted.parent.mkdir(parents=True)
            mounted.write_text(server.url)
            raise CompetitionError("the competition came too late")

        monkeypatch.setattr(podium.main, "wait_for_inputs", mount)
        run(tmp_path)
        told = name_events(one for request in server.received for one in request.json["events"])
    assert told == ["run_started", "run_failed"]


STOPPED = """
import os, pathlib, signal, sys, time
import podium.main
from podium.override import read_config
def stop(*_):
    (pathlib.Path(sys.argv[1]) / "submission.csv").write_text("of a fold")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
podium.main.read_competition = stop
podium.main.main(read_config(["--preset=dry-run", f"--runtime.folder={sys.argv[1]}"]))
"""


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.modules
def test_a_run_that_is_ended_from_outside_says_so_everywhere(tmp_path: Path, watched: bool):
    root = Path(__file__).parents[1]
    with serve() as server:
        environ = {**os.environ, "PYTHONPATH": str(root / "src")}
        environ |= {"PODIUM_WEBHOOK": server.url} if watched else {}
        words = [sys.executable, "-c", STOPPED, tmp_path]
        done = subprocess.run(words, env=environ, check=False, timeout=120, cwd=tmp_path)
        told = name_events(one for request in server.received for one in request.json["events"])
    assert done.returncode == -signal.SIGTERM
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["submission"]) == ("stopped", True)
    assert events_of(tmp_path) == ["run_started", "run_stopped"]
    assert told == (["run_started", "run_stopped"] if watched else [])


@pytest.mark.modules
def test_nothing_is_written_outside_the_run_folder(tmp_path: Path, monkeypatch):
    make_csv_competition(tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run(tmp_path)
    assert os.listdir(elsewhere) == []
    assert sorted(os.listdir(tmp_path)) == ["data", "elsewhere", "run"]


def read_event_page() -> dict[str, set[str]]:
    """Names and fields of docs/events.md, the fields that every event has among them."""
    page = (Path(__file__).parents[1] / "docs" / "events.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    every = {row[1].strip(" `") for row in rows if len(row) == 4}
    named = {row[1].strip(" `"): row[2] for row in rows if len(row) == 5}
    return {name: every | set(re.findall(r"`([\w/]+)`", text)) for name, text in named.items()}


def test_every_event_of_a_run_has_the_fields_that_its_page_names_and_no_other(tmp_path: Path):
    data = make_csv_competition(tmp_path / "data")
    (data / "train" / "003.png").write_bytes(b"no image")
    _, target = run(tmp_path)
    page = read_event_page()
    events = [json.loads(line) for line in (target / "events.jsonl").read_text().splitlines()]
    assert {"run_started", "epoch_ended", "fold_ended", "run_finished"} <= {
        event["event"] for event in events
    }
    for event in events:
        assert set(event) == page[event["event"]], event["event"]


def test_the_events_of_runs_that_end_badly_have_the_fields_that_the_page_names(tmp_path: Path):
    _, target = run(tmp_path)  # there is no competition
    report = Reporter(target)
    diary = Diary(target, 0, "accuracy", report)
    diary.spoke = -math.inf
    diary.speak(1, 3, 5)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        Watch(report).say_stopped(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    page = read_event_page()
    events = [json.loads(line) for line in (target / "events.jsonl").read_text().splitlines()]
    names = ["run_started", "run_failed", "step_reached", "run_stopped"]
    assert name_events(events) == names
    for event in events:
        assert set(event) == page[event["event"]], event["event"]


@pytest.mark.modules
def test_every_event_that_the_code_emits_has_a_row_on_the_page():
    modules = (Path(__file__).parents[1] / "src" / "podium").glob("*.py")
    emitted = {
        name
        for module in modules
        for name in re.findall(r"\.emit\(\s*\"(\w+)\"", module.read_text())
    }
    assert emitted == set(read_event_page())


@pytest.mark.parametrize(
    "name",
    [
        "plant-pathology-2021-fgvc8",  # lists of labels
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "aptos2019-blindness-detection",  # grades
                "histopathologic-cancer-detection",  # one probability
                "ranzcr-clip-catheter-line-classification",  # probabilities that do not sum to one
                "hotel-id-2021-fgvc8",  # a ranking
            )
        ),
    ],
)
def test_a_run_answers_what_is_asked_and_is_judged_by_its_metric(tmp_path: Path, name: str):
    replica = REPLICAS[name]
    (tmp_path / "data").mkdir()
    parts = replica.write(tmp_path / "data")
    code, target = run(tmp_path, f"--data.metric={replica.metric}")
    assert code == 0
    submission = pd.read_csv(target / "submission.csv", dtype=str, keep_default_na=False)
    assert submission.iloc[:, 0].tolist() == list(parts.test)
    assert (submission != "").all(axis=None)
    summary = json.loads((target / "summary.json").read_text())
    assert summary["metric"] == summary["out_of_fold"]["metric"] == replica.metric
    decision = summary["decision"]
    used = decision["nested" if decision["adopted"] else "plain"]
    assert summary["out_of_fold"]["value"] == pytest.approx(used, nan_ok=True)
    assert (target / "report.html").stat().st_size > 0
    assert events_of(target)[-1] == "run_finished"
