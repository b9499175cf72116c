from pathlib import Path

import pandas as pd
import pytest
from folders import make_csv_competition, write_csv, write_images

from podium.inputs import CompetitionError, ImageIndex
from podium.sample import check_images, check_test, find_test, read_sample


def test_the_sample_is_kept_as_it_is(tmp_path: Path):
    (tmp_path / "s.csv").write_text("\ufeffimage, labels\r\na.png, scab\r\n")
    sample = read_sample(tmp_path / "s.csv", ImageIndex(tmp_path))
    assert sample.columns.tolist() == ["image", " labels"]
    assert sample.to_dict("list") == {"image": ["a.png"], " labels": [" scab"]}


def test_test_images_are_found_in_the_order_of_the_sample(tmp_path: Path):
    write_images(tmp_path, ["test/1.png", "test/2.png", "train/3.png"])
    sample = pd.DataFrame({"id": ["2.0", "9", "1"], "y": ["0"] * 3})
    test = find_test(ImageIndex(tmp_path), sample)
    assert test["id"].tolist() == ["2.0", "9", "1"]
    assert test["path"].tolist() == ["test/2.png", None, "test/1.png"]


def refuse(folder: Path, sample: pd.DataFrame | None) -> str:
    with pytest.raises(CompetitionError) as caught:
        check_images(ImageIndex(folder), sample, set())
    return str(caught.value)


def test_without_images_it_is_said_what_there_is_instead(tmp_path: Path):
    sample = pd.DataFrame({"id": ["a"], "y": ["0"]})
    assert refuse(tmp_path, sample) == f"found no images in {tmp_path}; see data.folder"
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).touch()
    assert refuse(tmp_path, sample) == (
        f"{tmp_path} holds 2 DICOM files and no image that Podium reads; convert them to PNG or "
        "JPEG, or attach a data set in which that is done and name it with data.folder"
    )
    table = {"who": ["1", "1"], "eye": ["L", "L"], "key": ["1_L", "1_L"]}
    write_csv(tmp_path / "test.csv", table)
    assert refuse(tmp_path, pd.DataFrame({"key": ["1_L"], "y": ["0"]})) == (
        "the sample submission asks for one answer for each key, such as '1_L', which is no image "
        "but a who and eye of test.csv, which has 2 images of 1 such; to predict groups of images "
        "is out of Podium's scope (there are 2 .dcm files too)"
    )


def test_ids_of_groups_are_refused_where_there_are_images_as_well(tmp_path: Path):
    write_images(tmp_path, ["test/a.png", "test/b.png"])
    write_csv(tmp_path / "test.csv", {"image": ["a", "b"], "patient": ["p", "p"]})
    write_csv(tmp_path / "s.csv", {"patient": ["p"], "y": [0]})
    index = ImageIndex(tmp_path)
    sample = read_sample(tmp_path / "s.csv", index)
    with pytest.raises(CompetitionError, match="such as 'p', which is no image but a patient of"):
        check_test(pd.DataFrame(), find_test(index, sample), sample, tmp_path / "s.csv", index)


def test_ids_in_another_column_than_the_first_are_refused_with_its_name(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    asked = [f"{row}.png" for row in range(500, 504)]
    for kinds in (list("abcd"), ["cat"] * 4):
        write_csv(folder / "s.csv", {"kind": kinds, "image": asked})
        with pytest.raises(CompetitionError) as caught:
            read_sample(folder / "s.csv", ImageIndex(folder))
        assert str(caught.value) == (
            "the ids of s.csv stand in column 'image' and not in the first; put them first in a "
            "copy, and name it with data.sample_submission"
        )


def test_numbers_that_name_images_by_chance_do_not_pass_for_ids(tmp_path: Path):
    write_images(tmp_path, ["train/0.png", "train/1.png"])
    write_csv(tmp_path / "s.csv", {"id": ["a", "b", "c"], "label": [0, 1, 0]})
    assert len(read_sample(tmp_path / "s.csv", ImageIndex(tmp_path))) == 3
