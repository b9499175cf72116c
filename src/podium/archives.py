"""Archives: images that lie in zips or TFRecords alone

Where there are no image files, they are unpacked into a temporary folder, once as long as the
archives stay the same, with the competition's tables beside them: from there on nothing differs.
"""

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from podium.inputs import RECORD_SUFFIXES, TEST_FOLDER, CompetitionError, ImageIndex
from podium.tables import is_called_train

# How encoded images begin, and the suffix that says so.
IMAGE_STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp"}
Row = dict[str, Any]  # one record, without its lists


def open_images(folder: Path) -> tuple[ImageIndex, list[str]]:
    """The images of a folder; if it has none, those of its zips, else of its TFRecords.

    Notes say what was unpacked. Raises CompetitionError if an archive is broken or the disk full.
    """
    index = ImageIndex(folder)
    if index.paths:
        return index, []
    files = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    records = [path for path in files if path.suffix.lower() in RECORD_SUFFIXES]
    for archives in (zips, records):
        if archives:
            unpacked = ImageIndex(unpack_once(folder, archives))
            if unpacked.paths:
                kinds = archives[0].suffix
                note = f"{len(unpacked.paths)} images unpacked from {len(archives)} {kinds} files"
                return unpacked, [f"{note} to {unpacked.folder}"]
    return index, []


def unpack_once(folder: Path, archives: Sequence[Path]) -> Path:
    """A temporary folder with the archives' images and the folder's tables, whole or not there."""
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in archives]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"podium-{digest}"
    if place.is_dir():
        return place
    half = Path(tempfile.mkdtemp(prefix=f"{place.name}-"))
    unpack = unpack_zips if archives[0].suffix.lower() == ".zip" else unpack_records
    try:
        link_tables(folder, half)
        unpack(archives, half)
        half.rename(place)
    except (OSError, zipfile.BadZipFile, tf.errors.OpError) as error:
        raise CompetitionError(
            f"{folder} has no image files, and its archives cannot be unpacked to {half.parent} "
            f"({error}); unpack them to a folder and name it with data.folder"
        ) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return place


def link_tables(folder: Path, place: Path) -> None:
    """Links tables and annotations into another folder, each at the same place below it."""
    for path in folder.rglob("*"):
        if path.suffix.lower() in (".csv", ".json"):
            link = place / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def unpack_zips(archives: Sequence[Path], place: Path) -> None:
    """Unpacks each zip into a folder of its own name, which may tell the part: train.zip.

    One whose content lies beside it is left out, as train.csv.zip beside train.csv.
    """
    for path in archives:
        if not path.with_suffix("").is_file():
            with zipfile.ZipFile(path) as archive:
                archive.extractall(place / path.name.partition(".")[0])


def unpack_records(archives: Sequence[Path], place: Path) -> None:
    """Writes the records' images as files into train and test, and their other fields as tables.

    A table is left out where the folder has one of its own that is called train.
    """
    has_table = any(is_called_train(path) for path in place.rglob("*.csv"))
    for part in ("train", "test"):
        (place / part).mkdir(exist_ok=True)
        chosen = [path for path in archives if part_of_record(path) == part]
        records = (row for path in chosen for row in read_records(path))
        rows = dict(write_record(row, place / part) for row in records)  # of two sizes, the last
        if part == "train" and rows and not has_table:
            pd.DataFrame(rows.values()).to_csv(place / "train.csv", index=False)


def part_of_record(path: Path) -> str:
    """The part of a TFRecord file: test if its name or folder says so, as test03-687.tfrec."""
    return "test" if TEST_FOLDER.search(f"{path.parent.name}/{path.stem}") else "train"


def read_records(path: Path) -> Iterator[Row]:
    """The fields of each tf.train.Example of a file that hold one value."""
    for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
        fields = sorted(tf.train.Example.FromString(record).features.feature.items())
        kinds = [(name, field, field.WhichOneof("kind")) for name, field in fields]
        lists = {name: getattr(field, kind).value for name, field, kind in kinds if kind}
        yield {name: values[0] for name, values in lists.items() if len(values) == 1}


def write_record(row: Row, place: Path) -> tuple[str, dict[str, object]]:
    """Writes a record's image under its id; returns the id and the other fields.

    Raises CompetitionError if it has no encoded image, or no text to call it by.
    """
    images = [name for name, value in row.items() if find_suffix(value)]
    others: dict[str, object] = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in row.items()
        if name not in images
    }
    texts = [name for name, value in others.items() if isinstance(value, str)]
    texts.sort(key=lambda name: ("image" not in name.lower(), "id" not in name.lower()))
    if len(images) != 1 or not texts:
        raise CompetitionError(
            f"a TFRecord holds {', '.join(row)}, and not one encoded image and its id; unpack the "
            f"images to files and name their folder with data.folder"
        )
    content, image_id = row[images[0]], Path(str(others[texts[0]])).name
    suffix = find_suffix(content)
    (place / f"{image_id.removesuffix(suffix)}{suffix}").write_bytes(content)
    return image_id, others


def find_suffix(content: Any) -> str:
    """The suffix of an encoded image's format; nothing if it is something else."""
    if not isinstance(content, bytes):
        return ""
    return next((suffix for start, suffix in IMAGE_STARTS.items() if content.startswith(start)), "")
