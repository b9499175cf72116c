"""Do pseudo-labels help? Two arms of a finished run's settings answer, one of them without.

    make pseudo TEACHER=runs/a          SEEDS="0 1" ARGS="--pseudo.precision 0.95" DATA OUT

TEACHER is a finished run: its models label test images, each for the fold that it never saw. The
pseudo arm trains on these too; the control arm does as many updates without them, since longer
training alone may gain more than labels do. OUT, which is runs/race-pseudo, holds a folder for each
arm and decisions.json. Some competitions forbid such labels: read the rules first.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from podium.knobs import list_knobs
from podium.override import expand_preset, parse_command_line
from podium.pseudo import Band
from podium.pupil import RECORD_FILE, RULE_RISK, describe_bands
from podium.questions import Question, keep_questions
from podium.record import read_fields
from workbench.arms import Arm, Race, RaceError, Settings
from workbench.dry_run import read_options
from workbench.past_runs import read_past_run
from workbench.race import (
    build_script,
    hold_track,
    open_track,
    read_entry,
    refuse_taken,
    tell_verdict,
)
from workbench.race_runs import Track, run_race
from workbench.verdict import Entry, judge_race

CONTROL, PSEUDO = "control", "pseudo"
# What an arm does not take over: where the teacher was, what it answered, its folds' origin.
OWN = ("runtime.folder", "runtime.resume", "folds.file", "predict.run")
PLACES = ("data.folder", "data.sample_submission", "data.solution")


def main(argv: Sequence[str]) -> int:
    """Runs both arms and prints the verdict; what cannot be run is one line and the code 1."""
    return tell_verdict(partial(race_labels, *parse_options(argv)))


def race_labels(options: argparse.Namespace, extra: Sequence[str]) -> tuple[Question, str]:
    """Runs both arms: the question with the verdict, and the runs to look at; raises EXPECTED."""
    race = make_pseudo_race(options.run)
    track = lay_pseudo_track(options, extra, race)
    with hold_track(track):
        build_script()
        question = ask_pseudo(track, race)
    arms = " ".join(str(track.out / arm.folder) for arm in race.arms)
    return question, f'RUNS="{arms}" EVIDENCE="{track.out}"'


def parse_options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits our own options from settings of the script, which follow `--`."""
    parser = argparse.ArgumentParser(
        "make pseudo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the teacher's folder")
    parser.add_argument("--data", type=Path, help="the competition's folder; none is the teacher's")
    parser.add_argument("--out", type=Path, help="a folder; none is runs/race-pseudo")
    parser.add_argument("--seeds", default="", help="each arm is trained with every one of them")
    return read_options(parser, argv)


def make_pseudo_race(run: Path) -> Race:
    """The two arms that a teacher has; the control is the plain one."""
    taught = {"pseudo.run": run.resolve()}
    arms = tuple(Arm(name, {**taught, "pseudo.arm": name}) for name in (CONTROL, PSEUDO))
    return Race(PSEUDO, "Do pseudo-labels help?", arms)


def lay_pseudo_track(options: argparse.Namespace, extra: Sequence[str], race: Race) -> Track:
    """What both arms share; raises RaceError, RunsError or SettingsError before anything runs."""
    given = expand_preset(parse_command_line(extra))
    refuse_taken(given, {*OWN, "pseudo.run", "pseudo.arm"}, options.seeds)
    settings = find_settings(options.run) | given
    if options.data:
        settings["data.folder"] = options.data.resolve()
    track = open_track(settings, options.seeds, options.out, race)
    teacher = options.run.resolve()
    if track.out in (teacher, *teacher.parents):
        raise RaceError(
            f"OUT={track.out} holds the teacher, which must stay as it is; name another"
        )
    return track


def find_settings(run: Path) -> Settings:
    """The teacher's settings, as far as this version knows them and they are not its own."""
    told, known = read_past_run(run, run.name).settings, {knob.name for knob in list_knobs()}
    kept = {
        name: value
        for name, value in told.items()
        if name in known and name not in OWN and not name.startswith("pseudo.")
    }
    return kept | {name: Path(kept[name]).resolve() for name in PLACES if kept.get(name)}


def ask_pseudo(track: Track, race: Race) -> Question:
    """Runs both arms, and keeps the verdict in decisions.json."""
    runs, _ = run_race(track, race)
    entries = [
        read_entry(arm.name, [run for run in runs if run.arm == arm.name]) for arm in race.arms
    ]
    told = read_fields(track.out / PSEUDO / RECORD_FILE)
    question = judge_pseudo(race, entries, told)
    submission = track.out / question.chosen / "submission.csv"
    question = question._replace(answer=f"{question.answer}; the answers to submit: {submission}")
    keep_questions(track.out, [question])
    return question


def judge_pseudo(race: Race, entries: Sequence[Entry], told: Mapping[str, Any]) -> Question:
    """The question with its answer, the control's entry first; `told` is pseudo.json.

    An arm that was cheaper has had fewer updates: no cost decides, and arms of different updates
    are not compared.
    """
    control, pseudo = entries
    question = judge_race(race, [control, pseudo._replace(seconds=control.seconds)])
    notes = [*describe_record(told), RULE_RISK]
    counts = [count_updates(entry) for entry in entries]
    if counts[0] != counts[1]:
        uneven = ", ".join(
            f"fold {fold}: {counts[0].get(fold, 0)} and {counts[1].get(fold, 0)}"
            for fold in sorted(counts[0].keys() | counts[1].keys())
            if counts[0].get(fold) != counts[1].get(fold)
        )
        answer = (
            f"not decided, as control and pseudo did not do as many updates ({uneven}): give both "
            f"time enough; control stays"
        )
        question = question._replace(answer=answer, chosen=CONTROL)
    return question._replace(notes=(*question.notes, *notes))


def count_updates(entry: Entry) -> dict[int, int]:
    """The updates of each fold."""
    return {fold: int(table["updates"].iloc[-1]) for fold, table in (entry.curves or {}).items()}


def describe_record(told: Mapping[str, Any]) -> list[str]:
    """Precision by agreement, and how many labels each fold accepted, of which classes."""
    lines = [describe_bands([Band(**band) for band in told["bands"]], told["views"])]
    for fold, one in enumerate(told["folds"]):
        held = ", ".join(f"{name} {count}" for name, count in one["classes"].items() if count)
        words = f"fold {fold}: {one['accepted']} of {one['of']} test images were labelled"
        lines.append(f"{words} ({held})" if held else words)
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
