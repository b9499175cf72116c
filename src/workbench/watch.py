"""Watches a pushed kernel: its status, its log, what is left of the week's quota."""

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from workbench.competition_file import CompetitionFile
from workbench.kaggle_client import KaggleLostError, KaggleRefusalError, ask, open_client
from workbench.kernel import find_kernel, make_parser, read_pushed, run_verb

POLL_SECONDS = 5.0  # between two looks, and before a lost connection is made again
LOSSES = 5  # connections lost one after another, with nothing new from any
SILENT_SECONDS = 3600.0  # of a stream: an epoch may take long
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
    for line in join_lines(follow_log(client, kernel)):
        print(translate_line(line, places), flush=True)
    status, reason = ask_status(client, kernel)
    print(f"— {status.lower()}" + (f" ({reason})" if reason else ""))


def follow_log(client: Any, kernel: CompetitionFile) -> Iterator[str]:
    """The log in pieces, to its end: streamed where the client can, else asked for again and again.

    It comes from its beginning each time, also after a connection was lost; what was seen is left
    out. Raises KaggleRefusalError, but for a connection that is lost only after LOSSES times.
    """
    live = hasattr(client, "kernels_logs_stream")
    read = stream_log if live else poll_log
    ended = ask_status(client, kernel)[0] in ENDED
    seen = losses = 0
    while True:
        before, sent = seen, 0
        try:
            for piece in read(client, kernel):
                sent += len(piece)
                if sent > seen:
                    yield piece[seen - sent :]
                    seen = sent
            if live or ended:
                return
            time.sleep(POLL_SECONDS)
            ended = ask_status(client, kernel)[0] in ENDED
        except KaggleLostError:
            losses = 0 if seen > before else losses + 1
            if losses == LOSSES:
                raise
            time.sleep(POLL_SECONDS)


def stream_log(client: Any, kernel: CompetitionFile) -> Iterator[str]:
    """The log in pieces, as Kaggle streams it."""
    events, nothing = client.kernels_logs_stream(kernel.kernel), object()
    while (event := ask(lambda: next(events, nothing), SILENT_SECONDS)) is not nothing:
        yield read_event(event)


def read_event(event: Any) -> str:
    """The text of a streamed record of Kaggle's, or of a line that is none.

    The client hands such a line over in a record with nothing else in it, without its end, or as
    the value that it makes where it is read as JSON.
    """
    if not isinstance(event, dict):
        return f"{json.dumps(event)}\n"
    text = str(event.get("data") or "")
    return f"{text}\n" if text and len(event) == 1 and not text.endswith("\n") else text


def poll_log(client: Any, kernel: CompetitionFile) -> Iterator[str]:
    """The log as it stands, in one piece."""
    yield read_log(str(ask(lambda: client.kernels_logs(kernel.kernel)) or ""))


def read_log(text: str) -> str:
    """The text of a log, which is plain or JSON as Kaggle keeps it: a list of records."""
    try:
        records = json.loads(text)
    except ValueError:
        return text
    if isinstance(records, list) and all(
        isinstance(one, dict) and "data" in one for one in records
    ):
        return "".join(str(one["data"] or "") for one in records)
    return text


def join_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines, as soon as each is whole, of a text in pieces."""
    text = ""
    for piece in pieces:
        *lines, text = (text + piece).split("\n")
        yield from lines
    if text:
        yield text


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
