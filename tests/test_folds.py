from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config import FoldsConfig
from podium.folds import (
    FoldError,
    count_labels,
    deal_units,
    describe_reuse,
    make_folds,
    read_folds,
    write_folds,
)


def make_table(labels: list, groups: list[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame({"id": [f"{row:04d}" for row in range(len(labels))], "label": labels})
    return table if groups is None else table.assign(group=groups)


def shuffle_rows(table: pd.DataFrame, random) -> tuple[list[int], pd.DataFrame]:
    order = list(range(len(table)))
    random.shuffle(order)
    return order, table.iloc[order].reset_index(drop=True)


several = st.sets(st.integers(0, 5), max_size=3).map(lambda one: tuple(sorted(one)))
tables = st.lists(st.integers(0, 4), min_size=12, max_size=80).map(make_table)
labelled = st.lists(several, min_size=12, max_size=80).map(make_table)


def make_grouped(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    numbers = [*range(6), *(group for _, group in pairs[6:])]  # as many as folds at the most
    return make_table([label for label, _ in pairs], [f"g{group}" for group in numbers])


pairs = st.tuples(st.integers(0, 2), st.integers(0, 30))
grouped = st.lists(pairs, min_size=12, max_size=60).map(make_grouped)
counts = st.integers(2, 6)


@given(tables, counts, st.integers(0, 5))
def test_every_image_is_validated_once_in_folds_of_one_size(table, count, seed):
    folds = make_folds(table, FoldsConfig(count), seed)
    sizes = np.bincount(folds, minlength=count)
    assert len(sizes) == count
    assert sizes.max() - sizes.min() <= 1


@given(tables, counts)
def test_each_class_is_spread_evenly_however_rare_it_is(table, count):
    folds = make_folds(table, FoldsConfig(count), 0)
    for label in table["label"].unique():
        shares = np.bincount(folds[table["label"] == label], minlength=count)
        assert shares.max() - shares.min() <= 1


def test_rare_neighbouring_grades_make_up_for_one_another():
    table = make_table([0] * 40 + [3] * 3 + [4] * 2)
    folds = make_folds(table, FoldsConfig(5), 0)
    assert np.bincount(folds[table["label"] >= 3]).tolist() == [1, 1, 1, 1, 1]


@given(st.one_of(tables, labelled, grouped), counts, st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order_of_rows(table, count, random):
    order, turned = shuffle_rows(table, random)
    folds = make_folds(table, FoldsConfig(count), 0)
    np.testing.assert_array_equal(folds[order], make_folds(turned, FoldsConfig(count), 0))


@given(grouped, counts, st.integers(0, 5))
def test_a_group_stays_in_one_fold_and_no_fold_is_empty(table, count, seed):
    folds = make_folds(table, FoldsConfig(count), seed)
    assert (pd.Series(folds).groupby(table["group"]).nunique() == 1).all()
    assert set(folds.tolist()) == set(range(count))


@given(grouped, st.integers(0, 5))
def test_what_the_groups_are_called_does_not_matter(table, seed):
    renamed = table.assign(group=[f"z{99 - int(name[1:])}" for name in table["group"]])
    folds = (make_folds(one, FoldsConfig(3), seed) for one in (table, renamed))
    np.testing.assert_array_equal(*folds)


def test_groups_as_many_as_folds_fill_each():
    labels = [0, 1, 1, 2, 2, 1, 0, 2, 0, 0, 1, 2, 1, 2, 2, 2, 1, 0, 0]
    groups = [*"a" * 1, *"b" * 4, *"c" * 8, *"d" * 6]
    folds = make_folds(make_table(labels, groups), FoldsConfig(4), 0)
    assert sorted(np.bincount(folds)) == [1, 4, 6, 8]


def test_groups_are_dealt_by_class_and_by_size():
    groups = [f"g{row // 4}" for row in range(160)]
    labels = [0 if row < 120 else 1 for row in range(160)]
    table = make_table(labels, groups)
    for seed in range(5):
        folds = make_folds(table, FoldsConfig(5), seed)
        assert np.bincount(folds).tolist() == [32] * 5
        assert np.bincount(folds[table["label"] == 1]).tolist() == [8] * 5


@given(labelled, counts)
def test_the_rarest_label_is_spread_evenly(table, count):
    table = make_table([(6,), *table["label"]])
    folds = make_folds(table, FoldsConfig(count), 0)
    has = [np.array([label in one for one in table["label"]]) for label in range(7)]
    rarest = min(one.sum() for one in has if one.any())
    shares = [np.bincount(folds[one], minlength=count) for one in has if one.sum() == rarest]
    assert min(share.max() - share.min() for share in shares) <= 1


def test_labels_that_occur_together_are_dealt_evenly_each():
    draw = np.random.default_rng(0)
    labels = [tuple(np.flatnonzero(draw.random(8) < [0.5, 0.3, *[0.05] * 6])) for _ in range(600)]
    folds = make_folds(make_table(labels), FoldsConfig(5), 0)
    assert np.ptp(np.bincount(folds)) <= 6
    for label in range(8):
        shares = np.bincount(folds[[label in one for one in labels]], minlength=5)
        assert np.ptp(shares) <= 6


def test_iterative_stratification_goes_as_in_the_paper():
    # Label 1 is rarest: its two images go to folds that lack it; then label 0, of which unit 0
    # took one already; the image without a label goes where most images are missing.
    labels = count_labels([(0, 1), (1,), (0,), (0,), (0,), ()], np.arange(6))
    dealt = deal_units(labels, np.ones(6, np.int64), np.full(6, -1), 2)
    assert dealt.tolist() == [0, 1, 1, 0, 1, 0]


def test_another_seed_gives_another_split():
    table = make_table([0, 1] * 30)
    first, second = (make_folds(table, FoldsConfig(5), seed) for seed in (0, 1))
    assert (first != second).any()


def test_a_class_with_one_image_is_split_without_a_fuss():
    folds = make_folds(make_table([0] * 10 + [1] * 10 + [2]), FoldsConfig(5), 0)
    assert sorted(np.bincount(folds)) == [4, 4, 4, 4, 5]


def test_fewer_images_or_groups_than_folds_are_refused():
    with pytest.raises(FoldError) as caught:
        make_folds(make_table([0, 1, 0]), FoldsConfig(5), 0)
    assert str(caught.value) == (
        "folds.count is 5, but there are only 3 images; set folds.count to 3 or fewer"
    )
    with pytest.raises(FoldError, match="only 2 groups; set folds.count to 2 or fewer"):
        make_folds(make_table([0, 1] * 5, ["a", "b"] * 5), FoldsConfig(5), 0)
    with pytest.raises(FoldError, match="1 groups; set data.group_column to another or"):
        make_folds(make_table([0, 1] * 5, ["a"] * 10), FoldsConfig(5), 0)
    with pytest.raises(FoldError, match="only 1 images; see data.folder"):
        make_folds(make_table([0]), FoldsConfig(5), 0)


def test_folds_are_written_by_id(tmp_path: Path):
    write_folds(make_table([0, 1, 0, 1]), np.array([1, 0, 0, 1]), tmp_path / "folds.csv")
    assert (
        tmp_path / "folds.csv"
    ).read_text() == "id,label,fold\n0000,0,1\n0001,1,0\n0002,0,0\n0003,1,1\n"
    write_folds(make_table([(0, 2), ()]), np.array([1, 0]), tmp_path / "folds.csv")
    assert (tmp_path / "folds.csv").read_text() == "id,label,fold\n0000,0 2,1\n0001,,0\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("earlier run")


@given(st.one_of(tables, labelled, grouped), counts, st.randoms(use_true_random=False))
def test_folds_of_an_earlier_run_are_kept_in_any_order_of_rows(folder, table, count, random):
    before = make_folds(table, FoldsConfig(count), 0)
    write_folds(table, before, folder / "folds.csv")
    order, turned = shuffle_rows(table, random)
    for file in (folder, folder / "folds.csv"):
        folds = make_folds(turned, FoldsConfig(count, file=str(file)), 99)
        np.testing.assert_array_equal(folds, before[order])


@settings(max_examples=30)
@given(tables, tables, st.integers(0, 5))
def test_new_images_are_added_to_the_folds_in_balance(folder, old, new, seed):
    before = make_folds(old, FoldsConfig(3), seed)
    write_folds(old, before, folder / "folds.csv")
    new = new.assign(id=[f"0{name}" for name in new["id"]])  # they sort among the old ones
    table = pd.concat([old, new], ignore_index=True)
    folds = make_folds(table, FoldsConfig(3, file=str(folder)), seed)
    np.testing.assert_array_equal(folds[: len(old)], before)
    for label in table["label"].unique():
        assert np.ptp(np.bincount(folds[table["label"] == label], minlength=3)) <= 1
    assert np.ptp(np.bincount(folds)) <= 2


def test_a_new_image_joins_the_fold_of_its_group(folder):
    old = make_table([0, 1] * 6, [*"aabbccddeeff"])
    before = make_folds(old, FoldsConfig(3), 0)
    write_folds(old, before, folder / "folds.csv")
    new = pd.DataFrame({"id": ["x", "y"], "label": [0, 1], "group": ["c", "f"]})
    table = pd.concat([new, old], ignore_index=True)
    folds = make_folds(table, FoldsConfig(3, file=str(folder)), 0)
    assert folds[:2].tolist() == [before[4], before[10]]


def test_what_is_new_and_what_is_gone_is_said(folder):
    table = make_table([0, 1] * 6)
    write_folds(table, make_folds(table, FoldsConfig(2), 0), folder / "folds.csv")
    config = FoldsConfig(2, file=str(folder))
    assert describe_reuse(table, FoldsConfig(2)) == []
    changed = pd.concat([table[3:], pd.DataFrame({"id": ["x"], "label": [0]})])
    assert describe_reuse(changed, config) == [
        f"folds.file: 9 images keep the fold of {folder}",
        "folds.file: 1 images are new and were dealt to its folds",
        "folds.file: 3 of its images are gone, such as '0000'",
    ]


def refuse_reuse(table: pd.DataFrame, count: int, file: Path) -> str:
    with pytest.raises(FoldError) as caught:
        make_folds(table, FoldsConfig(count, file=str(file)), 0)
    return str(caught.value).replace(str(file), "there")


def test_folds_of_something_else_are_refused(folder, tmp_path):
    table = make_table([0, 1] * 6)
    write_folds(table, make_folds(table, FoldsConfig(3), 0), folder / "folds.csv")
    assert refuse_reuse(table, 2, folder) == (
        "folds.file is there, which has 3 folds, but folds.count is 2; set folds.count to 3, or "
        "unset folds.file"
    )
    relabelled = table.assign(label=[1, *table["label"][1:]])
    assert refuse_reuse(relabelled, 3, folder) == (
        "folds.file is there, where image '0000' has label '0', but here '1', and 1 in all differ; "
        "the classes or the labels changed since: unset folds.file"
    )
    renamed = table.assign(id=[f"{name}.jpg" for name in table["id"]])
    assert refuse_reuse(renamed, 3, folder) == (
        "folds.file is there, but it knows none of the 12 images; its ids are such as '0000', "
        "those here such as '0000.jpg'"
    )
    held = read_folds(str(folder))
    few = table[held["fold"] > 0].reset_index(drop=True)
    assert refuse_reuse(few, 3, folder) == (
        "folds.file is there, but none of the images of its fold 0 is here; use the images of that "
        "run (data.limit, data.folder), or unset folds.file"
    )


@pytest.mark.parametrize(
    "text", ["id,fold\na,0\n", "id,label,fold\na,0,x\n", "id,label,fold\na,0,0\na,0,1\n"]
)
def test_a_file_that_is_no_table_of_folds_is_refused(tmp_path, text):
    (tmp_path / "folds.csv").write_text(text)
    assert "columns id, label and fold, each id once" in refuse_reuse(
        make_table([0] * 4), 2, tmp_path
    )


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path):
    assert "folds.file is there, which cannot be read: " in refuse_reuse(
        make_table([0] * 4), 2, tmp_path
    )
    (tmp_path / "folds.csv").write_text("")
    assert "cannot be read: No columns" in refuse_reuse(make_table([0] * 4), 2, tmp_path)
