import re
import threading
from pathlib import Path

import pytest
from folders import make_csv_competition, write_csv, write_images

from podium import inputs as inputs_room
from podium.config import DataConfig
from podium.events import Reporter
from podium.inputs import (
    CompetitionError,
    ImageIndex,
    find_competition_folder,
    find_sample,
    list_names,
    part_of,
    read_table,
    wait_for_inputs,
)


@pytest.mark.parametrize("layout", ["plants", "competitions/plants"])
def test_the_one_mounted_competition_is_found_in_both_layouts(tmp_path: Path, layout: str):
    make_csv_competition(tmp_path / layout)
    write_images(tmp_path / "weights", ["a.png"])
    assert find_competition_folder(DataConfig(), tmp_path) == tmp_path / layout


def test_no_or_several_mounted_competitions_are_an_error(tmp_path: Path):
    with pytest.raises(CompetitionError, match="found none; attach the competition, or set data"):
        find_competition_folder(DataConfig(), tmp_path)
    for name in ("a", "b"):
        make_csv_competition(tmp_path / name)
    with pytest.raises(CompetitionError, match=re.escape(f"found {tmp_path}/a, {tmp_path}/b; ")):
        find_competition_folder(DataConfig(), tmp_path)


def test_a_folder_that_is_none_is_refused():
    with pytest.raises(CompetitionError, match="data.folder is /no/where, which is not a folder"):
        find_competition_folder(DataConfig(folder="/no/where"))


@pytest.mark.parametrize(
    "name", ["sample_submission.csv", "sample-submission.csv", "SampleSubmission_v2.csv"]
)
def test_the_sample_submission_is_known_by_its_name(tmp_path: Path, name: str):
    write_csv(tmp_path / "deep" / name, {"id": [1], "label": [0]})
    assert find_sample(tmp_path, DataConfig()) == tmp_path / "deep" / name


def test_the_sample_at_the_top_wins_and_two_at_one_height_are_an_error(tmp_path: Path):
    write_csv(tmp_path / "old" / "sample_submission.csv", {"id": [1], "label": [0]})
    write_csv(tmp_path / "sample_submission.csv", {"id": [1], "label": [0]})
    assert find_sample(tmp_path, DataConfig()) == tmp_path / "sample_submission.csv"
    write_csv(tmp_path / "sample_submission_2.csv", {"id": [1], "label": [0]})
    with pytest.raises(CompetitionError, match="choose one with data.sample_submission"):
        find_sample(tmp_path, DataConfig())


def test_the_setting_names_the_sample_and_must_be_right(tmp_path: Path):
    write_csv(tmp_path / "answers.csv", {"id": [1], "label": [0]})
    named = DataConfig(sample_submission="answers.csv")
    assert find_sample(tmp_path, named) == tmp_path / "answers.csv"
    with pytest.raises(CompetitionError, match="data.sample_submission is other.csv, but there is"):
        find_sample(tmp_path, DataConfig(sample_submission="other.csv"))


def test_cells_stay_text(tmp_path: Path):
    (tmp_path / "a.csv").write_text("\ufeffid,label\n007,NA\n1.50,\n")
    table = read_table(tmp_path / "a.csv")
    assert table.to_dict("list") == {"id": ["007", "1.50"], "label": ["NA", ""]}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x00\x81", b'a,b\n"1,2\n'])
def test_what_is_no_table_is_an_error_that_names_the_file(tmp_path: Path, content: bytes):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(CompetitionError, match=r"a.csv cannot be read as a CSV table: "):
        read_table(tmp_path / "a.csv")


def test_an_image_has_every_tail_of_its_path_as_a_name():
    assert list_names("train/cat/1.jpg") == [
        "train/cat/1.jpg", "cat/1.jpg", "1.jpg", "train/cat/1", "cat/1", "1",
    ]  # fmt: skip


def test_an_image_is_found_by_path_name_or_stem(tmp_path: Path):
    write_images(tmp_path, ["train/cat/1.png", "train/cat/2.JPG"])
    (tmp_path / "train" / ".hidden.png").touch()
    (tmp_path / "notes.txt").touch()
    index = ImageIndex(tmp_path)
    assert index.paths == ["train/cat/1.png", "train/cat/2.JPG"]
    for name in ("1", "1.png", "cat/1.png", "train/cat/1"):
        assert index.find(name, "train") == "train/cat/1.png"
    assert index.find("3", "train") is None
    assert index.share(["1", "2", "3", "4"]) == 0.5


def test_of_two_images_with_one_name_the_part_decides(tmp_path: Path):
    write_images(tmp_path, ["train/1.png", "test_images/1.png"])
    index = ImageIndex(tmp_path)
    assert index.find("1", "train") == "train/1.png"
    assert index.find("1", "test") == "test_images/1.png"


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("test_upload/1.jpg", "test"),
        ("stage1_test/1.jpg", "test"),
        ("Testing/1.jpg", "test"),
        ("TestImages/1.jpg", "test"),
        ("TEST/1.jpg", "test"),
        ("train/test tube/1.jpg", "train"),
        ("train_images/1.jpg", "train"),
        ("Training/cat/1.jpg", "train"),
        ("train_test_images/1.jpg", None),
        ("latest/1.jpg", None),
        ("contest/testudo/1.jpg", None),
        ("images/test.jpg", None),
    ],
)
def test_the_first_folder_that_names_a_part_decides(path: str, part: str | None):
    assert part_of(path) == part


def test_a_training_image_is_not_taken_from_a_test_folder(tmp_path: Path):
    write_images(tmp_path, ["train/1.jpg", "test/2.jpg", "more/3.jpg"])
    index = ImageIndex(tmp_path)
    assert [index.find(one, "train") for one in "123"] == ["train/1.jpg", None, "more/3.jpg"]
    assert [index.find(one, "test") for one in "23"] == ["test/2.jpg", "more/3.jpg"]


def test_what_the_part_cannot_decide_is_an_error_with_both_readings(tmp_path: Path):
    write_images(tmp_path, ["jpeg/1.jpg", "png/1.png"])
    with pytest.raises(CompetitionError) as caught:
        ImageIndex(tmp_path).find("1", "train")
    assert str(caught.value) == (
        "train id '1' could be jpeg/1.jpg or png/1.png; "
        "set data.folder to a folder that holds one of them"
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_room, "MOUNT_PAUSE", 0.01)


@pytest.mark.parametrize("layout", ["digits", "competitions/digits"])
def test_an_input_that_is_empty_at_first_is_waited_for(
    tmp_path: Path, layout: str, impatient: None, capsys: pytest.CaptureFixture[str]
):
    mounted = tmp_path / "input"
    (mounted / layout).mkdir(parents=True)
    arrival = threading.Timer(0.1, (mounted / layout / "train.csv").write_text, ["x"])
    arrival.start()
    wait_for_inputs(DataConfig(), Reporter(tmp_path), mounted, seconds=30)
    arrival.join()
    assert "which is empty; Kaggle mounts inputs late at times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("full", "empty"),
    [
        ("competitions/one", "competitions/two"),
        ("datasets/a/one", "datasets/a/two"),
        ("datasets/a/one", "datasets/b"),
        ("notebooks/a/one", "notebooks/a/two"),
        ("models/a/m/tensorflow2/b0/1", "models/a/m/tensorflow2/b3/1"),
        ("digits", "competitions"),
    ],
)
def test_a_source_that_is_there_does_not_hide_one_that_is_empty(
    tmp_path: Path, impatient: None, full: str, empty: str
):
    mounted = tmp_path / "input"
    (mounted / full / "deep").mkdir(parents=True)
    (mounted / full / "deep" / "file").write_text("x")
    wait_for_inputs(DataConfig(), Reporter(tmp_path), mounted, seconds=0.05)
    (mounted / empty).mkdir(parents=True)
    with pytest.raises(CompetitionError, match=f"input/{empty}: still empty"):
        wait_for_inputs(DataConfig(), Reporter(tmp_path), mounted, seconds=0.05)


def test_a_relative_folder_among_the_inputs_is_waited_for_too(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
):
    mounted = tmp_path / "input"
    (mounted / "digits").mkdir(parents=True)
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    with pytest.raises(CompetitionError, match="input/digits: still empty"):
        wait_for_inputs(DataConfig(folder="../input/digits"), Reporter(tmp_path), mounted, 0.05)


def test_an_input_that_stays_empty_is_an_error_that_says_what_to_do(
    tmp_path: Path, impatient: None
):
    (tmp_path / "input" / "digits").mkdir(parents=True)
    with pytest.raises(CompetitionError, match=r"input/digits: still empty after .* push again"):
        wait_for_inputs(DataConfig(), Reporter(tmp_path), tmp_path / "input", seconds=0.05)


def test_the_folder_of_the_settings_is_waited_for_among_inputs_and_nowhere_else(
    tmp_path: Path, impatient: None
):
    mounted = tmp_path / "input"
    (mounted / "other").mkdir(parents=True)
    (mounted / "other" / "file").write_text("x")
    report = Reporter(tmp_path)
    wait_for_inputs(DataConfig(), report, mounted, 0.05)
    with pytest.raises(CompetitionError, match="input/late: still empty"):
        wait_for_inputs(DataConfig(folder=str(mounted / "late")), report, mounted, 0.05)
    wait_for_inputs(DataConfig(folder=str(tmp_path / "at-home")), report, mounted, 0.05)
    wait_for_inputs(DataConfig(), report, tmp_path / "no-such-mount", 0.05)


@pytest.mark.parametrize(
    ("image_id", "path"),
    [
        (" 12.png ", "train/12.png"),
        ("12.0", "train/12.png"),  # a tool has taken the ids for numbers
        ("12.jpg", "train/12.png"),  # the file has been converted
        ("12.dcm", "train/12.png"),
        ("7.0", "train/7.0.png"),  # a name that is one wins over what it might mean
        ("12.5", None),
        ("x.0", None),
    ],
)
def test_an_id_is_found_as_other_tools_may_have_written_it(
    tmp_path: Path, image_id: str, path: str | None
):
    write_images(tmp_path, ["train/12.png", "train/7.0.png", "train/7.png", "train/x.png"])
    index = ImageIndex(tmp_path)
    assert index.find(image_id, "train") == path
    assert index.share([image_id]) == (path is not None)


def test_copies_of_images_in_other_formats_are_counted(tmp_path: Path):
    write_images(tmp_path, ["jpeg/train/1.png"])
    for name in ("train/1.dcm", "train/2.dcm", "records/0.tfrec", "train.ZIP"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = ImageIndex(tmp_path)
    assert index.paths == ["jpeg/train/1.png"]
    assert index.twins == {".dcm": 2, ".tfrec": 1, ".zip": 1}
