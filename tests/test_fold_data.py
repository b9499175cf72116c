from collections.abc import Callable

import numpy as np
import pytest
from small_fold import CONFIG, make_set

from podium.fold_data import take_fold
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
