import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.batches import (
    Labelled,
    count_steps,
    make_eval_batches,
    make_train_batches,
    order_epoch,
)

RNG = np.random.default_rng(0)


@given(st.integers(1, 50), st.integers(1, 16), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_is_full_batches_that_hold_every_image(images, batch_size, seed, epoch):
    rows = np.arange(images) * 7
    batches = order_epoch(rows, batch_size, seed, epoch)
    assert batches.shape == (count_steps(images, batch_size), batch_size)
    counts = np.bincount(batches.ravel() // 7, minlength=images)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_epochs_are_shuffled_anew_and_seeds_repeat_them():
    rows = np.arange(100)
    first, again = order_epoch(rows, 10, 0, 0), order_epoch(rows, 10, 0, 0)
    np.testing.assert_array_equal(first, again)
    assert (first != order_epoch(rows, 10, 0, 1)).any()
    assert (first != order_epoch(rows, 10, 1, 0)).any()


def test_training_batches_are_the_images_in_the_order_drawn():
    pixels = RNG.integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(10)
    rows = np.array([1, 3, 5, 7, 9])
    dataset = make_train_batches(Labelled(pixels, labels, 10), rows, 4, seed=3)
    order = np.concatenate([order_epoch(rows, 4, 3, 0), order_epoch(rows, 4, 3, 1)])
    for expected, (images, truth) in zip(order, dataset.take(4).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(images, pixels[expected])
        np.testing.assert_array_equal(truth.argmax(axis=1), expected)
        np.testing.assert_array_equal(truth.sum(axis=1), 1)


@pytest.mark.parametrize("images", [1, 7, 8, 9, 16, 17])
def test_evaluation_batches_hold_each_image_once_and_padding_weighs_nothing(images: int):
    pixels = RNG.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    rows = np.arange(images)[::-1]
    data = Labelled(pixels, np.arange(20), 20)
    batches = list(make_eval_batches(data, rows, 8).as_numpy_iterator())
    assert all(batch.shape == (8, 16, 16, 3) for batch, _, _ in batches)
    truth = np.concatenate([targets for _, targets, _ in batches]).argmax(axis=1)
    weights = np.concatenate([weight for _, _, weight in batches])
    np.testing.assert_array_equal(truth[weights == 1], rows)
    assert set(weights.tolist()) <= {0.0, 1.0}


def test_an_image_of_several_classes_has_a_target_for_each():
    labels = np.empty(3, object)
    labels[:] = [(0, 2), (), (1,)]
    data = Labelled(np.ones((3, 8, 8, 3), np.uint8), labels, 3)
    rows = np.array([2, 0])
    np.testing.assert_array_equal(data.encode(rows), [[0, 1, 0], [1, 0, 1]])
    _, targets, _ = next(make_eval_batches(data, rows, 2).as_numpy_iterator())
    np.testing.assert_array_equal(targets, data.encode(rows))
