from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from podium.config import AugmentConfig
from podium.override import SettingsError
from podium.policies import POLICIES
from workbench.preview import fit_side, preview

SIDE = 64
IMAGE = np.random.default_rng(0).integers(0, 256, (72, 72, 3), dtype=np.uint8)
PARTNER = np.full_like(IMAGE, 200)


def augment(policy: str, seed: int = 0, flip: str = "no", margin: float = 0.125):
    config = replace(AugmentConfig(policy=policy, margin=margin), flip=flip)
    return preview(config, IMAGE, seed, SIDE, PARTNER)


def is_part_of(part: NDArray[np.uint8], whole: NDArray[np.uint8]) -> bool:
    places = range(len(whole) - len(part) + 1)
    size = len(part)
    return any(
        np.array_equal(part, whole[top : top + size, left : left + size])
        for top in places
        for left in places
    )


@pytest.mark.parametrize("policy", list(POLICIES))
def test_a_preview_is_what_the_network_would_see_and_the_same_for_the_same_seed(policy: str):
    first, second, other = augment(policy), augment(policy), augment(policy, seed=1)
    assert first.image.shape == (SIDE, SIDE, 3)
    assert first.image.dtype == np.uint8
    assert np.array_equal(first.image, second.image)
    assert first.steps == second.steps
    assert np.array_equal(first.image, other.image) == (policy == "none")


def test_none_leaves_an_image_as_it_is_at_no_cost():
    made = augment("none")
    assert np.array_equal(made.image, fit_side(IMAGE, SIDE))
    assert (made.steps, made.share, made.seconds) == ((), 1.0, 0.0)


def test_a_cut_shows_a_part_and_says_which():
    made = augment("flip-crop", seed=3)
    left, top = (int(word) for word in made.steps[0].split() if word.isdecimal())
    assert np.array_equal(made.image, IMAGE[top : top + SIDE, left : left + SIDE])
    assert made.seconds == 0.0


def test_without_a_margin_nothing_is_cut():
    assert augment("flip-crop", margin=0.0).steps == ()


def test_half_of_the_images_are_mirrored_where_mirroring_is_on_and_none_where_it_is_off():
    made = [augment("flip-crop", seed, "yes") for seed in range(40)]
    mirrored = [one for one in made if "mirrored" in one.steps]
    assert 8 < len(mirrored) < 32
    assert all(is_part_of(one.image[:, ::-1], IMAGE) for one in mirrored[:3])
    assert not any("mirrored" in augment("flip-crop", seed, "no").steps for seed in range(40))
    auto = [augment("flip-crop", seed, "auto").steps for seed in range(40)]
    assert auto == [one.steps for one in made]


def test_the_share_of_a_mixture_is_what_its_pixels_show():
    made = augment("mixup", margin=0.0, seed=2)
    own = made.share * fit_side(IMAGE, SIDE).astype(float)
    expected = own + (1 - made.share) * fit_side(PARTNER, SIDE).astype(float)
    assert 0 <= made.share < 1
    assert np.abs(made.image - expected).max() <= 1
    cut = augment("cutmix", margin=0.0, seed=2)
    kept = (cut.image == fit_side(IMAGE, SIDE)).all(-1).mean()
    assert kept == pytest.approx(cut.share, abs=0.01)


def test_what_a_compose_draws_is_said_and_timed():
    steps = [augment("albumentations:shift-scale-rotate", seed).steps for seed in range(5)]
    assert any("turned" in " ".join(one) for one in steps)
    assert augment("albumentations:hard").seconds > 0


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(SettingsError, match=r"augment\.policy must be"):
        augment("nonsense")
