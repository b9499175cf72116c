"""The demo competition: scikit-learn's handwritten digits, laid out as Kaggle would.

1,797 real 8×8 scans (Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits"),
which scikit-learn carries, so the demo needs no network.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 32  # px; a scan of 8 px is enlarged fourfold, which loses nothing
TEST_SHARE = 0.2

# What the demo trains with: the whole of the small data set, and no mirrored digits.
DEMO_SETTINGS: dict[str, object] = {
    "data.limit": None,
    "folds.count": 5,
    "pixels.image_size": SIDE,
    "schedule.peak_lr": 3e-3,
    "train.epochs": 12,
}


def make_demo(folder: Path) -> Path:
    """Writes train/, test/, train.csv and sample_submission.csv, and solution.csv beside them.

    Returns the competition's folder. The truth about the test part lies outside of it.
    """
    competition = folder / "digits"
    digits = load_digits()
    rows = np.arange(len(digits.target))
    train, test = train_test_split(
        rows, test_size=TEST_SHARE, stratify=digits.target, random_state=0
    )
    for part, chosen in (("train", np.sort(train)), ("test", np.sort(test))):
        (competition / part).mkdir(parents=True, exist_ok=True)
        for row in chosen:
            write_digit(digits.images[row], competition / part / f"{row:04d}.png")
    label = pd.DataFrame({"id": [f"{row:04d}.png" for row in rows], "label": digits.target})
    label.iloc[np.sort(train)].to_csv(competition / "train.csv", index=False)
    solution = label.iloc[np.sort(test)]
    solution.to_csv(folder / "solution.csv", index=False)
    solution.assign(label=0).to_csv(competition / "sample_submission.csv", index=False)
    return competition


def write_digit(scan: NDArray[np.float64], path: Path) -> None:
    """Writes one scan, 8×8 with ink from 0 to 16, as a PNG."""
    grey = np.round(scan * 255 / 16).astype(np.uint8)
    Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
