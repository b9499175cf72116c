import json

import pytest

from podium.handles import BackboneError
from workbench.competition_file import CompetitionFile
from workbench.kernel_metadata import (
    PATH,
    attach_models,
    derive_metadata,
    list_metadata_mistakes,
    list_model_sources,
    main,
    make_slug,
)


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


@pytest.mark.parametrize(
    ("accelerator", "flags"),
    [
        ("gpu", {"enable_gpu": True, "enable_tpu": False, "machine_shape": "NvidiaTeslaT4"}),
        ("tpu", {"enable_gpu": False, "enable_tpu": True, "machine_shape": "TpuV5E8"}),
        ("cpu", {"enable_gpu": False, "enable_tpu": False}),
    ],
)
def test_the_machine_follows_from_the_accelerator(accelerator: str, flags: dict[str, object]):
    kernel = CompetitionFile("digits", "me/podium-digits", accelerator=accelerator)
    metadata = derive_metadata(kernel, "podium.py")
    assert flags.items() <= metadata.items()
    assert ("machine_shape" in metadata) == (accelerator != "cpu")
    assert "docker_image" not in metadata
    assert list_metadata_mistakes(metadata) == []


def test_what_the_client_would_ignore_is_a_mistake():
    kernel = CompetitionFile("digits", "me/podium-digits", accelerator="tpu", webhook=True)
    metadata = derive_metadata(kernel, "podium.py")
    wrong = {
        "machineshape": "TpuV5E8",
        "machine_shape": "TpuV38",
        "title": "Digits!",
        "docker_image": "gcr.io/x",
        "is_private": False,
    }
    text = "\n".join(list_metadata_mistakes(metadata | wrong))
    for words in (
        "unknown key 'machineshape', which Kaggle ignores",
        "machine_shape 'TpuV38' is none of NvidiaTeslaT4",
        "title 'Digits!' must have 5 to 50 letters and resolve to the id's slug 'podium-digits'",
        "docker_image must go: with one, Kaggle runs a TPU kernel on a CPU",
        "a public kernel must not attach podium-webhook",
    ):
        assert words in text
    gpu = metadata | {"machine_shape": "NvidiaTeslaT4"}
    assert "enable_tpu and machine_shape contradict each other" in list_metadata_mistakes(gpu)


@pytest.mark.parametrize(
    ("wrong", "flag"),
    [
        ({"enable_gpu": False}, "enable_gpu"),
        ({"enable_tpu": True}, "enable_tpu"),
        ({"machine_shape": None}, "enable_gpu"),
        ({"enable_gpu": False, "enable_tpu": True}, "enable_gpu"),
    ],
)
def test_a_flag_that_contradicts_the_machine_is_a_mistake(wrong: dict[str, object], flag: str):
    metadata = derive_metadata(CompetitionFile("digits", "me/podium-digits"), "podium.py")
    assert list_metadata_mistakes(metadata) == []
    mistakes = list_metadata_mistakes(metadata | wrong)
    assert f"{flag} and machine_shape contradict each other" in mistakes


def test_a_title_has_as_many_letters_as_kaggle_takes():
    for letters, mistakes in ((4, 1), (5, 0), (50, 0), (51, 1)):
        kernel = CompetitionFile("digits", f"me/{'x' * letters}")
        assert len(list_metadata_mistakes(derive_metadata(kernel, "podium.py"))) == mistakes


def test_a_title_becomes_the_slug_that_kaggle_makes_of_it():
    assert make_slug("My Podium: Digits (v2)") == "my-podium-digits-v2"
