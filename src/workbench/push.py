"""Pushes the script to Kaggle, which runs it in the background.

What was pushed is kept in runs/pushed/<kernel>, and the commit is tagged with its version.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from podium.address import KERAS_PATH, list_secrets
from podium.webhook import SECRET_NAME
from workbench.competition_file import ROOT, CompetitionFile, CompetitionFileError
from workbench.flatten.leaks import find_pieces, find_secrets, list_pieces
from workbench.flatten.settings_block import format_settings
from workbench.kaggle_client import (
    KaggleLostError,
    KaggleRefusalError,
    ask,
    explain_refusal,
    open_client,
)
from workbench.kernel import PUSHED, Pushed, VerbError, find_kernel, make_parser, run_verb
from workbench.kernel_metadata import PATH, derive_metadata, list_metadata_mistakes

CODE_FILE = "podium.py"
PUSH_SECONDS = 300.0  # for a script of 1 MB at most
SOURCES = ("src", "kernel", "build_kernel.py")  # what a push is made of
INVALID = ("dataset", "competition", "kernel", "model")  # sources that Kaggle may refuse


def push(argv: Sequence[str]) -> None:
    """Builds, checks, sends, believes only the answer, remembers and tags."""
    parser = make_parser("push", __doc__)
    parser.add_argument("--dry", action="store_true", help="show all of it and send nothing")
    options = parser.parse_args(argv)
    kernel = find_kernel(options)
    folder = PUSHED / kernel.slug
    metadata = make_metadata(kernel)
    write_folder(folder, kernel, metadata)
    check_push(folder, kernel, metadata)
    print(describe_push(folder, kernel, metadata))
    if options.dry:
        print(f"Nothing was sent; it lies in {folder}")
        return
    check_commit()
    pushed = read_answer(send(folder, kernel), folder)
    (folder / "pushed.json").write_text(json.dumps(pushed._asdict()), encoding="utf-8")
    print(f"Version {pushed.version} is on its way: {pushed.url}")
    print(tag_commit(kernel, pushed))


def send(folder: Path, kernel: CompetitionFile) -> Any:
    """What Kaggle answers; raises KaggleRefusalError."""
    client = open_client()
    try:
        return ask(lambda: client.kernels_push(str(folder)), PUSH_SECONDS)
    except KaggleLostError as error:
        raise KaggleRefusalError(
            f"{error}; Kaggle may have taken the push all the same: look at make status and "
            f"https://www.kaggle.com/code/{kernel.kernel} before you push again"
        ) from None


def make_metadata(kernel: CompetitionFile) -> dict[str, Any]:
    """The competition's metadata, or kernel-metadata.json where there is no competition."""
    if kernel.competition:
        return derive_metadata(kernel, CODE_FILE)
    return {**json.loads(PATH.read_text(encoding="utf-8")), "code_file": CODE_FILE}


def write_folder(folder: Path, kernel: CompetitionFile, metadata: Mapping[str, Any]) -> None:
    """Builds what is sent, as `kaggle kernels push -p folder` would send it too."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", dict(kernel.settings))
    write_json(folder / "kernel-metadata.json", metadata)
    build = [sys.executable, str(ROOT / "build_kernel.py"), "--apart"]
    done = subprocess.run(
        [*build, str(folder / "settings.json"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise VerbError(f"the script cannot be built:\n{done.stderr.strip()}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file that people may read."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_push(folder: Path, kernel: CompetitionFile, metadata: Mapping[str, Any]) -> None:
    """Raises CompetitionFileError with everything that would fail on Kaggle."""
    mistakes = list_metadata_mistakes(metadata)
    answers = kernel.settings.get("predict.run")
    if kernel.kind == "code" and answers and metadata["enable_internet"]:
        mistakes.append(
            "a code competition's submission must run without internet; internet = false"
        )
    script = (folder / CODE_FILE).read_text(encoding="utf-8")
    for number, what in [*find_secrets(script), *find_webhook(script)]:
        mistakes.append(f"line {number} of the script holds what looks like {what}; revoke it")
    if mistakes:
        raise CompetitionFileError("\n".join(mistakes))


def find_webhook(script: str) -> Iterator[tuple[int, str]]:
    """Yields the lines that hold a part of your webhook, which is not repeated."""
    words = os.environ.get(SECRET_NAME, "").split()
    parts = [part for word in words for part in (word, *list_secrets(word))]
    secret = [re.escape(part) for part in parts if part not in KERAS_PATH]
    if secret:
        for number in find_pieces(list_pieces(script), re.compile("|".join(secret))):
            yield number, f"a part of your {SECRET_NAME}"


def describe_push(folder: Path, kernel: CompetitionFile, metadata: Mapping[str, Any]) -> str:
    """What is about to be sent."""
    sources = [one for kind in INVALID for one in metadata.get(f"{kind}_sources", [])]
    machine = metadata.get("machine_shape") or "CPU"
    internet = "internet" if metadata["enable_internet"] else "no internet"
    private = "private" if metadata["is_private"] else "PUBLIC"
    size = (folder / CODE_FILE).stat().st_size
    return "\n".join(
        [
            f"{kernel.kernel}: {machine}, {internet}, {private}, {size:,} bytes",
            f"  attached: {', '.join(sources) or 'nothing'}",
            *("  " + line for line in format_settings(kernel.settings).splitlines()),
        ]
    )


def check_commit() -> None:
    """Raises VerbError if the tag would name what was not pushed."""
    changed = run_git("status", "--porcelain", "--untracked-files=no").splitlines()
    changed += run_git("status", "--porcelain", "--untracked-files=all", *SOURCES).splitlines()
    if changed:
        names = ", ".join(dict.fromkeys(line.split(maxsplit=1)[1] for line in changed))
        raise VerbError(f"not committed: {names}; git add and commit them, then push")


def read_answer(answer: Any, folder: Path) -> Pushed:
    """What Kaggle made of it; raises KaggleRefusalError unless all of it was taken."""
    if answer.error:
        raise KaggleRefusalError(explain_refusal(str(answer.error)))
    refused = {
        kind: list(getattr(answer, f"invalid_{kind}_sources", None) or []) for kind in INVALID
    }
    words = [f"{kind} {name}" for kind, names in refused.items() for name in names]
    number, url = int(answer.version_number or 0), str(answer.url or "")
    if words:
        raise KaggleRefusalError(
            f"version {number} runs without {', '.join(words)}, which Kaggle does not know or you "
            f"may not use: check the address and version, accept the rules, then push again ({url})"
        )
    if not number or not url:
        raise KaggleRefusalError("Kaggle names no version; kaggle.com/code shows whether one runs")
    script = (folder / CODE_FILE).read_text(encoding="utf-8")
    places = (folder / "places.txt").read_text(encoding="utf-8").splitlines()
    return Pushed(number, url, script.partition("Sources: sha256 ")[2][:64], places)


def tag_commit(kernel: CompetitionFile, pushed: Pushed) -> str:
    """Tags the commit that was pushed, and says so."""
    name = f"{kernel.slug}-v{pushed.version}"
    message = f"{pushed.url}\nsources sha256 {pushed.source}"
    try:
        run_git("tag", "-a", name, "-m", message)
    except VerbError as error:
        return f"! not tagged: {error}"
    return f"Tagged {name}"


def run_git(*words: str) -> str:
    """What git prints; raises VerbError with its complaint."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VerbError(done.stderr.strip().splitlines()[0] if done.stderr else "git failed")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(run_verb(push, sys.argv[1:]))
