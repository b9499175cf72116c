import keras
import pytest

from podium.backbones import BACKBONES, find_backbone
from podium.handles import BackboneError
from podium.learning import ModelConfig
from podium.network import Start, build_architecture, build_network, check_backbone

MOBILE = "keras:MobileNetV3Small"


def test_an_image_too_small_for_the_backbone_is_refused():
    with pytest.raises(BackboneError) as caught:
        check_backbone(ModelConfig("keras:Xception"), 64)
    assert str(caught.value) == (
        "pixels.image_size is 64 px, but keras:Xception needs 71 or more and was made for 299; "
        "raise it, or train.first_size if that made it so small"
    )


def test_tiny_has_no_pretrained_weights_and_says_so():
    with pytest.raises(BackboneError, match="set model.weights to random, or model.backbone to"):
        check_backbone(ModelConfig("tiny"), 32)


def test_a_saved_model_cannot_start_from_random_weights():
    with pytest.raises(BackboneError, match="hub:/data/m comes with its weights; set it to pretr"):
        check_backbone(ModelConfig("hub:/data/m", "random"), 32)


@pytest.mark.parametrize("name", ["tiny", MOBILE])
def test_a_backbone_is_what_its_row_says(name: str):
    row = find_backbone(name)
    network = build_network(Start(row, row.scaling), row.smallest)
    assert network.output_shape == (None, row.features)
    assert network.count_params() / 1e6 == pytest.approx(row.parameters, abs=0.06)
    assert network.name == "backbone"


@pytest.mark.backbones
@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.startswith("hub:")])
def test_every_backbone_is_what_its_row_says(name: str):
    test_a_backbone_is_what_its_row_says(name)
    keras.backend.clear_session()


@pytest.mark.backbones
@pytest.mark.parametrize("name", [name for name in BACKBONES if name.startswith("keras:")])
def test_our_names_of_weights_files_are_those_that_keras_asks_for(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    class AskedError(Exception):
        pass

    def get_file(file: str, *args, **options):
        asked.append(file)
        raise AskedError

    row = find_backbone(name)
    module = keras.src.utils.file_utils
    monkeypatch.setattr(module, "get_file", get_file)
    with pytest.raises(AskedError):
        build_architecture(row, row.image_size, "imagenet")
    assert asked == [row.weights]
    keras.backend.clear_session()
