"""Ten faults that competitions' files have: each is repaired, or refused in words that help."""

from pathlib import Path

import pandas as pd
import pytest
from folders import make_csv_competition, write_csv, write_images

from podium.competition import Competition, read_competition
from podium.config import DataConfig
from podium.inputs import CompetitionError
from podium.predictions import Predictions
from podium.submit import make_submission, write_submission

LABELS = [0, 1] * 10  # of the training images, in the order of their ids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_csv_competition(tmp_path / "data")


def read(folder: Path) -> Competition:
    return read_competition(DataConfig(folder=str(folder)), seed=0)


def refusal(folder: Path) -> str:
    with pytest.raises(CompetitionError) as caught:
        read(folder)
    return str(caught.value)


def check_sound(folder: Path, images: int = 20) -> Competition:
    """All images are there with their labels, and the submission is laid out as the sample."""
    competition = read(folder)
    assert competition.train["label"].tolist() == LABELS[:images]
    assert competition.test["path"].notna().all()
    table = competition.test.assign(probs=[[0.2, 0.8]] * 4)
    predictions = Predictions(table["id"].to_numpy(str), pd.DataFrame(table["probs"].tolist()))
    predictions = predictions._replace(probs=predictions.probs.to_numpy("float32"))
    write_submission(make_submission(competition, predictions), folder.parent / "answer.csv")
    first = (folder / "sample_submission.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    assert (folder.parent / "answer.csv").read_text().splitlines()[0] == first
    return competition


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new), newline="")


def test_swapped_columns_of_the_train_table_are_told_apart_by_their_cells(folder: Path):
    change(folder / "train.csv", "image,kind\n", "kind,image\n")
    competition = check_sound(folder)
    assert "labels: column 'image' of train.csv, ids in 'kind'" in competition.notes


def test_swapped_columns_of_the_sample_are_refused(folder: Path):
    table = pd.read_csv(folder / "sample_submission.csv")
    table[["kind", "image"]].to_csv(folder / "sample_submission.csv", index=False)
    assert refusal(folder) == (
        "the ids of sample_submission.csv stand in column 'image' and not in the first; put them "
        "first in a copy, and name it with data.sample_submission"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("train.csv", "train.csv lists image '003.png' more than once in column 'image'"),
        ("sample_submission.csv", "the ids of sample_submission.csv are not unique; see '503.png'"),
    ],
)
def test_an_id_that_is_listed_twice_is_refused(folder: Path, name: str, reason: str):
    last = {"train.csv": "003.png,cat\n"}.get(name, "503.png,cat\n")
    change(folder / name, "image,kind\n", f"image,kind\n{last}")
    assert refusal(folder) == reason


def test_a_missing_file_is_left_out_or_answered_by_the_prior_and_named(folder: Path):
    (folder / "train" / "019.png").unlink()
    (folder / "test" / "501.png").unlink()
    competition = read(folder)
    assert competition.train["label"].tolist() == LABELS[:19]
    assert competition.test["path"].isna().tolist() == [False, True, False, False]
    assert "1 training ids (019.png) have no file and are left out" in competition.notes
    assert "1 test ids (501.png) have no file and will be predicted by the prior" in (
        competition.notes
    )


def test_an_extra_file_is_not_used_and_named(folder: Path):
    write_images(folder, ["train/extra.png", "test/more.png"])
    competition = check_sound(folder)
    assert competition.notes[-1] == (
        "not used: 2 images that are neither labelled nor asked for, e.g. test/more.png"
    )


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder: Path):
    for name in ("train.csv", "sample_submission.csv"):
        change(folder / name, "image,kind", "\ufeffimage,kind")
    competition = check_sound(folder)
    assert competition.sample.columns.tolist() == ["image", "kind"]


def test_lines_that_end_as_on_windows_are_read(folder: Path):
    for name in ("train.csv", "sample_submission.csv"):
        change(folder / name, "\n", "\r\n")
    check_sound(folder)


@pytest.mark.parametrize("name", ["train.csv", "sample_submission.csv"])
def test_a_header_with_a_space_is_read_and_the_submission_has_it_too(folder: Path, name: str):
    change(folder / name, "image,kind", "image, kind")
    check_sound(folder)


@pytest.mark.parametrize("name", ["train.csv", "sample_submission.csv"])
def test_ids_as_floats_find_their_images(tmp_path: Path, name: str):
    folder = tmp_path / "data"
    train, test = list(range(20)), list(range(100, 104))
    write_images(folder / "train", [f"{row}.png" for row in train])
    write_images(folder / "test", [f"{row}.png" for row in test])
    write_csv(folder / "train.csv", {"id": train, "kind": ["cat", "dog"] * 10})
    write_csv(folder / "sample_submission.csv", {"id": test, "kind": ["cat"] * 4})
    table = pd.read_csv(folder / name, dtype={"id": float})
    table.to_csv(folder / name, index=False)
    competition = read(folder)
    labels = dict(
        zip(competition.train["id"].astype(float), competition.train["label"], strict=True)
    )
    assert labels == {float(row): row % 2 for row in train}
    assert competition.test["path"].notna().all()
    assert competition.sample["id"].equals(pd.read_csv(folder / name, dtype=str)["id"]) == (
        name == "sample_submission.csv"
    )


def test_files_with_another_extension_than_their_ids_are_found(folder: Path):
    for number, path in enumerate([*(folder / "train").iterdir(), *(folder / "test").iterdir()]):
        path.rename(path.with_suffix((".png", ".JPG", ".jpeg", ".webp")[number % 4]))
    check_sound(folder)


def test_an_empty_test_folder_is_refused(folder: Path):
    for path in (folder / "test").iterdir():
        path.unlink()
    assert refusal(folder) == (
        "none of the 4 ids of sample_submission.csv has an image, e.g. '500.png'; see data.folder"
    )
