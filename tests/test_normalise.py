import keras
import numpy as np
import pytest

from podium.backbones import BACKBONES, find_backbone
from podium.normalise import scale_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


def scale(pixels: np.ndarray, scaling: str) -> np.ndarray:
    return keras.ops.convert_to_numpy(scale_pixels(keras.ops.convert_to_tensor(pixels), scaling))


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        pytest.param("EfficientNetV2B0", marks=pytest.mark.slow),
        pytest.param("EfficientNetV2S", marks=pytest.mark.slow),
        pytest.param("ConvNeXtTiny", marks=pytest.mark.slow),
    ],
)
def test_our_scaling_is_the_one_that_keras_would_have_applied_inside(name: str):
    options = {"weights": None, "include_top": False, "input_shape": (32, 32, 3)}
    theirs = getattr(keras.applications, name)(include_preprocessing=True, **options)
    kinds = keras.layers.Rescaling, keras.layers.Normalization
    scaling = [layer for layer in theirs.layers if isinstance(layer, kinds)]
    expected = PIXELS
    for layer in scaling:
        expected = layer(expected)
    assert scaling
    ours = scale(PIXELS, find_backbone(f"keras:{name}").scaling)
    np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(expected), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("DenseNet121", "densenet"),
        ("ResNet50", "resnet"),
        ("ResNet50V2", "resnet_v2"),
        ("MobileNet", "mobilenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("Xception", "xception"),
        ("InceptionV3", "inception_v3"),
        ("InceptionResNetV2", "inception_resnet_v2"),
        ("NASNetMobile", "nasnet"),
        ("VGG16", "vgg16"),
    ],
)
def test_our_scaling_is_the_preprocess_input_of_the_family(name: str, module: str):
    expected = getattr(keras.applications, module).preprocess_input(PIXELS.copy())
    ours = scale(PIXELS, find_backbone(f"keras:{name}").scaling)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("scaling", "black", "white"),
    [
        ("none", 0.0, 255.0),
        ("unit", 0.0, 1.0),
        ("inception", -1.0, 1.0),
        ("automl", -1.0, 255 / 128 - 1),
        ("imagenet", -2.118, 2.249),
        ("caffe", -103.939, 255 - 103.939),
    ],
)
def test_scaling_maps_black_and_white_as_its_family_wants(scaling, black, white):
    ends = np.array([[[[0.0] * 3, [255.0] * 3]]], np.float32)
    scaled = scale(ends, scaling)
    assert scaled[0, 0, 0, 0] == pytest.approx(black, abs=1e-3)
    assert scaled[0, 0, 1, 0] == pytest.approx(white, abs=1e-3)


def test_every_family_of_keras_has_its_scaling_checked_above():
    families = {row.family for row in BACKBONES.values()} - {"tiny"}
    assert families == {
        *("EfficientNetV2", "ConvNeXt", "MobileNet", "DenseNet", "ResNetV2", "ResNet"),
        *("Inception", "NASNet", "VGG"),
    }
