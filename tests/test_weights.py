import json
import shutil
from pathlib import Path

import h5py
import hub_modules
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from podium.backbones import find_backbone
from podium.events import Reporter
from podium.handles import BackboneError
from podium.learning import ModelConfig
from podium.network import (
    Start,
    build_architecture,
    build_network,
)
from podium.port import UnportableModule
from podium.weights import copy_weights, keep_weights, load_network, prepare_backbone

MOBILE = "keras:MobileNetV3Small"
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.fixture
def report(tmp_path: Path) -> Reporter:
    (tmp_path / "run").mkdir()
    return Reporter(tmp_path / "run")


def prepare(name: str, weights: str, report: Reporter) -> Start:
    return prepare_backbone(ModelConfig(name, weights), 32, report.path.parent, report)


def fill_cache(folder: Path, name: str) -> keras.Model:
    """A network whose weights lie in Keras's cache as if they had been downloaded."""
    row = find_backbone(name)
    network = build_architecture(row, row.smallest)
    (folder / "models").mkdir(parents=True)
    with h5py.File(folder / "models" / row.weights, "w") as file:  # the files are of this format
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return network


def same_weights(one: keras.Model, other: keras.Model) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all((left == right).all() for left, right in pairs)


def test_weights_in_keras_own_cache_are_taken_and_kept_in_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Reporter
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    cached = fill_cache(tmp_path / "keras", MOBILE)
    start = prepare(MOBILE, "pretrained", report)
    assert start.weights == tmp_path / "run" / "backbone.weights.h5"
    assert same_weights(build_network(start, 32), cached)
    about = json.loads((tmp_path / "run" / "backbone.json").read_text())
    assert about["source"].endswith(find_backbone(MOBILE).weights)
    assert "backbone_prepared" in report.path.read_text()


def test_weights_of_keras_own_files_or_of_a_saved_run_load_alike(tmp_path: Path):
    row = find_backbone("tiny")
    network = build_architecture(row, 32)
    network.name = "backbone"
    pixels = inner = keras.Input((32, 32, 3))
    body = keras.Model(inner, keras.layers.Dense(5)(network(inner)), name="network")
    keras.Model(pixels, body(pixels)).save(tmp_path / "model.keras")
    network.save_weights(tmp_path / "tiny.weights.h5")
    for file in ("model.keras", "tiny.weights.h5"):
        assert same_weights(load_network(row, tmp_path / file), network)


def test_weights_of_another_network_are_an_error_that_names_the_file(tmp_path: Path):
    path = tmp_path / "other.weights.h5"
    build_architecture(find_backbone("tiny"), 32).save_weights(path)
    with pytest.raises(BackboneError) as caught:
        load_network(find_backbone(MOBILE), path)
    assert str(caught.value).startswith(f"{path} does not hold the weights of {MOBILE}: ")


def test_a_full_disk_is_told_before_training(report: Reporter, monkeypatch: pytest.MonkeyPatch):
    network = build_architecture(find_backbone("tiny"), 32)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(network), "save_weights", fail)
    with pytest.raises(BackboneError, match=r"backbone.weights.h5 could not be written \(OSError"):
        keep_weights(Start(find_backbone("tiny"), "unit"), network, report.path.parent, report, {})


def test_a_saved_network_without_a_layer_is_an_error():
    network = build_architecture(find_backbone("tiny"), 32)
    pixels = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match="it has no layer "):
        copy_weights(keras.Model(pixels, keras.layers.Flatten()(pixels)), network)


def test_weights_of_another_class_count_lend_their_body(tmp_path: Path):
    """A file of a network with a classifier of 1,000 classes, for a competition of 5."""
    row = find_backbone(MOBILE)
    whole = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), include_preprocessing=False, classes=1000
    )
    whole.save(tmp_path / "MobileNetV3Small.keras")
    network = load_network(row, tmp_path / "MobileNetV3Small.keras")
    kernel = whole.layers[1].get_weights()[0]
    np.testing.assert_array_equal(network.layers[1].get_weights()[0], kernel)


def test_weights_that_cannot_be_had_are_an_error_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Reporter
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))  # and the network is refused
    with pytest.raises(BackboneError) as caught:
        prepare("keras:EfficientNetV2B0", "pretrained", report)
    words = str(caught.value)
    assert "the weights of keras:EfficientNetV2B0 are not among the attached inputs nor" in words
    assert "(efficientnetv2-b0_notop.h5), and cannot be downloaded (" in words
    assert "attach the file, switch the session's internet on, or set model.weights to" in words


def test_in_a_rehearsal_weights_that_cannot_be_had_are_random_and_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Reporter
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    start = prepare("keras:EfficientNetV2B0", "pretrained-if-found", report)
    assert start.weights is None
    (warning,) = report.warnings
    assert warning.startswith("keras:EfficientNetV2B0 starts from random weights: this run rehea")


def test_a_module_that_is_not_there_is_an_error_in_a_rehearsal_too(
    tmp_path: Path, report: Reporter
):
    with pytest.raises(BackboneError, match="no SavedModel is there; looked for"):
        prepare(f"hub:{tmp_path}/typo", "pretrained-if-found", report)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="a SavedModel runs on TensorFlow alone")
def test_a_module_of_one_size_names_it_before_anything_is_decoded(tmp_path: Path, report: Reporter):
    folder = hub_modules.export_tiny_module(tmp_path / "tiny", side=32)
    assert prepare(f"hub:{folder}", "pretrained", report).module == folder
    with pytest.raises(BackboneError) as caught:
        prepare_backbone(ModelConfig(f"hub:{folder}"), 64, tmp_path, report)
    assert str(caught.value) == (
        f"pixels.image_size is 64 px, but {folder} takes 32 px and no other; "
        "set pixels.image_size to that"
    )


def test_what_is_told_of_kept_weights_never_speaks_of_others(
    report: Reporter, monkeypatch: pytest.MonkeyPatch
):
    """A process that is killed while it writes new weights leaves no word about them."""
    row, folder = find_backbone("tiny"), report.path.parent
    network = build_architecture(row, 32)
    keep_weights(Start(row, "unit"), network, folder, report, {"source": "the first"})

    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(network), "save_weights", end)
    with pytest.raises(KeyboardInterrupt):
        keep_weights(Start(row, "unit"), network, folder, report, {"source": "the second"})
    assert not (folder / "backbone.json").exists()


def test_a_hub_module_is_ported_once_and_found_again(exported: Path, report: Reporter, capsys):
    start = prepare(f"hub:{exported}", "pretrained", report)
    assert (start.scaling, start.module) == ("unit", None)
    network = build_network(start, 64)
    assert network.output_shape == (None, 1280)
    assert "ported 359 variables to keras:EfficientNetV2B0, input unit; largest" in (
        capsys.readouterr().out
    )
    shutil.copytree(exported, report.path.parent / "moved")
    again = prepare(f"hub:{exported}", "pretrained", report)
    assert again == start
    assert "ported" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_module_of_the_table_that_is_not_what_it_says_is_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Reporter
):
    from podium import weights

    monkeypatch.setattr(weights, "find_module", lambda *_: exported)
    with pytest.raises(UnportableModule, match="does not fit keras:efficientnetv2-b1: 114 missing"):
        prepare("hub:imagenet21k-b1", "pretrained", report)


def test_another_architecture_runs_as_it_is_on_tensorflow_and_nowhere_else(
    tmp_path: Path, report: Reporter
):
    folder = hub_modules.export_tiny_module(tmp_path / "tiny")
    if not ON_TENSORFLOW:
        with pytest.raises(UnportableModule, match="as it is, only TensorFlow can run it: choose"):
            prepare(f"hub:{folder}", "pretrained", report)
        return
    start = prepare(f"hub:{folder}", "pretrained", report)
    assert start.module == folder
    assert build_network(start, 32)(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 8)
    assert "it is trained as it is: TensorFlow alone, in float32" in report.warnings[0]
