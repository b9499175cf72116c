"""The command line: what it says, and what it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests
from live_site import EVERYWHERE, get, make_event, sign_body
from receivers import wait_until
from sample_run import make_events

from workbench.dashboard import __main__ as main_room
from workbench.dashboard import greeting as greeting_room
from workbench.dashboard.__main__ import main
from workbench.dashboard.door import Gate
from workbench.dashboard.greeting import find_base, list_lines
from workbench.dashboard.keys import open_keys
from workbench.dashboard.store import Store

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def start(folder: Path, *words: str) -> Iterator[tuple[str, str]]:
    """A dashboard as a process of its own; yields its address and what it said."""
    said = folder.parents[1] / "said"
    program = [sys.executable, "-u", "-m", "workbench.dashboard", "--port", "0", *words]
    with (
        said.open("w") as file,
        subprocess.Popen(
            [*program, "--folder", folder],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        ) as process,
    ):
        wait_until(lambda: "it is kept in" in said.read_text())
        text = said.read_text()
        yield re.findall(r"the live page +(http://[0-9.:]+)/", text)[0], text
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert "Traceback" not in said.read_text()


def test_a_start_says_what_to_open_and_what_senders_need_and_ends_quietly(tmp_path: Path):
    with start(tmp_path / "new" / "dashboard") as (url, said):
        assert get(url + "/api/runs").json()["runs"] == []
        assert get(url + "/").text.startswith("<!doctype html>")
        keys = open_keys(tmp_path / "new" / "dashboard")
        assert f'export PODIUM_WEBHOOK="{url}/ingest#{keys.secret}"' in said
        assert f'RemoteMonitor(root="{url}/keras/{keys.write}/my-run")' in said
        for name in ("keys.json", "events.db"):
            assert (tmp_path / "new" / "dashboard" / name).stat().st_mode & 0o077 == 0


def test_killed_under_load_it_has_every_event_that_it_acknowledged(tmp_path: Path):
    program = [sys.executable, "-u", "-m", "workbench.dashboard", "--port", "0"]
    environ, folder = {**os.environ, "PYTHONPATH": str(ROOT / "src")}, tmp_path / "new" / "board"
    command, pipe = [*program, "--folder", folder], subprocess.PIPE
    acknowledged = set[tuple[str, int]]()
    with subprocess.Popen(command, stdout=pipe, text=True, env=environ) as process:
        assert process.stdout is not None
        url = re.findall(r"http://[0-9.:]+", process.stdout.readline())[0]
        secret = open_keys(folder).secret

        def send(session: str) -> None:
            """Posts batches of five until nobody answers."""
            for first in range(1, 1_000_000, 5):
                events = [make_event(first + n) | {"session": session} for n in range(5)]
                body = json.dumps({"events": events}).encode()
                headers = sign_body(secret, body, f"{session}-{first}", int(time.time()))
                try:
                    answer = requests.post(f"{url}/ingest", body, headers=headers)
                except requests.RequestException:
                    return
                assert answer.json()["stored"] == 5
                acknowledged.update((session, event["seq"]) for event in events)

        senders = [threading.Thread(target=send, args=[one]) for one in "abcd"]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(acknowledged) > 300)
        process.kill()
        for sender in senders:
            sender.join()
    with closing(Store(folder)) as store, store.reading() as db:
        rows = db.execute(
            "SELECT sessions.session, events.seq FROM events "
            "JOIN sessions ON sessions.id = events.session"
        )
        assert acknowledged <= set(rows)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with start(folder) as (again, _):  # and it starts again
        assert get(again + "/api/health").json()["store"]["events"] >= len(acknowledged)


def test_keys_stay_the_same_from_start_to_start_and_broken_ones_are_told(tmp_path: Path):
    keys = open_keys(tmp_path)
    assert open_keys(tmp_path) == keys
    for part in (keys.secret, keys.write, keys.topic):
        assert part not in repr(keys)
    for broken in ("", "[]", "{}", json.dumps({"secret": "", "write": "", "topic": ""})):
        (tmp_path / "keys.json").write_text(broken)
        assert main(["--folder", str(tmp_path), "--port", "0"]) == 1


@pytest.mark.parametrize(
    ("listen", "hosts", "base"),
    [
        ("127.0.0.1", [], "http://127.0.0.1:8008"),
        ("localhost", [], "http://127.0.0.1:8008"),
        ("::1", [], "http://[::1]:8008"),
        ("192.0.2.9", [], "http://192.0.2.9:8008"),
        (EVERYWHERE, [], "http://192.0.2.7:8008"),
        ("::", [], "http://192.0.2.7:8008"),
        ("127.0.0.1", ["tunnel.example"], "https://tunnel.example"),
    ],
)
def test_the_address_is_one_that_others_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str, hosts: list[str], base: str
):
    monkeypatch.setattr(greeting_room, "find_own_address", lambda: "192.0.2.7")
    gate = Gate(Store(tmp_path), listen, 8008, hosts)
    assert find_base(gate) == base
    first, *others = list_lines(gate, open_keys(tmp_path))
    near = base in ("http://127.0.0.1:8008", "http://[::1]:8008")
    assert first.endswith(f"{base}/" if near else f"{base}/enter?code={gate.code}")
    assert any("█" in line for line in others) == (not near and not hosts)  # for a camera
    gate.store.close()


def test_a_taken_port_and_a_folder_that_cannot_be_written_are_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--folder", str(tmp_path / "a"), "--port", port]) == 1
    assert "if a dashboard runs already, open that one, else --port" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["--folder", str(tmp_path / "file" / "b")]) == 1
    assert "cannot be written: " in capsys.readouterr().err
    assert main(["--folder", str(tmp_path / "a"), "--port", "99999"]) == 1
    assert "--port must be 0 to 65535" in capsys.readouterr().err


def test_runs_are_taken_in_and_given_away_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "digits"
    folder.mkdir()
    lines = [json.dumps(one) + "\n" for one in make_events()]
    (folder / "events.jsonl").write_text("".join(lines))
    place = ["--folder", str(tmp_path / "dashboard")]
    assert main(["import", str(folder), *place]) == 0
    assert capsys.readouterr().out == f"{folder}: 17 of 17 events are new\n"
    assert main(["import", str(tmp_path), *place]) == 1
    assert "has no events.jsonl" in capsys.readouterr().err
    out = tmp_path / "digits.csv"
    assert main(["export", "--run", "digits", "--csv", str(out), *place]) == 0
    assert len(out.read_text().splitlines()) == 7
    boards = tmp_path / "boards"
    assert main(["export", "--run", "4042", "--tensorboard", str(boards), *place]) == 0
    assert len(list(boards.glob("digits-4042/fold*/*.tfevents.*"))) == 2
    assert main(["export", "--run", "other", "--csv", str(out), *place]) == 1
    assert "--run must name one of the runs: 4042 (digits)" in capsys.readouterr().err
    kept = dict[str, object]()
    monkeypatch.setattr(main_room, "render", lambda data: kept.update(data) or "<html>")
    assert main(["export", "--run", "4042", "--html", str(out), *place]) == 0
    assert out.read_text() == "<html>"
    assert kept.keys() == {"now", "runs", "series", "details", "compare"}
    assert kept["details"]["4042"]["card"] == kept["runs"][0]
