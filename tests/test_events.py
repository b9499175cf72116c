import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.events import LONGEST_TEXT, Reporter, clean_value, clean_values, read_record

ROOT = Path(__file__).resolve().parents[1]


def events_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_an_event_is_one_line_of_json(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("fold_started", fold=1)
    report.emit("fold_ended", fold=1, score=np.float32(0.5))
    events = events_of(tmp_path)
    assert [event["event"] for event in events] == ["fold_started", "fold_ended"]
    assert events[1]["score"] == 0.5


def test_an_event_is_keyed_by_run_session_and_number(tmp_path: Path):
    for session in range(2):
        report = Reporter(tmp_path)
        report.emit("run_started", place=session)
        report.emit("run_finished")
    keys = [(event["run"], event["session"], event["seq"]) for event in events_of(tmp_path)]
    assert len({run for run, *_ in keys}) == 1
    assert len({session for _, session, _ in keys}) == 2
    assert [seq for *_, seq in keys] == [1, 2, 1, 2]


def test_numbers_that_json_does_not_know_become_null():
    values = {"loss": float("nan"), "list": [np.inf, np.int64(3)], "deep": {"x": -np.inf}}
    assert clean_values(values) == {"loss": None, "list": [None, 3], "deep": {"x": None}}


def test_scalars_and_arrays_of_every_library_become_plain_values():
    import jax.numpy as jnp
    import tensorflow as tf

    odd = {
        "half": np.float16(0.5),
        "tensor": tf.constant(0.25),
        "bfloat": tf.constant(1.5, tf.bfloat16),
        "jax": jnp.float32(2.0),
        "jax_bfloat": jnp.asarray(3.0, jnp.bfloat16),
        "variable": keras.Variable(4.0),
        "flag": np.True_,
        "per_class": np.array([0.5, np.nan]),
        "flat": np.ones((2, 2), np.int8),
        7: np.str_("text"),
    }
    assert clean_values(odd) == {
        "half": 0.5,
        "tensor": 0.25,
        "bfloat": 1.5,
        "jax": 2.0,
        "jax_bfloat": 3.0,
        "variable": 4.0,
        "flag": True,
        "per_class": [0.5, None],
        "flat": [1, 1, 1, 1],
        "7": "text",
    }
    assert len(clean_value(np.zeros(100_000))) == 100


def test_of_a_long_text_the_end_is_kept(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("run_failed", reason="x" * 100_000 + "the cause")
    (event,) = events_of(tmp_path)
    assert str(event["reason"]).endswith("the cause")
    assert len(str(event["reason"])) == LONGEST_TEXT + 1


def test_a_list_is_cut_as_an_array_is_but_only_for_an_event(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("epoch_ended", values=list(range(100_000)), deep={"x": (0.5,) * 1000})
    (event,) = events_of(tmp_path)
    assert event["values"] == list(range(100))
    assert event["deep"] == {"x": [0.5] * 100}
    assert len(clean_value(list(range(1000)))) == 1000


def test_an_event_of_any_size_leaves_a_line_that_can_be_read(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("epoch_ended", **{f"metric{number}": number for number in range(20_000)})
    report.emit("fold_ended")
    assert [event["event"] for event, _ in read_record(report.path)] == [
        "epoch_ended",
        "fold_ended",
    ]


class Hostile:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


def test_what_cannot_be_written_is_counted_and_stops_nothing(tmp_path: Path):
    loop: list[object] = []
    loop.append(loop)
    report = Reporter(tmp_path)
    ring: dict[str, object] = {}
    ring["ring"] = ring
    for value in (loop, ring, Hostile()):
        report.emit("epoch_ended", value=value)
    assert report.lost == 3
    report.emit("epoch_ended", value=1)
    assert [event["value"] for event, _ in read_record(report.path)] == [1]
    nowhere = Reporter(tmp_path / "missing")
    nowhere.emit("epoch_ended", loss=0.1)
    assert nowhere.lost == 1


def test_a_full_disk_stops_nothing(tmp_path: Path):
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    report = Reporter(tmp_path)
    report.emit("epoch_ended", loss=0.1)
    assert report.lost == 1


def test_a_line_torn_by_a_kill_is_passed_over_and_the_next_is_whole(tmp_path: Path):
    Reporter(tmp_path).emit("run_started")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"run": "half a li')
    Reporter(tmp_path).emit("run_finished")
    names = [event["event"] for event, _ in read_record(tmp_path / "events.jsonl")]
    assert names == ["run_started", "run_finished"]


@pytest.mark.modules
def test_a_process_that_is_killed_keeps_every_event_it_emitted(tmp_path: Path):
    code = (
        "import os, sys, pathlib; from podium.events import Reporter\n"
        "report = Reporter(pathlib.Path(sys.argv[1]))\n"
        "for number in range(200): report.emit('step_reached', number=number)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=environ, check=False)
    assert done.returncode == -9
    events = [event["number"] for event, _ in read_record(tmp_path / "events.jsonl")]
    assert events == list(range(200))


def emit_elsewhere(report: Reporter) -> None:
    report.emit("from_the_child")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_forked_process_says_nothing(tmp_path: Path):
    report = Reporter(tmp_path)
    report.emit("from_the_parent")
    child = multiprocessing.get_context("fork").Process(target=emit_elsewhere, args=(report,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert [event["event"] for event in events_of(tmp_path)] == ["from_the_parent"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_bare_fork_says_nothing_either_and_never_waits_for_its_parents_lock(tmp_path: Path):
    report = Reporter(tmp_path)
    with report.lock:
        child = os.fork()
        if child == 0:
            report.emit("from_the_child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert list(read_record(report.path)) == []


def test_only_the_first_host_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = Reporter(tmp_path, leader=False)
    report.emit("run_started")
    report.warn("seen by all hosts")
    assert not (tmp_path / "events.jsonl").exists()
    assert capsys.readouterr().out == ""


def test_a_warning_is_said_recorded_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = Reporter(tmp_path)
    report.warn("random weights")
    assert capsys.readouterr().out == "! random weights\n"
    assert events_of(tmp_path)[0]["text"] == "random weights"
    assert report.warnings == ["random weights"]


def test_no_line_holds_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = Reporter(tmp_path)
    report.hidden.append("https://example.org/token")
    report.emit("run_failed", reason="cannot reach https://example.org/token now")
    report.warn("https://example.org/token is down")
    assert "token" not in capsys.readouterr().out + (tmp_path / "events.jsonl").read_text()
    assert report.warnings == ["… is down"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(json_like)
def test_whatever_is_emitted_is_strict_json(value: object):
    json.loads(json.dumps(clean_value(value), allow_nan=False), parse_constant=lambda _: 1 / 0)
