import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.mixing import draw_boxes, mix_batch

SIDE = 24


def make_flat(count: int) -> np.ndarray:
    """Images of one value each, which tells what of a pixel is whose."""
    values = np.linspace(0, 255, count).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, SIDE, SIDE, 3)).copy()


@given(st.integers(1, 12), st.integers(0, 8), st.integers(0, 1000))
def test_targets_are_the_shares_of_the_pixels_that_the_device_shows(count, margin, seed):
    images, targets = make_flat(count), np.eye(count, dtype=np.float32)
    before = images.copy()
    seen = SIDE - margin
    for kind in ("mixup", "cutmix"):
        mixed, shares = mix_batch(kind, images, targets, margin, np.random.default_rng(seed))
        assert (mixed.dtype, mixed.shape) == (np.uint8, images.shape)
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
        assert (shares >= 0).all()
        expected = shares @ images[:, 0, 0, 0].astype(np.float64)
        for top in (0, margin):  # wherever it cuts
            cut = mixed[:, top : top + seen, margin - top : margin - top + seen]
            tolerance = 0.51 if kind == "mixup" else 1e-3  # mixup rounds, cutmix does not
            np.testing.assert_allclose(cut.mean(axis=(1, 2, 3)), expected, atol=tolerance)
        np.testing.assert_array_equal(images, before)


def test_cutmix_sets_in_one_box_of_the_partner():
    images, targets = make_flat(6), np.eye(6, dtype=np.float32)
    mixed, shares = mix_batch("cutmix", images, targets, 0, np.random.default_rng(1))
    for row in range(6):
        foreign = mixed[row, :, :, 0] != images[row, 0, 0, 0]
        rows, columns = np.flatnonzero(foreign.any(axis=1)), np.flatnonzero(foreign.any(axis=0))
        assert foreign.sum() == len(rows) * len(columns)  # a rectangle
        assert set(mixed[row][foreign].ravel()) <= {
            images[shares[row] > 0][-1, 0, 0, 0],
            images[shares[row] > 0][0, 0, 0, 0],
        }


def test_each_image_has_a_share_of_its_own():
    targets = np.eye(64, dtype=np.float32)
    for kind in ("mixup", "cutmix"):
        _, shares = mix_batch(kind, make_flat(64), targets, 4, np.random.default_rng(0))
        assert len(set(np.round(shares.max(axis=1), 4))) > 20


def test_boxes_are_of_all_sizes_and_within_what_is_always_seen():
    boxes = draw_boxes(2000, 100, 20, np.random.default_rng(0))
    assert boxes.min() == 20
    assert boxes.max() == 80
    areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 80**2
    assert areas.min() < 0.01
    assert areas.max() == pytest.approx(60**2 / 80**2)
    assert 0.2 < areas.mean() < 0.4  # a third of them, less what lies outside
