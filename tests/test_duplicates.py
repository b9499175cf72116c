from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium import duplicates
from podium.cache import FreshPixels
from podium.config import FoldsConfig
from podium.duplicates import (
    COARSE,
    NEAR,
    SAME,
    Pairs,
    cluster_images,
    find_duplicates,
    fit_moved,
    make_thumbnails,
    merge_groups,
)
from podium.folds import make_folds

SIDE = 64


def draw_scene(seed: int) -> np.ndarray:
    """A picture of shapes in colours, as large as a photograph."""
    draw = np.random.default_rng(seed)
    image = np.full((240, 240, 3), draw.integers(30, 200, 3), np.uint8)
    for _ in range(14):
        centre, size = draw.integers(0, 240, 2).tolist(), int(draw.integers(10, 60))
        colour = draw.integers(0, 220, 3).tolist()
        if draw.random() < 0.5:
            cv2.circle(image, centre, size, colour, -1)
        else:
            far = (centre[0] + size, centre[1] + int(draw.integers(10, 60)))
            cv2.rectangle(image, centre, far, colour, -1)
    return cv2.GaussianBlur(image, (0, 0), 1)


def store(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def encode(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1)


def make_pairs(*pairs: tuple[int, int, float]) -> Pairs:
    first, second, cosine = np.array(pairs).T.reshape(3, -1)
    return Pairs(first.astype(np.int64), second.astype(np.int64), cosine.astype(np.float32))


COPIES = {
    "the same": lambda image: image,
    "saved anew": encode,
    "resized": lambda image: cv2.resize(image, (140, 140), interpolation=cv2.INTER_LINEAR),
    "cropped": lambda image: image[7:235, 4:232],
    "brightened": lambda image: np.clip(image * 1.15, 0, 255).astype(np.uint8),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "all of these": lambda image: encode(np.ascontiguousarray(image[7:235, 4:232][:, ::-1])),
}
SCENES = np.stack([store(draw_scene(seed)) for seed in range(60)])


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_and_nothing_else(copy):
    copies = np.stack([store(copy(draw_scene(seed))) for seed in range(40)])
    pairs = find_duplicates(SCENES, copies)
    assert pairs.first.tolist() == list(range(40))
    assert pairs.second.tolist() == list(range(60, 100))
    assert pairs.cosine.min() >= NEAR


def test_a_copy_that_was_only_saved_anew_resized_or_mirrored_is_the_same():
    for name in ("the same", "saved anew", "resized", "mirrored"):
        copies = np.stack([store(COPIES[name](draw_scene(seed))) for seed in range(20)])
        assert (find_duplicates(SCENES, copies).cosine >= SAME).all(), name


def test_different_pictures_before_one_background_are_no_pair():
    shade = np.linspace(40, 215, 240)[:, None, None]
    scenes = [draw_scene(seed) for seed in range(30)]
    images = [store(np.uint8(shade + (scene - scene.mean((0, 1))) * 0.15)) for scene in scenes]
    pairs = find_duplicates(np.stack(images))
    apart = make_thumbnails(np.stack(images), COARSE).reshape(30, -1)
    assert np.sort((apart @ apart.T)[np.triu_indices(30, 1)])[-20:].min() > 0.965
    assert len(pairs.first) == 0


@settings(max_examples=10)
@given(st.permutations(range(12)), st.integers(1, 30))
def test_pairs_do_not_depend_on_the_order_of_images_nor_on_tiles(order, tile):
    copies = np.stack([store(encode(draw_scene(seed))) for seed in range(6)])
    images = np.concatenate([SCENES[:6], copies])[list(order)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "TILE", tile)
        pairs = find_duplicates(images)
    found = {tuple(sorted((order[a], order[b]))) for a, b in zip(*pairs[:2], strict=True)}
    assert found == {(row, row + 6) for row in range(6)}
    assert (pairs.first < pairs.second).all()
    assert (np.diff(pairs.first) >= 0).all()


def test_copies_within_the_test_part_are_not_looked_for():
    pairs = find_duplicates(SCENES[:3], SCENES[[5, 5, 1]])
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([1], [5])


def test_images_that_are_decoded_anew_are_compared_as_well(tmp_path):
    paths = [str(tmp_path / f"{row}.png") for row in range(8)]
    for path, seed in zip(paths, [0, 1, 2, 3, 4, 5, 1, 2], strict=True):
        cv2.imwrite(path, draw_scene(seed))
    train, test = FreshPixels(paths[:7], SIDE), FreshPixels(paths[7:], SIDE)
    pairs = find_duplicates(train, test)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([1, 2], [6, 7])


def test_flat_images_and_none_at_all_are_in_no_pair():
    flat = np.full((4, SIDE, SIDE, 3), 90, np.uint8)
    flat[2:] = 200
    assert len(find_duplicates(flat).first) == 0
    assert len(find_duplicates(flat[:1]).first) == 0
    stripes = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    stripes[:, ::16] = stripes[:, 1::16] = stripes[:, 2::16] = 255  # no derivative to the right
    assert find_duplicates(stripes).second.tolist() == [1]


def test_a_thumbnail_fits_another_that_is_moved_or_stretched_a_little():
    scene = draw_scene(3)
    turned = store(scene[::-1])
    moved = store(cv2.warpAffine(scene, np.float32([[1.04, 0, -9], [0, 0.96, 9]]), (240, 240)))
    one, other, far = make_thumbnails(np.stack([store(scene), moved, turned]), COARSE)
    plain = float((one * other).sum())
    fitted = fit_moved(one[None], other[None])[0]
    assert fitted > 0.985
    assert 1 - fitted < (1 - plain) / 2
    assert fit_moved(one[None], far[None])[0] < 0.8
    assert fit_moved(one[None], one[None])[0] == pytest.approx(1, abs=1e-3)


def test_clusters_join_pairs_by_way_of_others():
    pairs = make_pairs((0, 3, 0.9), (3, 5, 0.9), (1, 4, 0.9), (2, 17, 0.9))
    numbers, note, _ = cluster_images(pairs, 12, folds=2)
    assert numbers[0] == numbers[3] == numbers[5]
    assert numbers[1] == numbers[4]
    assert len(set(numbers.tolist())) == 9
    assert note == ""


def test_where_all_look_alike_only_the_same_are_joined():
    chain = make_pairs(*((row, row + 1, 0.99 if row == 3 else 0.9) for row in range(19)))
    numbers, note, serious = cluster_images(chain, 20, folds=4)
    assert not serious
    assert numbers[3] == numbers[4]
    assert len(set(numbers.tolist())) == 19
    assert note == (
        "20 training images look alike, by way of one another, which is more than half a fold: "
        "only those that are the same are kept together; if they show one object, name its "
        "column with data.group_column"
    )


def test_copies_that_fill_a_fold_stay_together_and_are_warned_of():
    copies = make_pairs(*((row, row + 1, 1.0) for row in range(9)))
    numbers, note, serious = cluster_images(copies, 20, folds=4)
    assert serious
    assert len(set(numbers.tolist())) == 11
    assert note == (
        "10 training images are the same and stay in one fold, of which they are more than "
        "half; remove the copies, or set folds.near_duplicates to ignore"
    )


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(0, 6)), max_size=30)
)
def test_merged_groups_are_the_coarsest_need_of_groups_and_clusters(rows):
    groups, clusters = [name for name, _ in rows], np.array([one for _, one in rows], np.int64)
    merged = merge_groups(groups, clusters)
    links = [
        {row for row, own in enumerate(rows) if own[place] == key}
        for place in (0, 1)
        for key in {own[place] for own in rows} - {""}
    ]
    expected = list(range(len(rows)))
    for _ in rows:  # spreads the smallest row along all links
        for link in links:
            least = min(expected[row] for row in link)
            for row in link:
                expected[row] = least
    assert (pd.factorize(merged)[0] == pd.factorize(np.array(expected, np.int64))[0]).all()


def test_without_groups_the_clusters_are_the_groups():
    assert merge_groups(None, np.array([2, 0, 2])).tolist() == [2, 0, 2]


@settings(max_examples=40)
@given(
    st.integers(12, 50),
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.integers(2, 4),
    st.integers(0, 99),
)
def test_planted_copies_and_groups_never_straddle_folds(count, planted, folds, seed):
    draw = np.random.default_rng(seed)
    scenes, number = list(range(count)), []
    for scene, copies in enumerate(planted):
        number += [scene] * copies
    shown = np.array(scenes + number)
    images = np.concatenate([SCENES[:count], SCENES[number, :, :: (-1) ** seed]])
    order = draw.permutation(len(shown))
    shown, images = shown[order], images[order]
    groups = [f"g{one}" if one < 8 else "" for one in draw.integers(0, 3 * count, len(shown))]
    clusters = cluster_images(find_duplicates(images), len(shown), folds).numbers
    table = pd.DataFrame(
        {
            "id": [f"{row:03d}" for row in draw.permutation(len(shown))],
            "label": draw.integers(0, 3, len(shown)),
            "group": merge_groups(groups, clusters),
        }
    )
    if table["group"].nunique() < folds:
        return
    fold = make_folds(table, FoldsConfig(folds), seed)
    assert set(fold.tolist()) == set(range(folds))
    assert (pd.Series(fold).groupby(shown).nunique() == 1).all()
    known = np.array([name != "" for name in groups])
    assert (pd.Series(fold[known]).groupby(np.array(groups)[known]).nunique() == 1).all()


def classify(train: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Accuracy of the nearest neighbour, out of fold."""
    features = train.reshape(len(train), -1).astype(np.float64)
    right = 0
    for fold in np.unique(folds):
        known, asked = features[folds != fold], features[folds == fold]
        nearest = ((asked[:, None] - known[None]) ** 2).sum(2).argmin(1)
        right += (labels[folds != fold][nearest] == labels[folds == fold]).sum()
    return right / len(labels)


def test_a_random_split_promises_what_a_group_split_does_not():
    # 40 places with 6 photographs each; a place has one label, which nothing but it tells.
    draw = np.random.default_rng(0)
    places = np.repeat(np.arange(40), 6)
    labels = draw.permutation(np.arange(40) % 2)[places]
    backgrounds = draw.integers(0, 255, (40, 6, 6, 3)).astype(np.uint8)
    images = np.stack(
        [
            np.clip(
                cv2.resize(backgrounds[place], (16, 16)) + draw.normal(0, 12, (16, 16, 3)), 0, 255
            )
            for place in places
        ]
    )
    table = pd.DataFrame({"id": [f"{row:03d}" for row in range(240)], "label": labels})
    by_image = make_folds(table, FoldsConfig(5), 0)
    by_group = make_folds(table.assign(group=places.astype(str)), FoldsConfig(5), 0)
    assert classify(images, labels, by_image) > 0.95
    assert abs(classify(images, labels, by_group) - 0.5) < 0.2  # 0.2 is 2.5 deviations of 40 places
    for one, other in pairwise(range(5)):
        assert not set(places[by_group == one]) & set(places[by_group == other])
