"""The kernel that a verb is about: a competition's, or the one of kernel-metadata.json."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from workbench.competition_file import (
    FOLDER,
    INFERENCE,
    ROOT,
    CompetitionFile,
    read_competition_file,
)
from workbench.flatten.refusal import BuildError
from workbench.kaggle_client import KaggleRefusalError
from workbench.kernel_metadata import PATH, PLACEHOLDER

PUSHED = ROOT / "runs" / "pushed"  # what was sent last, a folder for each kernel


class VerbError(Exception):
    """A verb that cannot be carried out; the message says what to do."""


# A full disk and a missing git are OSErrors.
EXPECTED = (BuildError, KaggleRefusalError, VerbError, ValueError, OSError)


class Pushed(NamedTuple):
    """What is remembered of the last push of a kernel."""

    version: int
    url: str
    source: str  # sha256 of the modules and settings
    places: list[str]  # the source of every line of the pushed script


def make_parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """A verb's command line, with the competition that every verb takes."""
    parser = argparse.ArgumentParser(f"make {name}", description=about)
    parser.add_argument("--competition", default="", help="a file of kernel/competitions")
    parser.add_argument("--infer", action="store_true", help="the inference half of it")
    return parser


def find_kernel(options: argparse.Namespace, folder: Path = FOLDER) -> CompetitionFile:
    """The kernel of the competition given, else the only one there is, else the plain one."""
    known = sorted(folder.glob("*.toml"))
    slug = options.competition or (known[0].stem if len(known) == 1 else "")
    if slug:
        kernel = read_competition_file(slug, folder)
        if options.infer and kernel.kind != "code":
            raise VerbError(f'only a code competition has an inference half; {slug} is "file"')
        return derive_inference(kernel) if options.infer else kernel
    if known:
        names = ", ".join(path.stem for path in known)
        raise VerbError(f"which competition? COMPETITION= one of {names}")
    address = str(json.loads(PATH.read_text(encoding="utf-8"))["id"])
    if PLACEHOLDER in address:
        raise VerbError(
            "no competition is set up yet; make new COMPETITION=its-slug, the last part of "
            "kaggle.com/competitions/its-slug"
        )
    return CompetitionFile("", address)


def derive_inference(kernel: CompetitionFile) -> CompetitionFile:
    """The second kernel of a code competition: the first one's models, and no internet."""
    return replace(
        kernel,
        kernel=kernel.kernel + INFERENCE,
        internet=False,
        webhook=False,
        kernels=(*kernel.kernels, kernel.kernel),
        settings={**kernel.settings, "predict.run": "attached"},
    )


def read_pushed(kernel: CompetitionFile, folder: Path = PUSHED) -> Pushed | None:
    """What was sent last, or None if nothing was sent from this machine."""
    path = folder / kernel.slug / "pushed.json"
    return Pushed(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def run_verb(verb: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Carries a verb out; what is expected to go wrong is one line and the code 1."""
    try:
        verb(argv)
    except EXPECTED as error:
        print(f"Refused: {error}")
        return 1
    except EOFError:
        print('\nRefused: there is no terminal to ask at; ARGS="--flag value" answers beforehand')
        return 1
    except KeyboardInterrupt:  # how one leaves logs
        print("\nStopped here; what runs on Kaggle goes on")
        return 130
    return 0
