from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_fold import CONFIG, make_set

from podium.fold_data import PseudoLabelled, TrainingSet, take_fold
from podium.learning import PseudoConfig
from podium.pixels import PixelError


def test_a_fold_trains_on_all_images_but_those_that_validate_it():
    given = make_set()
    data = take_fold(CONFIG, given, 1)
    assert (given.folds[data.validated] == 1).all()
    assert sorted([*data.training, *data.validated]) == list(range(50))
    assert data.steps == 2  # 26 images in batches of 16
    assert data.seed == CONFIG.runtime.seed + 1


def test_the_parts_of_a_batch_make_up_the_batch():
    data = take_fold(CONFIG, make_set(), 0)
    whole, parts = (list(data.make_batches(None, parts, 1).take(parts)) for parts in (1, 4))
    for at in (0, 1):
        joined = np.concatenate([part[at] for part in parts])
        np.testing.assert_array_equal(joined, whole[0][at])
        assert len(parts[0][at]) == 4


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        (lambda pixels: pixels // 255, "the first batch is uint8 from 0 to "),
        (lambda pixels: pixels / np.float32(255), "the first batch is float32 from 0"),
        (lambda pixels: pixels / np.float32(127.5) - 1, "the first batch is float32 from -"),
        (lambda pixels: (pixels - 123.675) / 58.395, "the first batch is float64 from -"),
        (lambda pixels: pixels[..., ::-1] - 110.0, "the first batch is float64 from -"),
    ],
    ids=["to 0 or 1", "by 255", "to -1 to 1", "as ImageNet", "as Caffe"],
)
def test_pixels_that_were_scaled_before_are_refused(scale: Callable, told: str):
    given = make_set()
    scaled = given._replace(images=given.images._replace(pixels=scale(given.images.pixels)))
    with pytest.raises(PixelError) as caught:
        take_fold(CONFIG, scaled, 0).check()
    assert str(caught.value).startswith(told)
    assert "the model takes raw pixels, uint8 from 0 to 255" in str(caught.value)


def make_labelled_set() -> TrainingSet:
    """Thirty test images; the first twenty have a label for fold 0, the last twenty for fold 1."""
    tested = make_set(30).images
    labels = np.tile(np.arange(30) % 2, (2, 1))
    labels[0, 20:] = labels[1, :10] = -1
    return make_set()._replace(pseudo=PseudoLabelled(tested, labels))


def test_a_fold_trains_on_the_test_images_that_are_labelled_for_it_too():
    given = make_labelled_set()
    for fold, first in ((0, 0), (1, 10)):
        data, plain = take_fold(CONFIG, given, fold), take_fold(CONFIG, make_set(), fold)
        np.testing.assert_array_equal(data.validated, plain.validated)
        np.testing.assert_array_equal(data.training[:-20], plain.training)
        added = data.training[-20:]
        assert added.tolist() == list(range(50 + first, 70 + first))
        np.testing.assert_array_equal(
            data.pixels[added], given.pseudo.images.pixels[first : first + 20]
        )
        np.testing.assert_array_equal(data.encode(added).argmax(axis=1), np.arange(20) % 2)
        assert data.data.ids[added[0]] == f"{first:03d}"
        assert data.steps == 3  # 24 or 26 images and 20 more in batches of 16


def test_a_batch_holds_the_pixels_and_labels_of_both_parts():
    """Bright images are class 1, in both parts."""
    data = take_fold(CONFIG, make_labelled_set(), 0)
    for images, targets in data.make_batches(None, 1, 0).take(3):
        bright = images.numpy().mean(axis=(1, 2, 3)) > 110
        np.testing.assert_array_equal(bright, targets.numpy()[:, 1] == 1)


def test_the_control_arm_trains_without_them_for_as_many_updates():
    given, control = make_labelled_set(), replace(CONFIG, pseudo=PseudoConfig(arm="control"))
    for fold in (0, 1):
        data, plain = take_fold(control, given, fold), take_fold(CONFIG, make_set(), fold)
        np.testing.assert_array_equal(data.training, plain.training)
        np.testing.assert_array_equal(data.validated, plain.validated)
        assert data.pixels is given.images.pixels
        assert data.steps == take_fold(CONFIG, given, fold).steps > plain.steps


def test_the_control_arm_goes_on_in_the_stream_of_its_own_images():
    control = replace(CONFIG, pseudo=PseudoConfig(arm="control"))
    data, plain = take_fold(control, make_labelled_set(), 0), take_fold(CONFIG, make_set(), 0)
    ours, theirs = (list(one.make_batches(None, 1, 1).take(4)) for one in (data, plain))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
