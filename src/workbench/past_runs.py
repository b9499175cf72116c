"""Past runs: what run folders tell without the competition's files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd

from podium.histories import read_histories
from podium.metrics import METRICS
from podium.record import read_fields, read_truths
from podium.task import MetricName

MOST_RUNS = 6  # that colours and dashes tell apart
OWN = ("runtime.folder",)  # settings that differ between any two runs


class RunsError(Exception):
    """Folders that cannot be shown; the message says what to name instead."""


class PastRun(NamedTuple):
    """A run as its folder tells it, under a name of its own."""

    name: str
    folder: Path
    settings: dict[str, Any]  # dotted names
    summary: dict[str, Any]  # {} where the run has written none
    curves: dict[int, pd.DataFrame]  # fold → one row an epoch
    truths: dict[int, dict[str, Any]]  # fold → what was found of batch norm

    @property
    def metric(self) -> MetricName | None:
        """The metric, if the summary names one that is known."""
        named = self.summary.get("metric")
        return cast(MetricName, named) if named in METRICS else None

    def part(self, name: str) -> dict[str, Any]:
        """One part of the summary, empty where the summary has none."""
        found = self.summary.get(name)
        return found if isinstance(found, dict) else {}


def read_past_runs(folders: Sequence[Path], most: int = MOST_RUNS) -> list[PastRun]:
    """Reads runs in the order given; raises RunsError with every folder that is none."""
    if len(folders) > most:
        raise RunsError(
            f"RUNS names {len(folders)} runs, and at most {most} can be told apart on one page; "
            f"name fewer"
        )
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs, faults = list[PastRun](), list[str]()
    for name, folder in zip(names, folders, strict=True):
        try:
            runs.append(read_past_run(folder, name))
        except RunsError as fault:
            faults.append(str(fault))
    doubled = {run.name for run in runs if names.count(run.name) > 1}
    faults += [f"{name} is named twice; name each run once" for name in sorted(doubled)]
    if faults:
        raise RunsError("\n".join(faults))
    return runs


def read_past_run(folder: Path, name: str) -> PastRun:
    """Reads one run; raises RunsError if the folder is none, or holds a file that is broken."""
    if not folder.is_dir():
        raise RunsError(f"{folder} is not a folder{suggest_runs(folder.parent)}")
    curves = read_histories(folder)
    if not curves and not (folder / "config.json").is_file():
        raise RunsError(
            f"{folder} is no run: it has neither config.json nor fold0/history.csv"
            f"{suggest_runs(folder)}"
        )
    try:
        settings, summary = (read_fields(folder / one) for one in ("config.json", "summary.json"))
    except ValueError as error:
        raise RunsError(f"{folder} cannot be read: config.json or summary.json: {error}") from error
    return PastRun(name, folder, settings, summary, curves, read_truths(folder))


def suggest_runs(place: Path) -> str:
    """Names runs that lie in a folder, for a person who named another."""
    found = sorted(path.parent for path in place.glob("*/config.json"))
    return f"; runs are such as {', '.join(map(str, found[:5]))}" if found else ""


def list_differences(runs: Sequence[PastRun]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, with the value of each run."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in OWN)
    shown = {name: [show_setting(run, name) for run in runs] for name in names}
    return {name: values for name, values in shown.items() if len(set(values)) > 1}


def show_setting(run: PastRun, name: str) -> str:
    """A setting's value; a dash where the run did not know the setting."""
    if name not in run.settings:
        return "–"
    value = run.settings[name]
    return "none" if value is None else str(value)
