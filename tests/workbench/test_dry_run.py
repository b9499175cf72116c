import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hub_modules import export_tiny_module
from PIL import Image

from podium.augment import crop_margin
from podium.override import read_config
from podium.pixels import decode_image
from podium.predictions import read_predictions, select_probs
from workbench.dry_run import (
    RUN,
    choose_settings,
    command_line,
    format_score_of,
    main,
    parse_options,
    resolve_module,
    run_as_kaggle,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "kernel" / "podium.py"


def test_what_follows_two_dashes_goes_to_the_script():
    options, extra = parse_options(["--backend", "jax", "--", "--train.epochs", "3"])
    assert options.backend == "jax"
    assert extra == ["--train.epochs", "3"]


def test_a_folder_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse_options(["--data", "/no/such/folder"])
    assert "DATA=/no/such/folder is not a folder" in capsys.readouterr().err


def test_the_settings_of_a_rehearsal_are_settings_of_the_script(tmp_path: Path):
    options, _ = parse_options(["--data", str(tmp_path), "--backend", "jax"])
    settings = choose_settings(options)
    config = read_config(command_line(settings), {})
    assert config.data.folder == str(tmp_path)
    assert (config.runtime.backend, config.runtime.devices) == ("jax", 8)
    assert config.folds.count == 2


def test_a_module_in_a_folder_is_named_from_the_root_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "module").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_module("hub:module") == f"hub:{tmp_path}/module"
    for name in ("hub:imagenet21k-b0", "tiny", "module"):
        assert resolve_module(name) == name


def test_an_unknown_test_score_says_how_to_know_it():
    assert format_score_of(None) == "unknown; SOLUTION=csv names the truth"
    score = {"metric": "accuracy", "value": 0.985, "interval": [0.97, 0.99], "n": 360}
    assert format_score_of(score) == "0.9850  (95 %: 0.9700 to 0.9900, n = 360)"


def test_the_copy_runs_isolated_under_another_name_and_help_needs_no_library(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import os, sys\n"
        "print(sys.argv[0].rpartition('/')[2], sys.flags.isolated, os.listdir('.'))\n"
    )
    assert run_as_kaggle(probe, []) == 0
    assert capfd.readouterr().out == "script.py 1 []\n"
    assert run_as_kaggle(SCRIPT, ["--help"]) == 0
    assert "--train.epochs" in capfd.readouterr().out


def test_a_mistaken_setting_stops_the_script_with_a_code_and_one_message(
    capfd: pytest.CaptureFixture[str],
):
    assert run_as_kaggle(SCRIPT, ["--train.epoch", "3", "--folds.count=1"]) == 1
    assert capfd.readouterr().err.splitlines() == [
        "These settings cannot be used:",
        "  unknown setting 'train.epoch'; did you mean 'train.epochs'?",
        "  folds.count must be 2 to 20, not '1'",
    ]


def run_script(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the built script, alone with its command line, in an empty folder."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "XLA", "JAX"))}
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *words],
        cwd=elsewhere,
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def turn() -> Iterator[None]:
    """Tests of runs/dry-run take turns, whichever of pytest's processes they are in."""
    RUN.parent.mkdir(exist_ok=True)
    with (RUN.parent / "tests-take-turns.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_second_dry_run_does_not_empty_the_folder_of_the_first(
    turn: None, capsys: pytest.CaptureFixture[str]
):
    with RUN.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([]) == 1
    assert "Another dry run is writing to" in capsys.readouterr().err


def make_dry_run(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "dry-run", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_demo_reaches_97_percent_and_the_test_part_agrees(turn: None, backend: str):
    done = make_dry_run(*(["BACKEND=jax"] if backend == "jax" else []))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((RUN / "summary.json").read_text())
    assert summary["run"]["backend"] == backend
    assert summary["run"]["devices"] == (8 if backend == "jax" else 1)
    # Out of fold speaks of models one by one; their average may well be better than that.
    oof, test = summary["out_of_fold"], summary["test_single"]
    assert oof["value"] >= 0.97
    assert test["interval"][0] <= oof["value"] <= test["interval"][1]
    check_outputs(RUN, ROOT / "runs" / "demo" / "digits" / "sample_submission.csv")
    check_export(RUN, ROOT / "runs" / "demo" / "digits")
    assert "out-of-fold accuracy" in done.stdout
    assert f"{oof['value']:.4f}" in done.stdout


def check_export(run: Path, data: Path) -> None:
    """A fold's model.keras, where there is only Keras, answers raw pixels as the run did."""
    config = read_config([], json.loads((run / "config.json").read_text()))
    side = config.pixels.image_size + crop_margin(config.augment, config.pixels.image_size)
    folds = pd.read_csv(run / "folds.csv", dtype={"id": str})
    ids = folds["id"][folds["fold"] == 0].tolist()[:64]
    pixels = np.stack([decode_image(str(data / "train" / one), side) for one in ids])
    np.save(run / "pixels.npy", pixels)
    program = (
        "import sys, keras, numpy as np; "
        "model = keras.models.load_model(sys.argv[1], compile=False); "
        "logits = model.predict(np.load(sys.argv[2]), verbose=0); "
        "np.save(sys.argv[2], keras.ops.softmax(logits)); "
        "print([name for name in sys.modules if 'podium' in name])"
    )
    words = [sys.executable, "-I", "-c", program, str(run / "fold0" / "model.keras")]
    done = subprocess.run(
        [*words, str(run / "pixels.npy")], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    expected = select_probs(read_predictions(run / "oof.npz"), ids)
    np.testing.assert_allclose(np.load(run / "pixels.npy"), expected, atol=1e-5)


def check_outputs(run: Path, sample: Path) -> None:
    submission = pd.read_csv(run / "submission.csv", dtype=str)
    expected = pd.read_csv(sample, dtype=str)
    assert submission.columns.tolist() == expected.columns.tolist()
    assert submission.iloc[:, 0].tolist() == expected.iloc[:, 0].tolist()
    assert submission.notna().all().all()
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.json",
        "events.jsonl",
        "fold0",
        "folds.csv",
        "oof.npz",
        "report.html",
        "submission.csv",
        "summary.json",
        "test.npz",
    }
    page = (run / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert not [name for name in names if name.endswith(".half")]


def make_photos(folder: Path, layout: str) -> Path:
    """A competition of 60 colour photographs in 3 classes, and 6 to predict; two are broken."""
    rng = np.random.default_rng(0)
    data = folder / layout
    labels = [f"c {row % 3}" for row in range(60)]
    for row, label in enumerate(labels):
        place = data / "train" / (label if layout == "folders" else "")
        place.mkdir(parents=True, exist_ok=True)
        shade = np.array([40, 120, 200])[row % 3]
        pixels = rng.normal(shade, 20, (50, 70, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{row}.jpg")
    (data / "test").mkdir()
    for row in range(100, 106):
        Image.fromarray(rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(
            data / "test" / f"{row}.jpg"
        )
    for broken in (next((data / "train").rglob("7.jpg")), data / "test" / "103.jpg"):
        broken.write_bytes(broken.read_bytes()[:300])
    if layout == "csv":
        names = [f"{row}.jpg" for row in range(60)]
        pd.DataFrame({"image": names, "kind": labels}).to_csv(data / "train.csv", index=False)
    ids = [f"{row}.jpg" for row in range(100, 107)]  # the last has no file
    pd.DataFrame({"image": ids, "kind": "c 0"}).to_csv(data / "sample_submission.csv", index=False)
    return data


def check_photos(folder: Path, data: Path) -> dict[str, Any]:
    """The summary of a run on such photographs, which names the two that are broken; what the run
    wrote lies in its own folder alone.
    """
    check_outputs(folder / "run", data / "sample_submission.csv")
    summary = json.loads((folder / "run" / "summary.json").read_text())
    broken = {part: [Path(one).name for one in ids] for part, ids in summary["unreadable"].items()}
    assert broken == {"training": ["7.jpg"], "test": ["103.jpg"]}
    assert not list((folder / "elsewhere").iterdir())
    return dict(summary)


@pytest.mark.slow
def test_photographs_with_broken_and_missing_files_still_end_in_a_submission(tmp_path: Path):
    data = make_photos(tmp_path, "csv")  # folders: below, of a module that cannot be ported
    words = ["--preset", "dry-run", f"--data.folder={data}", f"--runtime.folder={tmp_path}/run"]
    words += ["--model.backbone=keras:MobileNetV3Small", "--model.weights=random"]
    done = run_script(tmp_path, *words, "--pixels.image_size=32", "--train.epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = check_photos(tmp_path, data)
    assert any("random weights" in warning for warning in summary["warnings"])


def rehearse_apart(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What make dry-run makes of these options, in a run folder of its own, so without turns."""
    options, extra = parse_options(words)
    settings = choose_settings(options) | {"runtime.folder": folder / "run"}
    return run_script(folder, *command_line(settings), *extra)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        ("tensorflow", "float32"),
        pytest.param("jax", "mixed_bfloat16", marks=pytest.mark.long),  # two minutes of compiling
    ],
)
def test_a_ported_module_trains_whole_on_both_backends_and_as_on_a_tpu(
    exported: Path, tmp_path: Path, backend: str, precision: str
):
    data, run = make_photos(tmp_path, "csv"), tmp_path / "run"
    words = ["--data", str(data), "--backbone", f"hub:{exported}", "--backend", backend]
    words += ["--", "--pixels.image_size", "32", "--train.epochs", "1"]
    done = rehearse_apart(tmp_path, *words, "--runtime.precision", precision)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ported 359 variables to keras:EfficientNetV2B0, input unit; largest" in done.stdout
    summary = check_photos(tmp_path, data)
    assert (summary["run"]["backend"], summary["warnings"]) == (
        backend,
        [one for one in summary["warnings"] if "random weights" not in one],
    )
    phases = pd.read_csv(run / "fold0" / "history.csv")["phase"].tolist()
    assert phases == ["head", "all"]
    check_unfrozen(run / "backbone.weights.h5", run / "fold0" / "model.keras")


def check_unfrozen(start: Path, trained: Path) -> None:
    """Kernels and moving statistics of the backbone are not those that it started from; the
    trained model loads in a process that has Keras and nothing of ours.
    """
    program = (
        "import sys, keras; "
        "model = keras.models.load_model(sys.argv[1], compile=False); "
        "body = next(one for one in model._flatten_layers() if one.name == 'backbone'); "
        "after = {one.path: keras.ops.convert_to_numpy(one) for one in body.weights}; "
        "body.load_weights(sys.argv[2]); "
        "print([name.rpartition('/')[2] for name, value in after.items() if 'stem_' in name "
        "and (value != {one.path: keras.ops.convert_to_numpy(one) for one in body.weights}[name])"
        ".any()])"
    )
    words = [sys.executable, "-I", "-c", program, str(trained), str(start)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    changed = "['kernel', 'gamma', 'beta', 'moving_mean', 'moving_variance']"
    assert done.stdout.strip() == changed, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_module_that_cannot_be_ported_trains_on_tensorflow_and_is_refused_on_jax(
    tmp_path: Path, backend: str
):
    data = make_photos(tmp_path, "folders")
    module = export_tiny_module(tmp_path / "module")
    words = ["--data", str(data), "--backbone", f"hub:{module}", "--backend", backend]
    done = rehearse_apart(tmp_path, *words, "--", "--pixels.image_size=32", "--train.epochs=1")
    if backend == "tensorflow":
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it is trained as it is: TensorFlow alone, in float32" in done.stdout
        check_photos(tmp_path, data)
    else:
        assert done.returncode != 0
        assert "Stopped: " in done.stderr
        assert "as it is, only TensorFlow can run it: choose another backbone" in done.stderr


@pytest.mark.slow
def test_a_batch_that_eight_devices_do_not_divide_stops_before_training(tmp_path: Path):
    words = ["--preset=dry-run", "--runtime.backend=jax", "--runtime.devices=8"]
    done = run_script(tmp_path, *words, "--pixels.batch_size=30", f"--runtime.folder={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Stopped: pixels.batch_size is 30, which 8 devices do not divide; use 24 or 32"
    )
