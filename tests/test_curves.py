from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from podium.curves import write_curves


def write_history(folder: Path, fold: int, loss: list[float]) -> None:
    (folder / f"fold{fold}").mkdir()
    columns = ("train/loss", "valid/loss", "train/accuracy", "valid/accuracy")
    table = pd.DataFrame(dict.fromkeys(columns, loss) | {"epoch": range(1, len(loss) + 1)})
    table.to_csv(folder / f"fold{fold}" / "history.csv", index=False)


def test_every_fold_so_far_is_drawn_into_one_small_picture(tmp_path: Path):
    drawn = []
    for fold in range(3):
        write_history(tmp_path, fold, [1.0, 0.5, 0.4 - fold / 10])
        write_curves(tmp_path)
        with Image.open(tmp_path / "curves.png") as picture:
            drawn.append(np.asarray(picture.convert("L")))
    assert (tmp_path / "curves.png").stat().st_size < 150_000
    assert drawn[0].shape[1] > 600
    assert (drawn[1] != drawn[2]).any()


def test_a_loss_that_is_no_number_leaves_a_gap_and_no_error(tmp_path: Path):
    write_history(tmp_path, 0, [1.0, float("nan"), 0.5])
    write_curves(tmp_path)
    assert (tmp_path / "curves.png").is_file()


def draw(folder: Path, **columns: object) -> Image.Image:
    """The picture of one fold of three epochs with these columns."""
    write_history(folder, 0, [1.0, 0.5, 0.4])
    path = folder / "fold0" / "history.csv"
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)
    write_curves(folder, "macro_f1")
    return Image.open(folder / "curves.png").convert("RGB")


@pytest.mark.parametrize(
    "columns",
    [
        {"valid/metric": [0.1, 0.2, 0.3]},
        {"recalibrated/metric": [None, None, 0.3]},
        {"clean/metric": [None, None, 0.3]},
        {"phase": ["head", "all", "all"]},
        {"image_size": [128, 128, 224]},
    ],
    ids=str,
)
def test_the_metric_its_marks_and_what_changes_on_the_way_are_seen(
    tmp_path: Path, columns: dict[str, list[object]]
):
    for name in ("plain", "more"):
        (tmp_path / name).mkdir()
    usual = {"phase": "all", "image_size": 224, "valid/metric": 0.2}
    plain, more = draw(tmp_path / "plain", **usual), draw(tmp_path / "more", **usual | columns)
    assert ImageChops.difference(plain, more).getbbox()


def test_a_single_epoch_is_seen_as_a_dot(tmp_path: Path):
    write_history(tmp_path, 0, [1.0])
    write_curves(tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        blue = (np.asarray(picture.convert("RGB")) == (0, 0x72, 0xB2)).all(axis=-1)
    left = blue[:, : blue.shape[1] // 2]
    assert left.sum(axis=0).max() > 5  # as high as a dot; the legend's line is thinner


def test_a_folder_without_an_epoch_has_a_picture(tmp_path: Path):
    write_curves(tmp_path)
    assert (tmp_path / "curves.png").is_file()
