"""What may befall a run, one by one, in the built script: it ends well, or says what to do."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from script_runs import run_script

from podium.checkpoint import list_checkpoints
from podium.predictions import read_predictions

pytestmark = pytest.mark.modules


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def check_finished(folder: Path) -> dict[str, Any]:
    """A run that came to its end; returns its summary."""
    assert read_json(folder / "status.json")["state"] == "finished"
    assert len(pd.read_csv(folder / "submission.csv")) == 360
    summary = read_json(folder / "summary.json")
    assert summary["run"]["state"] == "complete"
    return summary


def count_warnings(folder: Path, words: str) -> int:
    return sum(words in warning for warning in read_json(folder / "summary.json")["warnings"])


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_a_submission_and_the_run_goes_on_from_there(
    tmp_path: Path, demo: Path
):
    folder = tmp_path / "run"
    done = run_script(folder, demo, "SIGTERM", 7)
    assert done.returncode == -signal.SIGTERM, done.stderr[-2000:]
    status = read_json(folder / "status.json")
    assert (status["state"], status["submission"]) == ("stopped", True)
    assert len(pd.read_csv(folder / "submission.csv")) == 360
    assert list_checkpoints(folder / "fold0")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "run_stopped"
    # The newest checkpoint is spoilt on top of that: the one before it does.
    newest, _ = list_checkpoints(folder / "fold0")
    newest.write_bytes(newest.read_bytes()[:-100])
    # A setting that would make two recipes of one run is refused, and named.
    refused = run_script(folder, demo, "never", 0, "--train.epochs=4")
    assert refused.returncode == 1
    assert "train.epochs was 2 and is 4; set it back" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = run_script(folder, demo)
    assert again.returncode == 0, again.stderr[-2000:]
    assert f"{newest.name} is not used" in again.stdout
    assert "fold 0 goes on after" in again.stdout
    check_finished(folder)


@pytest.mark.long
def test_too_little_memory_halves_the_images_at_once_and_keeps_the_updates(
    tmp_path: Path, demo: Path
):
    folder = tmp_path / "run"
    done = run_script(folder, demo, "too little memory", 16)
    assert done.returncode == 0, done.stderr[-2000:]
    check_finished(folder)
    assert count_warnings(folder, "32 images at once are too many") == 2  # in each fold
    assert pd.read_csv(folder / "fold1" / "history.csv")["updates"].tolist() == [3, 6, 9]


@pytest.mark.long
def test_a_loss_that_is_no_number_costs_a_step_back_at_a_lower_rate(tmp_path: Path, demo: Path):
    folder = tmp_path / "run"
    done = run_script(folder, demo, "a loss that is no number", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    check_finished(folder)
    assert count_warnings(folder, "the loss is no number any more; back to update") == 1
    assert np.isfinite(read_predictions(folder / "oof.npz").probs).all()
    assert pd.read_csv(folder / "fold0" / "history.csv")["epoch"].tolist() == [1, 2, 3]


@pytest.mark.slow
def test_a_full_disk_costs_checkpoints_and_models_and_no_answers(tmp_path: Path, demo: Path):
    folder = tmp_path / "run"
    done = run_script(folder, demo, "a full disk", 200_000)
    assert done.returncode == 0, done.stderr[-2000:]
    check_finished(folder)
    assert count_warnings(folder, "no checkpoint could be written") == 2
    assert count_warnings(folder, "model.keras cannot be written") == 2
    assert not list(folder.rglob("*.half*"))


@pytest.mark.long
def test_a_bug_ends_in_a_status_an_event_a_traceback_and_the_code_that_was_asked_for(
    tmp_path: Path, demo: Path
):
    folder = tmp_path / "run"
    done = run_script(folder, demo, "a bug", 9, "--runtime.failure_exit=zero")
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr
    status = read_json(folder / "status.json")
    assert status["state"] == "failed"
    assert status["submission"]  # of the first fold
    assert len(pd.read_csv(folder / "submission.csv")) == 360
