from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from podium.config import Config
from podium.override import SettingsError, override
from workbench.exhibits import (
    PAGE_LIMIT,
    VERSIONS,
    draw_originals,
    make_gallery,
    mix_targets,
    order_images,
    picture_budget,
)

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Nine images of a cat, two of a dog and one of an owl; one of the cats is broken."""
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for row, label in enumerate([0] * 9 + [1] * 2 + [2]):
        path = folder / f"{row:02}.png"
        Image.new("RGB", (40, 30), (row * 20, 90, 30)).save(path)
        rows.append((path.name, str(path), label))
    (folder / "00.png").write_bytes(b"no image")
    return pd.DataFrame(rows, columns=["id", "path", "label"])


def write_competition(table: pd.DataFrame, folder: Path, names: tuple[str, ...]) -> Config:
    for image_id, path, label in table.itertuples(index=False):
        place = folder / names[label] / image_id
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Path(path).read_bytes())
    settings = {"data.folder": str(folder), "data.holdout": 0.1, "pixels.image_size": 32}
    return override(Config(), settings)


def test_classes_take_turns_in_an_order_of_the_seed(table: pd.DataFrame):
    order = [table["label"].iloc[row] for row in order_images(table, 0)]
    assert sorted(order[:3]) == [0, 1, 2]
    assert sorted(order[3:5]) == [0, 1]
    assert Counter(order) == {0: 9, 1: 2, 2: 1}
    assert order_images(table, 0) == order_images(table, 0)
    assert order_images(table, 0) != order_images(table, 1)


def test_the_order_of_rows_does_not_change_what_is_drawn(table: pd.DataFrame):
    turned = table.iloc[::-1].reset_index(drop=True)
    drawn = [table["id"].iloc[row] for row in order_images(table, 0)]
    assert [turned["id"].iloc[row] for row in order_images(turned, 0)] == drawn


def test_images_of_several_classes_are_drawn_by_what_they_show(table: pd.DataFrame):
    several = table.assign(label=[(0,), *[(0, 2)] * 10, (1,)])
    found, _ = draw_originals(several.iloc[1:], CLASSES, 3, 32, 0)
    assert {one.classes for one in found[:2]} == {("cat", "owl"), ("dog",)}


def test_an_unreadable_image_is_passed_over_and_named(table: pd.DataFrame):
    found, unreadable = draw_originals(table, CLASSES, 12, 32, 0)
    assert unreadable == ["00.png"]
    assert len(found) == 11
    assert found[0].pixels.shape == (32, 32, 3)
    assert [one.name for one in found] == [
        table["id"].iloc[row] for row in order_images(table, 0) if row
    ]


def test_no_readable_image_at_all_is_refused(table: pd.DataFrame):
    with pytest.raises(SettingsError, match=r"none of 1 training images.*data\.folder"):
        draw_originals(table.iloc[:1], CLASSES, 3, 32, 0)


def test_targets_are_the_classes_of_both_images_in_their_shares():
    assert mix_targets(["cat"], ["dog"], 0.25) == (("dog", 0.75), ("cat", 0.25))
    assert mix_targets(["cat"], ["cat"], 0.25) == (("cat", 1.0),)
    assert mix_targets(["cat"], ["dog"], 1.0) == (("cat", 1.0),)
    assert dict(mix_targets(["cat", "owl"], ["owl"], 0.75)) == {"owl": 1.0, "cat": 0.75}


def test_each_policy_makes_versions_of_each_image(table: pd.DataFrame, tmp_path: Path):
    config = write_competition(table.iloc[1:], tmp_path, CLASSES)
    gallery = make_gallery(config, ["none", "light", "cutmix"], 4)
    none, light, cutmix = gallery.policies
    assert [len(row) for row in none.rows] == [1] * 4
    assert [len(row) for row in light.rows] == [VERSIONS] * 4
    images = [one.made.image.tobytes() for row in light.rows for one in row]
    assert len(set(images)) > 0.9 * len(images)
    assert none.cost == 0
    assert light.cost > 0
    assert light.flip
    assert not light.asymmetric
    for place, row in enumerate(cutmix.rows):
        own = gallery.originals[place].classes
        for one in row:
            assert dict(one.targets)[own[0]] >= one.made.share - 1e-6
            assert sum(share for _, share in one.targets) == pytest.approx(1)


def test_one_image_is_mixed_with_itself(table: pd.DataFrame, tmp_path: Path):
    config = write_competition(table.iloc[1:], tmp_path, CLASSES)
    (mixup,) = make_gallery(config, ["mixup"], 1).policies
    assert all(len(one.targets) == 1 for one in mixup.rows[0])


@pytest.mark.parametrize(("flip", "mirrors"), [("auto", False), ("yes", True)])
def test_characters_are_known_to_be_asymmetric_and_mirrored_only_when_asked(
    flip: str, mirrors: bool, table: pd.DataFrame, tmp_path: Path
):
    digits = table.iloc[1:].assign(label=[one % 10 for one in range(11)])
    config = write_competition(digits, tmp_path, tuple("0123456789"))
    config = override(config, {"augment.flip": flip})
    none, crop = make_gallery(config, ["none", "flip-crop"], 6).policies
    assert crop.asymmetric
    assert not none.asymmetric
    assert crop.flip == mirrors
    assert any("mirrored" in one.made.steps for row in crop.rows for one in row) == mirrors


def test_a_wrong_policy_and_too_many_pictures_are_refused_before_the_folder_is_read():
    with pytest.raises(SettingsError, match=r"augment\.policy must be .* not 'lihgt'"):
        make_gallery(Config(), ["none", "lihgt"], 4)
    with pytest.raises(SettingsError, match="5760 pictures, too many for a page of 4 MB"):
        make_gallery(Config(), ["light"] * 40, 24)


def test_pictures_and_a_good_part_of_text_fit_on_the_page():
    assert 500 * picture_budget(500) * 4 / 3 == pytest.approx(0.7 * PAGE_LIMIT)
    assert np.isclose(picture_budget(500), 2 * picture_budget(1000))
