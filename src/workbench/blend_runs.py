"""Blends runs: weights that are chosen on their out-of-fold answers, one submission, and a page.

    make blend RUNS="runs/a runs/b runs/c"          writes runs/blend
    make blend RUNS="runs/a runs/b" OUT=runs/ab     writes runs/ab

A run is one of yours under runs/, or what `make pull` fetched: finished, of one competition, with
the same training images. Other seeds and other folds are other runs. The mean of all stays unless
another blend, chosen without the images that it answers, is shown to be better. What is written is
a run again, so that it can be compared, or blended with others.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from podium.blends import apply_blend, list_fits
from podium.competition import Competition
from podium.decide import Decision, fit_nested
from podium.ensemble import Choice, choose_blend
from podium.events import write_json
from podium.metrics import METRICS, Score, score_predictions
from podium.predictions import Predictions, write_predictions
from podium.questions import Question, keep_questions
from podium.results import write_submission_of
from podium.settings import SOURCE
from podium.storage import write_whole
from podium.summary import decision_fields, score_fields
from podium.validate import SubmissionError
from workbench.answer_form import find_form
from workbench.blend_page import render_blend
from workbench.member_facts import MemberFact, correlate_errors, describe_members, share_out
from workbench.past_members import BlendError, PastMembers, read_members
from workbench.past_runs import PastRun, RunsError, read_past_runs, suggest_runs

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "runs" / "blend"
MOST_MEMBERS = 50  # of which a page can tell


class Blended(NamedTuple):
    """Members, the blend that was chosen for them, and what there is to know of it."""

    members: PastMembers
    choice: Choice
    decision: Decision
    score: Score
    facts: list[MemberFact]
    question: Question


def main(argv: Sequence[str]) -> int:
    """Writes the folder, says what was found, and returns 0; runs that do not fit are 1."""
    options = parse_options(argv)
    try:
        runs = read_past_runs(options.runs, MOST_MEMBERS)
        check_place(options.out, runs)
        members = read_members(runs)
        form = find_form(runs[0], members)
        blended = blend_members(members)
        warnings = write_blend(blended, form, runs, options.out)
    except (RunsError, BlendError, SubmissionError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(describe_blend(blended, warnings, options.out)))
    return 0


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "make blend", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder that is written")
    options = parser.parse_args(argv)
    if len(options.runs) < 2:
        parser.error(
            f'name two runs or more: make blend RUNS="runs/a runs/b"{suggest_runs(ROOT / "runs")}'
        )
    return options


def check_place(out: Path, runs: Sequence[PastRun]) -> None:
    """Raises BlendError if the folder to be written holds a run that is not a blend."""
    taken = {run.folder.resolve() for run in runs}
    if out.resolve() in taken or (out / "fold0").is_dir():
        raise BlendError(f"{out} holds a run, which a blend would overwrite; set OUT to another")


def blend_members(members: PastMembers) -> Blended:
    """Chooses the blend, the rule that makes answers of it, and looks at each member."""
    task, targets, folds = members.task, members.targets, members.folds
    fits = list_fits(task)
    choice = choose_blend(task, targets, members.oof, folds, fits)
    decision = fit_nested(task, targets, choice.probs, folds)
    score = score_predictions(task, targets, decision.answers, choice.probs)
    fitted = fits[choice.name], choice.blend
    facts = describe_members(task, targets, members.oof, folds, fitted)
    return Blended(members, choice, decision, score, facts, ask(members, choice))


def ask(members: PastMembers, choice: Choice) -> Question:
    """The decision as a question, with its answer in words."""
    metric, found = METRICS[members.task.metric].title, choice.comparison
    scores = {option.name: option.score for option in choice.options}
    plain = choice.options[0].name
    figures = (
        f"gain {found.difference:+.4f}, one-sided 95 % bound {found.low:+.4f}, p {found.p:.3g}"
    )
    if found.adopted:
        shares = zip(members.names, share_out(choice.blend), strict=True)
        weights = ", ".join(f"{name} {share:.2f}" for name, share in shares)
        words = (
            f"{choice.name.capitalize()}: {weights}. Chosen without the images that are answered, "
            f"it has over the mean a {figures}"
        )
    else:
        words = f"The same for all: {metric} {scores[plain]:.4f}. "
        words += (
            f"Weights that were chosen without the images that are answered have over the mean a "
            f"{figures}; a true gain of {found.detectable:.4f} would be shown four times in five"
            if found.detectable
            else "No other weights answer any image otherwise"
        )
    return Question(
        "weights",
        "Which weights?",
        words,
        members.task.metric,
        choice.name,
        choice.options,
        notes=members.notes,
    )


def write_blend(
    blended: Blended, form: Competition, runs: Sequence[PastRun], out: Path
) -> list[str]:
    """Writes the folder of a run, and its page; returns what is odd about the submission."""
    members, choice, decision = blended.members, blended.choice, blended.decision
    exclusive = members.task.exclusive
    probs = apply_blend(choice.blend, members.test, exclusive=exclusive)
    out.mkdir(parents=True, exist_ok=True)
    answers = Predictions(members.test_ids, probs)
    warnings = write_submission_of(form, answers, decision.rule, out, decision.answers)
    write_predictions(Predictions(members.ids, choice.probs), out / "oof.npz")
    shutil.copyfile(runs[0].folder / "folds.csv", out / "folds.csv")
    write_json(out / "config.json", runs[0].settings | {"runtime.folder": str(out)})
    write_json(out / "summary.json", summarise_blend(blended, runs, warnings))
    keep_questions(out, [blended.question])
    correlations = correlate_errors(members.task, members.targets, members.oof)
    page = render_blend(blended.question, blended.score, members.names, blended.facts, correlations)
    write_whole(out / "blend.html", page.encode(errors="replace"))
    return warnings


def summarise_blend(
    blended: Blended, runs: Sequence[PastRun], warnings: list[str]
) -> dict[str, Any]:
    """What summary.json says, in the form of a run's."""
    members, decision = blended.members, blended.decision
    task = members.task
    folds = []
    for fold in np.unique(members.folds).tolist():
        held = members.folds == fold
        parts = members.targets[held], decision.answers[held], blended.choice.probs[held]
        folds.append({"fold": fold, **score_fields(score_predictions(task, *parts))})
    return {
        "run": {
            "state": "complete",
            "source": SOURCE,
            "started": time.strftime("%Y-%m-%d %H:%M"),
        },
        "metric": task.metric,
        "answer": task.answer,
        "classes": list(task.classes),
        "counts": {
            "train": len(members.ids),
            "test": len(members.test_ids),
            "classes": len(task.classes),
            "folds": len(folds),
        },
        "warnings": warnings,
        "out_of_fold": score_fields(blended.score),
        "decision": decision_fields(task, decision),
        "folds": folds,
        "blend": {
            "name": blended.choice.name,
            **blended.choice.blend._asdict(),
            "members": [str(run.folder) for run in runs],
        },
    }


def describe_blend(blended: Blended, warnings: list[str], out: Path) -> list[str]:
    """What was found, line by line."""
    score, metric = blended.score, METRICS[blended.score.metric].title
    low, high = score.interval
    lines = ["Blend", f"  {blended.question.answer}"]
    lines += [f"  {note}" for note in blended.question.notes]
    for name, fact in zip(blended.members.names, blended.facts, strict=True):
        lines.append(f"  {name}: {metric} {fact.score.value:.4f}, weight {fact.weight:.3f}")
    lines.append(f"  out of fold {metric} {score.value:.4f} (95 %: {low:.4f} to {high:.4f})")
    lines += [f"! {warning}" for warning in warnings]
    return [*lines, str((out / "submission.csv").resolve()), str((out / "blend.html").resolve())]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
