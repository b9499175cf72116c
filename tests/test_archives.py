import io
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf
from folders import make_csv_competition, write_csv
from PIL import Image

from podium import archives as archives_room
from podium.archives import open_images
from podium.competition import read_competition
from podium.config import DataConfig
from podium.inputs import CompetitionError


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    monkeypatch.setattr(archives_room.tempfile, "tempdir", str(place))
    return place


def pack(folder: Path) -> None:
    """Puts the images of each part into a zip, as Kaggle once did."""
    for part in ("train", "test"):
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for path in sorted((folder / part).iterdir()):
                archive.write(path, path.name)
                path.unlink()
        (folder / part).rmdir()


def encode_image(value: int, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, form)
    return buffer.getvalue()


def write_records(path: Path, rows: list[dict[str, bytes | int | float]]) -> None:
    kinds = {bytes: ("bytes_list", tf.train.BytesList), int: ("int64_list", tf.train.Int64List)}
    kinds[float] = ("float_list", tf.train.FloatList)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            features = {}
            for name, value in row.items():
                field, kind = kinds[type(value)]
                features[name] = tf.train.Feature(**{field: kind(value=[value])})
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def test_where_there_are_images_archives_are_left_alone(tmp_path: Path):
    folder = make_csv_competition(tmp_path)
    (folder / "more.zip").write_bytes(b"no zip")
    index, notes = open_images(folder)
    assert (index.folder, notes, index.twins[".zip"]) == (folder, [], 1)


def test_images_in_zips_are_unpacked_once_beside_the_tables(tmp_path: Path, temporary: Path):
    folder = make_csv_competition(tmp_path)
    before = read_competition(DataConfig(folder=str(folder)), 0)
    pack(folder)
    (folder / "train.csv.zip").write_bytes(b"not looked at, as train.csv lies beside it")
    after = read_competition(DataConfig(folder=str(folder)), 0)
    assert after.train[["id", "label"]].equals(before.train[["id", "label"]])
    assert after.test["id"].equals(before.test["id"])
    (place,) = temporary.iterdir()
    assert f"24 images unpacked from 3 .zip files to {place}" in after.notes
    assert not (folder / "train").exists()
    marked = place / "marked"
    marked.touch()
    open_images(folder)
    assert marked.exists()


def test_a_zip_that_is_none_or_a_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, temporary: Path
):
    (tmp_path / "train.zip").write_bytes(b"no zip")
    with pytest.raises(CompetitionError) as caught:
        open_images(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no image files, and its archives cannot be unpacked to {temporary} (File "
        "is not a zip file); unpack them to a folder and name it with data.folder"
    )
    assert list(temporary.iterdir()) == []


def test_images_in_tfrecords_are_unpacked_to_files_and_their_fields_to_a_table(tmp_path: Path):
    # As of "Petals to the Metal": two sizes of each image, training images in two folders.
    for size in (192, 224):
        for part, first in (("train", 0), ("val", 6), ("test", 10)):
            rows = [
                {"image": encode_image(size), "id": f"i{row}".encode(), "class": row % 2}
                for row in range(first, first + 6)
            ]
            if part == "test":
                rows = [{key: row[key] for key in ("image", "id")} for row in rows]
            write_records(tmp_path / f"records-{size}" / part / "00-6.tfrec", rows)
    asked = [f"i{row}" for row in range(10, 16)]
    write_csv(tmp_path / "sample_submission.csv", {"id": asked, "label": [0] * 6})
    # The label's column is not called as in the sample, nor is it 0 or 1 that it asks for alone.
    competition = read_competition(DataConfig(folder=str(tmp_path), metric="accuracy"), 0)
    assert len(competition.train) == 12
    labels = dict(zip(competition.train["id"], competition.train["label"], strict=True))
    assert all(label == int(image_id[1:]) % 2 for image_id, label in labels.items())
    assert competition.test["path"].notna().all()
    with Image.open(competition.train["path"][0]) as image:
        assert abs(image.getpixel((0, 0))[0] - 224) < 5  # of two sizes, the last


def test_fields_of_tfrecords_are_no_table_where_there_is_a_train_table(tmp_path: Path):
    rows = [
        {"image": encode_image(row, "PNG"), "image_name": f"{row}.png".encode(), "target": row % 2}
        for row in range(4)
    ]
    write_records(tmp_path / "train_tfrecords" / "ld_train00-4.tfrec", rows)
    write_records(tmp_path / "test_tfrecords" / "ld_test00-1.tfrec", rows[:1])
    write_csv(tmp_path / "train.csv", {"image_id": ["1.png"], "label": [1]})
    index, _ = open_images(tmp_path)
    assert index.paths == ["test/0.png", *(f"train/{row}.png" for row in range(4))]
    assert not (index.folder / "train" / "train.csv").exists()
    assert (index.folder / "train.csv").read_text() == "image_id,label\n1.png,1\n"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": b"GIF89a", "id": b"a"}, "a TFRecord holds id, image, and not one encoded image"),
        (
            {"image": encode_image(0), "id": 7},
            "a TFRecord holds id, image, and not one encoded image",
        ),
    ],
)
def test_records_that_are_not_understood_are_refused(tmp_path: Path, temporary, row, reason: str):
    write_records(tmp_path / "train.tfrec", [row])
    with pytest.raises(CompetitionError, match=reason):
        open_images(tmp_path)
    assert list(temporary.iterdir()) == []


def test_a_file_that_is_no_tfrecord_is_an_error(tmp_path: Path, temporary: Path):
    (tmp_path / "train.tfrec").write_bytes(b"this is no TFRecord, but a line of text")
    with pytest.raises(CompetitionError, match="its archives cannot be unpacked to"):
        open_images(tmp_path)
    assert list(temporary.iterdir()) == []
