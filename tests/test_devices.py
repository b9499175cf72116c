from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from podium.config import RuntimeConfig
from podium.devices import (
    DeviceError,
    Devices,
    check_batch,
    check_devices,
    choose_precision,
    list_devices,
)


def test_the_devices_got_are_the_devices_asked_for():
    check_devices(RuntimeConfig(accelerator="gpu", devices=2), "jax", "gpu", ["a", "b"], "gpu")
    check_devices(RuntimeConfig(accelerator="cpu"), "jax", "cpu", ["cpu:0"], "gpu")
    with pytest.raises(DeviceError, match=r"runtime.devices is 8, but jax found 1 \(TPU_0\); set"):
        check_devices(RuntimeConfig(devices=8), "jax", "tpu", ["TPU_0"], "tpu")
    with pytest.raises(DeviceError, match=r"runtime.accelerator is tpu, but jax found cpu"):
        check_devices(RuntimeConfig(accelerator="tpu"), "jax", "cpu", ["cpu:0"], "cpu")
    with pytest.raises(DeviceError, match=r"has a gpu, but jax found cpu \(cpu:0\); see"):
        check_devices(RuntimeConfig(), "jax", "cpu", ["cpu:0"], "gpu")
    with pytest.raises(DeviceError, match="set KERAS_BACKEND=jax before Python starts"):
        check_devices(RuntimeConfig(backend="jax"), "tensorflow", "cpu", ["cpu:0"], "cpu")


def test_a_batch_that_the_devices_do_not_divide_is_refused_with_two_that_they_do():
    check_batch(32, 8)
    check_batch(32, 8, parts=4)
    with pytest.raises(DeviceError, match="optimizer.accumulate is 3, but pixels.batch_size 32"):
        check_batch(32, 8, parts=3)
    with pytest.raises(DeviceError, match="use a multiple of 64"):
        check_batch(32, 8, parts=8)
    with pytest.raises(DeviceError) as caught:
        check_batch(30, 8)
    assert str(caught.value) == (
        "pixels.batch_size is 30, which 8 devices do not divide; use 24 or 32"
    )
    with pytest.raises(DeviceError, match="use 8$"):
        check_batch(5, 8)


def test_devices_are_listed_by_the_backend_in_use():
    devices = list_devices(keras.backend.backend())
    assert devices.kind == "cpu"
    assert devices.names


@pytest.mark.parametrize(
    ("devices", "precision"),
    [
        (Devices("cpu", ("CPU:0",)), "float32"),
        (Devices("tpu", ("TPU_0",) * 8), "mixed_bfloat16"),
        (Devices("gpu", ("T4", "T4"), 7.5), "mixed_float16"),
        (Devices("gpu", ("A100",), 8.0), "mixed_bfloat16"),
        (Devices("gpu", ("K80",), 3.7), "float32"),
    ],
)
def test_the_precision_is_what_the_devices_have_units_for(devices: Devices, precision: str):
    assert choose_precision(RuntimeConfig(), devices) == precision
    assert choose_precision(RuntimeConfig(precision="float32"), devices) == "float32"


def test_tensorflow_takes_the_first_of_two_gpus_since_keras_shares_on_jax_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    gpus = [SimpleNamespace(name=f"/physical_device:GPU:{place}") for place in range(2)]
    visible, details = [], {"compute_capability": (7, 5)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: visible.append(given))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert list_devices("tensorflow") == Devices("gpu", (gpus[0].name,), 7.5)
    assert visible == [(gpus[:1], "GPU")]
