from pathlib import Path

import pandas as pd
import pytest
from folders import make_csv_competition, write_csv, write_images

from podium.competition import Competition, read_competition
from podium.config import DataConfig
from podium.inputs import CompetitionError, name_some
from podium.task import Task

METRIC_NOTE = (
    "metric: accuracy, the usual one; the files cannot tell the metric: confirm it, or set "
    "another, with data.metric accuracy"
)


def read(folder: Path, **settings: object) -> Competition:
    return read_competition(DataConfig(folder=str(folder), **settings), seed=0)


def message(folder: Path, **settings: object) -> str:
    with pytest.raises(CompetitionError) as caught:
        read(folder, **settings)
    return str(caught.value)


def test_a_competition_becomes_two_tables_and_a_list_of_classes(tmp_path: Path):
    competition = read(make_csv_competition(tmp_path))
    assert competition.classes == ("cat", "dog")
    assert competition.task == Task("label", ("cat", "dog"), exclusive=True, metric="accuracy")
    assert competition.train["label"].tolist() == [0, 1] * 10
    assert competition.train["path"][0] == str(tmp_path / "train" / "000.png")
    assert competition.test["id"].tolist() == ["500.png", "501.png", "502.png", "503.png"]
    assert "label" not in competition.test
    assert competition.notes == (
        f"folder: {tmp_path}",
        "labels: column 'kind' of train.csv, ids in 'image'",
        "asked for: a label for each of 4 ids, as in sample_submission.csv",
        METRIC_NOTE,
        "20 training images, 2 classes of 10 to 10: cat, dog",
    )


def test_the_samples_columns_are_the_classes_in_their_order(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    columns = {"image": ["500.png"], "dog": [0.3], "owl": [0.3], "cat": [0.4]}
    write_csv(folder / "sample_submission.csv", columns)
    competition = read(folder)
    assert competition.classes == ("dog", "owl", "cat")
    assert (competition.task.answer, competition.task.exclusive) == ("probabilities", True)
    assert competition.task.metric == "log_loss"
    assert competition.train["label"].tolist() == [2, 0] * 10
    assert "class 'owl' has no training image: it will hardly be predicted" in competition.notes


def test_labels_that_are_whole_numbers_are_sorted_as_numbers(tmp_path: Path):
    names = [f"{row}.png" for row in range(6)]
    write_images(tmp_path / "train", names)
    write_images(tmp_path / "test", ["90.png"])
    write_csv(tmp_path / "train.csv", {"id": names, "label": [10, 9, 10, 9, 100, 100]})
    write_csv(tmp_path / "sample_submission.csv", {"id": ["90.png"], "label": [0]})
    assert read(tmp_path).classes == ("9", "10", "100")


def test_a_missing_sample_submission_is_an_error_with_both_ways_out(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    (folder / "sample_submission.csv").unlink()
    assert message(folder) == (
        f"found no sample submission in {folder}, where its name would be like "
        "sample_submission.csv; name it with data.sample_submission, or hold labelled images "
        "back as a test part for a rehearsal with data.holdout 0.2"
    )


def test_in_a_rehearsal_labelled_images_are_held_back_instead(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    (folder / "sample_submission.csv").unlink()
    competition = read(folder, holdout=0.2)
    assert (len(competition.train), len(competition.test)) == (16, 4)
    assert competition.test["label"].tolist().count(0) == 2
    assert not set(competition.train["id"]) & set(competition.test["id"])
    assert competition.sample["id"].tolist() == competition.test["id"].tolist()
    assert "no sample submission: 4 labelled images are held back as the test part" in (
        competition.notes
    )


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_images_of_one_group_are_held_back_together(tmp_path: Path, share: float):
    folder = make_csv_competition(tmp_path)
    (folder / "sample_submission.csv").unlink()
    patients = [f"p{row // 3}" for row in range(20)]
    table = pd.read_csv(folder / "train.csv").assign(patient=patients)
    table.to_csv(folder / "train.csv", index=False)
    competition = read(folder, holdout=share, group_column="patient", label_column="kind")
    patient = dict(zip(table["image"], patients, strict=True))
    held, kept = (
        {patient[one] for one in part["id"]} for part in (competition.test, competition.train)
    )
    assert held
    assert not held & kept
    assert len(competition.test) <= max(3, share * 20)


def test_the_truth_about_the_test_part_can_be_given(tmp_path: Path):
    folder = make_csv_competition(tmp_path / "data")
    solution = tmp_path / "solution.csv"
    ids = [f"{row}.png" for row in (503, 502, 501, 500, 499)]
    write_csv(solution, {"image": ids, "kind": ["dog", "cat", "cat", "cat", "cat"]})
    assert read(folder, solution=str(solution)).test["label"].tolist() == [0, 0, 0, 1]


def test_a_solution_must_be_there_complete_and_of_known_classes(tmp_path: Path):
    folder, solution = make_csv_competition(tmp_path / "data"), tmp_path / "solution.csv"
    settings = {"solution": str(solution)}
    assert message(folder, **settings) == f"data.solution is {solution}, which is not a file"
    write_csv(solution, {"image": ["500.png", "501.png"], "kind": ["dog", "cat"]})
    assert message(folder, **settings) == (
        f"data.solution: 2 test ids (502.png, 503.png) have no label in {solution}"
    )
    ids = ["500.png", "501.png", "502.png", "503.png"]
    write_csv(solution, {"image": ids, "kind": ["dog", "cat", "cow", "cat"]})
    assert message(folder, **settings) == "data.solution holds 'cow', which is no training label"


def test_training_ids_without_a_file_are_left_out_and_named(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    for name in ("004.png", "011.png"):
        (folder / "train" / name).unlink()
    competition = read(folder)
    assert len(competition.train) == 18
    note = "2 training ids (004.png, 011.png) have no file and are left out"
    assert note in competition.notes


def test_more_missing_files_than_images_are_an_error(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    table = {"image": [f"{row:03d}.png" for row in range(90)], "kind": ["cat", "dog"] * 45}
    write_csv(folder / "train.csv", table)
    assert message(folder, id_column="image") == (
        f"70 of 90 training ids have no image in {folder}, e.g. '020.png'; "
        "see data.folder and data.id_column"
    )


def test_test_ids_without_a_file_have_no_path_and_are_named(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    (folder / "test" / "502.png").unlink()
    competition = read(folder)
    assert competition.test["path"].isna().tolist() == [False, False, True, False]
    assert "1 test ids (502.png) have no file and will be predicted by the prior" in (
        competition.notes
    )


def test_a_sample_without_a_single_image_is_an_error(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    write_csv(folder / "sample_submission.csv", {"image": ["x.png"], "kind": ["cat"]})
    assert message(folder) == (
        "none of the 1 ids of sample_submission.csv has an image, e.g. 'x.png'; see data.folder"
    )


def test_an_image_in_both_parts_is_an_error(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    ids = ["003.png", "500.png", "501.png"]
    write_csv(folder / "sample_submission.csv", {"image": ids, "kind": ["cat"] * 3})
    assert message(folder) == (
        "1 images are both training and test, e.g. train/003.png; "
        "see data.id_column and data.sample_submission"
    )


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"id": ["500.png"]}, "sample.csv must have ids, at least one more column, and rows"),
        ({"id": [], "kind": []}, "sample.csv must have ids, at least one more column, and rows"),
        ({"id": ["500.png"] * 2, "kind": ["cat"] * 2}, "are not unique; see '500.png'"),
        ({"id": ["500.png", ""], "kind": ["cat"] * 2}, "are not unique; see ''"),
    ],
)
def test_a_sample_that_is_none_is_an_error(tmp_path: Path, columns, reason: str):
    folder = make_csv_competition(tmp_path)
    write_csv(folder / "sample.csv", columns)
    assert reason in message(folder, sample_submission="sample.csv")


def test_one_class_only_is_an_error(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    names = [f"{row:03d}.png" for row in range(20)]
    write_csv(folder / "train.csv", {"image": names, "kind": ["cat"] * 20})
    assert message(folder) == ("all 20 training images have the label 'cat'; see data.label_column")


def test_a_label_that_the_sample_does_not_know_is_an_error(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    columns = {"image": ["500.png"], "dog": [0.5], "owl": [0.5]}
    write_csv(folder / "sample_submission.csv", columns)
    assert message(folder, label_column="kind") == (
        "label 'cat' is not among the sample submission's columns dog, owl…; see data.label_column"
    )


def test_a_class_with_one_image_is_pointed_out(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    names = [f"{row:03d}.png" for row in range(20)]
    write_csv(folder / "train.csv", {"image": names, "kind": ["cat"] * 19 + ["owl"]})
    note = "class 'owl' has 1 image: in one fold it is validated without having been trained on"
    assert note in read(folder).notes


def test_limits_are_noted(tmp_path: Path):
    competition = read(make_csv_competition(tmp_path), limit=10, test_limit=3)
    assert competition.train["label"].tolist().count(0) == 5
    assert competition.test["path"].notna().sum() == 3
    assert competition.notes[-2:] == (
        "data.limit: 10 of 20 training images are used",
        "data.test_limit: 3 test images are predicted, the rest by the prior",
    )


def test_many_ids_are_named_by_their_first():
    assert name_some(list("abcdefg"), "test id") == "7 test ids (a, b, c, d, e, …) have"
