import re
from dataclasses import replace
from pathlib import Path

import pytest

from podium.backbones import BACKBONES, find_backbone
from podium.config import Config
from podium.learning import OptimizerConfig, ScheduleConfig, TrainConfig
from podium.optimizers import KINDS
from podium.override import override
from podium.recipe import CUSTOMS, RECIPES, describe_recipe, find_recipe, settle_recipe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"


def settle(family: str, metric: str = "accuracy", **given: object) -> Config:
    dotted = {name.replace("__", "."): value for name, value in given.items()}
    return settle_recipe(override(Config(), dotted), family, metric)


def test_every_backbone_has_a_recipe_and_every_recipe_a_backbone():
    families = {row.family for row in BACKBONES.values()}
    assert families | {find_backbone("hub:some/folder").family} == set(CUSTOMS)


@pytest.mark.parametrize("family", CUSTOMS)
def test_nothing_is_left_open(family: str):
    settled = settle(family)
    assert settled.optimizer.name in KINDS
    for section, names in {
        settled.optimizer: ("weight_decay", "clip"),
        settled.schedule: ("head_lr", "peak_lr"),
        settled.train: ("label_smoothing",),
    }.items():
        assert all(getattr(section, name) is not None for name in names)
    assert 0 < settled.schedule.peak_lr <= settled.schedule.head_lr < 1
    assert settle_recipe(settled, family, "accuracy") == settled


@pytest.mark.parametrize("family", CUSTOMS)
@pytest.mark.parametrize("optimizer", KINDS)
def test_every_optimizer_has_rates_for_every_family(optimizer: str, family: str):
    row = find_recipe(optimizer, family)
    assert row.optimizer == optimizer
    assert row.family in (family, "any")


def test_a_familys_own_rates_come_before_those_for_any():
    assert find_recipe("auto", "ConvNeXt").family == "ConvNeXt"
    assert find_recipe("adamw", "ResNet").family == "any"
    assert find_recipe("sgd", "VGG").peak_lr < find_recipe("sgd", "ResNet").peak_lr


def test_what_is_set_is_kept_even_where_it_is_zero():
    given = replace(
        Config(),
        optimizer=OptimizerConfig("sgd", weight_decay=0.0, clip=0.0),
        schedule=ScheduleConfig(head_lr=0.5, peak_lr=3e-4),
        train=TrainConfig(label_smoothing=0.0),
    )
    assert settle_recipe(given, "EfficientNetV2", "accuracy") == given


def test_an_optimizer_of_choice_takes_its_own_rates():
    own, chosen = settle("EfficientNetV2"), settle("EfficientNetV2", optimizer__name="adamax")
    assert own.optimizer.name == "rmsprop"
    assert chosen.optimizer.name == "adamax"
    assert chosen.schedule.peak_lr == pytest.approx(2e-3 * (32 / 256) ** 0.5)
    assert own.schedule.peak_lr == pytest.approx(5e-4 * 32 / 256)


@pytest.mark.parametrize(
    ("optimizer", "growth"), [("rmsprop", 4.0), ("sgd", 4.0), ("adamw", 2.0), ("lion", 2.0)]
)
def test_rates_grow_in_proportion_to_the_batch_or_as_its_root(optimizer: str, growth: float):
    small, large = (
        settle("ResNet", optimizer__name=optimizer, pixels__batch_size=size).schedule
        for size in (64, 256)
    )
    assert large.peak_lr / small.peak_lr == pytest.approx(growth)
    assert large.head_lr / small.head_lr == pytest.approx(growth)
    assert large.peak_lr == find_recipe(optimizer, "ResNet").peak_lr


@pytest.mark.parametrize("size", [8, 32, 256])
def test_the_net_for_rehearsals_learns_at_any_batch_as_it_did_before(size: int):
    settled = settle("tiny", pixels__batch_size=size)
    assert settled.optimizer == OptimizerConfig("adamw", weight_decay=1e-4, clip=0.0)
    assert (settled.schedule.head_lr, settled.schedule.peak_lr) == (1e-3, 3e-4)
    assert settled.train.label_smoothing == 0.0


def test_labels_stay_whole_for_log_loss_and_where_there_may_be_several():
    assert settle("ConvNeXt").train.label_smoothing == 0.1
    assert settle("ConvNeXt", "log_loss").train.label_smoothing == 0.0
    several = settle_recipe(Config(), "ConvNeXt", "samples_f1", exclusive=False)
    assert several.train.label_smoothing == 0.0
    assert settle("ConvNeXt", "log_loss", train__label_smoothing=0.2).train.label_smoothing == 0.2


def test_a_recipe_is_told_in_words():
    words = describe_recipe(settle("VGG", optimizer__ema=0.99), "VGG")
    assert words == (
        "sgd; learning rate 0.0013 for the head, 0.00013 for all (cosine); weight decay 0.001; "
        "gradients clipped at 1; weights averaged by 0.99; labels smoothed by 0.1"
    )
    assert describe_recipe(settle("tiny"), "tiny") == (
        "adamw; learning rate 0.001 for the head, 0.0003 for all (cosine); weight decay 0.0001"
    )


@pytest.mark.parametrize("rate", [3e-6, 0.3])
def test_a_rate_that_does_not_go_with_its_optimizer_is_remarked_on(rate: float):
    words = describe_recipe(settle("ResNet", schedule__peak_lr=rate), "ResNet")
    assert words.endswith("schedule.peak_lr is far from the usual 0.0013 of sgd")


def test_the_page_of_recipes_says_what_the_code_does():
    rows = re.findall(r"^\| (?!family|optimizer)(\w.*) \|$", PAGE.read_text(), re.MULTILINE)
    cells = [row.split(" | ") for row in rows]
    customs = [[family, it.optimizer, f"{it.label_smoothing:g}"] for family, it in CUSTOMS.items()]
    recipes = [[*row[:2], *(f"{number:g}" for number in row[2:])] for row in RECIPES]
    assert cells == customs + recipes


def test_the_page_names_a_source_for_every_recipe():
    sources = re.findall(r"^- \*\*(.*)\*\*: \w", PAGE.read_text(), re.MULTILINE)
    ambiguous = {"adamw", "sgd"}
    expected = {f"{row[0]}, {row[1]}" if row[0] in ambiguous else row[0] for row in RECIPES}
    assert set(sources) == expected
