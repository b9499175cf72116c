import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from podium.backbones import find_backbone
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.freezing import freeze_backbone
from podium.learning import HeadConfig, ModelConfig, OptimizerConfig
from podium.model import build_model, strip_augmentation
from podium.network import Start
from podium.objective import compile_model
from podium.optimizers import make_optimizer, set_rates
from podium.task import Task

CONFIG = replace(
    Config(),
    model=ModelConfig("tiny", "random"),
    head=HeadConfig(dropout=0.0),
    pixels=PixelsConfig(image_size=16, batch_size=8),
    augment=AugmentConfig("flip-crop", flip="no"),
)
START = Start(find_backbone("tiny"), "inception")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (16, 18, 18, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 16)
TARGETS = np.eye(3, dtype=np.float32)[LABELS]


def copy_weights(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def changed(before: list[np.ndarray], after: list[np.ndarray]) -> int:
    return sum(bool((old != new).any()) for old, new in zip(before, after, strict=True))


def compile_tiny(model: keras.Model) -> None:
    optimizer = make_optimizer(OptimizerConfig("adamw", weight_decay=1e-4), 1)
    task = Task("label", ("a", "b", "c"))
    compile_model(model, optimizer, task=task, jit=keras.backend.backend() == "jax")
    set_rates(model.optimizer, np.array([1e-2]))


def test_raw_pixels_go_in_and_logits_come_out():
    model = build_model(CONFIG, START, 3, 18, seed=0)
    assert model.input_shape == (None, 18, 18, 3)
    assert model.inputs[0].dtype == "uint8"
    assert model.output_shape == (None, 3)
    assert "normalise" in [layer.name for layer in model.layers]


def test_a_head_that_starts_from_zero_prefers_no_class():
    model = build_model(CONFIG, START, 3, 18, seed=0)
    np.testing.assert_array_equal(model.predict(PIXELS, verbose=0), 0)


def test_a_seed_repeats_the_weights():
    one, two, other = (build_model(CONFIG, START, 3, 18, seed).get_weights() for seed in (1, 1, 2))
    assert changed(one, two) == 0
    assert changed(one, other) > 0


def test_a_frozen_backbone_keeps_weights_and_batch_statistics():
    model = build_model(CONFIG, START, 3, 18, seed=0)
    freeze_backbone(model, CONFIG.model, frozen=True)
    compile_tiny(model)
    backbone = model.get_layer("backbone").variables
    head = model.get_layer("head").variables
    before, before_head = copy_weights(backbone), copy_weights(head)
    model.fit(PIXELS, TARGETS, batch_size=8, epochs=2, verbose=0)
    assert changed(before, copy_weights(backbone)) == 0
    assert changed(before_head, copy_weights(head)) == 2


def test_a_freed_backbone_trains_whole_after_it_was_frozen():
    model = build_model(CONFIG, START, 3, 18, seed=0)
    for frozen in (True, False):
        freeze_backbone(model, CONFIG.model, frozen=frozen)
        compile_tiny(model)
        before = copy_weights(model.get_layer("backbone").variables)
        model.fit(PIXELS, TARGETS, batch_size=8, epochs=2, verbose=0)
    after = copy_weights(model.get_layer("backbone").variables)
    assert changed(before, after) == len(before)


# What a user has who has the saved model and Keras, and nothing of Podium.
LOAD = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


@pytest.mark.parametrize(
    ("head", "backbone", "colour"),
    [
        (HeadConfig(), "tiny", "keep"),
        (HeadConfig(pooling="gem", hidden=8), "tiny", "grey"),
        pytest.param(HeadConfig(), "keras:ResNet50", "grey", marks=pytest.mark.slow),
        pytest.param(
            HeadConfig(pooling="gem"), "keras:ConvNeXtTiny", "keep", marks=pytest.mark.slow
        ),
    ],
)
def test_the_saved_model_answers_raw_pixels_alike_where_there_is_only_keras(
    tmp_path, head: HeadConfig, backbone: str, colour: str
):
    row = find_backbone(backbone)
    config = replace(CONFIG, head=head, pixels=PixelsConfig(max(16, row.smallest), 8, colour))
    side = config.pixels.image_size + 2
    model = build_model(config, Start(row, row.scaling), 3, side, seed=0)
    last = model.get_layer("head")
    last.kernel.assign(RNG.normal(size=last.kernel.shape) * 0.1)
    pixels = RNG.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    strip_augmentation(model, config.pixels.image_size).save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", pixels)
    files = (tmp_path / name for name in ("model.keras", "pixels.npy", "logits.npy"))
    subprocess.run([sys.executable, "-I", "-c", LOAD, *map(str, files)], check=True)
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-5, rtol=1e-5)


def test_a_model_of_grey_pixels_answers_colours_as_it_answers_their_luma():
    luma = np.float32(PIXELS) @ np.float32([0.299, 0.587, 0.114])
    grey = np.repeat(luma[..., None], 3, axis=-1)
    logits = {}
    for colour in ("grey", "keep"):
        config = replace(CONFIG, pixels=PixelsConfig(16, 8, colour))
        model = build_model(config, START, 3, 18, seed=0)
        last = model.get_layer("head")
        last.kernel.assign(RNG.normal(size=last.kernel.shape))
        body = strip_augmentation(model, 16).get_layer("network")
        shown = [pixels[:, 1:17, 1:17].astype(np.float32) for pixels in (PIXELS, grey)]
        logits[colour] = [body.predict(pixels, verbose=0) for pixels in shown]
    np.testing.assert_allclose(*logits["grey"], atol=1e-4, rtol=1e-4)
    assert np.abs(np.subtract(*logits["keep"])).max() > 0.01


def test_a_hidden_layer_is_an_arm_of_the_head():
    config = replace(CONFIG, head=HeadConfig(hidden=256, activation="elu"))
    hidden = build_model(config, START, 3, 18, seed=0).get_layer("hidden")
    assert hidden.units == 256
    assert hidden.activation is keras.activations.elu


def test_gem_is_the_generalised_mean_of_the_feature_map():
    config = replace(CONFIG, head=HeadConfig(pooling="gem"))
    backbone = build_model(config, START, 3, 18, seed=0).get_layer("backbone")
    scaled = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)
    maps = keras.Model(backbone.input, backbone.get_layer("norm4").output)(scaled)
    maps = np.maximum(keras.ops.convert_to_numpy(keras.ops.relu(maps)), 1e-6)
    expected = (maps**3).mean(axis=(1, 2)) ** (1 / 3)
    pooled = keras.ops.convert_to_numpy(backbone(scaled))
    np.testing.assert_allclose(pooled, expected, rtol=1e-4)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_the_network_trains_and_the_logits_are_float32(precision: str):
    keras.config.set_dtype_policy(precision)
    try:
        model = build_model(CONFIG, START, 3, 18, seed=0)
        compile_tiny(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("backbone").get_layer("conv1").compute_dtype == precision[6:]
    assert model.get_layer("normalise").compute_dtype == "float32"
    assert model.output.dtype == "float32"
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    losses = model.fit(PIXELS, TARGETS, batch_size=8, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
