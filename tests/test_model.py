from dataclasses import replace

import keras
import numpy as np
import pytest

from podium.backbones import BackboneError
from podium.config import AugmentConfig, Config, ModelConfig, PixelsConfig, ScheduleConfig
from podium.model import build_model, compile_model, freeze_backbone
from podium.schedule import make_optimizer

CONFIG = replace(
    Config(),
    model=ModelConfig("tiny", "random", dropout=0.0),
    pixels=PixelsConfig(image_size=16, batch_size=8),
    augment=AugmentConfig("crop"),
)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (16, 18, 18, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 16)


def copy_weights(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def changed(before: list[np.ndarray], after: list[np.ndarray]) -> int:
    return sum(bool((old != new).any()) for old, new in zip(before, after, strict=True))


def compile_tiny(model: keras.Model) -> None:
    optimizer = make_optimizer(ScheduleConfig(), 1e-2, 100)
    compile_model(model, optimizer, jit=keras.backend.backend() == "jax")


def test_raw_pixels_go_in_and_logits_come_out():
    model = build_model(CONFIG, 3, 18, seed=0)
    assert model.input_shape == (None, 18, 18, 3)
    assert model.inputs[0].dtype == "uint8"
    assert model.output_shape == (None, 3)
    assert "normalise" in [layer.name for layer in model.layers]


def test_a_head_that_starts_from_zero_prefers_no_class():
    model = build_model(CONFIG, 3, 18, seed=0)
    np.testing.assert_array_equal(model.predict(PIXELS, verbose=0), 0)


def test_a_seed_repeats_the_weights():
    one, two, other = (build_model(CONFIG, 3, 18, seed).get_weights() for seed in (1, 1, 2))
    assert changed(one, two) == 0
    assert changed(one, other) > 0


def test_a_frozen_backbone_keeps_weights_and_batch_statistics():
    model = build_model(CONFIG, 3, 18, seed=0)
    freeze_backbone(model, frozen=True)
    compile_tiny(model)
    backbone = model.get_layer("backbone").variables
    head = model.get_layer("head").variables
    before, before_head = copy_weights(backbone), copy_weights(head)
    model.fit(PIXELS, LABELS, batch_size=8, epochs=2, verbose=0)
    assert changed(before, copy_weights(backbone)) == 0
    assert changed(before_head, copy_weights(head)) == 2


def test_a_freed_backbone_trains_whole_after_it_was_frozen():
    model = build_model(CONFIG, 3, 18, seed=0)
    for frozen in (True, False):
        freeze_backbone(model, frozen=frozen)
        compile_tiny(model)
        before = copy_weights(model.get_layer("backbone").variables)
        model.fit(PIXELS, LABELS, batch_size=8, epochs=2, verbose=0)
    after = copy_weights(model.get_layer("backbone").variables)
    assert changed(before, after) == len(before)


def test_padding_does_not_count_in_the_metrics():
    model = build_model(CONFIG, 3, 18, seed=0)
    model.get_layer("head").bias.assign([0.0, 1.0, -1.0])
    compile_tiny(model)
    weights = np.array([1.0] * 5 + [0.0] * 11, np.float32)
    padded = model.evaluate(PIXELS, LABELS, sample_weight=weights, verbose=0, return_dict=True)
    logits = np.array([0.0, 1.0, -1.0])
    losses = np.log(np.exp(logits).sum()) - logits[LABELS[:5]]
    assert padded["log_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert padded["accuracy"] == pytest.approx((LABELS[:5] == 1).mean())


def test_the_saved_model_answers_raw_pixels_alike(tmp_path):
    model = build_model(CONFIG, 3, 18, seed=0)
    model.get_layer("head").kernel.assign(RNG.normal(size=(128, 3)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict(PIXELS, verbose=0)
    np.testing.assert_allclose(again.predict(PIXELS, verbose=0), expected, atol=1e-5)


def test_a_backbone_that_cannot_be_built_is_refused():
    small = replace(CONFIG, model=ModelConfig("keras:EfficientNetV2B0", "random"))
    with pytest.raises(BackboneError, match="pixels.image_size is 16 px, but keras:Efficient"):
        build_model(small, 3, 18, seed=0)
