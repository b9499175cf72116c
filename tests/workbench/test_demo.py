from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from podium.config import Config
from podium.override import override
from workbench.demo import DEMO_SETTINGS, make_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"))


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str)


def test_the_demo_is_all_1797_digits_and_a_fifth_of_them_test(demo: Path):
    assert len(list((demo / "train").glob("*.png"))) == 1437
    assert len(list((demo / "test").glob("*.png"))) == 360


def test_tables_name_the_files_and_the_truth_lies_outside(demo: Path):
    files = sorted(path.name for path in (demo / "train").iterdir())
    assert read_table(demo / "train.csv")["id"].tolist() == files
    sample = read_table(demo / "sample_submission.csv")
    assert sample["id"].tolist() == sorted(path.name for path in (demo / "test").iterdir())
    assert set(sample["label"]) == {"0"}
    assert not list(demo.rglob("solution*"))
    solution = read_table(demo.parent / "solution.csv")
    assert solution["id"].tolist() == sample["id"].tolist()
    assert set(solution["label"].value_counts()) <= {34, 35, 36, 37}


def test_an_image_is_the_scan_enlarged(demo: Path):
    table = read_table(demo / "train.csv")
    row = int(Path(table["id"][7]).stem)
    shown = np.asarray(
        Image.open(demo / "train" / table["id"][7]).resize((8, 8), Image.Resampling.BOX)
    )
    scan = load_digits().images[row]
    assert np.corrcoef(shown.ravel(), scan.ravel())[0, 1] > 0.95
    assert int(table["label"][7]) == load_digits().target[row]


def test_the_demos_settings_exist():
    assert override(Config(), DEMO_SETTINGS).pixels.image_size == 32
