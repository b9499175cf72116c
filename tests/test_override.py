import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.config import Config
from podium.knobs import Knob, list_knobs, list_settings, unwrap_optional
from podium.override import (
    SettingsError,
    expand_preset,
    format_help,
    override,
    parse_command_line,
    read_config,
)


def lines_of(argv: list[str], settings: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_config(argv, settings or {})
    return str(caught.value).splitlines()


def test_nothing_given_means_the_defaults():
    assert read_config([], {}) == Config()


def test_the_command_line_wins_over_the_settings_block():
    config = read_config(["--train.epochs", "3"], {"train.epochs": 12, "folds.count": 4})
    assert (config.train.epochs, config.folds.count) == (3, 4)


def test_a_preset_yields_to_its_own_source_and_wins_over_earlier_ones():
    given_block = {"pixels.image_size": 300, "train.epochs": 9, "model.backbone": "keras:Xception"}
    config = read_config(["--preset", "dry-run", "--train.epochs=5"], given_block)
    assert config.pixels.image_size == 64
    assert config.train.epochs == 5
    assert config.model.backbone == "tiny"


def test_a_preset_can_stand_in_the_settings_block():
    assert read_config([], {"preset": "gpu"}).runtime.accelerator == "gpu"


def test_an_unknown_setting_is_answered_with_the_one_that_was_meant():
    assert lines_of(["--train.epoch", "3"]) == [
        "unknown setting 'train.epoch'; did you mean 'train.epochs'?"
    ]
    assert lines_of(["--image_size", "3"]) == [
        "unknown setting 'image_size'; did you mean 'pixels.image_size'?"
    ]
    assert lines_of(["--quux", "3"]) == ["unknown setting 'quux'; --help lists them all"]


def test_all_mistakes_of_all_sources_are_told_at_once():
    lines = lines_of(
        ["--folds.count", "1", "--train.epochs=many", "--nonsense=1"],
        {"pixels.image_size": 7, "preset": "dry-run", "augment.flip": "mirror"},
    )
    assert lines == [
        "SETTINGS: pixels.image_size must be 16 to 1024 (px), not 7",
        "SETTINGS: augment.flip must be auto, yes, no, not 'mirror'",
        "folds.count must be 2 to 20, not '1'",
        "train.epochs must be 1 to 1000, not 'many'",
        "unknown setting 'nonsense'; --help lists them all",
    ]


def test_an_unknown_preset_lists_those_there_are():
    assert lines_of(["--preset", "dryrun"]) == ["preset must be dry-run, gpu, tpu, not 'dryrun'"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train.epochs", "3"], "'train.epochs' is not a setting; write --name value"),
        (["--train.epochs"], "--train.epochs has no value; write --train.epochs value"),
        (["--"], "'--' is not a setting; write --name value"),
        (["--train.epochs", "--folds.count=3"], "--train.epochs has no value"),
    ],
)
def test_a_malformed_command_line_says_how_to_write_it(argv: list[str], message: str):
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        parse_command_line(argv)


@pytest.mark.parametrize("value", [True, "nan", "inf", float("nan"), "1e999", "", None, [3]])
def test_what_is_no_number_is_refused(value: object):
    with pytest.raises(SettingsError, match="schedule.warmup must be 0 to 0.9, not "):
        override(Config(), {"schedule.warmup": value})


@pytest.mark.parametrize(
    ("value", "meant"),
    [("yes", True), ("True", True), (True, True), ("no", False), ("false", False), (False, False)],
)
def test_a_switch_is_yes_or_no(value: object, meant: bool):
    assert override(Config(), {"schedule.range_test": value}).schedule.range_test is meant


@pytest.mark.parametrize("value", ["", "maybe", 2, None])
def test_what_is_neither_yes_nor_no_is_refused(value: object):
    with pytest.raises(SettingsError, match="schedule.range_test must be yes or no, not "):
        override(Config(), {"schedule.range_test": value})


def test_a_whole_number_may_not_have_a_fraction():
    with pytest.raises(SettingsError, match=r"train.epochs must be 1 to 1000, not 2\.5"):
        override(Config(), {"train.epochs": 2.5})


def test_a_value_may_contain_an_equals_sign():
    assert parse_command_line(["--data.folder=a=b"]) == {"data.folder": "a=b"}


def test_a_preset_is_expanded_under_what_stands_beside_it():
    expanded = expand_preset({"preset": "dry-run", "folds.count": 7})
    assert expanded["folds.count"] == 7
    assert "preset" not in expanded


def values_of(knob: Knob) -> st.SearchStrategy[object]:
    """Values that the knob takes."""
    kind, _ = unwrap_optional(knob.hint)
    if kind is bool:
        return st.booleans()
    if kind is float:
        return st.floats(knob.low, knob.high)
    if knob.low is not None:
        return st.integers(int(knob.low), int(min(knob.high or 10**6, 10**6)))
    if "text" in knob.limit:
        text = st.text(st.characters(categories=["L", "N"]), min_size=1)
        return text.filter(lambda word: word.lower() != "none")
    return st.sampled_from(knob.limit.split(", "))


@given(st.data())
def test_every_setting_survives_the_command_line(data: st.DataObject):
    chosen = {knob.name: data.draw(values_of(knob), knob.name) for knob in list_knobs()}
    config = read_config([f"--{name}={value}" for name, value in chosen.items()], {})
    assert list_settings(config) == chosen


@pytest.mark.parametrize("none", [None, "none", "None"])
def test_none_takes_a_setting_back(none: object):
    assert read_config([], {"data.limit": none, "preset": "dry-run"}).data.limit is None


def test_help_groups_every_setting_by_stage_with_default_unit_and_limit():
    text = format_help()
    for knob in list_knobs():
        assert f"--{knob.name} " in text
        assert knob.meaning in text
        assert knob.limit in text
    assert text.index("\nfolds: ") < text.index("--folds.count") < text.index("\npixels: ")
    lines = {
        line.split()[0]: line.split(maxsplit=2)[1:] for line in text.split("\n") if "  --" in line
    }
    assert lines["--pixels.image_size"] == ["224", "16 to 1024 (px)"]
    assert lines["--data.limit"] == ["none", "10 or more, or none (images)"]
    assert lines["--runtime.session_hours"] == ["none", "0.005 to 24, or none (h)"]
