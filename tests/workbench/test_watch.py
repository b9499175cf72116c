import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import requests

from workbench import watch
from workbench.competition_file import CompetitionFile
from workbench.kaggle_client import KaggleLostError
from workbench.watch import (
    LOSSES,
    follow_log,
    join_lines,
    read_event,
    read_log,
    translate_line,
)

LOG = json.dumps(
    [
        {"stream_name": "stdout", "time": 1, "data": "one\ntw"},
        {"stream_name": "stderr", "time": 2, "data": "o\n"},
        {"stream_name": "stdout", "time": 3, "data": "three"},
    ]
)


def test_a_log_is_text_whether_kaggle_keeps_it_as_json_or_as_text():
    assert read_log(LOG) == "one\ntwo\nthree"
    for text in ("one\ntwo\n", "7", "", "[1, 2]", '[{"epoch": 1}]', '{"data": "x"}'):
        assert read_log(text) == text
    assert read_log("[]") == ""


def test_a_line_is_shown_when_it_is_whole():
    lines = join_lines(iter(["one\ntw", "", "o\n\nth", "ree"]))
    assert next(lines) == "one"
    assert list(lines) == ["two", "", "three"]
    assert list(join_lines(["end\n"])) == ["end"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"stream_name": "stdout", "time": 1, "data": "tw"}, "tw"),
        ({"stream_name": "stdout", "time": 1, "data": None}, ""),
        ({"data": "a line of a log that is plain text"}, "a line of a log that is plain text\n"),
        ({"data": "whole\n"}, "whole\n"),
        ([1, 2], "[1, 2]\n"),
        (7, "7\n"),
    ],
)
def test_a_streamed_record_is_its_text_and_a_line_that_is_none_has_its_end(event, text: str):
    assert read_event(event) == text


class Client:
    """A client whose streams are lost after these pieces each."""

    def __init__(self, *streams: list[str]) -> None:
        self.streams = list(streams)

    def kernels_status(self, address: str) -> SimpleNamespace:
        return SimpleNamespace(status="RUNNING", failure_message="")

    def kernels_logs_stream(self, address: str) -> Iterator[dict[str, object]]:
        for text in self.streams.pop(0):
            yield {"time": 1, "data": text}
        if self.streams:
            raise requests.exceptions.ChunkedEncodingError


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> CompetitionFile:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.0)
    return CompetitionFile("digits", "alice/podium-digits")


def test_a_lost_stream_goes_on_where_it_was_however_it_is_cut_again(kernel: CompetitionFile):
    client = Client(["one\ntw"], [], ["one\n"], ["o", "ne\ntwo\nth", "ree"])
    assert list(join_lines(follow_log(client, kernel))) == ["one", "two", "three"]


def test_a_stream_that_is_lost_again_and_again_is_given_up(kernel: CompetitionFile):
    client = Client(["one\n"], *[["one\n"]] * (LOSSES - 1), ["one\n", "two\n"])
    assert list(join_lines(follow_log(client, kernel))) == ["one", "two"]
    lines = join_lines(follow_log(Client(["one\n"], *[["one\n"]] * (LOSSES + 1)), kernel))
    assert next(lines) == "one"
    with pytest.raises(KaggleLostError, match="cannot be reached .ChunkedEncodingError."):
        next(lines)


def test_a_line_of_a_traceback_names_the_source_it_came_from():
    places = ["build_kernel.py (title)", "src/podium/folds.py:12"]
    line = '  File "/kaggle/src/script.py", line 2, in make_folds'
    assert translate_line(line, places) == f"{line}  ← src/podium/folds.py:12"
    assert translate_line(line.replace("2", "3"), places).endswith("make_folds")
    assert translate_line('File "/lib/other.py", line 2', places).endswith("line 2")
