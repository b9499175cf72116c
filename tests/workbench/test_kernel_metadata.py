import json

import pytest

from podium.handles import BackboneError
from workbench.kernel_metadata import PATH, attach_models, list_model_sources, main


def test_a_module_of_kaggle_models_is_attached_with_its_version():
    source = "google/efficientnet-v2/tensorFlow2/imagenet21k-s-feature-vector/1"
    assert list_model_sources("hub:imagenet21k-s") == [source]
    assert list_model_sources(f"hub:{source}") == [source]


@pytest.mark.parametrize("name", ["tiny", "keras:EfficientNetV2S", "hub:/data/module"])
def test_other_backbones_need_no_model(name: str):
    assert attach_models({"id": "x", "model_sources": ["old"]}, name)["model_sources"] == []


def test_a_module_without_a_version_is_refused_as_kaggle_would():
    with pytest.raises(ValueError, match="Kaggle wants a version, as in google/bit/tensorFlow2/m"):
        list_model_sources("hub:google/bit/tensorFlow2/m-r50x1")
    with pytest.raises(BackboneError):
        list_model_sources("keras:NoSuchNet")


def test_the_metadata_of_this_repository_is_fresh(capsys: pytest.CaptureFixture[str]):
    assert main(["--check"]) == 0
    assert json.loads(PATH.read_text())["model_sources"] == []
