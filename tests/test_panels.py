import re

import numpy as np
import pandas as pd
import pytest

from podium.histories import HISTORY_COLUMNS
from podium.page import CHART_COLOURS
from podium.panels import list_panels, plot_fold, render_curves


def make_history(epochs: int = 3, **columns: object) -> pd.DataFrame:
    """A fold as an older run wrote it, and the columns that are given."""
    values = dict.fromkeys(("train/loss", "valid/loss"), np.linspace(2, 1, epochs))
    values |= dict.fromkeys(("train/accuracy", "valid/accuracy"), np.linspace(0.5, 0.9, epochs))
    values |= {"phase": "all", "epoch": range(1, epochs + 1), "learning_rate": 0.001}
    return pd.DataFrame(values | columns).reindex(columns=HISTORY_COLUMNS)


def make_whole(epochs: int = 3, **columns: object) -> pd.DataFrame:
    """A fold with all columns."""
    marks = [0.4, *[np.nan] * (epochs - 1)]
    values = {"updates": 10 * np.arange(1, epochs + 1), "valid/metric": 0.5, "image_size": 224}
    values |= {"clean/metric": marks, "recalibrated/metric": marks, "left": 9000.0}
    return make_history(epochs, **values | {"images_per_second": 700.0} | columns)


def read_words(svg: str) -> list[str]:
    words = re.findall(r">([^<>\n]+)</text>", svg)
    return [word.replace("\u00a0", " ").replace("&#160;", " ").strip() for word in words]


@pytest.mark.parametrize(
    ("phases", "losses", "border"),
    [
        (["head", "all", "all"], [1.0, 0.5, 0.25], True),
        (["all"], [1.0], False),
        (["head"], [1.0], False),
        (["head", "all"], [1.0, np.nan], True),
        (["all", "all"], [np.nan, np.nan], False),
    ],
)
def test_curves_of_any_run_are_drawn_in_the_colours_of_the_page(
    phases: list[str], losses: list[float], border: bool
):
    history = make_history(len(losses), phase=phases, **{"train/loss": losses})
    svg = plot_fold(3, history, list_panels({3: history}, "accuracy"))
    assert "Fold 3" in read_words(svg)
    assert ("head" in read_words(svg)) == border
    assert not re.search("|".join(CHART_COLOURS), svg)
    assert {f"var(--{name})" for name in CHART_COLOURS.values()} <= set(
        re.findall(r"var\(--\w+\)", svg)
    )


def test_an_older_run_has_the_panels_of_what_it_wrote():
    panels = list_panels({0: make_history()}, "macro_f1")
    assert [panel.name for panel in panels] == ["loss", "accuracy", "rate"]
    assert panels[-1].axis == "epoch"


def test_a_whole_run_has_the_metric_speed_time_left_and_the_rate_against_updates():
    panels = list_panels({0: make_history(), 1: make_whole()}, "macro_f1")
    assert [panel.name for panel in panels] == ["loss", "macro F1", "images/s", "h left", "rate"]
    assert panels[-1].axis == "updates"
    assert panels[-1].span[1] > 30


def test_nothing_but_epochs_is_drawn_without_an_error():
    history = pd.DataFrame({"epoch": [1]}).reindex(columns=HISTORY_COLUMNS)
    panels = list_panels({0: history}, None)
    assert [panel.name for panel in panels] == ["loss", "accuracy"]
    assert "Fold 0" in plot_fold(0, history, panels)


def test_scales_hold_every_fold():
    long = make_whole(6, left=-600.0, **{"valid/loss": 7.0, "valid/metric": 0.1})
    for folds in ({0: make_whole(), 1: long}, {0: long, 1: make_whole()}):
        loss, score, _, left, _ = list_panels(folds, "macro_f1")
        assert loss.span == (0.5, 6.5)
        assert loss.limits == pytest.approx((0, 7), abs=0.5)
        assert loss.limits[1] > 7
        assert 0 < score.limits[0] < 0.1
        assert 1 < score.limits[1] < 1.1
        assert left.limits[0] <= -600 / 3600
        assert left.limits[1] > 2.5


@pytest.mark.parametrize(("left", "name", "top"), [(7000.0, "min", 7000 / 60), (8000, "h", 2.22)])
def test_time_left_is_in_hours_or_where_it_is_short_in_minutes(left: float, name: str, top: float):
    panel = list_panels({0: make_whole(left=left)}, "accuracy")[3]
    assert panel.name == f"{name} left"
    assert panel.limits[1] == pytest.approx(1.05 * top, rel=0.01)
    assert panel.limits[0] < 0  # so that the deadline is in sight


def test_the_rate_is_on_a_logarithmic_scale_where_it_spans_decades():
    def find_rate(rates: list[float]) -> object:
        return list_panels({0: make_whole(len(rates), learning_rate=rates)}, "accuracy")[-1]

    assert not find_rate([1e-3, 2e-5]).log
    assert not find_rate([1e-3, 0.0]).log
    assert find_rate([1e-3, 5e-6]).log
    deep = find_rate([1e-3, 1e-30, 0.0])
    assert deep.log
    assert deep.limits[0] == pytest.approx(1e-7)
    assert deep.limits[1] > 1e-3


def test_loss_as_the_metric_leaves_accuracy_its_own_scale():
    history = make_whole(**{"valid/metric": 5.0, "clean/metric": 6.0})
    loss, accuracy, *_ = list_panels({0: history}, "log_loss")
    assert loss.limits[1] > 6
    assert accuracy.name == "accuracy"
    assert 0.4 < accuracy.limits[0] < 0.5
    assert accuracy.limits[1] < 1.1


def test_sizes_are_named_where_they_change_and_only_there():
    growing = make_whole(image_size=[128, 128, 224])
    for history, sizes in ((growing, ["128 px", "224 px"]), (make_whole(), [])):
        words = read_words(plot_fold(0, history, list_panels({0: history}, "accuracy")))
        assert [word for word in words if word.endswith("px")] == sizes


def test_the_deadline_and_the_marks_are_named_where_they_are():
    def draw(history: pd.DataFrame) -> list[str]:
        return read_words(plot_fold(0, history, list_panels({0: history}, "accuracy")))

    named = {"deadline", "training, clean", "recalibrated", "updates (rate: the learning rate)"}
    assert named <= set(draw(make_whole()))
    assert named.isdisjoint(draw(make_history()))
    assert {"training", "validation", "epoch"} <= set(draw(make_whole()))


def test_a_single_epoch_can_be_seen():
    for part in ("train", "valid"):
        pairs = [make_whole(1, **{f"{part}/loss": value}) for value in (1.0, np.nan)]
        seen, unseen = (
            plot_fold(0, history, list_panels({0: make_whole(1)}, "accuracy")) for history in pairs
        )
        assert seen.count("<use") > unseen.count("<use")


def test_the_reader_is_told_of_marks_only_where_there_are_some():
    marked, plain = (
        render_curves({0: make_whole()}, "accuracy"),
        render_curves({0: make_history()}, "accuracy"),
    )
    assert "Squares: training" in marked
    assert "Diamonds: validation" in marked
    assert "Squares" not in plain
    assert "Diamonds" not in plain
    assert render_curves({}, "accuracy") == ""
