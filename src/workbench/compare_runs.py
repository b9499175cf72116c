"""Shows runs side by side: scores, whether one is better, curves, and the settings that differ.

    make report RUNS="runs/a runs/b"       one page and one picture of both; up to six runs
    make report RUNS=runs/a                the run's report.html, written again
    make report RUNS=runs/a EVIDENCE="runs/race-head runs/blend"     with their decisions, too

A run is a folder with config.json or fold0/history.csv, finished or not: one of yours under runs/,
or what `make pull` fetched. The first is the one that the others are compared with. Of one run
whose competition is not on this machine, the page shows curves and figures alone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from podium.competition import Competition, read_competition
from podium.config import Config
from podium.inputs import CompetitionError
from podium.override import SettingsError, override
from podium.questions import QUESTIONS_FILE, Question, read_questions
from podium.report import write_report
from podium.storage import write_whole
from workbench.compare_page import render_comparison
from workbench.past_runs import PastRun, RunsError, read_past_runs, suggest_runs
from workbench.run_charts import draw_png, list_overlays

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "runs" / "compare.html"


def main(argv: Sequence[str]) -> int:
    """Writes the page, says where, and returns 0; folders that are no runs are 1."""
    options = parse_options(argv)
    try:
        runs = read_past_runs(options.runs)
        questions = gather_questions(options.evidence)
    except RunsError as error:
        print(error, file=sys.stderr)
        return 1
    if len(runs) == 1:
        try:
            print(write_report(runs[0].folder, find_competition(runs[0]), questions).resolve())
            return 0
        except (CompetitionError, SettingsError) as error:
            print(f"Curves and figures alone, as the competition is not to be had:\n{error}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, render_comparison(runs).encode(errors="replace"))
    print(f"{options.out.resolve()}: open it in a browser")
    overlays = list_overlays(runs)
    if overlays:
        picture = options.out.with_suffix(".png")
        write_whole(picture, draw_png(overlays, runs))
        print(picture.resolve())
    return 0


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "make report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; a PNG lies beside it")
    parser.add_argument(
        "--evidence",
        type=Path,
        nargs="*",
        default=[],
        metavar="FOLDER",
        help="whose decisions the page of one run shows behind its own",
    )
    options = parser.parse_args(argv)
    if options.evidence and len(options.runs) > 1:
        parser.error("EVIDENCE is shown on the page of one run, and RUNS names more")
    if not options.runs:
        parser.error(f'name runs: make report RUNS="runs/a runs/b"{suggest_runs(ROOT / "runs")}')
    return options


def gather_questions(folders: Sequence[Path]) -> list[Question]:
    """What other folders decided, a race's or a blend's; raises RunsError where one has nothing."""
    questions = list[Question]()
    for folder in folders:
        try:
            found = read_questions(folder)
        except ValueError as error:
            raise RunsError(str(error)) from error
        if not found:
            raise RunsError(f"EVIDENCE={folder} holds no {QUESTIONS_FILE}, as make race writes it")
        questions += found
    return questions


def find_competition(run: PastRun) -> Competition:
    """The competition that a run was trained on, read again from where it lay.

    Raises CompetitionError if it is not there or is another one, SettingsError if this version
    does not understand the run's settings.
    """
    data = {name: value for name, value in run.settings.items() if name.startswith("data.")}
    given = {name: value for name, value in data.items() if value is not None}
    config = override(Config(), given)
    competition = read_competition(config.data, int(run.settings.get("runtime.seed", 0)))
    classes = run.summary.get("classes", list(competition.classes))
    if classes != list(competition.classes):
        raise CompetitionError(
            f"data.folder is {config.data.folder}, which holds other classes than {run.name} had; "
            f"name the data that it was trained on in its config.json"
        )
    return competition


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
