from pathlib import Path

import hub_modules
import keras
import numpy as np
import pytest

from podium.handles import BackboneError
from podium.hub_module import HubModule

PIXELS = hub_modules.draw_photographs(8, 32, seed=1).astype(np.float32) / 255
LABELS = np.arange(8) % 2

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a SavedModel runs on TensorFlow alone"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(hub_modules.export_tiny_module(tmp_path_factory.mktemp("module")))


def build(folder: str) -> keras.Model:
    pixels = keras.Input((32, 32, 3))
    features = HubModule(folder, name="backbone")(pixels)
    return keras.Model(pixels, keras.layers.Dense(2)(features))


def train(model: keras.Model) -> set[str]:
    """Two epochs, and the names of the module's variables that they changed."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    module = model.get_layer("backbone")
    before = [np.array(variable.value) for variable in module.variables]
    model.fit(PIXELS, LABELS, batch_size=4, epochs=2, verbose=0)
    pairs = zip(module.variables, before, strict=True)
    return {v.name.rpartition("_first_")[2] for v, old in pairs if (np.array(v.value) != old).any()}


NORM = "tpu_batch_normalization"
KERNELS = {"conv2d_kernel", f"{NORM}_gamma", f"{NORM}_beta"}
STATISTICS = {f"{NORM}_moving_mean", f"{NORM}_moving_variance"}


@on_tensorflow
def test_kernels_and_moving_statistics_train(folder: str):
    assert train(build(folder)) == KERNELS | STATISTICS


@on_tensorflow
def test_a_frozen_module_changes_nothing_and_a_freed_one_trains_again(folder: str):
    model = build(folder)
    model.get_layer("backbone").trainable = False
    assert train(model) == set()
    model.get_layer("backbone").trainable = True
    assert train(model) == KERNELS | STATISTICS


@on_tensorflow
def test_the_modules_own_penalty_counts_in_training(folder: str):
    layer = HubModule(folder)
    layer(PIXELS, training=True)
    assert float(sum(layer.losses)) > 0


@on_tensorflow
def test_tfsm_layer_would_leave_the_statistics_frozen(folder: str):
    """The trap that HubModule is there for."""
    layer = keras.layers.TFSMLayer(
        folder, call_endpoint="__call__", call_training_endpoint="__call__"
    )
    before = [np.array(variable.value) for variable in layer.variables]
    layer(PIXELS, training=True)
    for variable, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.value, old)


@on_tensorflow
@pytest.mark.parametrize("way", ["model.keras", "model.weights.h5", "export"])
def test_a_trained_module_is_saved_and_comes_back(folder: str, tmp_path: Path, way: str):
    import tensorflow as tf

    model = build(folder)
    train(model)
    expected = model.predict(PIXELS, verbose=0)
    if way == "model.keras":
        model.save(tmp_path / way)
        again = keras.models.load_model(tmp_path / way).predict(PIXELS, verbose=0)
    elif way == "model.weights.h5":
        model.save_weights(tmp_path / way)
        fresh = build(folder)
        fresh.load_weights(tmp_path / way)
        again = fresh.predict(PIXELS, verbose=0)
    else:
        model.export(tmp_path / way, verbose=False)
        served = tf.saved_model.load(str(tmp_path / way))
        again = served.serve(tf.constant(PIXELS)).numpy()
    np.testing.assert_allclose(again, expected, atol=1e-6)


@on_tensorflow
def test_a_module_without_variables_is_refused(tmp_path: Path):
    import tensorflow as tf

    bare = tf.Module()
    bare.__call__ = tf.function(lambda x: x, [tf.TensorSpec((None, 4))])
    tf.saved_model.save(bare, str(tmp_path))
    with pytest.raises(BackboneError, match="is no reusable SavedModel: nothing in it can be"):
        HubModule(str(tmp_path))


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow can run it")
def test_another_backend_refuses_a_module_and_says_what_to_take_instead(folder: str):
    with pytest.raises(BackboneError) as caught:
        HubModule(folder)
    assert str(caught.value) == (
        f"{folder} is a SavedModel that Keras cannot rebuild and that runs on TensorFlow alone; "
        f"set runtime.backend to tensorflow, or choose a backbone of the table, such as "
        f"keras:EfficientNetV2B0"
    )
