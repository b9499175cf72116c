import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from podium.augment import crop_margin
from podium.backbones import BACKBONES, find_backbone
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.events import Reporter
from podium.freezing import (
    freeze_backbone,
    list_stages,
    set_bn_momentum,
    set_drop_path,
    share_rates,
    warn_of_slow_statistics,
)
from podium.handles import BackboneError
from podium.learning import ModelConfig
from podium.model import build_model
from podium.network import Start, build_network
from podium.objective import compile_model
from podium.task import Task

# On the script the dry runs show this: they train, are killed and go on.
pytestmark = pytest.mark.modules

RNG = np.random.default_rng(0)
BUILDABLE = [name for name, row in BACKBONES.items() if not name.startswith("hub:")]
STATISTICS = re.compile("moving_mean|moving_variance")


def make_model(name: str, **settings) -> tuple[keras.Model, Config]:
    row = find_backbone(name)
    config = replace(
        Config(),
        model=ModelConfig(name, "random", **settings),
        pixels=PixelsConfig(max(row.smallest, 32), 2),
        augment=AugmentConfig("none"),
    )
    side = config.pixels.image_size + crop_margin(config.augment, config.pixels.image_size)
    return build_model(config, Start(row, row.scaling), 3, side, seed=0), config


def take_step(model: keras.Model, config: Config) -> set[str]:
    """One training step, and the paths of the variables that it changed."""
    size = config.pixels.image_size
    pixels = RNG.integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    head = model.get_layer("head")  # zeros at first, through which nothing would flow back
    head.kernel.assign(RNG.normal(size=head.kernel.shape) * 0.1)
    model.compile(
        keras.optimizers.Lion(1e-4),  # moves by the sign: no gradient is too small to be seen
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # one step is sooner taken than compiled
    )
    state = {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.variables}
    model.fit(pixels, np.array([0, 1, 2, 0]), batch_size=4, epochs=1, verbose=0)
    return {
        v.path
        for v in model.variables
        if "seed_generator" not in v.path and (keras.ops.convert_to_numpy(v) != state[v.path]).any()
    }


def check_step(name: str) -> None:
    """Frozen: the head alone. Batch norm frozen: no statistic. Freed: everything that trains."""
    drops = find_backbone(name).family == "EfficientNetV2"  # a dropped block has no gradient
    model, config = make_model(name, drop_path=0.0 if drops else None)
    head = {variable.path for variable in model.get_layer("head").variables}
    freeze_backbone(model, config.model, frozen=True)
    assert take_step(model, config) == head

    kept = replace(config.model, batch_norm="frozen")
    freeze_backbone(model, kept, frozen=False)
    changed = take_step(model, config)
    assert changed == {variable.path for variable in model.trainable_variables}
    assert not [path for path in changed if STATISTICS.search(path)]

    freeze_backbone(model, config.model, frozen=False)
    changed = take_step(model, config)
    statistics = {v.path for v in model.non_trainable_variables if STATISTICS.search(v.path)}
    assert changed == {variable.path for variable in model.trainable_variables} | statistics


def test_one_step_changes_what_should_change_and_nothing_else():
    check_step("tiny")


@pytest.mark.backbones
@pytest.mark.parametrize("name", BUILDABLE)
def test_one_step_on_every_backbone_changes_what_should_change(name: str):
    check_step(name)
    keras.backend.clear_session()  # or hundreds of millions of weights pile up


def test_stages_end_where_the_resolution_halves():
    row = find_backbone("keras:EfficientNetV2B0")
    stages = {
        layer.name: stage for layer, stage in list_stages(build_network(Start(row, "unit"), 64))
    }
    expected = {"stem_conv": 1, "block1a_project_conv": 1, "block2a_expand_conv": 2}
    expected |= {"block3b_project_bn": 3, "block4a_dwconv2": 4, "block5e_add": 4, "top_conv": 5}
    assert {name: stages[name] for name in expected} == expected


def test_stages_of_a_network_made_of_blocks_end_where_the_resolution_halves_too():
    row = find_backbone("keras:ConvNeXtTiny")
    layers = list_stages(build_network(Start(row, "imagenet"), 64))
    stages = {layer.name.partition("convnext_tiny_")[2]: stage for layer, stage in layers}
    ends = ("stem", "downsampling_block_0", "downsampling_block_1", "downsampling_block_2")
    assert [stages[name] for name in ends] == [2, 3, 4, 5]
    assert stages["stage_0_block_2_depthwise_conv"] == 2


def test_frozen_stages_keep_their_weights_and_later_ones_train():
    model, config = make_model("tiny", frozen_stages=1)
    freeze_backbone(model, config.model, frozen=False)
    changed = take_step(model, config)
    early = {v.path for layer in model.get_layer("backbone").layers[:4] for v in layer.variables}
    assert early
    assert not changed & early
    assert {variable.path for variable in model.trainable_variables} <= changed


@pytest.mark.parametrize("name", ["tiny", "keras:EfficientNetV2B0"])
def test_five_frozen_stages_are_the_whole_backbone(name: str):
    model, config = make_model(name, frozen_stages=5)
    freeze_backbone(model, config.model, frozen=False)
    head = model.get_layer("head").trainable_variables
    assert [v.path for v in model.trainable_variables] == [v.path for v in head]


def test_a_backbone_of_one_piece_freezes_whole_or_not_at_all():
    pixels = keras.Input((8, 8, 3))
    one_piece = keras.layers.Conv2D(4, 8, name="backbone")
    logits = keras.layers.Dense(3, name="head")(keras.layers.Flatten()(one_piece(pixels)))
    model = keras.Model(pixels, logits)
    for stages, trained in ((0, 4), (5, 2)):
        freeze_backbone(model, ModelConfig(frozen_stages=stages), frozen=False)
        assert len(model.trainable_variables) == trained
    for settings in ({"frozen_stages": 2}, {"batch_norm": "frozen"}):
        with pytest.raises(BackboneError, match="a SavedModel is one piece"):
            freeze_backbone(model, ModelConfig(**settings), frozen=False)


def compile_small(model: keras.Model) -> None:
    jit = keras.backend.backend() == "jax"
    task = Task("label", ("a", "b", "c"))
    compile_model(model, keras.optimizers.AdamW(1e-2), task=task, jit=jit)


def test_without_a_new_compile_freeing_a_backbone_does_not_train_it():
    """The trap: TensorFlow goes on as before without a word, JAX refuses."""
    model, config = make_model("tiny")
    freeze_backbone(model, config.model, frozen=True)
    compile_small(model)
    pixels = RNG.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    labels = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    model.fit(pixels, labels, batch_size=8, verbose=0)
    freeze_backbone(model, config.model, frozen=False)
    kernel = model.get_layer("backbone").layers[1].kernel
    before = np.array(keras.ops.convert_to_numpy(kernel))
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="optimizer_variables"):
            model.fit(pixels, labels, batch_size=8, verbose=0)
        return  # a model that failed in the middle of a step is of no more use
    model.fit(pixels, labels, batch_size=8, verbose=0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), before)
    compile_small(model)
    model.fit(pixels, labels, batch_size=8, epochs=2, verbose=0)
    assert (keras.ops.convert_to_numpy(kernel) != before).any()


def test_layer_decay_slows_each_stage_by_the_same_factor():
    model, _ = make_model("tiny")
    shares = share_rates(model, 0.5)
    kernels = [path for path in shares if path.endswith("kernel")]
    assert [shares[path] for path in kernels] == [0.125, 0.125, 0.25, 0.5]
    assert share_rates(model, 1.0) == {}


def test_the_momentum_of_batch_norm_is_set_and_felt():
    model, config = make_model("tiny", bn_momentum=0.0)
    freeze_backbone(model, config.model, frozen=False)
    norm = model.get_layer("backbone").layers[2]
    assert norm.momentum == 0.0
    set_bn_momentum(model.get_layer("backbone"), None)
    assert norm.momentum == 0.0


def test_statistics_that_lag_an_epoch_are_warned_of(tmp_path):
    model, _ = make_model("tiny")
    report = Reporter(tmp_path)
    warn_of_slow_statistics(model, 30, report)
    assert report.warnings == []
    warn_of_slow_statistics(model, 10, report)
    (warning,) = report.warnings
    assert warning == (
        "batch norm's statistics lag: with momentum 0.9 they need 30 steps, and an epoch has 10; "
        "set model.bn_momentum to 0.7 or less, or model.batch_norm to frozen"
    )


@pytest.mark.parametrize("settings", [{"batch_norm": "frozen"}, {"frozen_stages": 5}])
def test_statistics_that_do_not_train_are_not_warned_of(tmp_path, settings):
    model, config = make_model("tiny", **settings)
    freeze_backbone(model, config.model, frozen=False)
    report = Reporter(tmp_path)
    warn_of_slow_statistics(model, 1, report)
    assert report.warnings == []


def test_the_momentum_that_a_warning_names_is_not_warned_of_again(tmp_path):
    model, _ = make_model("tiny")
    for steps in (1, 3, 4, 7, 11, 20, 29):
        report = Reporter(tmp_path)
        warn_of_slow_statistics(model, steps, report)
        named = re.search(r"bn_momentum to ([\d.]+) or less", report.warnings[0])
        assert bool(named) == (steps > 3)
        if named:
            again = Reporter(tmp_path)
            other, _ = make_model("tiny", bn_momentum=float(named[1]))
            warn_of_slow_statistics(other, steps, again)
            assert again.warnings == []


def test_stochastic_depth_rises_to_the_rate_asked_for_and_only_where_there_is_some():
    network = build_network(Start(find_backbone("keras:EfficientNetV2B0"), "unit"), 32)
    set_drop_path(network, 0.3)
    rates = [layer.rate for layer in network.layers if layer.name.endswith("drop")]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)
    with pytest.raises(BackboneError, match="model.drop_path is set, but this backbone has no"):
        set_drop_path(build_network(Start(find_backbone("tiny"), "unit"), 32), 0.3)
