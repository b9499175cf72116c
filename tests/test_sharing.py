from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
import pytest

from podium import sharing as sharing_room
from podium.backbones import find_backbone
from podium.batches import Cut, Labelled, make_train_batches
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.learning import HeadConfig, ModelConfig
from podium.model import build_model, open_session
from podium.network import Start
from podium.objective import compile_model
from podium.predict import predict_probs
from podium.sharing import own_part, share_devices
from podium.task import Task

CONFIG = replace(
    Config(),
    model=ModelConfig("tiny", "random"),
    head=HeadConfig(dropout=0.5),
    pixels=PixelsConfig(image_size=16, batch_size=16),
    augment=AugmentConfig("flip-crop"),
)
TASK = Task("label", ("dark", "bright"))
ON_JAX = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs virtual devices")


class Trained(NamedTuple):
    """What came out of a training, and on how many devices its batches were."""

    devices: int
    weights: dict[str, np.ndarray]
    seeds: dict[str, np.ndarray]
    losses: list[float]
    probs: np.ndarray


@pytest.fixture(autouse=True)
def own_distribution() -> Iterator[None]:
    yield
    keras.distribution.set_distribution(None)


def train(devices: int) -> Trained:
    """Six steps, the last batch of an epoch filled up; then 37 images, which 16 does not divide."""
    labels = np.arange(40) % 2
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (40, 18, 18, 3)) + 120 * labels[:, None, None, None]
    data = Labelled(pixels.astype(np.uint8), labels, 2)
    open_session("float32", devices)
    model = build_model(CONFIG, Start(find_backbone("tiny"), "inception"), 2, 18, seed=0)
    compile_model(model, keras.optimizers.AdamW(1e-2), task=TASK, jit=True)
    batches = make_train_batches(data, np.arange(40), Cut(16), 0)
    logs = model.fit(batches, epochs=6, steps_per_epoch=1, verbose=0).history
    values = {v.path: keras.ops.convert_to_numpy(v.value) for v in model.variables}
    used = len(model.get_layer("head").kernel.value.sharding.device_set)
    return Trained(
        used,
        {path: value for path, value in values.items() if value.dtype == np.float32},
        {path: value for path, value in values.items() if value.dtype != np.float32},
        logs["loss"],
        predict_probs(model, data.pixels, np.arange(37), 16),
    )


@ON_JAX
def test_eight_devices_learn_what_one_learns_with_its_crops_dropout_and_batch_statistics():
    one, eight = train(1), train(8)
    assert (one.devices, eight.devices) == (1, 8)
    assert len(one.weights) == 22
    # What is drawn is the same; only sums are added up in another order, which AdamW enlarges
    # where a gradient is nearly nothing: 1e-5 after six steps at a rate of 0.01.
    for name, seed in one.seeds.items():
        np.testing.assert_array_equal(eight.seeds[name], seed)
    for name, weight in one.weights.items():
        np.testing.assert_allclose(eight.weights[name], weight, atol=1e-4, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(eight.losses, one.losses, rtol=1e-5)
    np.testing.assert_allclose(eight.probs, one.probs, atol=1e-5)


def test_a_machine_alone_feeds_every_row():
    assert own_part(16) == slice(0, 16)
    share_devices(1)
    assert keras.distribution.distribution() is None


@ON_JAX
def test_of_several_hosts_each_feeds_its_rows_where_batches_are_shared(
    monkeypatch: pytest.MonkeyPatch,
):
    import jax

    monkeypatch.setattr(sharing_room, "count_hosts", lambda: 4)
    monkeypatch.setattr(jax, "process_index", lambda: 2)
    assert own_part(16) == slice(0, 16)  # a session on one device is each host's own
    share_devices(8)
    assert own_part(16) == slice(8, 12)


@ON_JAX
def test_the_devices_of_a_host_follow_each_other(monkeypatch: pytest.MonkeyPatch):
    import jax

    class Device(NamedTuple):
        platform: str
        id: int
        process_index: int

    found = [Device("cpu", place, place % 2) for place in range(8)]
    monkeypatch.setattr(jax, "devices", lambda *kind, backend=None: found)
    share_devices(8)
    spread = keras.distribution.distribution()
    assert spread.device_mesh.devices.tolist() == [
        f"cpu:{place}" for place in (0, 2, 4, 6, 1, 3, 5, 7)
    ]
    assert not spread.auto_shard_dataset  # each host's stream is its part already
