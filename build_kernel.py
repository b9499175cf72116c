"""Flattens src/podium into kernel/podium.py: tested modules in, one readable script out.

Nothing is renamed and no code is rewritten. Sections are slices of the modules; only imports move,
because libraries may be loaded only after the runtime section has chosen Keras's backend.
What cannot be flattened without a change of meaning is refused with file, line, reason and remedy.
The work is done in src/workbench/flatten; here are the order of the script and the command line.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

# So that `python build_kernel.py` runs from any folder, with nothing installed and no PYTHONPATH.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from workbench.flatten.layout import TITLE_PLACE, lay_out
from workbench.flatten.refusal import BuildError
from workbench.flatten.rules import check_modules, sort_refusals
from workbench.flatten.script import Script, check_script
from workbench.flatten.settings_block import copy_with_settings
from workbench.flatten.source import read_modules

ROOT = Path(__file__).resolve().parent

# The order of the sections, the direction of the data, and the layer rule: a module imports only
# from modules before it. Keras is not loaded yet in the preamble.
# fmt: off
PREAMBLE = (
    "settings", "declare", "learning", "config", "knobs", "override", "devices", "hosts", "runtime",
)
ORDER = (
    *PREAMBLE,                                                           # standard library only
    "storage", "attempt", "events", "predictions",                       # what the stages exchange
    "task", "tallies", "metrics", "evidence",                            # what is asked, how well
    "cuts", "rules", "decide", "questions",                              # what is answered, and why
    "members", "greedy", "blends", "ensemble",                           # what several answer
    "inputs", "tables", "annotations", "labels", "archives", "sample",   # what files there are
    "classes", "asked", "solution", "draws", "competition",              # what is asked of them
    "decode", "cache", "pixels",                                         # from files to squares
    "duplicates", "folds", "tells", "leaks", "split",                    # what is validated when
    "composes", "policies", "augment",                                   # what the model sees
    "workers", "crew", "mixing", "sharing", "batches", "pace",           # and how it gets there
    "handles", "backbones", "normalise", "hub_module", "port",           # what it starts from
    "network", "weights", "freezing", "model", "predict",                # what it is,
    "views", "adaptive", "marks",                                        # and answers
    "recipe", "schedule", "optimizers", "objective", "checkpoint",       # how it learns
    "lr_range", "pseudo", "fold_data", "recalibrate", "truth", "fixres", # what it has learned
    "conclude", "budget", "stretch", "planner", "epochs", "diary",       # how far
    "keeper", "setbacks", "trainee", "train",                            # and not lost
    "looks", "infer", "pupil", "teacher", "validate", "submit",          # what it answers
    "card", "post", "signing", "commands", "sinks", "chat",              # who watches
    "relay", "delivery", "pulse", "address", "webhook",
    "histories", "curves", "summary", "results", "resume", "record",     # what is shown
    "tta", "adoption",                                                   # what helps to answer
    "page", "panels", "proofs", "findings", "mistakes", "report", "crossval", "main",
)
# fmt: on

TITLE = """\
Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → pixels → folds → augment → backbones → model → train → predict → submit → report

{contents}

Sources: sha256 {digest}"""

SIZE_LIMIT = 900_000  # bytes; Kaggle refuses sources of 1 MB


def build_script(
    package: Path,
    order: Sequence[str] = ORDER,
    preamble: Sequence[str] = PREAMBLE,
    size_limit: int = SIZE_LIMIT,
) -> Script:
    """Flattens the package's modules into one script; raises BuildError with every refusal."""
    modules, refusals = read_modules(package, order)
    refusals += check_modules(modules, order, preamble)
    if refusals:
        raise BuildError(sort_refusals(refusals, order))
    script = lay_out(modules, preamble, TITLE)
    check_script(script, size_limit)
    return script


def find_difference(script: Script, path: Path) -> str | None:
    """Says where the file on disk differs from the script, or None if it does not.

    Every change changes the hash and many the contents, so the first other difference is named.
    """
    if not path.is_file():
        return "kernel/podium.py is missing; run `make build`"
    present = path.read_bytes()
    if present == script.text.encode():
        return None
    old, new = (
        re.sub("[0-9a-f]{64}", "", text).split("\n")
        for text in (present.decode(errors="replace"), script.text)
    )
    pairs = enumerate(zip_longest(old, new), 1)
    differing = [number for number, (one, other) in pairs if one != other]
    title = script.places.count(TITLE_PLACE)
    number = min(differing, key=lambda number: (number <= title, number), default=title)
    place = script.places[number - 1] if number <= len(script.places) else "in the modules"
    return f"kernel/podium.py is stale: line {number} is not {place}; run `make build`"


def write_script(script: Script, path: Path) -> str:
    """Writes the script, whole or not at all, and describes it in one line."""
    path.parent.mkdir(exist_ok=True)
    half = path.with_suffix(".half")
    half.write_bytes(script.text.encode())
    half.replace(path)
    size = len(script.text.encode())
    return (
        f"{path.parent.name}/podium.py: {len(script.places):,} lines, {size:,} of "
        f"{SIZE_LIMIT:,} bytes, {len(script.sections)} sections"
    )


def build_apart(package: Path, settings: Path, folder: Path) -> str:
    """Builds a script with the settings of a JSON file into a folder of its own.

    Writes podium.py and places.txt, the source of each of its lines; raises BuildError.
    """
    with tempfile.TemporaryDirectory() as name:
        chosen = json.loads(settings.read_text(encoding="utf-8"))
        script = build_script(copy_with_settings(package, chosen, Path(name)))
    places = "\n".join(map(str, script.places)) + "\n"
    (folder / "places.txt").write_text(places, encoding="utf-8")
    return write_script(script, folder / "podium.py")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Flattens src/podium into kernel/podium.py, the one script Kaggle runs.",
        epilog="Without an option it builds. Edit the modules, build, commit both.",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--check", action="store_true", help="exit 1 if the script is not what the modules say"
    )
    either.add_argument(
        "--map", nargs="+", type=int, metavar="LINE", help="name the source of these script lines"
    )
    either.add_argument(
        "--apart",
        nargs=2,
        type=Path,
        metavar=("JSON", "FOLDER"),
        help="build with these settings into a folder of its own, as make push does",
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="FOLDER", help="the checkout (default: this one)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Builds, checks or maps the script; returns the exit code."""
    parser = make_parser()
    given = parser.parse_args(argv)
    path = given.root / "kernel" / "podium.py"
    try:
        if given.apart:
            print(build_apart(given.root / "src" / "podium", *given.apart))
            return 0
        script = build_script(given.root / "src" / "podium")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if not given.check and not given.map:
        print(write_script(script, path))
        return 0
    stale = find_difference(script, path)
    if stale:
        print(stale, file=sys.stderr)
    for line in given.map or ():
        if not 0 < line <= len(script.places):
            parser.error(f"podium.py has lines 1 to {len(script.places)}, not {line}")
        print(f"podium.py:{line} is {script.places[line - 1]}")
    return int(bool(stale) and given.check)


if __name__ == "__main__":
    sys.exit(main())
