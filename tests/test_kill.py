"""A run that is killed, at any moment and as often as one likes, ends as one that never was."""

import io
import random
import signal
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from script_runs import JAX, run_script

from podium.predictions import read_predictions

# Each with the call at which the process dies; seconds are drawn when it is their turn.
FEW = [("a step", 13), ("a checkpoint's write", 9), ("the write of predictions", 2)]
MANY = [
    *FEW,
    ("a step", 1),
    ("a step", 17),
    ("a validation", 1),
    ("a validation", 5),
    ("a checkpoint's write", 400),
    ("an epoch's row", 2),
    ("the model's write", 2),
    ("a prediction", 4),
    ("a look", 3),
    ("a look", 12),
    ("the write of looks", 1),
    ("the write of predictions", 1),
    ("the write of predictions", 4),
    ("the submission's write", 1),
    ("the submission's write", 2),
    ("the report's write", 1),
    ("the forgetting of checkpoints", 1),
    *[("seconds", turn) for turn in range(3)],
]


def run(folder: Path, demo: Path, moment: str = "never", count: float = 0) -> int:
    """Runs the script once; returns the exit code, negative for a signal."""
    done = run_script(folder, demo, moment, count)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


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
    if moment == "seconds":
        count = random.uniform(3, 12)
        print(f"killed after {count:.2f} s")
    died = run(folder, demo, moment, count) != 0
    assert died or moment == "seconds"  # which may be more than the run took
    if died:
        assert run(folder, demo) == 0
    compare_runs(folder, unharmed)
    assert not list(folder.glob("fold*/checkpoint-*"))
    rows = [pd.read_csv(one / "fold1" / "history.csv") for one in (folder, unharmed)]
    assert rows[0]["epoch"].tolist() == rows[1]["epoch"].tolist()


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_goes_on_to_the_same_end(
    tmp_path: Path, demo: Path, unharmed: Path
):
    for moment, count in FEW:
        assert run(tmp_path / "run", demo, moment, count) == -signal.SIGKILL
    assert run(tmp_path / "run", demo) == 0
    compare_runs(tmp_path / "run", unharmed)


@pytest.mark.kill
@pytest.mark.parametrize(("moment", "count"), MANY)
def test_a_run_goes_on_to_the_same_end_from_twenty_moments(
    moment: str, count: float, tmp_path: Path, demo: Path, unharmed: Path
):
    check_kill(moment, count, tmp_path / "run", demo, unharmed)


@pytest.fixture(scope="session")
def seeing(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never killed, and used its views."""
    folder = tmp_path_factory.mktemp("seeing") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAGER", "yes")
        assert run(folder, demo) == 0
    return folder


# Two folds have six looks each at their own parts, and five at the test part.
@pytest.mark.kill
@pytest.mark.parametrize(
    ("moment", "count"), [("a look", 15), ("a look", 20), ("the write of looks", 3)]
)
def test_a_run_that_is_killed_while_it_looks_at_the_test_part_goes_on_to_the_same_end(
    moment: str,
    count: float,
    tmp_path: Path,
    demo: Path,
    seeing: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("EAGER", "yes")
    check_kill(moment, count, tmp_path / "run", demo, seeing)
    assert len(list((tmp_path / "run").glob("fold*/test-views.npz"))) == 2
