"""Stand-ins for the modules that google/automl published on TF-Hub, made from TensorFlow alone.

An EfficientNetV2 (Tan and Le 2021, arXiv 2104.00298) written without Keras, under the published
names of variables, with batch norm calibrated so that the network is well conditioned.
"""

import fcntl
import hashlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

KEPT = Path(__file__).resolve().parents[1] / ".pytest_cache" / "hub_modules"

# repeats, kernel, stride, expansion, filters, squeeze-excitation (else a fused block)
BASE = ((1, 3, 1, 1, 16, 0), (2, 3, 2, 4, 32, 0), (2, 3, 2, 4, 48, 0))
BASE += ((3, 3, 2, 4, 96, 1), (5, 3, 1, 6, 112, 1), (8, 3, 2, 6, 192, 1))
SMALL = ((2, 3, 1, 1, 24, 0), (4, 3, 2, 4, 48, 0), (4, 3, 2, 4, 64, 0))
SMALL += ((6, 3, 2, 4, 128, 1), (9, 3, 1, 6, 160, 1), (15, 3, 2, 6, 256, 1))
MEDIUM = ((3, 3, 1, 1, 24, 0), (5, 3, 2, 4, 48, 0), (5, 3, 2, 4, 80, 0), (7, 3, 2, 4, 160, 1))
MEDIUM += ((14, 3, 1, 6, 176, 1), (18, 3, 2, 6, 304, 1), (5, 3, 1, 6, 512, 1))
LARGE = ((4, 3, 1, 1, 32, 0), (7, 3, 2, 4, 64, 0), (7, 3, 2, 4, 96, 0), (10, 3, 2, 4, 192, 1))
LARGE += ((19, 3, 1, 6, 224, 1), (25, 3, 2, 6, 384, 1), (7, 3, 1, 6, 640, 1))
# size: blocks, width, depth, stem filters
SIZES = {
    "b0": (BASE, 1.0, 1.0, 32),
    "b1": (BASE, 1.0, 1.1, 32),
    "b2": (BASE, 1.1, 1.2, 32),
    "b3": (BASE, 1.2, 1.4, 32),
    "s": (SMALL, 1.0, 1.0, 24),
    "m": (MEDIUM, 1.0, 1.0, 24),
    "l": (LARGE, 1.0, 1.0, 32),
}
RESIDUAL_GAIN = 0.2  # what a block adds to its input is small, as in trained networks


def round_filters(filters: int, width: float) -> int:
    """To the nearest multiple of 8."""
    return max(8, int(filters * width + 4) // 8 * 8)


class Variables:
    """Makes named variables; calibrates a batch norm from the first batch it sees."""

    def __init__(self, root: str, seed: int, rename: Callable[[str], str | None]) -> None:
        self.root, self.rng, self.rename = root, np.random.default_rng(seed), rename
        self.made = dict[str, tf.Variable]()
        self.hidden = set[str]()
        self.penalties: list[Callable[[], tf.Tensor]] = []

    def get(self, name: str, value: Callable[[], Any], trainable: bool = True) -> tf.Variable:
        if name not in self.made:
            shown = self.rename(f"{self.root}/{name}")
            self.made[name] = tf.Variable(
                tf.cast(value(), tf.float32), trainable, name=shown or f"hidden/{name}"
            )
            if shown is None:
                self.hidden.add(name)
        return self.made[name]

    def kernel(self, name: str, shape: tuple[int, ...], fan_in: int) -> tf.Variable:
        return self.get(name, lambda: self.rng.normal(0, math.sqrt(1.0 / fan_in), shape))


class EfficientNetV2:
    """Pixels in 0 to 1 [B, H, W, 3] to pooled features [B, F], or logits."""

    def __init__(self, size: str, rescale: str, classes: int | None, variables: Variables) -> None:
        self.size, self.rescale, self.classes = size, rescale, classes
        self.make = variables

    def compute(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        blocks, width, depth, stem = SIZES[self.size]
        x = self.rescaled(x)
        x = tf.nn.swish(self.conv_norm(x, "stem", 0, 0, round_filters(stem, width), 3, 2, training))
        number = 0
        for repeats, kernel, stride, expansion, filters, squeeze in blocks:
            out = round_filters(filters, width)
            for repeat in range(math.ceil(repeats * depth)):
                block = self.mbconv if squeeze else self.fused
                step = stride if repeat == 0 else 1
                y = block(x, f"blocks_{number}", kernel, step, expansion, out, training)
                x = x + y if step == 1 and x.shape[-1] == out else y
                number += 1
        x = self.conv_norm(x, "head", 0, 0, round_filters(1280, width), 1, 1, training)
        x = tf.reduce_mean(tf.nn.swish(x), (1, 2))
        return x if self.classes is None else self.dense(x)

    def rescaled(self, x: tf.Tensor) -> tf.Tensor:
        if self.rescale == "2x-1":
            return 2.0 * x - 1.0
        if self.rescale == "imagenet":
            return (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        return x

    def conv_norm(
        self, x, part, conv, norm, filters, kernel, stride, training, gain=1.0
    ) -> tf.Tensor:
        fan_in = kernel * kernel * x.shape[-1]
        name = f"{part}/conv2d{f'_{conv}' if conv else ''}/kernel"
        weights = self.make.kernel(name, (kernel, kernel, x.shape[-1], filters), fan_in)
        x = tf.nn.conv2d(x, weights, stride, "SAME")
        return self.norm(x, part, norm, training, gain)

    def norm(self, x, part: str, place: int, training: bool, gain: float = 1.0) -> tf.Tensor:
        name = f"{part}/tpu_batch_normalization{f'_{place}' if place else ''}"
        axes, width = list(range(len(x.shape) - 1)), x.shape[-1]
        rng, calibrate = self.make.rng, f"{name}/gamma" not in self.make.made
        mean, variance = tf.nn.moments(x, axes) if training or calibrate else (None, None)
        gamma = self.make.get(f"{name}/gamma", lambda: gain * rng.uniform(0.7, 1.3, width))
        beta = self.make.get(f"{name}/beta", lambda: rng.normal(0, 0.2, width))
        moving_mean = self.make.get(f"{name}/moving_mean", lambda: mean, trainable=False)
        moving_variance = self.make.get(f"{name}/moving_variance", lambda: variance, False)
        if training:
            moving_mean.assign(0.9 * moving_mean + 0.1 * mean)
            moving_variance.assign(0.9 * moving_variance + 0.1 * variance)
        else:
            mean, variance = moving_mean, moving_variance
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)

    def fused(self, x, part, kernel, stride, expansion, out, training) -> tf.Tensor:
        gain = RESIDUAL_GAIN if stride == 1 and x.shape[-1] == out else 1.0
        if expansion == 1:
            return tf.nn.swish(self.conv_norm(x, part, 0, 0, out, kernel, stride, training))
        width = expansion * x.shape[-1]
        x = tf.nn.swish(self.conv_norm(x, part, 0, 0, width, kernel, stride, training))
        return self.conv_norm(x, part, 1, 1, out, 1, 1, training, gain)

    def mbconv(self, x, part, kernel, stride, expansion, out, training) -> tf.Tensor:
        gain = RESIDUAL_GAIN if stride == 1 and x.shape[-1] == out else 1.0
        squeezed, width = max(1, int(0.25 * x.shape[-1])), expansion * x.shape[-1]
        x = tf.nn.swish(self.conv_norm(x, part, 0, 0, width, 1, 1, training))
        shape = (kernel, kernel, width, 1)
        name = f"{part}/depthwise_conv2d/depthwise_kernel"
        weights = self.make.kernel(name, shape, kernel * kernel)
        x = tf.nn.depthwise_conv2d(x, weights, (1, stride, stride, 1), "SAME")
        x = tf.nn.swish(self.norm(x, part, 1, training))
        gate = tf.reduce_mean(x, (1, 2), keepdims=True)
        gate = tf.nn.swish(self.conv_bias(gate, f"{part}/se/conv2d", squeezed))
        x = x * tf.sigmoid(self.conv_bias(gate, f"{part}/se/conv2d_1", width))
        return self.conv_norm(x, part, 1, 2, out, 1, 1, training, gain)

    def conv_bias(self, x: tf.Tensor, name: str, filters: int) -> tf.Tensor:
        shape = (1, 1, x.shape[-1], filters)
        weights = self.make.kernel(f"{name}/kernel", shape, x.shape[-1])
        return tf.nn.conv2d(x, weights, 1, "SAME") + self.make.get(
            f"{name}/bias", lambda: self.make.rng.normal(0, 0.1, filters)
        )

    def dense(self, x: tf.Tensor) -> tf.Tensor:
        shape = (x.shape[-1], self.classes)
        weights = self.make.kernel("head/dense/kernel", shape, x.shape[-1])
        return x @ weights + self.make.get("head/dense/bias", lambda: tf.zeros(self.classes))


def draw_photographs(count: int, side: int, seed: int) -> np.ndarray:
    """Patches under noise, each image of its own colour and contrast: [B, S, S, 3] uint8."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(0, 1, (count, side // 8, side // 8, 3)).repeat(8, 1).repeat(8, 2)
    contrast = rng.uniform(5, 90, (count, 1, 1, 1))
    colour = rng.uniform(20, 235, (count, 1, 1, 3))
    noise = rng.normal(0, 1, patches.shape) * rng.uniform(0, 30, (count, 1, 1, 1))
    return np.clip(colour + contrast * patches + noise, 0, 255).astype(np.uint8)


def export_efficientnet(
    size: str,
    folder: Path,
    *,
    rescale: str = "none",
    classes: int | None = None,
    rename: Callable[[str], str | None] = lambda name: name,
    seed: int = 0,
    side: int | None = None,
) -> Path:
    """Writes a reusable SavedModel; `rename` may change a variable's name, or hide it by None.

    With a side it takes images of that size alone, as older published modules do.
    """
    variables = Variables(f"efficientnetv2-{size}", seed, rename)
    network = EfficientNetV2(size, rescale, classes, variables)
    network.compute(tf.constant(draw_photographs(16, 96, seed) / 255.0, tf.float32), False)
    return save_module(network.compute, variables, folder, side)


def keep_efficientnet(size: str, **options: Any) -> Path:
    """What export_efficientnet writes, made once for all processes, backends and sessions.

    Nobody may change it: copy it first.
    """
    made_of = f"{tf.__version__} {size} {sorted(options.items())}".encode()
    name = hashlib.sha256(Path(__file__).read_bytes() + made_of).hexdigest()[:16]
    folder, half = KEPT / name, KEPT / f"{name}.half"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(half, ignore_errors=True)  # of a process that was killed
            export_efficientnet(size, half, **options).rename(folder)
    return folder


def save_module(
    compute: Callable[..., tf.Tensor],
    variables: Variables,
    folder: Path,
    side: int | None = None,
) -> Path:
    """Saves a network as the published modules are: called as module(x, training=False)."""
    module = tf.__internal__.tracking.AutoTrackable()
    module.__call__ = tf.function(lambda inputs, training=False: compute(inputs, training))
    for training in (False, True):
        pixels = tf.TensorSpec((None, side, side, 3), tf.float32)
        module.__call__.get_concrete_function(pixels, training=training)
    # Blocks first, then stem and head: the published order, which is not the graph's.
    shown = sorted(variables.made, key=lambda name: not name.startswith("blocks"))
    module.variables = [variables.made[name] for name in shown if name not in variables.hidden]
    module.trainable_variables = [one for one in module.variables if one.trainable]
    module.hidden = [variables.made[name] for name in sorted(variables.hidden)]
    module.regularization_losses = [tf.function(penalty, []) for penalty in variables.penalties]
    tf.saved_model.save(module, str(folder))
    return folder


def export_tiny_module(folder: Path, seed: int = 0, side: int | None = None) -> Path:
    """A reusable SavedModel that is no EfficientNet: one convolution, a batch norm, a penalty."""
    variables = Variables("tiny", seed, lambda name: name)
    network = EfficientNetV2("b0", "none", None, variables)

    def compute(x: tf.Tensor, training: bool) -> tf.Tensor:
        x = tf.nn.relu(network.conv_norm(x, "first", 0, 0, 8, 3, 2, training))
        return tf.reduce_mean(x, (1, 2))

    compute(tf.constant(draw_photographs(8, 32, seed) / 255.0, tf.float32), False)
    kernel = variables.made["first/conv2d/kernel"]
    variables.penalties.append(lambda: 1e-3 * tf.nn.l2_loss(kernel))
    return save_module(compute, variables, folder, side)
