from pathlib import Path

import pytest
from folders import make_csv_competition, write_csv, write_images

from podium.config import DataConfig
from podium.inputs import CompetitionError, ImageIndex, read_table
from podium.labels import Labels, read_labels


def read(folder: Path, config: DataConfig | None = None) -> Labels:
    sample = folder / "sample_submission.csv"
    table = read_table(sample) if sample.exists() else None
    return read_labels(ImageIndex(folder), config or DataConfig(), table, {sample.resolve()})


def pairs(labels: Labels) -> dict[str, str]:
    return dict(zip(labels.table["id"], labels.table["label"], strict=True))


def test_labels_stand_in_a_table_beside_the_images(tmp_path: Path):
    labels = read(make_csv_competition(tmp_path))
    assert pairs(labels)["003.png"] == "dog"
    assert labels.table["path"][3] == "train/003.png"
    assert labels.notes == ["labels: column 'kind' of train.csv, ids in 'image'"]


def test_ids_may_lack_the_suffix(tmp_path: Path):
    write_images(tmp_path, ["train/a.jpg", "train/b.jpg"])
    write_csv(tmp_path / "labels.csv", {"id": ["a", "b"], "breed": ["x", "y"]})
    assert read(tmp_path).table["path"].tolist() == ["train/a.jpg", "train/b.jpg"]


def test_a_table_about_test_images_is_not_the_train_table(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    asked = read_table(folder / "sample_submission.csv")["image"]
    write_csv(folder / "test.csv", {"image": asked, "age": range(len(asked))})
    assert "train.csv" in read(folder).notes[0]


def test_the_sample_says_which_column_is_the_label(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    table = read_table(folder / "train.csv")
    write_csv(
        folder / "train.csv",
        {"variety": ["v"] * len(table), "image": table["image"], "kind": table["kind"]},
    )
    assert pairs(read(folder))["001.png"] == "dog"


def test_labels_that_are_the_samples_columns_are_the_label(tmp_path: Path):
    write_images(tmp_path, ["train/a.png", "train/b.png"])
    write_csv(tmp_path / "train.csv", {"id": ["a", "b"], "x": [1, 2], "y": ["cat", "dog"]})
    write_csv(tmp_path / "sample_submission.csv", {"id": ["q"], "cat": [0.5], "dog": [0.5]})
    assert pairs(read(tmp_path)) == {"a": "cat", "b": "dog"}


def test_an_undecidable_label_column_is_an_error_and_the_setting_decides(tmp_path: Path):
    write_images(tmp_path, ["train/a.png", "train/b.png"])
    write_csv(tmp_path / "train.csv", {"id": ["a", "b"], "x": [1, 2], "y": ["cat", "dog"]})
    with pytest.raises(CompetitionError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        "any of the columns x, y could be the label; set data.label_column"
    )
    assert pairs(read(tmp_path, DataConfig(label_column="x"))) == {"a": "1", "b": "2"}
    with pytest.raises(
        CompetitionError,
        match="data.label_column is 'z', but the columns of train.csv are id, x, y",
    ):
        read(tmp_path, DataConfig(label_column="z"))


def test_a_group_column_comes_along_and_must_exist(tmp_path: Path):
    write_images(tmp_path, ["train/a.png", "train/b.png"])
    columns = {"id": ["a", "b"], "label": [1, 2], "patient": ["p", "q"]}
    write_csv(tmp_path / "train.csv", columns)
    config = DataConfig(group_column="patient")
    assert read(tmp_path, config).table["group"].tolist() == ["p", "q"]
    with pytest.raises(CompetitionError) as caught:
        read(tmp_path, DataConfig(group_column="site"))
    assert str(caught.value) == (
        "data.group_column is 'site', but the columns of train.csv are id, label, patient"
    )


def test_an_image_listed_twice_is_an_error(tmp_path: Path):
    write_images(tmp_path, ["train/a.png", "train/b.png"])
    write_csv(tmp_path / "train.csv", {"id": ["a", "a", "b"], "label": [1, 2, 2]})
    with pytest.raises(CompetitionError, match="train.csv lists image 'a' more than once in"):
        read(tmp_path)


def test_rows_without_a_label_are_left_out_and_named(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    table = read_table(folder / "train.csv")
    table.loc[[3, 8], "kind"] = ["", " "]
    table.to_csv(folder / "train.csv", index=False)
    labels = read(folder)
    assert len(labels.table) == 18
    assert set(labels.table["label"]) == {"cat", "dog"}
    assert labels.notes[-1] == (
        "2 rows of train.csv have no label and are left out: 003.png, 008.png"
    )


def test_a_label_column_that_is_mostly_empty_is_an_error(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    table = read_table(folder / "train.csv")
    table.loc[:14, "kind"] = ""
    table.to_csv(folder / "train.csv", index=False)
    with pytest.raises(CompetitionError) as caught:
        read(folder)
    assert str(caught.value) == (
        "15 of 20 cells of column 'kind' of train.csv are empty, e.g. that of '000.png'; "
        "see data.label_column"
    )


def test_two_train_tables_are_an_error(tmp_path: Path):
    write_images(tmp_path, ["train/a.png", "train/b.png"])
    for name in ("train_1.csv", "train_2.csv"):
        write_csv(tmp_path / name, {"id": ["a", "b"], "label": [1, 2]})
    with pytest.raises(CompetitionError, match=r"several tables .* \(train_1.csv, train_2.csv\)"):
        read(tmp_path)


def test_a_folder_for_each_class_gives_the_labels(tmp_path: Path):
    names = ["train/a cat/1.png", "train/a cat/2.png", "train/dog/1.png", "test/1.png"]
    write_images(tmp_path, names)
    labels = read(tmp_path)
    assert pairs(labels) == {
        "train/a cat/1.png": "a cat",
        "train/a cat/2.png": "a cat",
        "train/dog/1.png": "dog",
    }
    assert labels.notes == ["labels: from each image's folder"]


PLACES = [("train", "cat"), ("train", "dog"), ("train", "testudo"), ("valid", "dog")]


def test_classes_may_lie_in_several_places_of_which_one_has_them_all(tmp_path: Path):
    names = [f"data/{part}/{kind}/img_{part}_{kind}.jpg" for part, kind in PLACES]
    write_images(tmp_path, names)
    labels = read(tmp_path)
    assert labels.table["label"].tolist() == [kind for _, kind in sorted(PLACES)]


@pytest.mark.parametrize("odd", ["loose.jpg", "train/loose.jpg", "valid/bird/1.jpg"])
def test_folders_that_are_not_classes_side_by_side_are_no_labels(tmp_path: Path, odd: str):
    write_images(tmp_path, ["train/cat/img_1.jpg", "train/dog/photo_2.jpg", odd])
    with pytest.raises(CompetitionError, match="found no labels"):
        read(tmp_path)


def test_a_train_table_is_one_even_if_the_test_images_are_numbered_alike(tmp_path: Path):
    write_images(tmp_path, [f"{part}/{n}.png" for part in ("train", "test") for n in range(4)])
    ids = {"id": list(range(4))}
    write_csv(tmp_path / "train.csv", {**ids, "kind": ["a", "b", "a", "b"]})
    write_csv(tmp_path / "test.csv", {**ids, "width": [8] * 4})
    write_csv(tmp_path / "sample_submission.csv", {**ids, "kind": ["a"] * 4})
    table = read(tmp_path).table
    assert table["label"].tolist() == ["a", "b", "a", "b"]
    assert table["path"].tolist() == [f"train/{n}.png" for n in range(4)]


def test_of_two_tables_the_one_with_the_column_that_is_asked_for_has_the_labels(tmp_path: Path):
    make_csv_competition(tmp_path)
    ids = [f"{row:03d}.png" for row in range(20)]
    write_csv(tmp_path / "train_colours.csv", {"image": ids, "colour": ["red", "blue"] * 10})
    assert read(tmp_path).table["label"].tolist() == ["cat", "dog"] * 10


def test_a_setting_chooses_between_two_tables_of_training_images(tmp_path: Path):
    make_csv_competition(tmp_path)
    ids = [f"{row:03d}.png" for row in range(20)]
    write_csv(tmp_path / "train_colours.csv", {"image": ids, "colour": ["red", "blue"] * 10})
    write_csv(tmp_path / "sample_submission.csv", {"id": ["500.png"], "answer": ["cat"]})
    with pytest.raises(CompetitionError, match="name a column that only one of them has with"):
        read(tmp_path)
    labels = read(tmp_path, DataConfig(label_column="colour"))
    assert labels.table["label"].tolist() == ["red", "blue"] * 10


def test_a_table_that_cannot_be_read_is_left_aside_unless_it_is_called_train(tmp_path: Path):
    make_csv_competition(tmp_path)
    (tmp_path / "notes.csv").write_bytes("café\n".encode("latin-1"))
    labels = read(tmp_path)
    assert len(labels.table) == 20
    assert labels.notes[-1].startswith(f"left aside: {tmp_path / 'notes.csv'} cannot be read as a")
    (tmp_path / "train_more.csv").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(CompetitionError, match=r"train_more.csv cannot be read as a CSV table"):
        read(tmp_path)


def test_the_name_of_a_file_gives_the_label(tmp_path: Path):
    names = ["train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "train/red-car_3.jpg"]
    write_images(tmp_path, [*names, "test/1.jpg", "test/2.jpg"])
    labels = read(tmp_path)
    assert labels.table["label"].tolist() == ["cat", "cat", "dog", "red-car"]
    assert labels.notes == ["labels: from each image's file name"]


def test_test_images_among_the_training_images_are_told_by_the_sample(tmp_path: Path):
    write_images(tmp_path, ["images/cat_0.png", "images/dog_1.png", "images/cat_7.png"])
    write_csv(tmp_path / "sample_submission.csv", {"id": ["cat_7"], "label": ["dog"]})
    assert read(tmp_path).table["path"].tolist() == ["images/cat_0.png", "images/dog_1.png"]


def test_a_table_that_contradicts_the_folders_is_an_error(tmp_path: Path):
    write_images(tmp_path, ["train/cat/1.png", "train/cat/2.png", "train/dog/3.png"])
    write_csv(tmp_path / "train.csv", {"id": [1, 2, 3], "label": ["cat", "dog", "dog"]})
    with pytest.raises(CompetitionError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        "train.csv says that 2 is 'dog', but it lies in train/cat/2.png; "
        "1 images contradict their folder"
    )


def test_folders_that_are_no_classes_do_not_contradict(tmp_path: Path):
    write_images(tmp_path, ["train/week1/1.png", "train/week2/2.png"])
    write_csv(tmp_path / "train.csv", {"id": [1, 2], "label": ["cat", "dog"]})
    assert pairs(read(tmp_path)) == {"1": "cat", "2": "dog"}


def test_no_labels_anywhere_is_an_error_that_says_what_was_tried(tmp_path: Path):
    write_images(tmp_path, ["train/1.png", "train/2.png"])
    with pytest.raises(CompetitionError, match="found no labels in .*: no table .* of 2 images"):
        read(tmp_path)
    with pytest.raises(CompetitionError, match="data.group_column needs a train table"):
        read(tmp_path, DataConfig(group_column="patient"))
