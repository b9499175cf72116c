import keras
import numpy as np
import pytest

from podium.backbones import (
    BACKBONES,
    BackboneError,
    build_backbone,
    check_backbone,
    find_backbone,
    scale_pixels,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


def test_an_unknown_backbone_lists_the_table():
    with pytest.raises(BackboneError, match=r"model.backbone 'EfficientNet' is not in the table"):
        find_backbone("EfficientNet")


def test_an_image_too_small_for_the_backbone_is_refused():
    with pytest.raises(BackboneError) as caught:
        check_backbone("keras:Xception", 64, "random")
    assert str(caught.value) == (
        "pixels.image_size is 64 px, but keras:Xception needs 71 or more and was made for 299"
    )


def test_tiny_has_no_pretrained_weights_and_says_so():
    with pytest.raises(BackboneError, match="set model.weights to random, or model.backbone to"):
        check_backbone("tiny", 32, "imagenet")


def test_every_backbone_of_the_table_exists_in_keras():
    for name in BACKBONES:
        if name != "tiny":
            assert callable(getattr(keras.applications, name.removeprefix("keras:")))


@pytest.mark.parametrize("name", ["tiny", "keras:EfficientNetV2B0", "keras:MobileNetV3Small"])
def test_a_backbone_is_what_its_row_says(name: str):
    row = find_backbone(name)
    network = build_backbone(row, row.smallest, "random")
    assert network.output_shape == (None, row.features)
    assert network.count_params() / 1e6 == pytest.approx(row.parameters, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_what_its_row_says(name: str):
    test_a_backbone_is_what_its_row_says(name)
    keras.backend.clear_session()


@pytest.mark.parametrize(
    "name", ["EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny", "MobileNetV3Small"]
)
def test_our_scaling_is_the_one_that_keras_would_have_applied(name: str):
    row = find_backbone(f"keras:{name}")
    options = {"weights": None, "include_top": False, "input_shape": (32, 32, 3)}
    theirs = getattr(keras.applications, name)(include_preprocessing=True, **options)
    kinds = keras.layers.Rescaling, keras.layers.Normalization
    scaling = [layer for layer in theirs.layers if isinstance(layer, kinds)]
    expected = PIXELS
    for layer in scaling:
        expected = layer(expected)
    assert row.own_scaling
    assert scaling
    ours = keras.ops.convert_to_numpy(scale_pixels(row.scaling)(PIXELS))
    np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(expected), atol=2e-5)


@pytest.mark.parametrize(
    ("scaling", "black", "white"),
    [("inception", -1.0, 1.0), ("automl", -1.0, 255 / 128 - 1), ("imagenet", -2.118, 2.249)],
)
def test_scaling_maps_black_and_white_as_its_family_wants(scaling, black, white):
    ends = np.array([[[[0.0] * 3, [255.0] * 3]]], np.float32)
    scaled = keras.ops.convert_to_numpy(scale_pixels(scaling)(ends))
    assert scaled[0, 0, 0, 0] == pytest.approx(black, abs=1e-3)
    assert scaled[0, 0, 1, 0] == pytest.approx(white, abs=1e-3)


def test_weights_that_cannot_be_downloaded_are_an_error_with_two_ways_out(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # an empty cache; the network is refused
    with pytest.raises(BackboneError, match="switch the session's internet on, put the file"):
        build_backbone(find_backbone("keras:EfficientNetV2B0"), 32, "imagenet")
