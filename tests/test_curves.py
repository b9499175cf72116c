from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

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
