from dataclasses import FrozenInstanceError, fields

import pytest

from podium.config import PRESETS, Config, Knob, list_knobs, list_settings, section_class


def test_every_setting_has_a_meaning_and_every_number_a_limit():
    for knob in list_knobs():
        assert knob.meaning, knob.name
        if isinstance(knob.default, int | float):
            assert knob.low is not None, knob.name
            assert knob.high is not None or knob.unit == "images", knob.name


def test_every_default_lies_within_its_own_limits():
    for knob in list_knobs():
        if isinstance(knob.default, int | float):
            assert knob.low <= knob.default, knob.name
            assert knob.high is None or knob.default <= knob.high, knob.name


def test_the_configuration_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        Config().train.epochs = 3


def test_every_stage_says_what_it_is():
    for section in fields(Config):
        assert section_class(section).__doc__.endswith(".")


def test_presets_name_only_settings_that_exist():
    names = {knob.name for knob in list_knobs()}
    for preset, settings in PRESETS.items():
        assert set(settings) <= names, preset


def test_settings_are_listed_by_their_dotted_names():
    listed = list_settings(Config())
    assert listed["train.epochs"] == Config().train.epochs
    assert list(listed) == [knob.name for knob in list_knobs()]


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("folds.count", "2 to 20"),
        ("data.limit", "10 or more, or none"),
        ("model.weights", "pretrained, pretrained-if-found, random"),
        ("data.folder", "text, or none"),
    ],
)
def test_limits_are_told_in_words(name: str, limit: str):
    knobs: dict[str, Knob] = {knob.name: knob for knob in list_knobs()}
    assert knobs[name].limit == limit
