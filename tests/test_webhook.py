import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from receivers import babble, drip, hang, serve, serve_socket, swallow
from sample_run import make_events
from services import Discord, Ntfy, Slack, Telegram

from podium import webhook as webhook_room
from podium.events import Reporter, read_record
from podium.webhook import Watch, find_secret

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
TOKEN = "discord-token-of-thirty-letters"


def watch_run(report: Reporter, environ: dict[str, str]) -> Watch:
    watch = Watch(report)
    watch.open(environ)
    return watch


def test_the_environment_comes_first_then_the_private_dataset(tmp_path: Path):
    for folder, text in (("podium-webhook", "old"), ("datasets/me/podium-webhook", "new")):
        assert find_secret({}, tmp_path / "inputs" / folder) == ("", "")
        path = tmp_path / folder.partition("/")[0] / folder / "podium-webhook.txt"
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
        inputs = tmp_path / folder.partition("/")[0]
        assert find_secret({}, inputs) == ("the private dataset", f"{text}\n")
        assert find_secret({"PODIUM_WEBHOOK": "here"}, inputs) == ("the environment", "here")


def fake_client(monkeypatch: pytest.MonkeyPatch, get_secret) -> None:
    """Kaggle's own module, which exists on Kaggle alone."""
    module = ModuleType("kaggle_secrets")
    module.UserSecretsClient = lambda: type("Client", (), {"get_secret": staticmethod(get_secret)})
    monkeypatch.setitem(sys.modules, "kaggle_secrets", module)


def test_a_kaggle_secret_is_the_last_resort_and_has_a_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    on_kaggle = {"KAGGLE_USER_SECRETS_TOKEN": "x"}
    assert find_secret(on_kaggle, tmp_path) == ("", "")  # there is no such module here
    fake_client(monkeypatch, lambda name: f"https://host.example/{name}")
    assert find_secret(on_kaggle, tmp_path) == (
        "Kaggle Secrets",
        "https://host.example/PODIUM_WEBHOOK",
    )
    assert find_secret({}, tmp_path) == ("", "")
    assert webhook_room.SECRET_SECONDS <= 2  # of the three that a start without internet may take
    hanging = threading.Event()
    monkeypatch.setattr(webhook_room, "SECRET_SECONDS", 0.05)
    fake_client(monkeypatch, lambda _: hanging.wait(30))
    assert find_secret(on_kaggle, tmp_path) == ("", "")
    hanging.set()


def test_without_a_webhook_one_line_says_how_to_have_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    watch_run(Reporter(tmp_path), {}).close()
    assert capsys.readouterr().out == "  webhook     none; PODIUM_WEBHOOK would name one\n"


def test_an_address_that_cannot_be_used_is_a_warning_and_the_others_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with serve() as server:
        report = Reporter(tmp_path)
        words = f"http://host.example/secret-of-many-letters {server.url}/good"
        watch = watch_run(report, {"PODIUM_WEBHOOK": words})
        report.emit("run_started")
        watch.close()
    said = capsys.readouterr().out
    assert "! webhook 1 of the environment is not used: over http anybody on the way" in said
    assert "  webhook     json, from the environment\n" in said
    assert "secret-of-many-letters" not in said + report.path.read_text()
    told = [one["event"] for request in server.received for one in request.json["events"]]
    assert told == ["warning_raised", "run_started"]


@pytest.mark.parametrize(
    "content",
    [TOKEN.encode("utf-16"), b"\xff\xfe\x00\xd8", f"tgram://1:{TOKEN}/".encode(), b"https://[x"],
)
def test_no_file_of_addresses_stops_a_run(
    tmp_path: Path, content: bytes, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "inputs" / "podium-webhook" / "podium-webhook.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(webhook_room.find_secret, "__defaults__", ({}, tmp_path / "inputs"))
    report = Reporter(tmp_path)
    watch_run(report, {}).close()
    said = capsys.readouterr().out
    assert report.warnings
    assert "is not used: " in said or "its address cannot be read (UnicodeDecodeError)" in said
    assert TOKEN not in said + report.path.read_text()


def test_an_error_of_any_kind_in_one_webhook_costs_only_it(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    read_webhook = webhook_room.read_webhook

    def fail(word: str, *rest: Any):
        if TOKEN in word:
            raise KeyError(word)
        return read_webhook(word, *rest)

    monkeypatch.setattr(webhook_room, "read_webhook", fail)
    with serve() as server:
        report = Reporter(tmp_path)
        watch = watch_run(report, {"PODIUM_WEBHOOK": f"https://h.example/{TOKEN} {server.url}"})
        watch.close()
    assert "! webhook 1 of the environment is not used: KeyError\n" in capsys.readouterr().out
    assert [one.sink.name for one in watch.deliveries] == ["json"]
    monkeypatch.setattr(webhook_room, "find_secret", lambda _: 1 / 0)
    watch_run(report, {}).close()
    assert "no webhook is used: its address cannot be read (ZeroDi" in capsys.readouterr().out


def test_all_sinks_hear_of_a_run_and_nothing_gives_a_token_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    services = {"discord": Discord(), "slack": Slack(), "telegram": Telegram(), "ntfy": Ntfy()}
    discord, slack, telegram, ntfy = services.values()
    with ExitStack() as stack:
        urls = {name: stack.enter_context(serve(one)).url for name, one in services.items()}
        words = [
            f"discord+{urls['discord']}{discord.path}",
            f"slack+{urls['slack']}{slack.path}",
            f"telegram+{urls['telegram']}{telegram.path}?chat_id={telegram.chat}",
            f"ntfy+{urls['ntfy']}/{ntfy.topic}",
        ]
        report = Reporter(tmp_path)
        watch = watch_run(report, {"PODIUM_WEBHOOK": "\n".join(words)})
        for event in make_events():
            name = event.pop("event")
            for key in ("run", "session", "seq", "time"):
                event.pop(key)
            report.emit(name, **event)
        report.emit("run_failed", error="E", reason=f"cannot reach {words[0]} nor {words[2]}")
        report.say(words[3])
        watch.close()
    for service in services.values():
        assert service.messages
    written = "".join(path.read_text(errors="replace") for path in tmp_path.iterdir())
    written += capsys.readouterr().out
    for secret in (discord.path, slack.path, telegram.path, ntfy.topic):
        assert secret.rpartition("/")[2] not in written
    shown = json.dumps([one.messages for one in (discord, slack, telegram)], default=str)
    assert not any(secret in shown for secret in (discord.path, slack.path, telegram.path))


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413, 422, 429, 500, "hang", "down"])
def test_no_way_to_fail_gives_a_token_away(
    tmp_path: Path, status, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Neither on the terminal, nor in the run folder, nor in what is sent elsewhere."""
    monkeypatch.setattr(webhook_room, "CLOSING_SECONDS", 0.5)
    reply = (status, {"location": f"https://elsewhere.example/{TOKEN}"}, {"message": TOKEN})
    with serve(lambda _: reply) as server, serve_socket(hang) as hanging:
        url = {"hang": hanging, "down": "http://127.0.0.1:9"}.get(status, server.url)
        report = Reporter(tmp_path)
        word = f"discord+{url}/api/webhooks/1/{TOKEN}"
        watch = watch_run(report, {"PODIUM_WEBHOOK": word})
        report.emit("run_started", settings={})
        report.warn(f"odd: {word}")
        watch.close()
    written = "".join(path.read_text(errors="replace") for path in tmp_path.iterdir())
    told = capfd.readouterr()
    assert TOKEN not in written + told.out + told.err
    assert '"run_started"' in written


UNREACHABLE = """
import os, pathlib, signal, socket, sys, time
from podium.events import Reporter
from podium.webhook import Watch
look_up = socket.getaddrinfo
def stay_silent(host, *rest, **more):
    return time.sleep(3600) if host == "silent.example" else look_up(host, *rest, **more)
socket.getaddrinfo = stay_silent
report = Reporter(pathlib.Path(sys.argv[1]))
watch = Watch(report)
watch.open()
report.emit("run_started", settings={})
for number in range(500):
    report.emit("step_reached", fold=0, epoch=1, step=number, steps=500)
report.warn("odd: " + os.environ["PODIUM_WEBHOOK"])
if sys.argv[2] == "SIGTERM":
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3600)
watch.close()
"""


@pytest.mark.modules
def test_a_process_whose_webhooks_are_all_out_of_reach_ends_by_itself_and_gives_nothing_away(
    tmp_path: Path,
):
    """Packets swallowed, a silent name server, one that hangs, one that drips, garbage for TLS."""
    endings = {"SIGTERM": -signal.SIGTERM, "an exit": 0}
    with ExitStack() as stack:
        hanging, dripping = (stack.enter_context(serve_socket(one)) for one in (hang, drip))
        garbage = stack.enter_context(serve_socket(babble)).replace("http", "https")
        swallowing = stack.enter_context(swallow())
        places = (swallowing, "https://silent.example", hanging, dripping, garbage)
        words = [f"{kind}+{url}/api/{TOKEN}" for url in places for kind in ("json", "discord")]
        runs = [start_unreachable(tmp_path / ending, words, ending) for ending in endings]
        for run in runs:
            stack.callback(run.kill)
        # Ten seconds are given to webhooks; the limit is generous, since it is no benchmark.
        said = [run.communicate(timeout=60) for run in runs]
    for ending, run, (out, errors) in zip(endings, runs, said, strict=True):
        assert run.returncode == endings[ending]
        names = [event["event"] for event, _ in read_record(tmp_path / ending / "events.jsonl")]
        assert names[:2] == ["run_started", "step_reached"]
        assert len(names) == 502 + (ending == "SIGTERM")
        written = b"".join(path.read_bytes() for path in (tmp_path / ending).iterdir())
        assert TOKEN.encode() not in written + out + errors
        assert b"odd: " in out


def start_unreachable(folder: Path, addresses: list[str], ending: str) -> subprocess.Popen[bytes]:
    """A run that waits for its webhooks; several wait side by side."""
    folder.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environ["PODIUM_WEBHOOK"] = " ".join(addresses)
    command = [sys.executable, "-c", UNREACHABLE, folder, ending]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


ENDED = """
import os, signal, sys, pathlib, time
from contextlib import closing
from podium.events import Reporter
from podium.webhook import Watch
report = Reporter(pathlib.Path(sys.argv[1]))
with closing(Watch(report)) as watch:
    watch.open()
    report.emit("run_started", settings={})
    if sys.argv[2] == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    sys.exit(7)
"""


@pytest.mark.parametrize("ending", ["SIGTERM", "an exit"])
@pytest.mark.modules
def test_what_was_said_last_is_delivered_before_the_process_ends(tmp_path: Path, ending: str):
    with serve() as server:
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PODIUM_WEBHOOK": server.url}
        words = [sys.executable, "-c", ENDED, tmp_path, ending]
        done = subprocess.run(words, env=environ, check=False, timeout=60)
        told = [one["event"] for request in server.received for one in request.json["events"]]
    assert done.returncode == (-signal.SIGTERM if ending == "SIGTERM" else 7)
    assert told == ["run_started"] + ["run_stopped"] * (ending == "SIGTERM")


def test_sigterm_still_does_what_it_did_before(tmp_path: Path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("before"))
    try:
        with serve() as server:
            report = Reporter(tmp_path)
            watch_run(report, {"PODIUM_WEBHOOK": server.url})
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["before"]
    assert '"run_stopped"' in report.path.read_text()


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What SIGTERM did before the run, and shall do after it."""
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("before"))
    yield told
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_heard_without_a_webhook_too(tmp_path: Path, heard: list[str]):
    report = Reporter(tmp_path)
    watch = Watch(report, lambda: heard.append("status"))
    watch.open({})
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ["status", "before"]
    assert [event["event"] for event, _ in read_record(report.path)] == ["run_stopped"]


def test_a_run_that_is_stopped_before_its_webhook_was_found_is_told_all_the_same(
    tmp_path: Path, heard: list[str], monkeypatch: pytest.MonkeyPatch
):
    with serve() as server:
        monkeypatch.setenv("PODIUM_WEBHOOK", server.url)
        Watch(Reporter(tmp_path))
        os.kill(os.getpid(), signal.SIGTERM)
        told = [one["event"] for request in server.received for one in request.json["events"]]
    assert told == ["run_stopped"]


def test_sigterm_after_the_end_is_none_of_the_runs_business(tmp_path: Path, heard: list[str]):
    before = signal.getsignal(signal.SIGTERM)
    report = Reporter(tmp_path)
    with closing(Watch(report, lambda: heard.append("status"))):
        report.emit("run_finished", rows=1)
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ["before", "before"]
    assert [event["event"] for event, _ in read_record(report.path)] == ["run_finished"]


def test_a_forked_process_leaves_the_run_to_its_parent(tmp_path: Path, heard: list[str]):
    with serve() as server:
        report = Reporter(tmp_path)
        watch = Watch(report, lambda: heard.append("status"))
        watch.open({"PODIUM_WEBHOOK": server.url})
        report.emit("run_started")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads, which are the point
            child = os.fork()
        if not child:
            try:
                report.emit("epoch_ended")
                os.kill(os.getpid(), signal.SIGTERM)
                watch.close()
            finally:
                os._exit(0 if heard == ["before"] else 1)
        assert os.waitpid(child, 0)[1] == 0
        spawned = multiprocessing.get_context("fork").Process(target=watch.close)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spawned.start()
        spawned.join()
        assert spawned.exitcode == 0
        report.emit("run_finished", rows=1)
        watch.close()
        told = [one["event"] for request in server.received for one in request.json["events"]]
    assert told == ["run_started", "run_finished"]
    assert heard == []


def test_only_the_first_host_has_webhooks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with serve() as server:
        watch = watch_run(Reporter(tmp_path, leader=False), {"PODIUM_WEBHOOK": server.url})
        watch.report.emit("run_started")
        watch.close()
    assert (watch.deliveries, server.received) == ([], [])
    assert capsys.readouterr().out == ""


def test_closing_twice_is_closing_once(tmp_path: Path):
    with serve() as server:
        watch = watch_run(Reporter(tmp_path), {"PODIUM_WEBHOOK": server.url})
        watch.close()
        watch.close()


@pytest.mark.parametrize("form", [True, False])
def test_our_keras_sink_posts_what_the_real_remote_monitor_posts(tmp_path: Path, form: bool):
    event = next(one for one in make_events() if one["event"] == "epoch_ended")
    logs = {"loss": 1.0, "accuracy": 0.9, "val_loss": 1.1, "val_accuracy": 0.81}
    kind = "keras" if form else "keras-json"
    with serve() as server:
        monitor = keras.callbacks.RemoteMonitor(root=server.url, send_as_json=not form)
        monitor.on_epoch_end(0, {name: np.float64(value) for name, value in logs.items()})
        report = Reporter(tmp_path)
        address = f"{kind}+{server.url}/publish/epoch/end/"
        watch = watch_run(report, {"PODIUM_WEBHOOK": address})
        values = {name: value for name, value in event.items() if name not in report_keys()}
        report.emit("epoch_ended", **values)
        watch.close()
    theirs, ours = server.received
    assert (theirs.method, theirs.path) == (ours.method, ours.path)
    assert theirs.headers["content-type"] == ours.headers["content-type"]
    read = (lambda one: json.loads(one.form["data"])) if form else (lambda one: one.json)
    more = {"learning_rate": 1e-3, "fold": 0}
    assert read(ours) == {**read(theirs), **more}


def report_keys() -> set[str]:
    return {"run", "session", "seq", "time", "event"}
