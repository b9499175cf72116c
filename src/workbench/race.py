"""Races between ways to train, decided by what their answers out of fold show.

    make race AUGMENT="none flip-crop light" DATA=folder ARGS="--train.epochs 8"
    make race HEAD="linear dense256elu"                  FROZEN=1: on features computed once
    make race OPTIMIZER="adamw adamax" SCHEDULE="cosine constant"      every pair is an arm
    make race COLOUR="keep grey"        make race LR="1e-3 3e-3 1e-2"

One question a race, the plain answer first. All arms run on the same folds, with the same seed,
steps and order of batches: all at a quarter of the epochs, the better half at full length. OUT,
which is runs/race-<question>, holds a folder for each arm, for make report, and decisions.json.
A race that was cut off goes on when it is asked for again. SEEDS="0 1 2" trains each arm as often.
"""

import argparse
import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd

from podium.override import SettingsError, expand_preset, parse_command_line, read_config
from podium.questions import Question, keep_questions
from workbench.arms import READERS, Race, RaceError, Settings, make_race
from workbench.dry_run import ROOT, choose_settings, command_line, read_options
from workbench.frozen_race import run_frozen
from workbench.paired import PairError, read_answered
from workbench.past_runs import MOST_RUNS, RunsError, read_past_run
from workbench.race_runs import Run, Track, plan_runs, run_race
from workbench.verdict import Entry, judge_race

# What of the rehearsal a race does not share: evidence comes with images and trainings.
WHOLE: Settings = {
    "data.limit": None,
    "data.test_limit": None,
    "folds.count": 5,
    "train.epochs": 8,
}
EXPECTED = (PairError, RaceError, RunsError, SettingsError)


def main(argv: Sequence[str]) -> int:
    """Runs a race and prints its verdict; what cannot be raced is one line and the code 1."""
    return tell_verdict(partial(ask_race, *parse_options(argv)))


def tell_verdict(ask: Callable[[], tuple[Question, str]]) -> int:
    """Prints what a race answers, and what make report is to be asked for; returns the exit code.

    What cannot be raced is one line and the code 1.
    """
    try:
        question, shown = ask()
    except EXPECTED as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 1
    print(format_verdict(question))
    print(f"Runs side by side: make report {shown}")
    return 0


def ask_race(options: argparse.Namespace, extra: Sequence[str]) -> tuple[Question, str]:
    """Runs a race: its question with the verdict, and the runs to look at; raises EXPECTED."""
    race = make_race({name: getattr(options, name) for name in READERS})
    if options.frozen and race.name != "head":
        raise RaceError("FROZEN=1 is for HEAD alone: other arms change the features")
    track = lay_track(options, extra, race)
    with hold_track(track):
        question = run_and_judge(track, race, frozen=options.frozen)
    shown = {option.name for option in question.options[:MOST_RUNS]}
    arms = " ".join(str(track.out / arm.folder) for arm in race.arms if arm.name in shown)
    return question, f'RUNS="{arms}"'


@contextmanager
def hold_track(track: Track) -> Iterator[None]:
    """Keeps other races from the folder; raises RaceError if one is there already."""
    with (track.out.parent / f"{track.out.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RaceError(f"another race is writing to {track.out}") from None
        yield


def parse_options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits our own options from settings of the script, which follow `--`."""
    parser = argparse.ArgumentParser(
        "make race", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in READERS:
        parser.add_argument(f"--{name}", default="", help="arms, apart by spaces")
    parser.add_argument("--data", type=Path, help="a competition's folder; none is the demo")
    parser.add_argument("--backbone", help="a name from the table of backbones; none is tiny")
    parser.add_argument("--backend", choices=("tensorflow", "jax"))
    parser.add_argument("--out", type=Path, help="a folder; none is runs/race-<question>")
    parser.add_argument("--seeds", default="", help="each arm is trained with every one of them")
    parser.add_argument("--frozen", action="store_true", help="heads on features computed once")
    parser.set_defaults(solution=None)
    return read_options(parser, argv)


def lay_track(options: argparse.Namespace, extra: Sequence[str], race: Race) -> Track:
    """What all arms have in common; raises RaceError or SettingsError before anything runs."""
    given = expand_preset(parse_command_line(extra))
    raced = {name for arm in race.arms for name in arm.settings} | {"runtime.folder"}
    refuse_taken(given, raced | {"runtime.resume"}, options.seeds)
    settings = expand_preset(WHOLE | choose_settings(options)) | given
    return open_track(settings, options.seeds, options.out, race)


def refuse_taken(given: Settings, raced: Set[str], seeds: str) -> None:
    """Raises RaceError if ARGS sets what the race sets: seeds, too, where they are named."""
    taken = sorted(given.keys() & (raced | ({"runtime.seed"} if seeds else set())))
    if taken:
        raise RaceError(f"ARGS sets {', '.join(taken)}, which the race itself sets; leave it out")


def open_track(settings: Settings, seeds: str, out: Path | None, race: Race) -> Track:
    """The track of these settings, its folder's parent made; raises what the last arm would."""
    place = (out or ROOT / "runs" / f"race-{race.name}").resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    chosen = read_seeds(seeds or str(settings.get("runtime.seed", 0)))
    track = Track(ROOT / "kernel" / "podium.py", place, settings, chosen)
    for run in plan_runs(track, race.arms, quarter=False, first=True):
        read_config(command_line(run.settings), {})
    return track


def read_seeds(words: str) -> tuple[int, ...]:
    """The seeds with which each arm is trained; raises RaceError."""
    seeds = words.split()
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise RaceError(f'SEEDS takes whole numbers, each once, such as "0 1 2", not "{words}"')
    return tuple(map(int, seeds))


def run_and_judge(track: Track, race: Race, *, frozen: bool) -> Question:
    """Runs the race, and keeps its verdict in decisions.json."""
    if frozen:
        runs, notes = run_frozen(track, race), ["on features of the backbone as pretrained"]
    else:
        build_script()
        runs, notes = run_race(track, race)
    names = dict.fromkeys(run.arm for run in runs)
    entries = [read_entry(name, [run for run in runs if run.arm == name]) for name in names]
    question = judge_race(race, entries, notes)
    keep_questions(track.out, [question])
    return question


def build_script() -> None:
    """Flattens the modules into the script; raises RaceError."""
    build = [sys.executable, str(ROOT / "build_kernel.py")]
    if subprocess.run(build, check=False).returncode:
        raise RaceError("the script cannot be built; see above")


def read_entry(name: str, runs: Sequence[Run]) -> Entry:
    """What an arm reached with each seed, from its folders; raises PairError or RunsError."""
    found = [read_past_run(run.folder, run.title) for run in runs]
    epochs = pd.concat([table for run in found for table in run.curves.values()])
    timed = epochs[epochs["phase"] == "all"]
    seconds, rate = (
        float(timed[name].dropna().median()) for name in ("seconds", "images_per_second")
    )
    return Entry(name, tuple(map(read_answered, found)), seconds, rate, found[0].curves)


def format_verdict(question: Question) -> str:
    """The verdict as a table and in words."""
    width = max(len(option.name) for option in question.options) + 2
    lines = ["", question.asks]
    for option in question.options:
        gain = "" if option.gain is None else f"  gain {option.gain.difference:+.4f}"
        bounds = f", {option.gain.low:+.4f} to {option.gain.high:+.4f}" if option.gain else ""
        p = f", p {option.gain.p:.3g}" if option.gain else ""
        cost = f"  {option.cost:.3g} {question.unit}" if option.cost is not None else ""
        lines.append(f"  {option.name:<{width}}{option.score:.4f}{cost}{gain}{bounds}{p}")
    lines += [f"  {note}" for note in question.notes]
    return "\n".join([*lines, f"→ {question.chosen}: {question.answer}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
