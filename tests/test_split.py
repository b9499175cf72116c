from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from podium.config import Config, FoldsConfig
from podium.duplicates import cluster_images, find_duplicates
from podium.events import Reporter
from podium.pixels import Images
from podium.split import group_images, split_images

COPIES = 12
CONFIG = replace(Config(), folds=FoldsConfig(3))


def make_images(names: str, rng: np.random.Generator, copies: int = 0) -> Images:
    """Thirty images of blobs, and the first of them again, a little brighter."""
    blobs = rng.integers(0, 200, (30, 6, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    pixels = np.concatenate([blobs, blobs[:copies] + 20]).astype(np.uint8)
    ids = [f"{names}{row:02d}" for row in range(len(pixels))]
    labels = np.arange(len(pixels)) % 30 % 2
    return Images(pd.DataFrame({"id": ids, "path": ids, "label": labels}), pixels, [])


@pytest.fixture
def report(tmp_path: Path) -> Reporter:
    return Reporter(tmp_path)


def split(config: Config, train: Images, report: Reporter):
    test = make_images("t", np.random.default_rng(9))
    return split_images(config, None, train, test, report)


def test_nearly_the_same_images_are_validated_together(
    report: Reporter, capsys: pytest.CaptureFixture[str]
):
    train = make_images("i", np.random.default_rng(0), COPIES)
    folds, leaks, _ = split(CONFIG, train, report)
    np.testing.assert_array_equal(folds[:COPIES], folds[30:])
    assert sorted(set(folds.tolist())) == [0, 1, 2]
    assert not [leak for leak in leaks if leak.serious and "copies" in leak.check]
    said = f"{COPIES} training images are nearly the same as others: kept together"
    assert said in capsys.readouterr().out


def test_copies_that_are_let_straddle_are_not_looked_for(report: Reporter):
    train = make_images("i", np.random.default_rng(0), COPIES)
    config = replace(CONFIG, folds=FoldsConfig(3, near_duplicates="ignore"))
    folds, *_ = split(config, train, report)
    assert (folds[:COPIES] != folds[30:]).any()


def test_without_near_duplicates_nothing_is_grouped(report: Reporter):
    train = make_images("i", np.random.default_rng(0))
    clusters = cluster_images(find_duplicates(train.pixels), len(train.table), 3)
    table = group_images(train.table, clusters, report)
    assert "group" not in table


def test_groups_and_near_duplicates_are_joined(report: Reporter):
    train = make_images("i", np.random.default_rng(0), COPIES)
    groups = [f"g{row % 30 // 3}" for row in range(30)] + [f"other{row}" for row in range(COPIES)]
    grouped = train._replace(table=train.table.assign(group=groups))
    folds, *_ = split(CONFIG, grouped, report)
    np.testing.assert_array_equal(folds[:COPIES], folds[30:])
    assert all(len(set(folds[start : start + 3].tolist())) == 1 for start in range(0, 30, 3))


def test_what_the_audit_finds_is_said_and_what_is_serious_is_a_warning(
    report: Reporter, capsys: pytest.CaptureFixture[str]
):
    train = make_images("i", np.random.default_rng(0))
    copied = make_images("t", np.random.default_rng(0))  # the test part is the training part
    _, leaks, _ = split_images(CONFIG, None, train, copied, report)
    serious = [leak.text for leak in leaks if leak.serious]
    assert serious
    assert report.warnings == serious
    out = capsys.readouterr().out
    assert all(leak.text in out for leak in leaks)
