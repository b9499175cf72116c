"""A program: trains as one of several hosts, or alone, and writes what came out.

python -c 'import one_of_hosts; one_of_hosts.main()' FOLDER [--runtime.hosts … --runtime.host …]
"""

import sys
import time
from dataclasses import replace

import keras
import numpy as np

from podium.backbones import find_backbone
from podium.batches import Cut, Host, Labelled, make_train_batches
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.events import Reporter
from podium.hosts import ask_first_host, count_hosts, is_first_host
from podium.learning import HeadConfig, ModelConfig
from podium.model import build_model, open_session
from podium.network import Start
from podium.objective import compile_model
from podium.override import override, parse_command_line
from podium.predict import predict_probs
from podium.runtime import Runtime, open_runtime
from podium.task import Task

TASK = Task("label", ("dark", "bright"))
ROWS, STEPS, SIDE = np.arange(40), 6, 18  # an epoch is three batches, the last one filled up


def main() -> None:
    config = replace(
        override(Config(), parse_command_line(sys.argv[2:])),
        model=ModelConfig("tiny", "random"),
        head=HeadConfig(dropout=0.5),
        pixels=PixelsConfig(16, 16),
    )
    runtime = open_runtime(config, keras.backend.backend(), time.time())
    found = {
        "devices": len(runtime.devices),
        "leader": is_first_host(runtime.backend),
        "asked": ask_first_host(7 + config.runtime.host),
        "folder": str(runtime.folder),
    }
    for policy in ("cutmix", "albumentations:coarse-dropout"):
        chosen = replace(config, augment=AugmentConfig(policy, workers=2))
        found |= {f"{policy}/{key}": value for key, value in train(chosen, runtime).items()}
    np.savez(f"{sys.argv[1]}/{count_hosts()}-{config.runtime.host}.npz", **found)


def train(config: Config, runtime: Runtime) -> dict[str, np.ndarray]:
    """Six steps from the same start; then the answers to 37 images, which no batch size divides."""
    labels = np.arange(40) % 2
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (40, SIDE, SIDE, 3)) + 120 * labels[:, None, None, None]
    data = Labelled(pixels.astype(np.uint8), labels, 2)
    open_session(runtime.precision, len(runtime.devices))
    model = build_model(config, Start(find_backbone("tiny"), "inception"), 2, SIDE, seed=0)
    compile_model(model, keras.optimizers.AdamW(1e-2), task=TASK, jit=True)
    with Host(config, data.pixels, Reporter(runtime.folder)) as host:
        batches = make_train_batches(data, ROWS, Cut(16), 0, host)
        logs = model.fit(batches, epochs=STEPS, steps_per_epoch=1, verbose=0).history
    weights = {v.path: np.array(v.value) for v in model.variables if v.dtype == "float32"}
    probs = predict_probs(model, data.pixels, ROWS[:37], 16)
    return {"probs": probs, "losses": logs["loss"], "log_losses": logs["log_loss"], **weights}
