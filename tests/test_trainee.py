from dataclasses import replace

import keras
import numpy as np
import pytest
from small_fold import CONFIG, START, make_set

from podium.checkpoint import capture_state
from podium.config import Config
from podium.fold_data import take_fold
from podium.learning import OptimizerConfig
from podium.optimizers import set_rates
from podium.trainee import Shape, Trainee

ALL = Shape("all", 16, clean=False, parts=1)
SLOW = replace(CONFIG, optimizer=OptimizerConfig("adamw", weight_decay=0.0, ema=0.5))


def make_trainee(config: Config = SLOW) -> Trainee:
    return Trainee(config, START, take_fold(config, make_set(), 0))


def train(trainee: Trainee, model: keras.Model, updates: int = 2) -> None:
    set_rates(model.optimizer, np.full(updates, 1e-2))
    batches = trainee.data.make_batches(None, trainee.shape.parts, 0)
    model.fit(batches, steps_per_epoch=updates * trainee.shape.parts, verbose=0)


def test_the_same_shape_is_the_same_network():
    trainee = make_trainee()
    assert trainee.prepare(ALL, 2) is trainee.prepare(ALL, 2)


def test_another_size_has_learned_the_same_and_goes_on_with_the_same_optimizer():
    trainee = make_trainee()
    train(trainee, trainee.prepare(ALL._replace(size=8), 2))
    before = capture_state(trainee.model)
    model = trainee.prepare(ALL, 2)
    assert model.get_layer("backbone").input_shape[1] == 16
    after = capture_state(model)
    assert list(after) == list(before)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    train(trainee, model)
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 4


def test_smaller_squares_are_what_the_network_sees():
    model = make_trainee().prepare(ALL._replace(size=8), 2)
    assert model.input_shape == (None, 18, 18, 3)
    assert model.get_layer("backbone").input_shape == (None, 8, 8, 3)


def test_a_new_phase_keeps_the_weights_and_starts_its_own_optimizer():
    trainee = make_trainee()
    model = trainee.prepare(ALL._replace(phase="head"), 2)
    train(trainee, model)
    head = model.get_layer("head").get_weights()
    later = trainee.prepare(ALL, 2)
    assert later is model
    np.testing.assert_array_equal(later.get_layer("head").get_weights()[0], head[0])
    assert keras.ops.convert_to_numpy(later.optimizer.iterations) == 0
    assert len(later.trainable_variables) > 2


def test_only_the_head_learns_in_the_first_phase():
    trainee = make_trainee()
    model = trainee.prepare(ALL._replace(phase="head"), 2)
    before = [weights.copy() for weights in model.get_layer("backbone").get_weights()]
    train(trainee, model)
    for one, other in zip(before, model.get_layer("backbone").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_clean_epochs_see_the_centre_and_go_on_with_the_same_optimizer():
    trainee = make_trainee()
    model = trainee.prepare(ALL, 2)
    train(trainee, model)
    layer, pixels = model.get_layer("augment"), make_set().images.pixels[:8]
    shown = keras.ops.convert_to_numpy(layer(pixels, training=True))
    assert np.any(shown != pixels[:, 1:17, 1:17])
    clean = trainee.prepare(ALL._replace(clean=True), 2)
    shown = keras.ops.convert_to_numpy(layer(pixels, training=True))
    np.testing.assert_array_equal(shown, pixels[:, 1:17, 1:17])
    seeds = [keras.ops.convert_to_numpy(layer.draws.state).tolist()]
    train(trainee, clean)
    assert [keras.ops.convert_to_numpy(layer.draws.state).tolist()] == seeds
    assert keras.ops.convert_to_numpy(clean.optimizer.iterations) == 4
    assert trainee.prepare(ALL, 2) is model
    shown = keras.ops.convert_to_numpy(layer(pixels, training=True))
    assert np.any(shown != pixels[:, 1:17, 1:17])


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_class_weights_are_those_of_the_training_images(weights: str):
    config = replace(CONFIG, train=replace(CONFIG.train, class_weights=weights))
    trainee = make_trainee(config)
    if weights == "none":
        assert trainee.class_weights is None
    else:
        np.testing.assert_allclose(trainee.class_weights, [1, 1], rtol=0.1)
