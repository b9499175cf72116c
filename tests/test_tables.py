from pathlib import Path

import pandas as pd
import pytest
from folders import write_csv, write_images

from podium.config import DataConfig
from podium.inputs import CompetitionError, ImageIndex
from podium.tables import (
    LabelTable,
    describe_grouped_ids,
    find_group_column,
    find_id_column,
    find_label_columns,
    list_train_only,
    read_tables,
)

TRAIN = Path("train.csv")


def test_spaces_around_names_and_cells_are_dropped(tmp_path: Path):
    write_csv(tmp_path / "train.csv", {"image": ["a.png"], " labels": [" scab rust "]})
    [(_, table)], notes = read_tables(tmp_path, set())
    assert table.to_dict("list") == {"image": ["a.png"], "labels": ["scab rust"]}
    assert notes == []


def test_of_columns_that_name_images_by_chance_the_samples_is_taken(tmp_path: Path):
    write_images(tmp_path, [f"train/{row}.png" for row in range(6)])
    table = pd.DataFrame({"label": list("012345"), "age": list("001122"), "id": list("543210")})
    index, sample = ImageIndex(tmp_path), pd.DataFrame({" id": ["9"], "label": ["0"]})
    assert find_id_column(index, DataConfig(), sample, table) == "id"
    assert find_id_column(index, DataConfig(), None, table[["age", "id"]]) == "id"


def make_table(rows: int = 20, **columns: list[str]) -> LabelTable:
    ids = {"id": [f"{row}.png" for row in range(rows)]}
    return LabelTable(TRAIN, pd.DataFrame(ids | columns), "id")


def test_all_columns_that_are_asked_for_are_the_labels():
    found = make_table(2, a=["0", "1"], other=["1", "1"], b=["1", "1"])
    sample = pd.DataFrame({"id": ["x"], "b": ["0"], " a": ["0"]})
    assert find_label_columns(DataConfig(), found, sample) == ["b", "a"]
    assert find_label_columns(DataConfig(label_column="other"), found, sample) == ["other"]


def test_without_a_sample_several_columns_of_zeros_and_ones_are_the_labels():
    found = make_table(2, a=["0", "1"], size=["8", "9"], b=["1", "1"])
    assert find_label_columns(DataConfig(), found, None) == ["a", "b"]
    sample = pd.DataFrame({"id": ["x"], "c": ["0"]})
    with pytest.raises(CompetitionError, match="any of the columns a, size, b could be the label"):
        find_label_columns(DataConfig(), found, sample)


def test_a_column_of_lists_of_what_is_asked_for_is_the_label():
    found = make_table(2, x=["1", "2"], y=["a b", "b"])
    sample = pd.DataFrame({"id": ["x"], "b": ["0"], "a": ["0"]})
    assert find_label_columns(DataConfig(), found, sample) == ["y"]


PATIENTS = [f"p{row // 2}" for row in range(20)]


@pytest.mark.parametrize(
    "name",
    ["patient_id", "PatientID", "patient", "location", "seq_id", "site", "Subject", "site_id"],
)
def test_a_column_that_is_called_like_a_group_and_is_one_is_taken(name: str):
    column, notes = find_group_column(DataConfig(), make_table(**{name: PATIENTS}), [])
    assert column == name
    note = f"groups: column {name!r} of train.csv, for its name: 10 of them, each in one fold; "
    assert notes == [note + "data.group_column none lets it go"]
    off = DataConfig(group_column=None)
    assert find_group_column(off, make_table(**{name: PATIENTS}), []) == (None, [])


@pytest.mark.parametrize("name", ["anatom_site_general_challenge", "website", "age", "machine"])
def test_a_column_that_is_called_otherwise_is_no_group_unless_a_setting_says_so(name: str):
    found = make_table(**{name: PATIENTS})
    assert find_group_column(DataConfig(), found, []) == (None, [])
    named = find_group_column(DataConfig(group_column=name), found, [])
    assert named == (name, [f"groups: column {name!r} of train.csv"])


def test_a_column_that_is_called_so_but_does_not_group_is_none():
    for cells in (
        [str(row) for row in range(20)],  # each image by itself
        ["a", "b"] * 10,  # too few for folds
        ["", *PATIENTS[1:]],  # not known of all
    ):
        assert find_group_column(DataConfig(), make_table(site=cells), []) == (None, [])
    labelled = find_group_column(DataConfig(), make_table(site=PATIENTS), ["site"])
    assert labelled == (None, [])


def test_of_two_groups_the_wider_is_taken():
    places = [f"place{row // 4}" for row in range(20)]
    found = make_table(seq_id=PATIENTS, location=places)
    assert find_group_column(DataConfig(), found, [])[0] == "location"


def test_what_is_known_of_training_images_alone_is_named():
    found = make_table(2, target=["0", "1"], age=["7", "8"], diagnosis=["x", "y"])
    tests = [(Path("test.csv"), pd.DataFrame({"id": ["t"], "age": ["9"]}))]
    assert list_train_only(found, ["target"], tests) == [
        "known of training images alone: diagnosis; nothing but the image is learned from"
    ]
    assert list_train_only(found, ["target"], []) == []
    assert list_train_only(found, ["target", "diagnosis"], tests) == []


def test_ids_that_stand_for_groups_are_explained_by_the_table_that_has_them():
    table = pd.DataFrame(
        {
            "patient_id": ["1", "1", "1", "2"],
            "image_id": list("abcd"),
            "laterality": list("LLRL"),
            "prediction_id": ["1_L", "1_L", "1_R", "2_L"],
        }
    )
    sample = pd.DataFrame({"prediction_id": ["1_L", "1_R", "2_L"], "cancer": ["0"] * 3})
    named = "patient_id and laterality of test.csv, which has 4 images of 3 such"
    assert describe_grouped_ids(sample, [(Path("test.csv"), table)]) == named
    hidden = table.drop(columns="laterality")
    named = "prediction_id of test.csv, which has 4 images of 3 such"
    assert describe_grouped_ids(sample, [(Path("test.csv"), hidden)]) == named
    single = table.drop_duplicates("prediction_id").drop(columns="laterality")
    assert describe_grouped_ids(sample, [(Path("test.csv"), single)]) is None
