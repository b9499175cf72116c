from dataclasses import FrozenInstanceError

import pytest

from podium.config import PRESETS, Config
from podium.knobs import list_knobs, unwrap_optional


def is_number(hint: object) -> bool:
    return unwrap_optional(hint)[0] in (int, float)


def test_every_setting_has_a_meaning_and_every_number_a_limit():
    for knob in list_knobs():
        assert knob.meaning, knob.name
        if is_number(knob.hint):
            assert knob.low is not None, knob.name
            assert knob.high is not None or knob.unit == "images", knob.name


def test_every_default_lies_within_its_own_limits():
    for knob in list_knobs():
        if is_number(knob.hint) and knob.default is not None:
            assert knob.low <= knob.default, knob.name
            assert knob.high is None or knob.default <= knob.high, knob.name


def test_the_configuration_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        Config().train.epochs = 3


def test_presets_name_only_settings_that_exist():
    names = {knob.name for knob in list_knobs()}
    for preset, settings in PRESETS.items():
        assert set(settings) <= names, preset
