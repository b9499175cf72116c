from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config import FoldsConfig
from podium.folds import FoldError, make_folds, merge_rare_classes, write_folds


def make_table(labels: list[int], groups: list[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame({"id": [f"{row:04d}" for row in range(len(labels))], "label": labels})
    return table if groups is None else table.assign(group=groups)


tables = st.lists(st.integers(0, 4), min_size=12, max_size=80).map(make_table)


@given(tables, st.integers(2, 6), st.integers(0, 5))
def test_every_image_is_validated_once_and_no_fold_is_empty(table, count, seed):
    folds = make_folds(table, FoldsConfig(count), seed)
    assert set(folds.tolist()) == set(range(count))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= len(np.unique(table["label"]))


@given(tables, st.integers(2, 6), st.randoms())
def test_the_split_does_not_depend_on_the_order_of_rows(table, count, random):
    order = list(range(len(table)))
    random.shuffle(order)
    plain = make_folds(table, FoldsConfig(count), 0)
    turned = make_folds(table.iloc[order].reset_index(drop=True), FoldsConfig(count), 0)
    np.testing.assert_array_equal(plain[order], turned)


@given(tables, st.integers(2, 6))
def test_a_frequent_class_is_spread_evenly(table, count):
    folds = make_folds(table, FoldsConfig(count), 0)
    for label, size in table["label"].value_counts().items():
        if size < count or (table["label"].value_counts() < count).any():
            continue
        shares = np.bincount(folds[table["label"] == label], minlength=count)
        assert shares.max() - shares.min() <= 1


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=40, max_size=90))
def test_a_group_stays_in_one_fold(pairs):
    groups = [f"g{group}" for _, group in pairs]
    if len(set(groups)) < 3:
        return
    table = make_table([label for label, _ in pairs], groups)
    folds = make_folds(table, FoldsConfig(3), 0)
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()


def test_another_seed_gives_another_split():
    table = make_table([0, 1] * 30)
    first, second = (make_folds(table, FoldsConfig(5), seed) for seed in (0, 1))
    assert (first != second).any()


def test_a_class_with_one_image_is_split_without_a_fuss():
    folds = make_folds(make_table([0] * 10 + [1] * 10 + [2]), FoldsConfig(5), 0)
    assert sorted(np.bincount(folds)) == [4, 4, 4, 4, 5]


def test_groups_that_leave_a_fold_empty_are_refused():
    labels = [0, 1, 1, 2, 2, 1, 0, 2, 0, 0, 1, 2, 1, 2, 2, 2, 1, 0, 0]
    groups = [*"a" * 1, *"b" * 4, *"c" * 8, *"d" * 6]
    with pytest.raises(FoldError) as caught:
        make_folds(make_table(labels, groups), FoldsConfig(4), 0)
    assert str(caught.value) == (
        "folds.count is 4, but 4 groups fill fewer folds; set folds.count to 3 or fewer"
    )
    assert set(make_folds(make_table(labels, groups), FoldsConfig(3), 0)) == {0, 1, 2}


def test_fewer_images_than_folds_are_refused():
    with pytest.raises(FoldError) as caught:
        make_folds(make_table([0, 1, 0]), FoldsConfig(5), 0)
    assert str(caught.value) == (
        "folds.count is 5, but there are only 3 images; set folds.count to 3 or fewer"
    )
    with pytest.raises(FoldError, match="only 2 groups; set folds.count to 2 or fewer"):
        make_folds(make_table([0, 1] * 5, ["a", "b"] * 5), FoldsConfig(5), 0)


def test_rare_classes_share_a_stratum():
    merged = merge_rare_classes(np.array([0] * 6 + [1, 1, 2, 2, 2]), 4)
    assert merged.tolist() == [0] * 6 + [1] * 5
    lonely = merge_rare_classes(np.array([0] * 6 + [1]), 4)
    assert lonely.tolist() == [0] * 7


def test_folds_are_written_by_id(tmp_path: Path):
    table = make_table([0, 1, 0, 1])
    write_folds(table, np.array([1, 0, 0, 1]), tmp_path / "folds.csv")
    written = pd.read_csv(tmp_path / "folds.csv", dtype={"id": str})
    assert written.to_dict("list") == {
        "id": ["0000", "0001", "0002", "0003"],
        "label": [0, 1, 0, 1],
        "fold": [1, 0, 0, 1],
    }
