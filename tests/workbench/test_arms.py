import pytest

from podium.knobs import list_knobs
from workbench.arms import RaceError, make_race


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ({"augment": "none light"}, [{"augment.policy": "none"}, {"augment.policy": "light"}]),
        (
            {"head": "linear dense256elu"},
            [{"head.hidden": 0}, {"head.hidden": 256, "head.activation": "elu"}],
        ),
        ({"colour": "keep grey"}, [{"pixels.colour": "keep"}, {"pixels.colour": "grey"}]),
        ({"lr": "1e-3 0.003"}, [{"schedule.peak_lr": 1e-3}, {"schedule.peak_lr": 3e-3}]),
        ({"schedule": "cosine constant"}, [{"schedule.name": n} for n in ("cosine", "constant")]),
    ],
)
def test_words_become_settings_of_the_script_the_first_arm_first(words, settings):
    race = make_race(words)
    assert [arm.settings for arm in race.arms] == settings
    assert [race.name] == list(words)
    assert {name for one in settings for name in one} <= {knob.name for knob in list_knobs()}


def test_optimizers_and_schedules_go_together_every_pair_an_arm():
    race = make_race({"schedule": "cosine constant", "optimizer": "adamw adamax"})
    assert race.name == "optimizer"
    assert [arm.name for arm in race.arms] == [
        *("adamw-cosine", "adamw-constant", "adamax-cosine", "adamax-constant"),
    ]
    assert race.arms[3].settings == {"optimizer.name": "adamax", "schedule.name": "constant"}


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ({}, "asks one question, .* and this one asks none; only OPTIMIZER and SCHEDULE"),
        ({"augment": " "}, "this one asks none"),
        ({"augment": "none light", "colour": "keep grey"}, "this one asks AUGMENT and COLOUR"),
        ({"optimizer": "sgd", "schedule": "cosine", "lr": "1"}, "OPTIMIZER and SCHEDULE and LR"),
        ({"colour": "keep"}, "two arms or more, each named once, not keep"),
        ({"head": "linear dense8elu linear"}, "each named once, not linear, dense8elu, linear"),
        ({"augment": "none lihgt"}, "AUGMENT: augment.policy must be .* did you mean 'light'"),
        ({"head": "linear dense0elu"}, "linear, or words such as dense256elu, not 'dense0elu'"),
        ({"head": "linear dense256"}, "not 'dense256'"),
        ({"lr": "1e-3 fast"}, "LR takes numbers such as 1e-3, not 'fast'"),
    ],
)
def test_what_cannot_be_raced_is_refused_in_words(words, refusal):
    with pytest.raises(RaceError, match=refusal):
        make_race(words)


def test_a_folder_takes_any_name():
    race = make_race({"augment": "none albumentations:hard mine.augment:make"})
    assert [arm.folder for arm in race.arms] == ["none", "albumentations-hard", "mine.augment-make"]


def test_the_edge_of_a_grid_is_the_lowest_and_the_highest_rate_whatever_their_order():
    race = make_race({"lr": "3e-3 1e-2 1e-3"})
    assert [race.is_at_edge(arm.name) for arm in race.arms] == [False, True, True]
    assert not make_race({"colour": "keep grey"}).is_at_edge("keep")
