"""Inputs: where the competition's files are

Kaggle mounts a competition at /kaggle/input/<name> or /kaggle/input/competitions/<name>. In there
lie the sample submission and the images; an image is found by any form of its id. Copies of the
images in other formats (DICOM, TFRecord, zip) are counted and left alone.
"""

import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from podium.config import DataConfig
from podium.events import Reporter
from podium.runtime import KAGGLE_INPUT

# Kaggle's newer layout has a folder for each kind, in which sources lie so many folders down: a
# model's is owner, name, framework, variation, version.
SOURCE_DEPTHS = {"competitions": 1, "datasets": 2, "notebooks": 2, "models": 5}
MOUNT_LIMIT, MOUNT_PAUSE = 300.0, 10.0  # seconds
SAMPLE_NAME = re.compile(r"sample.?submission.*\.csv$", re.IGNORECASE)
# Folders that say which part their images belong to: train_images, Test, stage1_test, Testing.
TRAIN_FOLDER = re.compile(r"(?<![A-Za-z])[Tt]rain|TRAIN")
TEST_FOLDER = re.compile(r"(?<![A-Za-z])[Tt]est(s|ing)?(?![a-z])|(?<![A-Z])TEST(?![A-Z])")
IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
RECORD_SUFFIXES = frozenset((".tfrec", ".tfrecord", ".tfrecords"))
IDS_ASKED = 10_000  # whether they name an image
TWIN_SUFFIXES = frozenset((".dcm", ".zip")) | RECORD_SUFFIXES
NAMES_SHOWN = 5  # ids in a note


class CompetitionError(ValueError):
    """The competition's files cannot be understood; the message names the setting that helps."""


def wait_for_inputs(
    config: DataConfig, report: Reporter, mounted: Path = KAGGLE_INPUT, seconds: float = MOUNT_LIMIT
) -> None:
    """Waits until every attached input holds a file: Kaggle may mount them after the start.

    Raises CompetitionError after the limit. Does nothing where the data lies elsewhere.
    """
    named = Path(config.folder or mounted).resolve()
    if not mounted.is_dir() or not named.is_relative_to(mounted.resolve()):
        return
    begun = time.monotonic()
    while empty := list_empty_inputs(mounted, config):
        names = ", ".join(map(str, empty))
        if time.monotonic() - begun >= seconds:
            raise CompetitionError(
                f"{names}: still empty after {seconds / 60:g} minutes; Kaggle mounts a newly "
                f"attached source late at times: push again, or check that it is attached and "
                f"that the competition's rules are accepted"
            )
        report.say(f"  waiting for {names}, which is empty; Kaggle mounts inputs late at times")
        time.sleep(min(MOUNT_PAUSE, seconds))


def list_empty_inputs(mounted: Path, config: DataConfig) -> list[Path]:
    """The mounted inputs, and the folder of the settings, in which there is no file yet."""
    inputs = [one for path in sorted(mounted.iterdir()) for one in list_sources(path)] or [mounted]
    inputs += [Path(config.folder)] if config.folder else []
    return [one for one in inputs if not one.is_file() and not any(f for *_, f in os.walk(one))]


def list_sources(path: Path, depth: int | None = None) -> list[Path]:
    """The sources below a mount: itself, or so many folders down where it holds one kind alone."""
    depth = SOURCE_DEPTHS.get(path.name, 0) if depth is None else depth
    below = sorted(path.iterdir()) if depth and path.is_dir() else []
    return [one for path in below for one in list_sources(path, depth - 1)] or [path]


def find_competition_folder(config: DataConfig, mounted: Path = KAGGLE_INPUT) -> Path:
    """The folder named by the settings, else the one mounted folder with a sample submission."""
    if config.folder is not None:
        folder = Path(config.folder)
        if not folder.is_dir():
            raise CompetitionError(f"data.folder is {config.folder}, which is not a folder")
        return folder
    folders = [*mounted.glob("*"), *mounted.glob("competitions/*")]
    found = sorted(one for one in folders if one.is_dir() and list_samples(one, "*.csv"))
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise CompetitionError(
            f"looked under {mounted} for one competition with a sample submission and found "
            f"{names}; attach the competition, or set data.folder"
        )
    return found[0]


def list_samples(folder: Path, pattern: str) -> list[Path]:
    """The sample submissions among the files that match the pattern."""
    return sorted(path for path in folder.glob(pattern) if SAMPLE_NAME.search(path.name))


def find_sample(folder: Path, config: DataConfig) -> Path | None:
    """The sample submission named by the settings or found, at the top first; None if none is."""
    if config.sample_submission is not None:
        path = folder / config.sample_submission
        if not path.is_file():
            raise CompetitionError(
                f"data.sample_submission is {config.sample_submission}, "
                f"but there is no such file in {folder}"
            )
        return path
    found = list_samples(folder, "*.csv") or list_samples(folder, "**/*.csv")
    if len(found) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise CompetitionError(
            f"{folder} holds several sample submissions ({names}); "
            f"choose one with data.sample_submission"
        )
    return found[0] if found else None


def read_table(path: Path) -> pd.DataFrame:
    """Reads a CSV as text cells, so that an id such as 007 or a class called NA stays itself."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise CompetitionError(f"{path} cannot be read as a CSV table: {error}") from error


def name_some(ids: Sequence[str], what: str) -> str:
    """Says how many ids there are and names the first: `3 test ids (a, b, c) have`."""
    shown = ", ".join(ids[:NAMES_SHOWN]) + (", …" if len(ids) > NAMES_SHOWN else "")
    return f"{len(ids)} {what}s ({shown}) have"


def read_clean_table(path: Path) -> pd.DataFrame:
    """Reads a CSV as text cells, without spaces around names and cells."""
    table = read_table(path).rename(columns=str.strip)
    clean: pd.DataFrame = table.apply(lambda cells: cells.str.strip())
    return clean


class ImageIndex:
    """All images under a folder, found by path, name or stem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [path for path in folder.rglob("*") if not path.name.startswith(".")]
        self.paths = sorted(
            path.relative_to(folder).as_posix()
            for path in files
            if path.suffix.lower() in IMAGE_SUFFIXES
        )
        suffixes = (path.suffix.lower() for path in files)
        self.twins = Counter(suffix for suffix in suffixes if suffix in TWIN_SUFFIXES)
        self.by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            for name in list_names(path):
                self.by_name[name].append(path)

    def find(self, image_id: str, part: str) -> str | None:
        """The path of an image of the "train" or "test" part, or None if there is no such file.

        Of several, it is the one in a folder of its part; the training part has none in a test
        folder. Raises CompetitionError if that leaves more than one.
        """
        found = self.look_up(image_id)
        if part == "train":
            found = [path for path in found if part_of(path) != "test"]
        found = [path for path in found if part_of(path) == part] or found
        if len(found) > 1:
            raise CompetitionError(
                f"{part} id {image_id!r} could be {found[0]} or {found[1]}; "
                f"set data.folder to a folder that holds one of them"
            )
        return found[0] if found else None

    def look_up(self, image_id: str) -> list[str]:
        """The images that an id names, by the first of its readings that names any."""
        for reading in list_readings(image_id):
            if reading in self.by_name:
                return self.by_name[reading]
        return []

    def share(self, ids: "Sequence[str] | pd.Series[str]") -> float:
        """The share of ids that name an image; of very many, enough of them are asked."""
        known = [bool(self.look_up(one)) for one in ids[:: max(1, len(ids) // IDS_ASKED)]]
        return sum(known) / len(known) if known else 0.0


def list_names(path: str) -> list[str]:
    """What an image may be called: every tail of its path, with its suffix and without."""
    parts = PurePosixPath(path).parts
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    return tails + [tail.rpartition(".")[0] for tail in tails]


def list_readings(image_id: str) -> Iterator[str]:
    """What an id may mean: itself; without spaces; without a suffix that the file has not, or the
    .0 of a tool that took it for a number.
    """
    yield image_id
    yield image_id.strip()
    stem, _, suffix = image_id.strip().rpartition(".")
    if f".{suffix.lower()}" in IMAGE_SUFFIXES | TWIN_SUFFIXES or (
        stem.isdecimal() and suffix == "0"
    ):
        yield stem


def part_of(path: str) -> str | None:
    """The part, "train" or "test", that an image's folders say it is of, or None if none says so.

    The first folder that names one decides: a class called "test tube" below train is a class.
    """
    for folder in PurePosixPath(path).parts[:-1]:
        train, test = bool(TRAIN_FOLDER.search(folder)), bool(TEST_FOLDER.search(folder))
        if train != test:
            return "train" if train else "test"
    return None
