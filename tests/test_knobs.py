from dataclasses import fields

import pytest

from podium.config import Config
from podium.knobs import Knob, list_knobs, list_settings, section_class


def test_every_stage_says_what_it_is():
    for section in fields(Config):
        assert section_class(section).__doc__.endswith(".")


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
        ("schedule.peak_lr", "0 to 10, or none"),
        ("schedule.range_test", "yes or no"),
    ],
)
def test_limits_are_told_in_words(name: str, limit: str):
    knobs: dict[str, Knob] = {knob.name: knob for knob in list_knobs()}
    assert knobs[name].limit == limit
