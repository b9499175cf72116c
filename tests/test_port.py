import re
import shutil
from pathlib import Path

import hub_modules
import keras
import numpy as np
import pytest

from podium.normalise import scale_pixels
from podium.port import (
    Module,
    UnportableModule,
    compare,
    guess_architecture,
    port_module,
    read_module,
)


@pytest.fixture(scope="module")
def b0(exported: Path) -> Module:
    return read_module(exported)


def measure_parity(module: Module) -> float:
    """The largest relative difference of pooled features on photographs the port never saw."""
    port = port_module(module)
    pixels = hub_modules.draw_photographs(4, 96, seed=7).astype(np.float32)
    scaled = scale_pixels(keras.ops.convert_to_tensor(pixels), port.scaling)
    ours = keras.ops.convert_to_numpy(port.network(scaled, training=False))
    return compare(ours, np.asarray(module.call(pixels / 255, training=False)))


@pytest.mark.modules
def test_a_ported_network_answers_as_its_module(b0: Module):
    assert measure_parity(b0) <= 1e-5


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.modules
def test_the_port_is_exact_whatever_the_run_computes_in(b0: Module, policy: str):
    keras.config.set_dtype_policy(policy)
    try:
        port = port_module(b0)
        assert keras.config.dtype_policy().name == policy
    finally:
        keras.config.set_dtype_policy("float32")
    assert port.figures["difference"] <= 1e-5
    assert port.network.compute_dtype == "float32"


@pytest.mark.slow
def test_a_module_that_takes_one_size_alone_is_ported_too():
    folder = hub_modules.keep_efficientnet("b0", side=100)
    port = port_module(read_module(folder))
    assert port.figures["difference"] <= 1e-5


@pytest.mark.either
@pytest.mark.slow
@pytest.mark.parametrize("size", ["b3", "s"])
def test_other_sizes_answer_as_their_modules_too(size: str):
    assert measure_parity(read_module(hub_modules.keep_efficientnet(size))) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("rescale", "scaling"), [("2x-1", "inception"), ("imagenet", "imagenet")])
def test_the_probe_finds_the_range_that_a_module_scales_to_inside(rescale, scaling):
    folder = hub_modules.keep_efficientnet("b0", rescale=rescale)
    port = port_module(read_module(folder))
    assert port.scaling == scaling
    assert port.figures["difference"] <= 1e-5


@pytest.mark.slow
def test_a_classification_module_gives_its_body_and_its_own_classes_are_left_behind():
    folder = hub_modules.keep_efficientnet("b0", classes=7)
    port = port_module(read_module(folder))
    assert port.network.output_shape == (None, 1280)
    assert port.figures["difference"] <= 1e-5


@pytest.mark.parametrize(
    ("size", "count", "architecture"),
    [
        ("b0", 359, "EfficientNetV2B0"),
        ("b1", 441, "EfficientNetV2B1"),
        ("b2", 460, "EfficientNetV2B2"),
        ("b3", 536, "EfficientNetV2B3"),
        ("s", 670, "EfficientNetV2S"),
        ("m", 961, "EfficientNetV2M"),
        ("l", 1329, "EfficientNetV2L"),
    ],
)
def test_the_number_of_blocks_tells_the_size(size: str, count: int, architecture: str):
    blocks, _, depth, _ = hub_modules.SIZES[size]
    repeats = sum(int(np.ceil(repeats * depth)) for repeats, *_ in blocks)
    names = {f"efficientnetv2-{size}/blocks_{block}/conv2d/kernel": 0 for block in range(repeats)}
    assert guess_architecture(Module(Path("x"), None, names)) == architecture


def refuse(module: Module, architecture: str = "") -> str:
    with pytest.raises(UnportableModule) as caught:
        port_module(module, architecture)
    return str(caught.value)


def test_a_module_of_another_size_is_refused(b0: Module):
    words = refuse(b0, "EfficientNetV2B1")
    assert "does not fit keras:efficientnetv2-b1: 114 missing, e.g. blocks_21/conv2d/" in words


def test_a_module_of_another_family_is_refused(tmp_path: Path):
    words = refuse(read_module(hub_modules.export_tiny_module(tmp_path)))
    assert "is no EfficientNetV2 that Keras has: it has 0 blocks, where B0 has 21, B1 has" in words


def test_a_missing_variable_is_named(b0: Module):
    kept = {name: v for name, v in b0.variables.items() if not name.endswith("se/conv2d_1/bias")}
    words = refuse(b0._replace(variables=kept))
    assert words.endswith("efficientnetv2-b0: 16 missing, e.g. blocks_10/se/conv2d_1/bias")


def test_a_foreign_variable_is_named(b0: Module):
    more = {**b0.variables, "global_step": np.zeros(())}
    assert refuse(b0._replace(variables=more)).endswith("1 foreign, e.g. global_step")


def test_another_scheme_of_batch_norm_names_is_refused(b0: Module):
    renamed = {name.replace("tpu_batch", "batch"): v for name, v in b0.variables.items()}
    words = refuse(b0._replace(variables=renamed))
    assert "missing, e.g. blocks_0/tpu_batch_normalization/beta" in words
    assert "unused, e.g. blocks_0/batch_normalization/beta" in words


def test_weights_of_another_shape_are_named(b0: Module):
    name = "efficientnetv2-b0/head/conv2d/kernel"
    cut = {**b0.variables, name: b0.variables[name][..., :7]}
    words = refuse(b0._replace(variables=cut))
    assert words.endswith("e.g. head/conv2d/kernel (1, 1, 192, 7) for (1, 1, 192, 1280)")


def test_swapped_batch_norm_parameters_fit_by_name_and_fail_by_numbers(b0: Module):
    swap = {"gamma": "beta", "beta": "gamma"}
    swapped = {
        name: b0.variables[f"{name.rpartition('/')[0]}/{swap[name.rpartition('/')[2]]}"]
        if name.rpartition("/")[2] in swap
        else value
        for name, value in b0.variables.items()
    }
    words = refuse(b0._replace(variables=swapped))
    assert "fits keras:efficientnetv2-b0 by name, but they answer differently, by unit" in words


def test_a_module_whose_answers_are_too_unsteady_to_be_compared_is_refused(b0: Module):
    def answer(pixels, training):
        steep = np.sin(1e5 * np.asarray(pixels, np.float64).mean(axis=(1, 2, 3)))
        return np.tile(steep[:, None], (1, 1280))

    words = refuse(b0._replace(call=answer))
    assert re.search(r"cannot be checked: its own answer moves by \S+ if its input moves by", words)


def test_a_doubled_name_is_refused(tmp_path: Path):
    doubled = {"efficientnetv2-b0/stem/conv2d/kernel": "same", "efficientnetv2-b0/x": "same"}
    variables = hub_modules.Variables("efficientnetv2-b0", 0, lambda name: doubled.get(name, name))
    kernel = variables.get("stem/conv2d/kernel", lambda: [1.0])
    other = variables.get("x", lambda: [2.0])
    hub_modules.save_module(lambda x, _: x * kernel * other, variables, tmp_path)
    with pytest.raises(UnportableModule, match="has same twice, so names do not tell its weights"):
        read_module(tmp_path)


def test_a_broken_checkpoint_is_refused(exported: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(exported, broken)
    data = next((broken / "variables").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(UnportableModule, match="cannot be read: "):
        read_module(broken)


def test_a_saved_model_that_is_not_reusable_is_refused(tmp_path: Path):
    import tensorflow as tf

    bare = tf.Module()
    bare.run = tf.function(lambda x: x, [tf.TensorSpec((None, 4))])
    tf.saved_model.save(bare, str(tmp_path))
    with pytest.raises(UnportableModule, match="is no reusable SavedModel"):
        read_module(tmp_path)
