from pathlib import Path

import pytest

from podium.composes import COMPOSES
from podium.config import AugmentConfig
from podium.events import Reporter
from podium.knobs import list_knobs
from podium.override import SettingsError
from podium.policies import POLICIES, Policy, find_policy, settle_augmentation

DIGITS = tuple("0123456789")


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
