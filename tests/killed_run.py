"""Runs the built script in a process of its own, which is killed or harmed where it is told.

    python killed_run.py HARM COUNT --setting=value …

A harm is a moment, a function of the script, at whose so manieth call the process dies by SIGKILL,
half-way through where it writes; "seconds", after so many of which it dies wherever it is; one of
those below it, which are not its end; or "never". Where EAGER is set in the environment, views are
used whatever the evidence says.
"""

import importlib.util
import os
import resource
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
    "a look": "Viewer.ask",
    "the write of looks": "write_looks",
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
    if "EAGER" in os.environ:
        adopt_anything(script)
    if moment == "seconds":
        timer = threading.Timer(count, die)
        timer.daemon = True
        timer.start()
    elif moment in HARMS:
        HARMS[moment](script, int(count))
    elif moment != "never":
        plant(script, MOMENTS[moment], int(count))
    sys.exit(script.main(script.read_config(words)))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def adopt_anything(script: Any) -> None:
    """The evidence is for the mean of all looks."""
    judge = script.judge_looks

    def judge_well(*given: Any) -> Any:
        judged, probs = judge(*given), given[2].probs
        blend = script.Blend("mean", (1 / len(probs),) * len(probs))
        return judged._replace(
            choice=judged.choice._replace(name="mean", blend=blend, probs=probs.mean(axis=0))
        )

    script.judge_looks = judge_well


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


def end_from_outside(script: Any, count: int) -> None:
    """SIGTERM after so many updates."""
    real, calls = script.Stretch.on_train_batch_end, [0]

    def end_or_go_on(*given: Any) -> None:
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGTERM)
        real(*given)

    script.Stretch.on_train_batch_end = end_or_go_on


def take_memory(script: Any, count: int) -> None:
    """A device whose memory takes no more than so many images at once."""
    import keras

    fit = keras.Model.fit

    def fit_if_it_fits(self: Any, batches: Any, **options: Any) -> Any:
        if batches.element_spec[0].shape[0] > count:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return fit(self, batches, **options)

    keras.Model.fit = fit_if_it_fits


def spoil_rates(script: Any, count: int) -> None:
    """A learning rate in one stretch, the so manieth, that makes the loss no number."""
    real, calls = script.set_rates, [0]

    def set_or_spoil(optimizer: Any, rates: Any) -> None:
        calls[0] += 1
        real(optimizer, rates * float("nan") if calls[0] == count else rates)

    script.set_rates = set_or_spoil


def fill_disk(script: Any, count: int) -> None:
    """No file may be larger than so many bytes: a model and its checkpoints are."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))


def break_down(script: Any, count: int) -> None:
    """A bug, in the so manieth validation."""
    real, calls = script.mark_probs, [0]

    def mark_or_break(*given: Any) -> Any:
        calls[0] += 1
        return 1 / 0 if calls[0] == count else real(*given)

    script.mark_probs = mark_or_break


HARMS = {
    "SIGTERM": end_from_outside,
    "too little memory": take_memory,
    "a loss that is no number": spoil_rates,
    "a full disk": fill_disk,
    "a bug": break_down,
}


if __name__ == "__main__":
    main()
