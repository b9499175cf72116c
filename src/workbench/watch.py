"""Watches a pushed kernel: its status, its log, what is left of the week's quota."""

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from workbench.competition_file import CompetitionFile
from workbench.kaggle_client import KaggleRefusalError, ask, open_client
from workbench.kernel import find_kernel, make_parser, read_pushed, run_verb

POLL_SECONDS = 10.0
ENDED = ("COMPLETE", "ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")
TRACE_LINE = re.compile(r'File "[^"]*script\.py", line (\d+)')


def show_status(argv: Sequence[str]) -> None:
    """Queued, running, complete or failed, and why."""
    kernel = find_kernel(make_parser("status", show_status.__doc__).parse_args(argv))
    status, reason = ask_status(open_client(), kernel)
    pushed = read_pushed(kernel)
    version = f" version {pushed.version}" if pushed else ""
    print(f"{kernel.kernel}{version}: {status.lower()}" + (f" ({reason})" if reason else ""))


def ask_status(client: Any, kernel: CompetitionFile) -> tuple[str, str]:
    """The session's status in capitals, and the reason of a failure."""
    answer = ask(lambda: client.kernels_status(kernel.kernel))
    status = getattr(answer.status, "name", str(answer.status)).upper()
    return status, str(answer.failure_message or "")


def show_logs(argv: Sequence[str]) -> None:
    """The log, live while the kernel runs; lines of the script are named by their source."""
    kernel = find_kernel(make_parser("logs", show_logs.__doc__).parse_args(argv))
    client = open_client()
    pushed = read_pushed(kernel)
    places = pushed.places if pushed else []
    follow = stream_log if hasattr(client, "kernels_logs_stream") else poll_log
    for line in follow(client, kernel):
        print(translate_line(line, places), flush=True)
    status, reason = ask_status(client, kernel)
    print(f"— {status.lower()}" + (f" ({reason})" if reason else ""))


def stream_log(client: Any, kernel: CompetitionFile) -> Iterator[str]:
    """The log as Kaggle streams it, to its end."""
    events = ask(lambda: client.kernels_logs_stream(kernel.kernel))
    nothing = object()
    text = ""
    while (event := ask(lambda: next(events, nothing), 3600)) is not nothing:
        text += str(event.get("data") or "")
        *lines, text = text.split("\n")
        yield from read_log("\n".join(lines)) if lines else ()
    yield from read_log(text)


def poll_log(client: Any, kernel: CompetitionFile) -> Iterator[str]:
    """The log as it stands, again and again until the session has ended."""
    seen = 0
    while True:
        ended = ask_status(client, kernel)[0] in ENDED
        lines = list(read_log(str(ask(lambda: client.kernels_logs(kernel.kernel)) or "")))
        yield from lines[seen:]
        seen = len(lines)
        if ended:
            return
        time.sleep(POLL_SECONDS)


def read_log(text: str) -> Iterator[str]:
    """The lines of a log, which is plain text or JSON as Kaggle keeps it."""
    try:
        records = json.loads(text)
    except ValueError:
        records = None
    if isinstance(records, list):
        text = "".join(str(one.get("data", "")) for one in records if isinstance(one, dict))
    yield from text.splitlines()


def translate_line(line: str, places: Sequence[str]) -> str:
    """The line, and after a line of a traceback the source that the script's line came from."""
    for number in map(int, TRACE_LINE.findall(line)):
        if 0 < number <= len(places):
            line += f"  ← {places[number - 1]}"
    return line


def show_quota(argv: Sequence[str]) -> None:
    """What is left of the week's hours on GPU and TPU."""
    make_parser("quota", show_quota.__doc__).parse_args(argv)
    client = open_client()
    if not hasattr(client, "quota_view"):
        raise KaggleRefusalError(
            "this version of the kaggle client cannot tell; kaggle.com/settings shows it, or "
            ".venv/bin/pip install --upgrade kaggle"
        )
    answer = ask(client.quota_view)
    for name in ("gpu", "tpu"):
        quota = getattr(answer, f"{name}_quota", None)
        if quota:
            used = quota.time_used.total_seconds() / 3600
            total = quota.total_time_allowed.total_seconds() / 3600
            print(f"{name.upper()}  {total - used:5.1f} h left of {total:.0f} h")
    print(f"renewed {answer.quota_refresh_time:%Y-%m-%d %H:%M} UTC")


VERBS = {"status": show_status, "logs": show_logs, "quota": show_quota}

if __name__ == "__main__":
    sys.exit(run_verb(VERBS[sys.argv[1]], sys.argv[2:]))
