"""Runs the built script in a process of its own, which kills itself with SIGKILL where it is told.

    python killed_run.py MOMENT COUNT --setting=value …

A moment is a function of the script, at whose so manieth call the process dies, half-way through
where it writes; or "seconds", after so many of which it dies wherever it is; or "never".
"""

import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[1] / "kernel" / "podium.py"

# What the process is in the midst of, and the function of the script that does it.
MOMENTS = {
    "a step": "Stretch.on_train_batch_end",
    "a validation": "mark_probs",
    "a checkpoint's write": "DigestStream.write",
    "an epoch's row": "format_rows",
    "the model's write": "strip_augmentation",
    "a prediction": "predict_probs",
    "the write of predictions": "write_predictions",
    "the submission's write": "write_submission",
    "the report's write": "write_report",
    "the forgetting of checkpoints": "forget_checkpoints",
}


def main() -> None:
    moment, count, words = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    spec = importlib.util.spec_from_file_location("podium_script", SCRIPT)
    script = sys.modules["podium_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if moment == "seconds":
        timer = threading.Timer(count, die)
        timer.daemon = True
        timer.start()
    elif moment != "never":
        plant(script, MOMENTS[moment], int(count))
    sys.exit(script.main(script.read_config(words)))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(script: Any, name: str, count: int) -> None:
    """Has the process die in the so manieth call of a function or method."""
    *owners, name = name.split(".")
    owner = getattr(script, owners[0]) if owners else script
    real, calls = getattr(owner, name), [0]

    def call_or_die(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] != count:
            return real(*given, **named)
        if name == "write":  # half of what was to be written is
            real(given[0], given[1][: len(given[1]) // 2])
            given[0].flush()
        die()
        return None

    setattr(owner, name, call_or_die)


if __name__ == "__main__":
    main()
