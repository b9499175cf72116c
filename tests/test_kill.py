"""A run that is killed, at any moment and as often as one likes, ends as one that never was."""

import io
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest

from podium.predictions import read_predictions
from workbench.demo import make_demo

HERE = Path(__file__).parent
JAX = keras.backend.backend() == "jax"
SETTINGS = [
    "--preset=dry-run",
    "--data.limit=150",
    "--data.test_limit=60",
    "--pixels.image_size=16",
    "--augment.policy=flip-crop",
    "--optimizer.ema=0.8",
    "--train.checkpoint_minutes=0.001",
    *(["--runtime.devices=8"] if JAX else []),
]

# Each with the call at which the process dies; seconds are drawn anew each time.
FEW = [("a step", 13), ("a checkpoint's write", 9), ("the write of predictions", 2)]
MANY = [
    *FEW,
    ("a step", 1),
    ("a step", 20),
    ("a validation", 1),
    ("a validation", 5),
    ("a checkpoint's write", 400),
    ("an epoch's row", 2),
    ("the model's write", 2),
    ("a prediction", 4),
    ("the write of predictions", 1),
    ("the write of predictions", 4),
    ("the submission's write", 1),
    ("the submission's write", 2),
    ("the report's write", 1),
    ("the forgetting of checkpoints", 1),
    *[("seconds", round(random.uniform(2, 12), 2)) for _ in range(3)],  # noqa: S311
]


def run(folder: Path, demo: Path, moment: str = "never", count: float = 0) -> int:
    """Runs the script once; returns the exit code, negative for a signal."""
    words = [*SETTINGS, f"--data.folder={demo}", f"--runtime.folder={folder}"]
    command = [sys.executable, str(HERE / "killed_run.py"), moment, str(count), *words]
    environ = os.environ | {"PYTHONPATH": "", "PYTHONHASHSEED": "random"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def unharmed(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never killed."""
    folder = tmp_path_factory.mktemp("unharmed") / "run"
    assert run(folder, demo) == 0
    return folder


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Every array of a saved model, by name."""
    found = dict[str, np.ndarray]()

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item)

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
        h5py.File(io.BytesIO(member.read())).visititems(visit)
    return found


def compare_runs(killed: Path, unharmed: Path) -> None:
    """Weights, predictions and submission: the same bits on TensorFlow, nearly on JAX."""
    same = np.testing.assert_allclose if JAX else np.testing.assert_array_equal
    close = {"atol": 2e-3} if JAX else {}
    for fold in ("fold0", "fold1"):
        expected = read_weights(unharmed / fold / "model.keras")
        weights = read_weights(killed / fold / "model.keras")
        assert weights.keys() == expected.keys()
        for name, values in expected.items():
            same(weights[name], values, **close)
    for name in ("oof.npz", "test.npz"):
        first, second = read_predictions(unharmed / name), read_predictions(killed / name)
        assert first.ids.tolist() == second.ids.tolist()
        same(second.probs, first.probs, **close)
    one, other = (pd.read_csv(folder / "submission.csv") for folder in (unharmed, killed))
    pd.testing.assert_frame_equal(one, other)


def check_kill(moment: str, count: float, folder: Path, demo: Path, unharmed: Path) -> None:
    died = run(folder, demo, moment, count) != 0
    assert died or moment == "seconds"  # which may be more than the run took
    if died:
        assert run(folder, demo) == 0
    compare_runs(folder, unharmed)
    assert not list(folder.glob("fold*/checkpoint-*"))
    rows = [pd.read_csv(one / "fold1" / "history.csv") for one in (folder, unharmed)]
    assert rows[0]["epoch"].tolist() == rows[1]["epoch"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "count"), FEW)
def test_a_run_that_was_killed_goes_on_to_the_same_end(
    moment: str, count: float, tmp_path: Path, demo: Path, unharmed: Path
):
    check_kill(moment, count, tmp_path / "run", demo, unharmed)


@pytest.mark.kill
@pytest.mark.parametrize(("moment", "count"), MANY)
def test_a_run_goes_on_to_the_same_end_from_twenty_moments(
    moment: str, count: float, tmp_path: Path, demo: Path, unharmed: Path
):
    check_kill(moment, count, tmp_path / "run", demo, unharmed)
