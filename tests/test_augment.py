import keras
import numpy as np
import pytest

from podium.augment import CropAndFlip, crop_margin, make_augmentation
from podium.config import AugmentConfig

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 20, 20, 3), dtype=np.uint8)


def run(layer: CropAndFlip, training: bool) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(PIXELS, training=training))


def windows_of(image: np.ndarray, size: int) -> set[bytes]:
    reach = range(image.shape[0] - size + 1)
    squares = [image[y : y + size, x : x + size] for y in reach for x in reach]
    return {np.ascontiguousarray(square).tobytes() for square in squares}


def test_outside_training_the_centre_is_cut():
    cut = run(CropAndFlip(16, flip=True), training=False)
    np.testing.assert_array_equal(cut, PIXELS[:, 2:18, 2:18].astype(np.float32))


def test_in_training_each_image_is_a_window_of_itself_perhaps_mirrored():
    cut = run(CropAndFlip(16, flip=True), training=True).astype(np.uint8)
    mirrored = 0
    for image, square in zip(PIXELS, cut, strict=True):
        windows = windows_of(image, 16)
        plain = np.ascontiguousarray(square).tobytes() in windows
        turned = np.ascontiguousarray(square[:, ::-1]).tobytes() in windows
        assert plain != turned
        mirrored += turned
    assert 16 <= mirrored <= 48


def test_each_image_of_a_batch_is_cut_at_its_own_place():
    layer = CropAndFlip(16, flip=False)
    same = np.broadcast_to(PIXELS[:1], PIXELS.shape)
    cut = keras.ops.convert_to_numpy(layer(same, training=True))
    assert len({square.tobytes() for square in cut}) > 15  # of 25 places


def test_a_policy_without_flip_never_mirrors():
    cut = run(CropAndFlip(16, flip=False), training=True).astype(np.uint8)
    for image, square in zip(PIXELS, cut, strict=True):
        assert np.ascontiguousarray(square).tobytes() in windows_of(image, 16)


def test_two_batches_are_cut_differently_and_a_seed_repeats_them():
    layer, again = CropAndFlip(16, flip=True, seed=5), CropAndFlip(16, flip=True, seed=5)
    first = run(layer, training=True)
    np.testing.assert_array_equal(first, run(again, training=True))
    assert (first != run(layer, training=True)).any()


def test_policy_none_changes_nothing():
    layer = make_augmentation(AugmentConfig("none"), 20, seed=0)
    np.testing.assert_array_equal(run(layer, training=True), PIXELS.astype(np.float32))


@pytest.mark.parametrize(
    ("policy", "size", "margin"),
    [("none", 224, 0), ("albumentations:hard", 224, 0), ("mixup", 224, 28), ("flip-crop", 16, 2)],
)
def test_only_a_crop_needs_a_margin(policy: str, size: int, margin: int):
    assert crop_margin(AugmentConfig(policy), size) == margin


@pytest.mark.parametrize(
    ("policy", "flip", "mirrors"),
    [("flip-crop", "auto", True), ("flip-crop", "no", False), ("none", "yes", True)],
)
def test_an_explicit_flip_wins_over_the_policy(policy: str, flip: str, mirrors: bool):
    assert make_augmentation(AugmentConfig(policy, flip=flip), 16, seed=0).flip == mirrors


def test_the_layer_is_rebuilt_from_its_configuration():
    layer = CropAndFlip(16, flip=True, seed=5)
    again = CropAndFlip.from_config(layer.get_config())
    assert (again.size, again.flip, again.seed) == (16, True, 5)
