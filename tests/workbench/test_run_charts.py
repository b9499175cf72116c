import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_folders import make_history, make_run_folder

from podium.page import CHART_COLOURS
from workbench.past_runs import MOST_RUNS, PastRun, read_past_runs
from workbench.run_charts import LOOKS, draw_png, draw_svg, list_drawn, list_overlays

WHOLE = {"updates": [10, 20, 30], "valid/metric": [0.1, 0.2, 0.3]}


def make_runs(place: Path, *told: dict[str, Any], metric: str = "accuracy") -> list[PastRun]:
    """Runs of two folds, with these columns beside the usual ones."""
    folders = []
    for number, columns in enumerate(told):
        folder = make_run_folder(place / f"run{number}", summary={"metric": metric})
        for fold in range(2):
            make_history(**columns).to_csv(folder / f"fold{fold}" / "history.csv", index=False)
        folders.append(folder)
    return read_past_runs(folders)


def contrast(colour: str, ground: str) -> float:
    """Of WCAG: 1 to 21."""

    def light(text: str) -> float:
        parts = np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05

    low, high = sorted((light(colour), light(ground)))
    return high / low


def test_every_run_has_a_colour_and_a_dash_of_its_own_that_can_be_seen():
    assert len(LOOKS) == MOST_RUNS
    assert all(len(set(looks)) == MOST_RUNS for looks in zip(*LOOKS, strict=True))
    assert all(contrast(light, "#ffffff") >= 3 for light, _, _ in LOOKS)
    assert all(contrast(dark, "#181e27") >= 3 for _, dark, _ in LOOKS)


def test_runs_of_one_metric_share_its_picture_and_those_of_another_have_their_own(tmp_path: Path):
    one = make_runs(tmp_path / "one", WHOLE, WHOLE)
    other = make_runs(tmp_path / "other", WHOLE, metric="macro_f1")
    names = [overlay.name for overlay in list_overlays(one)]
    assert names == ["validation loss", "validation accuracy", "learning rate"]
    loss, accuracy, f1, _ = list_overlays(one + other)
    assert list_drawn(loss, one + other) == dict.fromkeys(range(3), "valid/loss")
    assert list_drawn(accuracy, one + other) == {0: "valid/metric", 1: "valid/metric"}
    assert (f1.name, list_drawn(f1, one + other)) == ("validation macro F1", {2: "valid/metric"})


def test_rates_are_against_updates_only_where_all_runs_counted_them(tmp_path: Path):
    runs = make_runs(tmp_path, WHOLE, WHOLE, {})
    assert list_overlays(runs[:2])[-1].axis == "updates"
    assert list_overlays(runs)[-1].axis == "epoch"


def test_rates_of_runs_that_lie_decades_apart_are_on_a_logarithmic_scale(tmp_path: Path):
    runs = make_runs(tmp_path, WHOLE, WHOLE | {"learning_rate": 0.2}, {"learning_rate": 0.0})
    assert [list_overlays(some)[-1].log for some in (runs[:1], runs[:2], runs[::2])] == [
        *(False, True, False)
    ]


def test_runs_without_an_epoch_have_no_picture(tmp_path: Path):
    run = read_past_runs([make_run_folder(tmp_path / "a")])[0]
    assert list_overlays([run._replace(curves={})]) == []


def test_charts_are_in_the_colours_of_the_page_one_for_each_run(tmp_path: Path):
    runs = make_runs(tmp_path, *[WHOLE] * MOST_RUNS)
    for overlay in list_overlays(runs):
        svg = draw_svg(overlay, runs, "x")
        colours = {light for light, _, _ in LOOKS} | set(CHART_COLOURS)
        assert not re.search("|".join(colours), svg)
        used = set(re.findall(r"var\(--(\w+)\)", svg))
        assert {"valid", "train", *(f"run{place}" for place in range(2, MOST_RUNS))} <= used
        assert f'aria-label="{overlay.name}"' in svg


def count_colour(png: bytes, colour: str) -> int:
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((pixels == wanted).all(axis=-1).sum())


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_picture_shows_every_run_also_of_one_epoch(tmp_path: Path, epochs: int):
    folders = [make_run_folder(tmp_path / name) for name in "ab"]
    for place, folder in enumerate(folders):
        history = make_history(epochs).assign(**{"valid/loss": 1.0 + place})
        for fold in range(2):
            history.to_csv(folder / f"fold{fold}" / "history.csv", index=False)
    runs = read_past_runs(folders)
    png = draw_png(list_overlays(runs)[:1], runs)
    legend_alone = draw_png(list_overlays(runs)[:1], [runs[0]._replace(curves={}), runs[1]])
    assert count_colour(legend_alone, LOOKS[0][0]) == 0
    assert all(count_colour(png, LOOKS[place][0]) > 20 for place in range(2))


def test_the_mean_ends_where_the_first_fold_does(tmp_path: Path):
    run = make_runs(tmp_path, WHOLE)[0]
    cut = run._replace(curves={0: run.curves[0], 1: run.curves[1].iloc[:2]})
    for one, steps in ((run, 2), (cut, 1)):
        svg = draw_svg(list_overlays([one])[0], [one], "x")
        means = re.findall(r'<path d="([^"]*)"[^>]*stroke-width: 1.8', svg)
        assert [mean.count("L") for mean in means] == [steps]
