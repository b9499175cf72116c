"""Devices: what the backend found, held against what was asked for"""

from collections.abc import Sequence
from typing import NamedTuple

from podium.config import RuntimeConfig


class DeviceError(RuntimeError):
    """The devices found are not the devices asked for."""


class Devices(NamedTuple):
    """What the backend found: kind, names, and of NVIDIA GPUs the lowest compute capability."""

    kind: str  # "cpu", "gpu" or "tpu"
    names: tuple[str, ...]
    capability: float = 0.0  # 7.5 is a T4, 8.0 and more Ampere and later


def list_devices(backend: str) -> Devices:
    """Opens the backend's devices. The other library is kept off the accelerator.

    TensorFlow takes the first GPU alone: Keras shares a batch over several on JAX only.
    """
    import tensorflow as tf

    if backend == "jax":
        import jax

        tf.config.set_visible_devices([], "GPU")
        devices = jax.devices()
        kind = {"cuda": "gpu", "rocm": "gpu"}.get(devices[0].platform, devices[0].platform)
        lowest = min(float(getattr(one, "compute_capability", 0)) for one in devices)
        return Devices(kind, tuple(str(one) for one in devices), lowest)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return Devices("cpu", ("CPU:0",))
    tf.config.set_visible_devices(gpus[:1], "GPU")
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = float("{}.{}".format(*details.get("compute_capability", (0, 0))))
    return Devices("gpu", (gpus[0].name,), capability)


def choose_precision(config: RuntimeConfig, devices: Devices) -> str:
    """Returns the precision asked for, else the fastest that the devices have units for.

    bfloat16 has float32's range and needs no loss scaling; GPUs before Ampere have float16 alone,
    under which Keras scales the loss by itself.
    """
    if config.precision != "auto":
        return config.precision
    if devices.kind == "tpu" or (devices.kind == "gpu" and devices.capability >= 8):
        return "mixed_bfloat16"
    return "mixed_float16" if devices.kind == "gpu" and devices.capability >= 7 else "float32"


def check_devices(
    config: RuntimeConfig, backend: str, kind: str, devices: Sequence[str], present: str
) -> None:
    """Raises DeviceError unless backend, kind and number of devices are those asked for.

    `present` is what the machine's device files say there is: a library that cannot use it falls
    back to the CPU without a word, and hours later there is nothing.
    """
    if config.backend not in ("auto", backend):
        raise DeviceError(
            f"runtime.backend is {config.backend}, but Keras was already loaded with {backend}; "
            f"set KERAS_BACKEND={config.backend} before Python starts"
        )
    if config.accelerator not in ("auto", kind):
        raise DeviceError(
            f"runtime.accelerator is {config.accelerator}, but {backend} found {kind} "
            f"({', '.join(devices)}); choose the accelerator in the session's settings, "
            f"or set runtime.accelerator to auto"
        )
    if config.accelerator == "auto" and kind != present:
        raise DeviceError(
            f"this machine has a {present}, but {backend} found {kind} ({', '.join(devices)}); "
            f"see that its driver and {backend} fit, or set runtime.accelerator to {kind}"
        )
    if config.devices not in (None, len(devices)):
        raise DeviceError(
            f"runtime.devices is {config.devices}, but {backend} found {len(devices)} "
            f"({', '.join(devices)}); set it to {len(devices)} or none"
        )


def check_batch(batch_size: int, devices: int, parts: int = 1) -> None:
    """Raises DeviceError unless the global batch divides evenly over parts and devices."""
    if parts > 1 and batch_size % (parts * devices):
        raise DeviceError(
            f"optimizer.accumulate is {parts}, but pixels.batch_size {batch_size} cannot be cut "
            f"into so many parts for {devices} device{'s' * (devices > 1)}; use a multiple of "
            f"{parts * devices}"
        )
    if batch_size % devices:
        below = batch_size // devices * devices
        fit = f"{below} or {below + devices}" if below else f"{devices}"
        raise DeviceError(
            f"pixels.batch_size is {batch_size}, which {devices} devices do not divide; use {fit}"
        )
