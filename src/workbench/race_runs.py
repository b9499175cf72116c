"""Race runs: the arms of a race, each a run of the built script in a folder of its own.

All arms have the seed, the steps and the order of batches that follow from the same settings, and
the folds of the first run. A run that ended is not run again, one that was cut off goes on, and one
whose settings, script or folds are others by now starts anew, which is said.
"""

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from podium.config import Config
from podium.knobs import list_settings
from podium.metrics import METRICS
from podium.override import read_config
from podium.record import read_fields
from podium.resume import list_finished_folds, name_changes, read_state
from workbench.arms import Arm, Race, RaceError, Settings
from workbench.dry_run import command_line, run_as_kaggle

QUARTER = "quarter"  # the folder of what is run at a quarter of the epochs
SHORTENED = ("train.head_epochs", "train.epochs", "train.clean_epochs")
OWN = {"runtime.folder", "runtime.resume"}  # in which two runs of one arm may differ


class Track(NamedTuple):
    """What all runs of a race have in common."""

    script: Path
    out: Path
    settings: Settings
    seeds: tuple[int, ...] = (0,)

    @property
    def folds(self) -> Path:
        """The folds of the first run, which all others keep."""
        return self.out / "folds.csv"


class Run(NamedTuple):
    """One run of an arm."""

    arm: str
    title: str
    folder: Path
    settings: Settings

    @property
    def config(self) -> Config:
        """Its settings, with those that it leaves as they are; raises SettingsError."""
        return read_config(command_line(self.settings), {})

    @property
    def epochs(self) -> int:
        """Epochs of all folds together."""
        config = self.config
        return config.folds.count * (config.train.head_epochs + config.train.epochs)


class Pace:
    """How long an epoch of a race takes, of what was run so far."""

    def __init__(self) -> None:
        self.seconds, self.epochs = 0.0, 0

    def add(self, seconds: float, epochs: int) -> None:
        """Counts a run."""
        self.seconds, self.epochs = self.seconds + seconds, self.epochs + epochs

    def describe(self, epochs: int) -> str:
        """How long so many epochs will take, in words."""
        if not self.epochs:
            return f"{epochs} epochs to go"
        minutes = self.seconds / self.epochs * epochs / 60
        return f"{epochs} epochs to go, about {minutes:.0f} min"


def run_race(track: Track, race: Race) -> tuple[list[Run], list[str]]:
    """Runs all arms at a quarter of the epochs, the better half of them at full length.

    Two arms go there straight. Returns the full runs, the plain arm's first, and what there is to
    know of the others. Raises RaceError if a run fails.
    """
    track.out.mkdir(parents=True, exist_ok=True)
    if len(race.arms) == 2:
        runs = plan_runs(track, race.arms, quarter=False, first=True)
        run_all(track, runs, Pace())
        return runs, []
    early, whole = (
        plan_runs(track, race.arms, quarter=quarter, first=quarter) for quarter in (True, False)
    )
    later = (1 + count_half(race)) * len(track.seeds) * whole[0].epochs
    pace = Pace()
    run_all(track, early, pace, later)
    summaries = [read_fields(run.folder / "summary.json") for run in early]
    places = choose_half(race, summaries)
    names = {race.arms[place].name for place in places}
    runs = [run for run in whole if run.arm in names]
    run_all(track, runs, pace)
    gone = [place for place in range(len(race.arms)) if place not in places]
    return runs, [describe_gone(race, summaries, gone)]


def count_half(race: Race) -> int:
    """How many arms beside the plain one are run at full length."""
    return -(-(len(race.arms) - 1) // 2)


def choose_half(race: Race, summaries: Sequence[Mapping[str, Any]]) -> list[int]:
    """The places of the plain arm, against which all are judged, and of the others' better half.

    By the scores of the arms' summaries; of those that are alike the first.
    """
    sign = find_sign(summaries[0])
    scores = [sign * float(summary["out_of_fold"]["value"]) for summary in summaries]
    ranked = sorted(range(1, len(race.arms)), key=lambda place: -scores[place])
    return [0, *sorted(ranked[: count_half(race)])]


def find_sign(summary: Mapping[str, Any]) -> int:
    """1 where a higher score of a run is a better one, else -1."""
    return 1 if METRICS[summary["metric"]].higher_is_better else -1


def describe_gone(race: Race, summaries: Sequence[Mapping[str, Any]], places: Sequence[int]) -> str:
    """Says which arms were not run at full length, and what they had reached."""
    names = [
        f"{race.arms[place].name} {summaries[place]['out_of_fold']['value']:.4f}"
        for place in places
    ]
    return f"not run at full length, for they were behind at a quarter of it: {', '.join(names)}"


def plan_runs(track: Track, arms: Sequence[Arm], *, quarter: bool, first: bool) -> list[Run]:
    """A run of each arm with each seed at full length, or with the first seed at a quarter of it.

    The first run of the race deals the folds, all others keep them.
    """
    runs = list[Run]()
    for arm in arms:
        for seed in track.seeds[:1] if quarter else track.seeds:
            own: Settings = {} if first and not runs else {"folds.file": track.folds}
            settings = track.settings | arm.settings | own | {"runtime.seed": seed}
            title, name = arm.name, arm.folder
            if seed != track.seeds[0]:
                title, name = f"{title} with seed {seed}", f"{name}-seed{seed}"
            folder = track.out / name
            if quarter:
                title, folder = f"{title} at a quarter", track.out / QUARTER / name
                settings |= shorten(read_config(command_line(settings), {}))
            runs.append(Run(arm.name, title, folder, settings | {"runtime.folder": folder}))
    return runs


def shorten(config: Config) -> Settings:
    """A quarter of the epochs, at least one of each phase that has any."""
    counts = list_settings(config)
    return {name: -(-int(str(counts[name])) // 4) for name in SHORTENED}


def run_all(track: Track, runs: Sequence[Run], pace: Pace, later: int = 0) -> None:
    """Runs what is not done with yet; `later` epochs come after these."""
    for place, run in enumerate(runs):
        left = sum(one.epochs for one in runs[place:]) + later
        state, reason = find_state(track, run)
        words = f"Race: {run.title}, {place + 1} of {len(runs)}: "
        if state == "done":
            print(f"{words}it has ended before, and stands", flush=True)
        else:
            print(f"{words}{reason}{pace.describe(left)}", flush=True)
            began = time.monotonic()
            start_run(track, run, anew=state == "anew")
            pace.add(time.monotonic() - began, run.epochs)
        if "folds.file" not in run.settings:
            shutil.copyfile(run.folder / "folds.csv", track.folds)


def start_run(track: Track, run: Run, *, anew: bool) -> None:
    """Runs an arm, or goes on with it; raises RaceError if that fails."""
    settings = run.settings | {"runtime.resume": "no" if anew else "auto"}
    code = run_as_kaggle(track.script, command_line(settings))
    if code or read_state(run.folder) != "finished":
        raise RaceError(
            f"{run.title} ended with code {code}; what the arms before it have done is kept: once "
            f"the cause is mended, the same make race goes on from here"
        )


def find_state(track: Track, run: Run) -> tuple[str, str]:
    """Is a run "new", "done", "begun", or must it start "anew", and why, in words."""
    try:
        was = read_fields(run.folder / "config.json")
        told = read_fields(run.folder / "status.json")
    except ValueError:  # torn
        return "anew", "its files are damaged, it starts anew; "
    if not was or not told:
        return "new", ""
    changes = find_changes(track, run, was, told)
    if changes:
        return "anew", f"it starts anew, as {'; '.join(changes)}; "
    count = run.config.folds.count
    if told["state"] == "finished" and len(list_finished_folds(run.folder, count)) == count:
        return "done", ""
    return "begun", "it goes on where it was; "


def find_changes(
    track: Track, run: Run, was: Mapping[str, Any], told: Mapping[str, Any]
) -> list[str]:
    """What makes a run that was begun another than the one that is asked for, in words."""
    now = json.loads(json.dumps(list_settings(run.config)))
    changes = name_changes(*({k: v for k, v in one.items() if k not in OWN} for one in (was, now)))
    if told.get("source") != read_source(track.script):
        changes.append("the script is another version")
    own = run.folder / "folds.csv"
    kept = "folds.file" in run.settings and own.is_file() and track.folds.is_file()
    if kept and own.read_bytes() != track.folds.read_bytes():
        changes.append("the folds are others")
    return changes


def read_source(script: Path) -> str | None:
    """The digest of the modules that a built script was made of; None if it tells none."""
    found = re.search(r'^SOURCE = "(\w+)"', script.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None
