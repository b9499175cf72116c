"""Port: a Hub module's weights on Keras's own EfficientNetV2

`hub.KerasLayer` does not work in Keras 3, and a TPU cannot run a SavedModel under JAX. But the
weights can move: google/automl, from which the Hub modules were exported, and keras.applications
build the same network under other names. They move by name, through two gates: every name and
shape must fit with nothing left over, and the network must then answer a probe batch as the
module does. Which input range makes it do so is the range that the module wants.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from podium.attempt import describe_error
from podium.backbones import Scaling
from podium.handles import BackboneError
from podium.hub_module import find_side
from podium.normalise import scale_pixels

# How many blocks an EfficientNetV2 has tells its size.
SIZE_BY_BLOCKS = {21: "B0", 27: "B1", 28: "B2", 32: "B3", 40: "S", 57: "M", 79: "L"}
PUBLISHED_NAME = re.compile(r"(?:^|/)((?:stem|head|blocks_\d+)/(?!dense).*)$")
CLASSIFIER_NAME = re.compile(r"(?:^|/)(?:head/)?(?:dense|predictions|logits)\w*/(kernel|bias)$")
PROBED_SCALINGS: tuple[Scaling, ...] = ("unit", "inception", "automl", "imagenet")
PROBE_SIDE, PROBE_IMAGES = 96, 4
# A module's own answer moves by a floor if its input moves by NUDGE; a port may differ by as many.
NUDGE = 1e-6
FLOORS_ALLOWED = 3.0
UNSTEADY = 1e-3  # a floor above which nothing could be told from the answers


class UnportableModule(BackboneError):  # noqa: N818
    """A SavedModel whose weights do not fit Keras's EfficientNetV2; says where it differs first."""


class Module(NamedTuple):
    """A reusable SavedModel: where it lies, what it computes, and its variables by name."""

    folder: Path
    call: Any  # float32 [B, H, W, 3] from 0 to 1, training → features [B, F] or logits [B, C]
    variables: dict[str, NDArray[Any]]


class Port(NamedTuple):
    """A network with a module's weights, the input range it wants, and what the gates measured."""

    network: keras.Model  # scaled pixels [B, H, W, 3] float32 to [B, F]
    scaling: Scaling
    figures: dict[str, Any]


def read_module(folder: Path) -> Module:
    """Loads a reusable SavedModel; raises UnportableModule if it is none, or broken."""
    try:
        with tf.device("cpu:0"):
            loaded = tf.saved_model.load(str(folder))
            variables = [(one.name.partition(":")[0], one.numpy()) for one in loaded.variables]
    except AttributeError as error:
        raise UnportableModule(
            f"{folder} is no reusable SavedModel: it has no variables to train"
        ) from error
    except (IndexError, OSError, ValueError, tf.errors.OpError) as error:
        raise UnportableModule(f"{folder} cannot be read: {describe_error(error)}") from error
    if not callable(loaded) or not variables:
        raise UnportableModule(f"{folder} is no reusable SavedModel: it cannot be called")
    names = [name for name, _ in variables]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UnportableModule(f"{folder} has {doubled[0]} twice, so names do not tell its weights")
    return Module(folder, loaded, dict(variables))


def port_module(module: Module, architecture: str = "") -> Port:
    """Builds the Keras network of a module, with its weights; both gates must let it pass.

    Without an architecture, the number of blocks tells it. Raises UnportableModule.
    """
    architecture = architecture or guess_architecture(module)
    with exact_float32():
        network = getattr(keras.applications, architecture)(
            weights=None, include_top=False, pooling="avg", include_preprocessing=False
        )
        moved = move_weights(module, network)
        scaling, figures = find_scaling(module, network)
    return Port(network, scaling, {"architecture": architecture, "variables": moved, **figures})


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """On the CPU and in float32, whatever the run computes in: both sides must be exact."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with keras.device("cpu:0"):  # and nothing on the accelerator yet
            yield
    finally:
        keras.config.set_dtype_policy(policy)


def guess_architecture(module: Module) -> str:
    """The EfficientNetV2 with as many blocks; raises UnportableModule if there is none."""
    numbers = (re.search(r"blocks_(\d+)/", name) for name in module.variables)
    blocks = len({number[1] for number in numbers if number})
    if blocks not in SIZE_BY_BLOCKS:
        raise UnportableModule(
            f"{module.folder} is no EfficientNetV2 that Keras has: it has {blocks} blocks, where "
            + ", ".join(f"{size} has {count}" for count, size in SIZE_BY_BLOCKS.items())
        )
    return f"EfficientNetV2{SIZE_BY_BLOCKS[blocks]}"


def move_weights(module: Module, network: keras.Model) -> int:
    """Assigns every variable of the module to the network's by name; returns how many.

    Raises UnportableModule if a name or a shape does not fit, or anything is left over.
    """
    targets, source, foreign = dict(list_targets(network)), dict[str, NDArray[Any]](), list[str]()
    for name, value in module.variables.items():
        if found := PUBLISHED_NAME.search(name):
            source[found[1]] = value
        elif not CLASSIFIER_NAME.search(name):
            foreign.append(name)
    differences = {
        "missing": sorted(targets.keys() - source.keys()),
        "unused": sorted(source.keys() - targets.keys()),
        "foreign": sorted(foreign),
        "of another shape": [
            f"{name} {source[name].shape} for {tuple(target.shape)}"
            for name, target in targets.items()
            if name in source and source[name].shape != tuple(target.shape)
        ],
    }
    if any(differences.values()):
        told = (f"{len(n)} {kind}, e.g. {n[0]}" for kind, n in differences.items() if n)
        raise UnportableModule(
            f"{module.folder} does not fit keras:{network.name}: {'; '.join(told)}"
        )
    for name, target in targets.items():
        target.assign(source[name])
    return len(targets)


def list_targets(network: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Every variable of the network with the name under which google/automl published it."""
    layers = {layer.name: layer for layer in network.layers}
    blocks = [name[: -len("_project_conv")] for name in layers if name.endswith("_project_conv")]
    yield from name_variables("stem", layers, ["stem_conv"], ["stem_bn"])
    for number, block in enumerate(blocks):
        convs, norms = ("expand_conv", "project_conv"), ("expand_bn", "bn", "project_bn")
        yield from name_variables(
            f"blocks_{number}",
            layers,
            [f"{block}_{one}" for one in convs],
            [f"{block}_{one}" for one in norms],
        )
        if depthwise := layers.get(f"{block}_dwconv2"):
            yield f"blocks_{number}/depthwise_conv2d/depthwise_kernel", depthwise.kernel
        squeeze = [f"{block}_se_reduce", f"{block}_se_expand"]
        yield from name_variables(f"blocks_{number}/se", layers, squeeze, [])
    yield from name_variables("head", layers, ["top_conv"], ["top_bn"])


def name_variables(
    part: str, layers: Mapping[str, Any], convs: list[str], norms: list[str]
) -> Iterator[tuple[str, keras.Variable]]:
    """The variables of the layers that exist, numbered as TensorFlow numbers a part's layers."""
    for kind, names in (("conv2d", convs), ("tpu_batch_normalization", norms)):
        for place, layer in enumerate(layers[name] for name in names if name in layers):
            for variable in layer.variables:
                yield f"{part}/{kind}{f'_{place}' if place else ''}/{variable.name}", variable


def find_scaling(module: Module, network: keras.Model) -> tuple[Scaling, dict[str, Any]]:
    """The input range under which the network answers as the module, and the differences measured.

    Raises UnportableModule if none is within FLOORS_ALLOWED of the module's own unsteadiness.
    """
    pixels = draw_probe(find_side(module.call) or PROBE_SIDE)
    answer = ask_module(module, pixels / 255.0)
    floor = compare(ask_module(module, pixels / 255.0 + NUDGE), answer)
    if not floor <= UNSTEADY:
        raise UnportableModule(
            f"{module.folder} cannot be checked: its own answer moves by {floor:.1e} if its input "
            f"moves by {NUDGE:.0e}, where {UNSTEADY:.0e} is allowed"
        )
    allowed = FLOORS_ALLOWED * max(floor, float(np.finfo(np.float32).eps))
    probes = dict[str, float]()
    for scaling in PROBED_SCALINGS:
        scaled = scale_pixels(keras.ops.convert_to_tensor(pixels), scaling)
        features = keras.ops.convert_to_numpy(network(scaled, training=False))
        probes[scaling] = compare(classify(module, features), answer)
        if probes[scaling] <= allowed:
            return scaling, {"difference": probes[scaling], "allowed": allowed, "probes": probes}
    told = ", ".join(f"{name} {value:.1e}" for name, value in probes.items())
    raise UnportableModule(
        f"{module.folder} fits keras:{network.name} by name, but they answer differently, "
        f"by {told} relatively, where {allowed:.1e} is allowed"
    )


def draw_probe(side: int) -> NDArray[np.float32]:
    """Pixels like a photograph's, patches under noise around a colour: [B, S, S, 3], 0 to 255."""
    rng = np.random.default_rng(0)
    patches = rng.normal(0, 50, (PROBE_IMAGES, -(-side // 8), -(-side // 8), 3))
    colour = rng.uniform(20, 235, (PROBE_IMAGES, 1, 1, 3))
    noise = rng.normal(0, 10, (PROBE_IMAGES, side, side, 3))
    pixels = colour + patches.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side] + noise
    return np.clip(pixels.round(), 0, 255).astype(np.float32)


def ask_module(module: Module, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """What the module itself computes on the CPU."""
    with tf.device("cpu:0"):
        return np.asarray(module.call(tf.constant(inputs, tf.float32), training=False))


def classify(module: Module, features: NDArray[Any]) -> NDArray[Any]:
    """Applies the module's own classifier to the network's features, if it has one."""
    parts = {
        found[1]: value
        for name, value in module.variables.items()
        if (found := CLASSIFIER_NAME.search(name))
    }
    if not parts:
        return features
    if parts.keys() != {"kernel", "bias"} or parts["kernel"].shape[0] != features.shape[1]:
        raise UnportableModule(f"{module.folder} has a classifier that is not one dense layer")
    return np.asarray(features @ parts["kernel"] + parts["bias"])


def compare(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value; infinite if shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max() / np.abs(other).max())
