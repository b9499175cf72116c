from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium import batches as batches_room
from podium.batches import (
    Cut,
    Host,
    Labelled,
    count_steps,
    draw_batches,
    make_eval_batches,
    make_train_batches,
    order_epoch,
)
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.events import Reporter

RNG = np.random.default_rng(0)
SIDE, BATCH = 32, 8
PHOTOS = RNG.integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
Stream = list[tuple[np.ndarray, np.ndarray]]


def take(  # a stream of training batches, under a policy
    folder: Path,
    policy: str,
    batches: int,
    pixels: np.ndarray = PHOTOS,
    workers: int = 1,
    start_step: int = 0,
) -> Stream:
    config = replace(
        Config(),
        augment=AugmentConfig(policy, workers=workers),
        pixels=PixelsConfig(SIDE, BATCH),
    )
    data = Labelled(pixels, np.arange(len(pixels)) % 3, 3)
    rows = np.arange(len(pixels))
    with Host(config, pixels, Reporter(folder)) as host:
        dataset = make_train_batches(data, rows, Cut(BATCH), 5, host, start_step)
        return list(dataset.take(batches).as_numpy_iterator())


def assert_same(one: Stream, other: Stream) -> None:
    for (images, targets), (images2, targets2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(images, images2)
        np.testing.assert_array_equal(targets, targets2)


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


@given(st.integers(1, 50), st.integers(1, 16), st.integers(0, 40))
def test_a_stream_that_starts_later_is_the_rest_of_the_stream(images, batch_size, start):
    rows = np.arange(images) * 7
    whole = islice(draw_batches(rows, batch_size, 1), start, start + 5)
    late = islice(draw_batches(rows, batch_size, 1, start), 5)
    for one, other in zip(whole, late, strict=True):
        assert (one.epoch, one.step) == (other.epoch, other.step)
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.rounds, other.rounds)


def test_training_batches_are_the_images_in_the_order_drawn():
    pixels = RNG.integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(10)
    rows = np.array([1, 3, 5, 7, 9])
    dataset = make_train_batches(Labelled(pixels, labels, 10), rows, Cut(4), seed=3)
    order = np.concatenate([order_epoch(rows, 4, 3, 0), order_epoch(rows, 4, 3, 1)])
    for expected, (images, truth) in zip(order, dataset.take(4).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(images, pixels[expected])
        np.testing.assert_array_equal(truth.argmax(axis=1), expected)
        np.testing.assert_array_equal(truth.sum(axis=1), 1)


@pytest.mark.parametrize("policy", ["randaugment", "mixup", "cutmix"])
def test_a_resumed_stream_is_the_rest_of_the_stream_in_mid_epoch(tmp_path: Path, policy: str):
    whole = take(tmp_path, policy, 8)
    assert_same(take(tmp_path, policy, 4, start_step=4), whole[4:])  # an epoch is 3 batches
    assert_same(take(tmp_path, policy, 8), whole)


@pytest.mark.parametrize("policy", ["none", "cutmix", "randaugment"])
def test_the_parts_that_hosts_feed_are_the_batches_of_one(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
):
    whole, parts = take(tmp_path, policy, 5), []
    for part in (slice(0, 4), slice(4, 8)):
        monkeypatch.setattr(batches_room, "own_part", lambda size, part=part: part)
        parts.append(take(tmp_path, policy, 5, workers=2))
    joined = [
        tuple(np.concatenate(arrays) for arrays in zip(*pair, strict=True))
        for pair in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_the_parts_that_hosts_evaluate_are_the_batches_of_one(monkeypatch: pytest.MonkeyPatch):
    data, rows = Labelled(PHOTOS, np.arange(20), 20), np.arange(13)
    whole, parts = list(make_eval_batches(data, rows, 8).as_numpy_iterator()), []
    for part in (slice(0, 4), slice(4, 8)):
        monkeypatch.setattr(batches_room, "own_part", lambda size, part=part: part)
        parts.append(list(make_eval_batches(data, rows, 8).as_numpy_iterator()))
    assert [len(batches) for batches in parts] == [2, 2]
    for one, other, batch in zip(*parts, whole, strict=True):
        for first, second, expected in zip(one, other, batch, strict=True):
            np.testing.assert_array_equal(np.concatenate([first, second]), expected)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_stream_is_the_same_for_any_number_of_workers(tmp_path: Path, workers: int):
    alone = take(tmp_path, "randaugment", 7)
    assert_same(take(tmp_path, "randaugment", 7, workers=workers), alone)


def test_two_epochs_differ_on_almost_all_images(tmp_path: Path):
    pixels = RNG.integers(0, 256, (200, SIDE, SIDE, 3), dtype=np.uint8)
    steps = count_steps(200, BATCH)
    stream = take(tmp_path, "albumentations:hard", 2 * steps, pixels)
    epochs = [
        {image.tobytes() for x, _ in part for image in x}
        for part in (stream[:steps], stream[steps:])
    ]
    assert len(epochs[0]) == len(epochs[1]) == 200
    assert len(epochs[0] & epochs[1]) < 0.01 * 200


def test_copies_of_an_image_come_out_distinct(tmp_path: Path):
    copies = np.broadcast_to(PHOTOS[0], (64, SIDE, SIDE, 3)).copy()
    stream = take(tmp_path, "randaugment", 8, copies)
    assert len({image.tobytes() for images, _ in stream for image in images}) >= 60


def test_an_image_that_fills_up_a_batch_is_augmented_anew(tmp_path: Path):
    ((images, _),) = take(tmp_path, "albumentations:hard", 1, PHOTOS[:1])
    assert len({image.tobytes() for image in images}) == BATCH


# albumentations 2.0.8 in PyTorch's workers, AlbumentationsX issue 266.
def test_no_place_of_a_batch_sees_the_same_augmentation_in_every_epoch(tmp_path: Path):
    copies = np.broadcast_to(PHOTOS[0], (2 * BATCH, SIDE, SIDE, 3)).copy()
    stream = take(tmp_path, "albumentations:hard", 8, copies, workers=2)  # four epochs
    for place in range(BATCH):
        assert len({images[place].tobytes() for images, _ in stream}) == 8


def test_mixed_batches_differ_between_steps_and_their_targets_are_shares(tmp_path: Path):
    flat = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None] * 12, PHOTOS.shape)
    for policy in ("mixup", "cutmix"):
        stream = take(tmp_path, policy, 6, flat.copy())
        targets = np.concatenate([targets for _, targets in stream])
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        assert ((targets > 0.01) & (targets < 0.99)).any(axis=1).mean() > 0.2
        assert all(images.dtype == np.uint8 for images, _ in stream)
        np.testing.assert_array_equal(flat[:, 0, 0, 0], np.arange(20) * 12)


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
