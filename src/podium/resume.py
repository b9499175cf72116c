"""Resume: a run that was cut off goes on where it was

A folder holds an unfinished run if there is run.json, something that was learned (a finished
fold or a checkpoint), and either fewer finished folds than were asked for or no "finished" in
status.json. run.json says what a later session must find equal, so that no fold is trained or
judged otherwise than those before it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from podium.attempt import describe_error
from podium.competition import Competition
from podium.config import Config
from podium.events import write_json
from podium.folds import find_folds, read_folds
from podium.infer import RUN_DEPTH
from podium.knobs import list_settings
from podium.results import read_fold_answers
from podium.runtime import KAGGLE_INPUT, Runtime
from podium.settings import SOURCE
from podium.storage import open_whole, sync_folder

RUN_FILE = "run.json"

# Settings that may change between two sessions of a run: where things lie and on what machine they
# are computed, how long a session lasts, what is only shown, and what trained folds are asked.
# Backend and precision are compared as they were settled.
FREE_SETTINGS = frozenset({
    *("runtime.accelerator", "runtime.devices", "runtime.folder", "runtime.session_hours"),
    *("runtime.reserve_minutes", "runtime.resume", "runtime.failure_exit"),
    *("data.folder", "data.sample_submission", "data.solution"),
    *("pixels.cache", "pixels.cache_share", "augment.workers"),
    *("schedule.range_test", "train.checkpoint_minutes", "predict.run"),
    *("predict.views", "predict.most_views"),
})  # fmt: skip


class ResumeError(RuntimeError):
    """A run cannot go on as it was."""


def describe_run(config: Config, runtime: Runtime, competition: Competition) -> dict[str, Any]:
    """What run.json says of a run, fit for JSON: settings, files and machine.

    Files count by what is in them, not by where they lie.
    """
    settings = {k: v for k, v in list_settings(config).items() if k not in FREE_SETTINGS}
    settings |= {"runtime.backend": runtime.backend, "runtime.precision": runtime.precision}
    if config.folds.file is not None:
        table = read_folds(config.folds.file).to_csv().encode()
        settings["folds.file"] = f"a file of digest {digest_parts([table])}"
    if config.pseudo.run is not None:
        answers = (Path(config.pseudo.run) / name for name in ("folds.csv", "oof.npz"))
        content = digest_parts(path.read_bytes() for path in answers if path.is_file())
        settings["pseudo.run"] = f"a run of digest {content}"
    task = json.dumps(competition.task._asdict())
    return {
        "settings": settings,
        "files": {
            "the training images' ids, labels and groups": digest_table(competition.train),
            "the test images' ids": digest_table(competition.test[["id"]]),
            "the classes and what is asked": digest_parts([task.encode()]),
        },
        "devices": len(runtime.devices),
        "source": SOURCE,
    }


def digest_table(table: pd.DataFrame) -> str:
    """A digest of what a table says of each image, but for where its file lies."""
    rows = table[[name for name in ("id", "label", "group") if name in table]]
    return digest_parts(f"{row}\n".encode() for row in rows.astype(str).itertuples(index=False))


def digest_parts(parts: Iterable[bytes]) -> str:
    """16 hex digits."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def write_run(description: dict[str, Any], folder: Path) -> None:
    """Writes run.json: from here on the folder's folds and checkpoints are this run's."""
    write_json(folder / RUN_FILE, description)


def read_run(folder: Path) -> dict[str, Any]:
    """Reads run.json; raises ResumeError if it is not what a run writes."""
    try:
        told = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        return {name: told[name] for name in ("settings", "files", "devices", "source")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(
            f"{folder / RUN_FILE} does not tell how that run was begun ({describe_error(error)}); "
            f"set runtime.resume to no to start anew, which loses what is in a run folder"
        ) from error


def check_same_run(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Says in words what differs between two sessions of a run and may: machine and script.

    Raises ResumeError naming all that differs and may not. A setting that one of two versions of
    the script does not know is not compared.
    """
    changed = name_changes(was["settings"], now["settings"])
    if changed:
        raise ResumeError(
            f"the unfinished run was begun with other settings: {'; '.join(changed)}; set "
            f"{'them' if len(changed) > 1 else 'it'} back, or runtime.resume to no to start anew"
        )
    files = [name for name, digest in now["files"].items() if was["files"].get(name) != digest]
    if files:
        raise ResumeError(
            f"the unfinished run is of other files: {' and '.join(files)} differ; attach the files "
            f"that it was begun with (data.folder), or set runtime.resume to no to start anew"
        )
    notes = []
    if was["devices"] != now["devices"]:
        notes.append(
            f"the run was begun on {was['devices']} devices and goes on on {now['devices']}: sums "
            f"are taken in another order, so the last digits differ from a run in one piece"
        )
    if was["source"] != now["source"]:
        notes.append(
            f"the run was begun by another version of the script ({was['source'][:12]}, now "
            f"{now['source'][:12]}): its folds are of one recipe only if none of that changed"
        )
    return notes


def name_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, with both values, in words."""
    words = {"None": "none", "True": "yes", "False": "no"}
    changed = [name for name in now if name in was and was[name] != now[name]]
    values = [[words.get(str(one[name]), one[name]) for one in (was, now)] for name in changed]
    return [f"{name} was {a} and is {b}" for name, (a, b) in zip(changed, values, strict=True)]


def find_unfinished(config: Config, folder: Path, inputs: Path = KAGGLE_INPUT) -> Path | None:
    """The folder of the run to go on with, as runtime.resume says; None starts anew.

    auto prefers the run folder to what is attached; a run that is there for its folds (folds.file)
    is none to go on with, and who predicts with one (predict.run) trains none. Raises ResumeError
    if the folder named holds no unfinished run, or if several are attached.
    """
    resume = config.runtime.resume
    if config.predict.run is not None or resume == "no":
        return None
    if resume != "auto":
        if not is_unfinished(Path(resume)):
            raise ResumeError(
                f"runtime.resume is {resume}, which holds no unfinished run ({RUN_FILE} beside a "
                f"finished fold or a checkpoint, and folds still to train); name its folder, or "
                f"set runtime.resume to auto"
            )
        return Path(resume)
    used = config.folds.file and find_folds(config.folds.file).resolve().parent
    if is_unfinished(folder) and folder.resolve() != used:
        return folder
    found = sorted(path for path in list_attached(inputs) if path.resolve() != used)
    if len(found) > 1:
        raise ResumeError(
            f"runtime.resume is auto, and several unfinished runs are attached: "
            f"{', '.join(map(str, found))}; set runtime.resume to one of them, or to no"
        )
    return found[0] if found else None


def list_attached(inputs: Path) -> Iterator[Path]:
    """Yields the folders below that hold an unfinished run."""
    for top, below, files in os.walk(inputs):
        folder = Path(top)
        if len(folder.relative_to(inputs).parts) >= RUN_DEPTH:
            below.clear()
        if RUN_FILE in files and is_unfinished(folder):
            yield folder


def is_unfinished(folder: Path) -> bool:
    """Does a folder hold a run that has learned something and has folds or answers left to do?

    Raises ResumeError if its run.json cannot be read.
    """
    learned = (folder.glob(f"fold[0-9]*/{name}") for name in ("test.npz", "checkpoint-*.npz"))
    if not (folder / RUN_FILE).is_file() or not any(map(any, learned)):
        return False
    count = read_run(folder)["settings"]["folds.count"]
    return read_state(folder) != "finished" or len(list_finished_folds(folder, count)) < count


def read_state(folder: Path) -> str:
    """How a run stands by its status.json; empty if that cannot be read."""
    try:
        return str(json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def list_finished_folds(folder: Path, count: int) -> list[int]:
    """The folds, of 0 … count − 1, whose answers are there and can be read."""
    return [fold for fold in range(count) if read_fold_answers(folder / f"fold{fold}")]


def adopt_run(source: Path, folder: Path) -> None:
    """Copies what a run needs to go on, from where it can only be read, into the run folder.

    Folds that are there already are removed. run.json goes first and comes last, so that a copy
    which is cut off is no run. Raises ResumeError if there is no room.
    """
    if source.resolve() == folder.resolve():
        return
    (folder / RUN_FILE).unlink(missing_ok=True)
    sync_folder(folder)
    for path in list_files(folder):
        path.unlink()
    try:
        for path in [*list_files(source), source / "folds.csv", source / RUN_FILE]:
            copy_whole(path, folder / path.relative_to(source))
    except OSError as error:
        raise ResumeError(
            f"the unfinished run in {source} cannot be copied to {folder} "
            f"({describe_error(error)}); free room there, or set runtime.folder to a larger disk"
        ) from error


def list_files(folder: Path) -> list[Path]:
    """The files of a run's folds, but for what a write that was cut off has left."""
    paths = folder.glob("fold[0-9]*/*")
    return sorted(path for path in paths if path.is_file() and path.suffix != ".half")


def copy_whole(source: Path, target: Path) -> None:
    """Copies the content of a file, whole or not at all, and not that it can only be read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as content, open_whole(target) as file:
        shutil.copyfileobj(content, file, 1 << 20)
