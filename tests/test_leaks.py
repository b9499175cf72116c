from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from podium import leaks as audit_room
from podium.config import FoldsConfig
from podium.duplicates import Pairs
from podium.folds import make_folds
from podium.leaks import Audited, Leak, audit_leaks

NONE = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
BARE = pd.DataFrame()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """80 images of one size."""
    folder = tmp_path_factory.mktemp("images")
    for row in range(80):
        Image.new("RGB", (8, 8), (row, 0, 0)).save(folder / f"{row * 7919 % 1000:04d}.bmp")
    return folder


@pytest.fixture
def clean(folder) -> Audited:
    """Nothing to find: 80 images of 2 classes, 20 test images, no other columns."""
    paths = sorted(folder.iterdir())
    table = pd.DataFrame(
        {
            "id": [path.stem for path in paths],
            "path": [str(path) for path in paths],
            "label": np.random.default_rng(5).permutation(np.arange(80) % 2),
        }
    )
    test = pd.DataFrame({"id": [f"t{row}" for row in range(20)], "path": None})
    folds = make_folds(table, FoldsConfig(4), 0)
    return Audited(table, test, folds, NONE, BARE, BARE)


def by_id(table: pd.DataFrame, **columns) -> pd.DataFrame:
    cells = {name: [str(one) for one in values] for name, values in columns.items()}
    return pd.DataFrame(cells, index=table["id"].tolist())


def make_pairs(*pairs: tuple[int, int, float]) -> Pairs:
    first, second, cosine = zip(*pairs, strict=True)
    return Pairs(np.array(first), np.array(second), np.array(cosine, np.float32))


def find(audited: Audited, check: str) -> Leak:
    found = [leak for leak in audit_leaks(audited) if leak.check == check]
    assert len(found) == 1, audit_leaks(audited)
    return found[0]


def test_nothing_is_found_where_nothing_is(clean):
    assert audit_leaks(clean) == []
    assert audit_leaks(clean._replace(pairs=None)) == []
    assert list(Leak._fields) == ["check", "subject", "figure", "text", "serious"]


def test_columns_of_the_train_table_alone_are_named_with_what_they_tell(clean):
    columns = by_id(
        clean.train,
        diagnosis=clean.train["label"] * 3,
        age=np.random.default_rng(0).integers(20, 25, 80),
    )
    leaks = audit_leaks(clean._replace(columns=columns, test_columns=columns[["age"]]))
    assert [(leak.subject, leak.figure, leak.serious) for leak in leaks] == [
        ("diagnosis", 1.0, False)
    ]
    assert leaks[0].text.startswith(
        "column 'diagnosis' is in the train table only; alone it tells the label of 100.0% of "
        "images (the most frequent label: 50.0%)"
    )
    both = audit_leaks(clean._replace(columns=columns))
    assert [leak.subject for leak in both] == ["diagnosis", "age"]
    assert both[1].figure < 0.75


def test_columns_are_found_by_id_not_by_row(clean):
    columns = by_id(clean.train, diagnosis=clean.train["label"])
    shuffled = columns.sample(frac=1, random_state=0).iloc[:70]
    assert find(clean._replace(columns=shuffled), "train-only columns").figure > 0.85


def test_copies_between_train_and_test_are_named(clean):
    pairs = make_pairs((0, 81, 0.99), (3, 81, 0.9), (5, 90, 0.85), (7, 8, 0.9))
    leak = find(clean._replace(pairs=pairs), "copies in test")
    assert (leak.figure, leak.serious) == (0.1, True)
    first = clean.train["id"][0]
    assert leak.text == (
        f"2 of 20 test images (10.0%) are nearly the same as a training image, such as {first!r} "
        f"and 't1', 1 of them but for compression, size or a mirror; the test score is too good by "
        f"what they add"
    )


def test_copies_with_different_labels_and_in_different_folds_are_named(clean):
    labels, folds = clean.train["label"], clean.folds
    other = int(np.flatnonzero((labels != labels[0]) & (folds == folds[0]))[0])
    apart = int(np.flatnonzero((labels == labels[0]) & (folds != folds[0]))[0])
    wrong = find(clean._replace(pairs=make_pairs((0, other, 0.9))), "disagreeing copies")
    assert wrong.text.startswith(
        "1 of 1 pairs of nearly the same training images have different labels, such as "
        f"{clean.train['id'][0]!r} and {clean.train['id'][other]!r}"
    )
    split = find(clean._replace(pairs=make_pairs((0, apart, 0.9))), "straddling copies")
    assert split.serious
    assert "1 of 1 pairs of nearly the same images are in different folds" in split.text


def test_groups_that_straddle_folds_are_warned_of(clean):
    groups = [f"g{row % 16}" for row in range(80)]
    train = clean.train.assign(group=groups)
    leak = find(clean._replace(train=train), "straddling groups")
    assert leak.serious
    assert leak.text.startswith(f"{round(leak.figure * 16)} groups (")
    assert (
        audit_leaks(clean._replace(train=train, folds=make_folds(train, FoldsConfig(4), 0))) == []
    )


@given(st.integers(0, 50), st.integers(2, 5))
def test_groups_that_were_dealt_as_such_never_straddle(seed, count):
    draw = np.random.default_rng(seed)
    train = pd.DataFrame(
        {
            "id": [f"{row:03d}" for row in range(60)],
            "label": draw.integers(0, 3, 60),
            "group": [f"g{one}" for one in [*range(5), *draw.integers(0, 20, 55)]],
        }
    )
    folds = make_folds(train, FoldsConfig(count), seed)
    audited = Audited(train, train[:0], folds, NONE, BARE, BARE)
    assert list(audit_room.find_straddling_groups(audited)) == []


def test_a_column_that_behaves_like_a_group_is_named_unless_it_is_used(clean):
    unit = np.empty(80, np.int64)
    for label in (0, 1):  # five images a unit, all of one label
        rows = np.flatnonzero(clean.train["label"] == label)
        unit[rows] = np.random.default_rng(0).permutation(len(rows)) // 5 + 100 * label
    columns = by_id(clean.train, unit=unit)
    tested = columns.iloc[:0]
    leak = find(clean._replace(columns=columns, test_columns=tested), "hidden groups")
    assert (leak.subject, leak.figure, leak.serious) == ("unit", 1.0, True)
    assert "set data.group_column to it" in leak.text
    used = clean.train.assign(group=columns["unit"].tolist())
    folds = make_folds(used, FoldsConfig(4), 0)
    audited = Audited(used, clean.test, folds, NONE, columns, tested)
    assert [leak.check for leak in audit_leaks(audited)] == ["shared groups"]


def test_groups_of_the_test_table_are_compared_with_those_of_the_train_table(clean):
    columns = by_id(clean.train, patient=np.arange(80) // 4)
    same = by_id(clean.test, patient=np.arange(20))
    other = by_id(clean.test, patient=np.arange(20) + 15)
    shared = find(clean._replace(columns=columns, test_columns=same), "shared groups")
    assert shared.figure == 1
    assert "a split by it is harder than the test part" in shared.text
    apart = find(clean._replace(columns=columns, test_columns=other), "shared groups")
    assert apart.figure == 0.25
    assert "a split by it is like that of the test part" in apart.text


def test_files_that_give_the_label_away_are_named(clean, tmp_path):
    paths = []
    for row, label in enumerate(clean.train["label"]):
        paths.append(str(tmp_path / f"{row}.bmp"))
        Image.new("RGB", (8 + 8 * int(label), 8)).save(paths[-1])
    numbers = clean.train["label"].to_numpy() * 1000 + np.arange(80)
    train = clean.train.assign(path=paths, id=[f"photo {one}" for one in numbers])
    leaks = audit_leaks(clean._replace(train=train))
    assert [(leak.subject, leak.figure, leak.serious) for leak in leaks] == [
        ("dimensions", 1.0, True),
        ("file size", 1.0, False),
        ("number in the id", 1.0, False),
    ]
    assert (
        "tells the label of 100.0% of 80 images (the most frequent label: 50.0%)" in leaks[0].text
    )


def test_images_with_several_labels_are_audited_by_their_sets(clean):
    several = [(0, 2) if one else () for one in clean.train["label"]]
    train = clean.train.assign(label=pd.Series(several))
    columns = by_id(train, diagnosis=clean.train["label"])
    assert find(clean._replace(train=train, columns=columns), "train-only columns").figure == 1


def test_a_check_that_fails_is_a_warning_and_the_others_go_on(clean):
    train = clean.train.assign(path="/nowhere.jpg")
    columns = by_id(train, diagnosis=train["label"])
    leaks = audit_leaks(clean._replace(train=train, columns=columns))
    assert [leak.check for leak in leaks] == ["telling files", "train-only columns"]
    assert leaks[0].serious
    assert leaks[0].text.startswith("telling files could not be looked for (FileNotFoundError: ")
    assert [leak.subject for leak in leaks] == ["audit", "diagnosis"]
