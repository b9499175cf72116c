"""Fine-tuning from pretrained weights against random ones, on real photographs.

    python bench/finetune.py --data folder --backbone keras:MobileNetV2 [--backend jax] [--json]

Runs the built script for four arms: from pretrained and from random weights, with the backbone
frozen and trained whole, all else equal, epochs too. Prints out-of-fold and test accuracy with
their intervals. Weights are looked for as in any run: KERAS_HOME/models is Keras's cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "kernel" / "podium.py"
EPOCHS = 4


def main() -> None:
    """Runs the arms and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--solution", type=Path, help="labels of the test part")
    parser.add_argument("--backbone", default="keras:MobileNetV2")
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--bn-momentum", type=float, help="of batch norm, where all trains")
    parser.add_argument("--weights", nargs="+", default=("pretrained", "random"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    arms = {}
    for phase in ("frozen", "whole"):
        for weights in options.weights:
            arms[f"{phase}, {weights}"] = run_arm(options, phase, weights)
            if not options.json:
                print(format_arm(f"{phase}, {weights}", arms[f"{phase}, {weights}"]), flush=True)
    if options.json:
        print(json.dumps({"backend": options.backend, "arms": arms}))


def run_arm(options: argparse.Namespace, phase: str, weights: str) -> dict:
    """Runs the script in a folder of its own, and returns its summary."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "runtime.folder": folder,
            "runtime.backend": options.backend,
            "data.folder": options.data,
            "data.limit": options.images,
            "folds.count": 2,
            "pixels.image_size": options.side,
            "model.backbone": options.backbone,
            "model.weights": weights,
            "train.head_epochs": EPOCHS - 1,
            "train.epochs": EPOCHS,
            # With every stage frozen, the second phase trains the head alone too.
            "model.frozen_stages": 5 if phase == "frozen" else 0,
            # MobileNetV2 keeps 0.999 of its statistics at each step: in so few they would not move.
            "model.bn_momentum": options.bn_momentum if phase == "whole" else None,
            "schedule.head_lr": 5e-3,
            "schedule.peak_lr": 5e-3 if phase == "frozen" else 5e-4,
        }
        if options.solution:
            settings["data.solution"] = options.solution
        words = [f"--{name}={value}" for name, value in settings.items() if value is not None]
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environ.pop("KERAS_BACKEND", None)
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *words],
            env=environ,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{phase}, {weights}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))


def format_arm(name: str, summary: dict) -> str:
    """One line of the table."""
    scores = [f"{kind} {format_score(summary[kind])}" for kind in ("out_of_fold", "test")]
    return f"{name:<20} {'   '.join(scores)}   {summary['seconds']['total']:.0f} s"


def format_score(score: dict | None) -> str:
    """Accuracy and its interval."""
    if score is None:
        return "unknown"
    low, high = score["interval"]
    return f"{score['accuracy']:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
