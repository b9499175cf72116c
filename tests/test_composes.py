from pathlib import Path

import numpy as np
import pytest

from podium import composes as composes_room
from podium.composes import COMPOSES, SeededCompose, check_compose, find_own_function
from podium.override import SettingsError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's, beside his script."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_augment.py").write_text(
        "import albumentations as A\n"
        "def mirror(): return A.Compose([A.HorizontalFlip(p=1.0)])\n"
        "def smaller(): return A.Compose([A.CenterCrop(8, 8)])\n"
        "def floats(): return A.Compose([A.Normalize()])\n"
        "def larger_than_the_image(): return A.Compose([A.CenterCrop(99, 99)])\n"
        "def transform(): return A.HorizontalFlip()\n"
        "def broken(): return A.Compose([A.Rotat()])\n"
    )


@pytest.mark.parametrize("name", COMPOSES)
def test_a_compose_keeps_type_and_shape_and_draws_everything_from_the_seed(name: str):
    check_compose(name, 40)
    one, other = SeededCompose(name), SeededCompose(name)
    seeds = [RNG.bytes(48) for _ in range(64)]
    before = IMAGE.copy()
    made = [one.augment(IMAGE, seed) for seed in seeds]
    assert {(image.dtype.name, image.shape) for image in made} == {("uint8", (40, 40, 3))}
    for image, seed in reversed(list(zip(made, seeds, strict=True))):
        np.testing.assert_array_equal(other.augment(IMAGE, seed), image)
    np.testing.assert_array_equal(IMAGE, before)


def test_the_coins_of_two_transforms_fall_independently(own_module: None, tmp_path: Path):
    (tmp_path / "my_coins.py").write_text(
        "import albumentations as A\n"
        "def two(): return A.Compose([A.HorizontalFlip(p=0.5), A.InvertImg(p=0.5)])\n"
    )
    seeded = SeededCompose("my_coins:two")
    outcomes = [seeded.augment(IMAGE, RNG.bytes(48)).tobytes() for _ in range(200)]
    counts = [outcomes.count(one) for one in set(outcomes)]
    assert len(counts) == 4
    assert min(counts) > 25  # of 50 expected


def test_an_image_of_another_size_is_brought_back_to_its_own(own_module: None):
    check_compose("my_augment:smaller", 40)
    made = SeededCompose("my_augment:smaller").augment(IMAGE, bytes(48))
    assert (made.shape, made.dtype) == (IMAGE.shape, np.uint8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:mirror", "there is no nowhere.py beside the script"),
        ("my_augment:nothing", "has no attribute 'nothing'"),
        ("my_augment:transform", "must return an albumentations Compose, not HorizontalFlip"),
        ("my_augment:broken", "Rotat"),
        ("my_augment:floats", "take Normalize, ToFloat and ToTensorV2 out"),
        ("my_augment:larger_than_the_image", "fails on an image of 40 px"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_before_training(
    own_module: None, name: str, message: str
):
    with pytest.raises(SettingsError, match=f"augment.policy is {name}.*{message}"):
        check_compose(name, 40)


def test_a_function_is_found_in_a_dataset_that_is_attached(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sys.path", list(composes_room.sys.path))
    (tmp_path / "my-dataset").mkdir()
    (tmp_path / "my-dataset" / "attached_augment.py").write_text("def one(): return 1\n")
    assert find_own_function("attached_augment:one", tmp_path)() == 1


def test_the_successor_of_albumentations_is_refused(monkeypatch: pytest.MonkeyPatch):
    class Successor:
        name = "AlbumentationsX"

    metadata = composes_room.importlib.metadata
    monkeypatch.setattr(metadata, "distributions", lambda: [Successor])
    with pytest.raises(SettingsError, match="pip uninstall albumentationsx"):
        composes_room.load_albumentations()
