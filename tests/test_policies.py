from pathlib import Path

import numpy as np
import pytest

from podium import composes as composes_room
from podium.composes import COMPOSES, SeededCompose, check_compose, find_own_function
from podium.config import AugmentConfig, list_knobs
from podium.events import Reporter
from podium.override import SettingsError
from podium.policies import POLICIES, Policy, find_policy, settle_augmentation

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
DIGITS = tuple("0123456789")


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


def settle(tmp_path: Path, config: AugmentConfig, classes: tuple[str, ...]) -> str:
    return settle_augmentation(config, classes, 32, Reporter(tmp_path)).flip


def test_every_policy_that_runs_on_the_host_names_a_compose_and_every_compose_has_a_policy():
    assert {policy.compose for policy in POLICIES.values()} - {""} == set(COMPOSES)


def test_the_settings_name_every_policy():
    meaning = next(knob.meaning for knob in list_knobs() if knob.name == "augment.policy")
    for name in POLICIES:
        assert name.removeprefix("albumentations:") in meaning, name
    assert AugmentConfig().policy in POLICIES


def test_an_unknown_policy_is_refused_with_the_names_there_are_and_the_one_that_was_meant():
    with pytest.raises(SettingsError, match=r"none, flip-crop, .* did you mean 'randaugment'\?"):
        find_policy("randaugmet")
    with pytest.raises(SettingsError, match="did you mean 'albumentations:hard'"):
        find_policy("albumentations:hrad")


def test_a_function_of_the_users_own_is_a_policy_that_does_nothing_else():
    assert find_policy("my_augment:mirror") == Policy(compose="my_augment:mirror")


@pytest.mark.parametrize(
    ("classes", "flip"),
    [
        (DIGITS, "no"),
        (tuple("abcdefghijklmnopqrstuvwxyz"), "no"),
        (("cat", "dog"), "yes"),
        (("0", "1"), "yes"),  # no digits: yes and no
        (("0", "1", "2", "3", "4"), "yes"),  # nor here: grades
        (tuple(map(str, range(11))), "yes"),  # 10 is no digit
    ],
)
def test_where_each_class_is_a_character_nothing_is_mirrored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: tuple[str, ...], flip: str
):
    assert settle(tmp_path, AugmentConfig("flip-crop"), classes) == flip
    assert ("augment.flip is off" in capsys.readouterr().out) == (flip == "no")


def test_an_explicit_flip_wins_over_what_the_classes_look_like(tmp_path: Path):
    assert settle(tmp_path, AugmentConfig("flip-crop", flip="yes"), DIGITS) == "yes"
    assert settle(tmp_path, AugmentConfig("flip-crop", flip="no"), ("cat", "dog")) == "no"
    assert settle(tmp_path, AugmentConfig("none"), ("cat", "dog")) == "no"


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
