from pathlib import Path

import keras
import pytest

from podium.backbones import BACKBONES, find_backbone
from podium.handles import BackboneError


def test_the_table_has_every_published_efficientnet_v2():
    sizes = ("b0", "b1", "b2", "b3", "s", "m", "l")
    for data in ("imagenet1k", "imagenet21k", "imagenet21k-ft1k"):
        for size in sizes:
            row = find_backbone(f"hub:{data}-{size}")
            assert row.weights.startswith(
                f"google/efficientnet-v2/tensorFlow2/{data}-{size}-feature-vector/"
            )
            assert row.architecture == f"EfficientNetV2{size.upper()}"
            classifier = find_backbone(f"hub:{data}-{size}-classification")
            assert classifier.weights.split("/")[3] == f"{data}-{size}-classification"


def test_every_architecture_of_the_table_exists_in_keras():
    for row in BACKBONES.values():
        assert row.name == "tiny" or callable(getattr(keras.applications, row.architecture))


def test_an_unknown_backbone_is_an_error_with_the_nearest_names():
    with pytest.raises(BackboneError) as caught:
        find_backbone("EfficientNetV2S")
    assert str(caught.value).startswith("model.backbone 'EfficientNetV2S' is not in the table; did")
    assert "keras:EfficientNetV2S" in str(caught.value)
    assert str(caught.value).endswith("make backbones lists all")


@pytest.mark.parametrize(
    "name",
    [
        "hub:imagenet21k-xl",
        "https://tfhub.dev/google/imagenet/efficientnet_v2_imagenet21k_xl/feature_vector/2",
        "hub:google/efficientnet-v2/tensorFlow2/imagenet21k-ft1k-xl-classification/1",
    ],
)
def test_xl_is_an_error_as_keras_has_no_such_architecture(name: str):
    with pytest.raises(BackboneError, match="Keras has no EfficientNetV2 XL to carry its weights"):
        find_backbone(name)


@pytest.mark.parametrize(
    "name",
    [
        "hub:https://tfhub.dev/google/imagenet/efficientnet_v2_imagenet21k_ft1k_s/feature_vector/2",
        "https://www.kaggle.com/models/google/efficientnet-v2/TensorFlow2/imagenet21k-ft1k-s-feature-vector/2",
        "hub:google/efficientnet-v2/tensorFlow2/imagenet21k-ft1k-s-feature-vector/2",
    ],
)
def test_an_address_of_a_published_module_finds_its_row(name: str):
    assert find_backbone(name) == find_backbone("hub:imagenet21k-ft1k-s")


def test_the_version_in_an_address_of_kaggle_is_kept():
    handle = "google/efficientnet-v2/tensorFlow2/imagenet21k-s-feature-vector"
    assert find_backbone(f"hub:{handle}/7").weights == f"{handle}/7"
    assert find_backbone(f"hub:{handle}").weights == find_backbone("hub:imagenet21k-s").weights


def test_a_folder_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "module").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_backbone("hub:module").family == "SavedModel"


def test_a_folder_and_a_foreign_handle_are_saved_models_of_any_kind():
    assert find_backbone("hub:/data/efficientnetv2-xl").family == "SavedModel"
    row = find_backbone("hub:/data/module")
    assert (row.family, row.architecture, row.weights) == ("SavedModel", "", "/data/module")
    handle = "google/mobilenet-v2/tensorFlow2/100-224-feature-vector/2"
    assert find_backbone(f"hub:{handle}").weights == handle
