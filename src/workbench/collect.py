"""Fetches what a kernel has written, and hands its submission in."""

import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from workbench.competition_file import ROOT, CompetitionFile
from workbench.dashboard.pick_up import tell_pick_up
from workbench.dashboard.store import FOLDER
from workbench.kaggle_client import (
    TRANSFER_SECONDS,
    KaggleRefusalError,
    ask,
    download,
    list_output,
    open_client,
)
from workbench.kernel import VerbError, find_kernel, make_parser, read_pushed, run_verb
from workbench.watch import ENDED, ask_status


def pull(argv: Sequence[str]) -> None:
    """Fetches the output into runs/<kernel>-v<version>/ and says how the run went."""
    kernel = find_kernel(make_parser("pull", pull.__doc__).parse_args(argv))
    client = open_client()
    status = check_ended(client, kernel)
    folder = find_run(kernel)
    half = folder.with_name(f"{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    count = fetch_output(client, kernel, half)
    shutil.rmtree(folder, ignore_errors=True)  # files of two versions must not meet in it
    half.replace(folder)
    print(f"{count} files in {folder.relative_to(ROOT)}; the kernel is {status.lower()}")
    for line in describe_run(folder):
        print(f"  {line}")
    print(f"  live page  {tell_pick_up(folder, FOLDER)}")
    if doubt := doubt_version(kernel, folder):
        print(f"! {doubt}")


def check_ended(client: Any, kernel: CompetitionFile) -> str:
    """The session's status; raises VerbError if it has not ended, for then it has no output."""
    status, _ = ask_status(client, kernel)
    if status not in ENDED:
        raise VerbError(
            f"{kernel.kernel} is {status.lower()}, and its output comes when it ends; make logs"
        )
    return status


def fetch_output(client: Any, kernel: CompetitionFile, folder: Path) -> int:
    """Writes every file of the output, and the log, into a folder; returns how many."""
    log = ""
    for page in list_output(client, kernel.kernel):
        log = log or str(page.log or "")
        for item in page.files or []:
            path = folder / item.file_name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise KaggleRefusalError(f"{item.file_name} would be written outside {folder}")
            ask(partial(download, item.url, path), TRANSFER_SECONDS)
    if log:
        (folder / f"{kernel.slug}.log").write_text(log, encoding="utf-8")
    return sum(path.is_file() for path in folder.rglob("*"))


def doubt_version(kernel: CompetitionFile, folder: Path) -> str:
    """Why the output may not be that of the version pushed last; nothing if it is.

    Kaggle serves the latest session, and a script writes the hash of its sources to status.json.
    """
    pushed = read_pushed(kernel)
    source = str(read_json(folder / "status.json").get("source", ""))
    if pushed is None or source == pushed.source:
        return ""
    made = f"sources {source[:12]} made it" if source else "it has no status.json"
    return (
        f"this is not the output of version {pushed.version}: {made}, and {pushed.source[:12]} was "
        f"pushed; once {pushed.url} shows that version as complete, make pull again"
    )


def find_run(kernel: CompetitionFile) -> Path:
    """The folder of the version that was pushed last."""
    pushed = read_pushed(kernel)
    return ROOT / "runs" / f"{kernel.slug}-v{pushed.version if pushed else 'latest'}"


def describe_run(folder: Path) -> list[str]:
    """How a fetched run went, from its own files."""
    lines = []
    status = read_json(folder / "status.json")
    if status:
        error = f": {status['error']}" if status["error"] else ""
        lines.append(f"run        {status['state']}{error}")
    score = read_json(folder / "summary.json").get("out_of_fold")
    if score:
        low, high = score["interval"]
        metric = str(score["metric"]).replace("_", " ")
        lines.append(f"score      {metric} {score['value']:.4f} (95 %: {low:.4f} to {high:.4f})")
    for name in ("report.html", "submission.csv"):
        shown = folder / name if (folder / name).is_file() else "none"
        lines.append(f"{name.partition('.')[0]:<11}{shown}")
    return lines


def read_json(path: Path) -> dict[str, Any]:
    """The file's content, or nothing if it is not there."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def submit(argv: Sequence[str]) -> None:
    """Hands in: the fetched submission.csv, or for a code competition the kernel's version."""
    parser = make_parser("submit", submit.__doc__)
    parser.add_argument("--message", default="", help="a note that Kaggle shows with the score")
    options = parser.parse_args(argv)
    kernel = find_kernel(options)
    pushed = read_pushed(kernel)
    if not kernel.competition:
        raise VerbError("there is no competition; make new COMPETITION=its-slug")
    if pushed is None:
        raise VerbError("nothing was pushed from here yet; make push, wait, make pull")
    if kernel.kind == "code" and kernel.internet:
        raise VerbError(
            "a code competition takes no version that ran with internet; make infer-push, then "
            "make submit INFER=1"
        )
    message = options.message or f"{kernel.slug} version {pushed.version}, {pushed.source[:12]}"
    client = open_client()
    if kernel.kind == "code":
        check_ended(client, kernel)
        answer = ask(
            lambda: client.competition_submit_code(
                "submission.csv", message, kernel.competition, kernel.kernel, pushed.version
            )
        )
    else:
        answer = submit_file(client, kernel, message)
    print(
        f"{getattr(answer, 'message', '') or 'Submitted'}; the score appears on "
        f"https://www.kaggle.com/competitions/{kernel.competition}/submissions"
    )


def submit_file(client: Any, kernel: CompetitionFile, message: str) -> Any:
    """Uploads the submission that was fetched."""
    path = find_run(kernel) / "submission.csv"
    if not path.is_file():
        raise VerbError(f"{path.relative_to(ROOT)} is not there; make pull fetches it")
    if doubt := doubt_version(kernel, path.parent):
        raise VerbError(f"{path.relative_to(ROOT)} is not handed in: {doubt}")
    answer = ask(
        lambda: client.competition_submit(str(path), message, kernel.competition), TRANSFER_SECONDS
    )
    if not getattr(answer, "ref", 0):
        raise KaggleRefusalError(f"Kaggle does not take the file: {getattr(answer, 'message', '')}")
    return answer


VERBS = {"pull": pull, "submit": submit}

if __name__ == "__main__":
    sys.exit(run_verb(VERBS[sys.argv[1]], sys.argv[2:]))
