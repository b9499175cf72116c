"""Whole runs of the built script on a part of the demo, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import keras

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


def run_script(
    folder: Path, demo: Path, harm: str = "never", count: float = 0, *words: str
) -> subprocess.CompletedProcess[str]:
    """Runs the script once, harmed as `killed_run` says."""
    settings = [*SETTINGS, f"--data.folder={demo}", f"--runtime.folder={folder}", *words]
    command = [sys.executable, str(HERE / "killed_run.py"), harm, str(count), *settings]
    environ = os.environ | {"PYTHONPATH": "", "PYTHONHASHSEED": "random"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
