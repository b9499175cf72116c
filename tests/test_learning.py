from podium.config import Config
from podium.knobs import list_settings


def test_no_trick_is_on_that_nothing_has_shown_to_help():
    settings = list_settings(Config())
    off = {
        "optimizer.ema": 0.0,
        "optimizer.accumulate": 1,
        "schedule.layer_decay": 1.0,
        "train.clean_epochs": 0,
        "train.first_size": 1.0,
        "train.class_weights": "none",
        "predict.test_size": "no",
    }
    assert {name: settings[name] for name in off} == off


def test_what_a_recipe_decides_is_left_open():
    settings = list_settings(Config())
    names = ("head_lr", "peak_lr")
    assert [settings[f"schedule.{name}"] for name in names] == [None, None]
    assert settings["optimizer.name"] == "auto"
