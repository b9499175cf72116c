"""push → queued → running → logs → complete → pull → submit, with the real client."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from kaggle_standin import Kaggle, refuse, serve_kaggle
from receivers import Server, wait_until

from workbench.demo import make_demo

ROOT = Path(__file__).resolve().parents[2]
NEWEST = ROOT / ".venv" / "kaggle-newest"
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
TOKEN = "a-token-of-thirty-or-more-letters"
TOML = """
kernel = "alice/podium-digits"
kind = "{kind}"
accelerator = "cpu"
internet = {internet}
{more}
[settings]
preset = "dry-run"
"data.limit" = 60
"pixels.image_size" = 16
"train.epochs" = 1
{settings}
"""


class Checkout:
    """A checkout of its own, with the client at one version, asking a stand-in of Kaggle."""

    def __init__(self, folder: Path, server: Server, client: str) -> None:
        self.folder, self.client, self.server = folder / "checkout", client, server
        for name in ("src", "kernel", "build_kernel.py", "kernel-metadata.json", ".gitignore"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.folder.mkdir(exist_ok=True)
            copy(ROOT / name, self.folder / name)
        self.home = folder / "home"
        self.home.mkdir()
        self.git("init", "-q")
        self.commit()

    def git(self, *words: str) -> str:
        author = ["-c", "user.name=alice", "-c", "user.email=alice@example.org"]
        words = ("git", *author, *words)
        return subprocess.run(
            words, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "as it is")

    def write(self, kind: str = "file", internet: str = "true", more: str = "", **settings) -> None:
        named = {name.replace("__", "."): value for name, value in settings.items()}
        entries = "".join(f'"{name}" = {json.dumps(value)}\n' for name, value in named.items())
        text = TOML.format(kind=kind, internet=internet, more=more, settings=entries)
        path = self.folder / "kernel" / "competitions" / "digits.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.commit()

    def run(self, module: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A verb of the workbench."""
        return self.call("-m", f"workbench.{module}", *words, **environ)

    def call(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Python, with alice's credentials and the stand-in for Kaggle."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environ(**environ),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """The same, not waited for; its output is read while it runs."""
        with subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def environ(self, **more: str) -> dict[str, str]:
        newest = [str(NEWEST)] if self.client == "newest" else []
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KAGGLE", "GIT_"))}
        clean |= {
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([*newest, str(self.folder / "src")]),
            "KAGGLE_USERNAME": "alice",
            "KAGGLE_KEY": "fake",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.server.url,
            "no_proxy": "",
            "NO_PROXY": "",
            "GIT_COMMITTER_NAME": "alice",
            "GIT_COMMITTER_EMAIL": "alice@example.org",
        }
        return {name: value for name, value in (clean | more).items() if value != "unset"}


@pytest.fixture(params=["2.0.2", "newest"])
def client(request: pytest.FixtureRequest) -> str:
    assert request.param != "newest" or NEWEST.is_dir(), "make setup installs the newest client"
    return request.param


# What is settled before Kaggle is asked, or after it has answered, is the same with every client.
whatever_client = pytest.mark.parametrize("client", ["2.0.2"], indirect=True)


@pytest.fixture
def kaggle(tmp_path: Path) -> Kaggle:
    return Kaggle(tmp_path / "machine", tmp_path / "input")


@pytest.fixture
def checkout(tmp_path: Path, kaggle: Kaggle, client: str) -> Iterator[Checkout]:
    with serve_kaggle(kaggle) as server:
        yield Checkout(tmp_path, server, client)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


# What runs on the machine knows no client, and a client does not see where inputs are mounted: so
# each client and each place is taken once.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("client", "place"),
    [("2.0.2", "digits"), ("newest", "competitions/digits")],
    indirect=["client"],
)
def test_the_whole_loop_ends_in_a_submission(checkout: Checkout, kaggle: Kaggle, place: str):
    mount_demo(kaggle, place)
    kaggle.environ["PODIUM_WEBHOOK"] = f"https://discord.com/api/webhooks/1/{TOKEN}"
    checkout.write()
    pushed = checkout.run("push")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    link = "https://www.kaggle.com/code/alice/podium-digits"
    assert f"Version 1 is on its way: {link}" in pushed.stdout
    assert "podium-digits-v1" in checkout.git("tag")
    statuses = []
    while not statuses or statuses[-1] not in ("complete", "error"):
        done = checkout.run("watch", "status")
        assert done.returncode == 0, done.stdout + done.stderr
        statuses.append(done.stdout.strip().rpartition(": ")[2])
        if statuses[-1] == "running":
            wait_for_the_end(kaggle, "podium-digits")
    assert statuses == ["queued", "running", "complete"]
    logs = checkout.run("watch", "logs").stdout
    assert "fold 1 epoch  1/2 head" in logs
    assert logs.endswith("— complete\n")
    pulled = checkout.run("collect", "pull")
    assert "run        finished" in pulled.stdout, pulled.stdout + pulled.stderr
    assert re.search(r"live page  run \w+: (\d+) of \1 events are new", pulled.stdout)
    folder = checkout.folder / "runs" / "podium-digits-v1"
    assert (folder / "report.html").is_file()
    assert len(pd.read_csv(folder / "submission.csv")) == 360
    check_watched_without_a_network(folder, logs)
    submitted = checkout.run("collect", "submit")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "Successfully submitted to Digits" in submitted.stdout
    assert kaggle.uploads == [(folder / "submission.csv").read_bytes()]


def mount_demo(kaggle: Kaggle, place: str) -> None:
    """A machine that has the demo among its inputs."""
    kaggle.machine = True
    shutil.copytree(make_demo(kaggle.inputs.parent / "demo"), kaggle.inputs / place)


def wait_for_the_end(kaggle: Kaggle, kernel: str) -> None:
    """Asks the stand-in itself: a verb that asks every half second takes half a core."""
    ended = ("COMPLETE", "ERROR")
    wait_until(lambda: kaggle.kernels[kernel]["status"] in ended, seconds=600)


def check_watched_without_a_network(folder: Path, logs: str) -> None:
    """A webhook that cannot be reached costs the run nothing: its record is whole."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"] == "run_finished"
    assert "webhook     discord, from the environment" in logs
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert TOKEN.encode() not in written
    assert TOKEN not in logs


@pytest.mark.slow
@whatever_client
def test_a_code_competition_is_trained_with_and_answered_without_internet(
    checkout: Checkout, kaggle: Kaggle
):
    mount_demo(kaggle, "digits")
    checkout.write(kind="code")
    for half, kernel in (((), "podium-digits"), (("--infer",), "podium-digits-infer")):
        pushed = checkout.run("push", *half)
        assert pushed.returncode == 0, pushed.stdout + pushed.stderr
        assert checkout.run("watch", "status", *half).returncode == 0  # the machine starts
        wait_for_the_end(kaggle, kernel)
        working = kaggle.kernels[kernel]["working"]
        status = json.loads((working / "status.json").read_text())
        assert status["state"] == "finished", kaggle.kernels[kernel]["log"]
        if not half:
            shutil.copytree(working, kaggle.inputs / kernel)
    first, second = (
        pd.read_csv(kaggle.kernels[name]["working"] / "submission.csv")
        for name in ("podium-digits", "podium-digits-infer")
    )
    pd.testing.assert_frame_equal(first, second)


FAST = """
import signal, sys
from workbench import kernel, watch
signal.signal(signal.SIGINT, signal.default_int_handler)
watch.POLL_SECONDS = 0.05
sys.exit(kernel.run_verb(watch.show_logs, []))
"""
PRINTING = """
import pathlib, time
print("one\\ntw", end="", flush=True)
end = time.monotonic() + 60
while not pathlib.Path("/kaggle/working/go").exists() and time.monotonic() < end:
    time.sleep(0.01)
print("o\\n\\n[1, 2]", flush=True)
print("last", end="", flush=True)
"""


def push_printing(checkout: Checkout, kaggle: Kaggle) -> Path:
    """A kernel that prints one line and a half, and the rest once a file is there; its path."""
    push_anew(checkout, kaggle, 1)
    kaggle.machine = True
    kaggle.kernels["podium-digits"]["asked"]["text"] = PRINTING
    return kaggle.folder / "podium-digits-1" / "working" / "go"


@pytest.mark.parametrize("drops", [0, 2])
def test_the_log_is_shown_while_the_kernel_runs_each_line_once(
    checkout: Checkout, kaggle: Kaggle, drops: int
):
    go = push_printing(checkout, kaggle)
    kaggle.drops = drops if checkout.client == "newest" else 0
    with checkout.start("-c", FAST) as logs:
        assert logs.stdout.readline() == "one\n"
        assert kaggle.kernels["podium-digits"]["status"] == "RUNNING"
        wait_until(lambda: not kaggle.drops)
        go.touch()
        rest, errors = logs.communicate()
    assert rest.splitlines() == ["two", "", "[1, 2]", "last", "— complete"], errors
    assert logs.returncode == 0
    for plain in (False, True):  # and the same once it has ended
        kaggle.plain_log = plain
        shown = checkout.call("-c", FAST).stdout.replace("\n\n", "\n")
        assert shown.splitlines() == ["one", "two", "[1, 2]", "last", "— complete"]


def test_a_log_is_left_with_control_c_in_one_line(checkout: Checkout, kaggle: Kaggle):
    go = push_printing(checkout, kaggle)
    with checkout.start("-c", FAST) as logs:
        assert logs.stdout.readline() == "one\n"
        logs.send_signal(signal.SIGINT)
        rest, errors = logs.communicate()
    go.touch()
    wait_until(lambda: kaggle.kernels["podium-digits"]["status"] == "COMPLETE")
    assert rest.splitlines() == ["", "Stopped here; what runs on Kaggle goes on"]
    assert (errors, logs.returncode) == ("", 130)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@whatever_client
def test_a_line_of_a_crash_names_its_source(checkout: Checkout, kaggle: Kaggle):
    module = checkout.folder / "src" / "podium" / "override.py"
    crash = "def crash_here() -> None:\n    raise ZeroDivisionError\n\n\n"
    change(module, "def read_config(", crash + "def read_config(")
    main = module.with_name("main.py")
    change(main, "from podium.override import ", "from podium.override import crash_here, ")
    change(main, "started = time.time()\n", "started = time.time()\n    crash_here()\n")
    push_anew(checkout, kaggle, 1)
    kaggle.machine = True
    shown = checkout.call("-c", FAST)
    line = module.read_text().splitlines().index("    raise ZeroDivisionError") + 1
    place = f"src/podium/override.py:{line}"
    assert f", in crash_here  ← {place}\n" in shown.stdout, shown.stdout + shown.stderr
    assert shown.stdout.endswith("ZeroDivisionError\n— error\n")


@pytest.mark.slow
@whatever_client
def test_a_kernel_that_fails_ends_complete_with_a_status_and_names_source_lines(
    checkout: Checkout, kaggle: Kaggle
):
    kaggle.machine = True
    (kaggle.inputs / "digits").mkdir(parents=True)
    (kaggle.inputs / "digits" / "sample_submission.csv").write_text("id,label\n1,0\n")
    checkout.write()
    assert checkout.run("push").returncode == 0
    assert checkout.run("watch", "status").returncode == 0
    wait_for_the_end(kaggle, "podium-digits")
    assert kaggle.kernels["podium-digits"]["status"] == "COMPLETE"
    pulled = checkout.run("collect", "pull").stdout
    assert "run        failed: CompetitionError: " in pulled
    assert "submission none" in pulled


SOFT = "Maximum batch GPU session count of 2 reached"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((200, {}, {"error": SOFT}), "count of 2 reached; wait until one of your running sessions"),
        ((200, {}, {"error": "Notebook not found"}), "Notebook not found; check the kernel's addr"),
        ((200, {}, {}), "Kaggle names no version"),
        (
            refuse(400, "The kernel source must be less than 1 megabytes"),
            "Kaggle says: The kernel source must be less than 1 megabytes; the source must be",
        ),
        (refuse(401, "Unauthenticated"), "does not know these credentials"),
        (refuse(403, "Permission denied"), "accept the competition"),
        (refuse(404, "Not found"), "no such kernel or competition"),
        (refuse(409, "title already in use"), "taken by another kernel"),
        (refuse(429, "Too many requests"), "too many requests; wait"),
        (refuse(500, "Internal"), "trouble of its own (status 500)"),
        (
            (200, {}, {"versionNumber": 3, "url": "u", "invalidModelSources": ["g/m/f/v/1"]}),
            "model g/m",
        ),
        (
            (200, {}, {"versionNumber": 3, "url": "u", "invalidCompetitionSources": ["digits"]}),
            "version 3 runs without competition digits",
        ),
    ],
)
def test_every_refusal_of_a_push_is_one_line_with_a_remedy(
    checkout: Checkout, kaggle: Kaggle, reply, words: str
):
    checkout.write()
    kaggle.refusals = [reply] * 3
    assert words in refused(checkout.run("push"))
    assert checkout.git("tag") == ""


def test_sources_that_kaggle_does_not_know_are_named(checkout: Checkout):
    checkout.write(more='datasets = ["nobody/nothing"]\nkernels = ["nobody/no-kernel"]')
    line = refused(checkout.run("push"))
    assert "runs without dataset nobody/nothing, kernel nobody/no-kernel" in line


@whatever_client
def test_without_credentials_or_with_readable_ones_nothing_is_sent(
    checkout: Checkout, kaggle: Kaggle
):
    checkout.write()
    none = {"KAGGLE_USERNAME": "unset", "KAGGLE_KEY": "unset"}
    assert "there are no Kaggle credentials; create" in refused(checkout.run("push", **none))
    token = checkout.home / ".kaggle" / "kaggle.json"
    token.parent.mkdir(exist_ok=True)
    token.write_text('{"username": "alice", "key": "fake"}')
    token.chmod(0o644)
    assert f"chmod 600 {token}" in refused(checkout.run("push", **none))
    assert not kaggle.kernels


WITHOUT_PAUSES = """
import importlib, sys, time
from workbench import kernel
time.sleep = lambda seconds: None
module, verb = sys.argv[1].split(".")
sys.exit(kernel.run_verb(getattr(importlib.import_module(f"workbench.{module}"), verb), []))
"""
VERBS = ("watch.show_status", "watch.show_logs", "collect.pull", "collect.submit")


def write_pulled(checkout: Checkout) -> None:
    """What a push and a pull leave, so that there is something to submit."""
    checkout.write()
    pushed = {"version": 1, "url": "u", "source": "0f" * 32, "places": []}
    folders = [
        checkout.folder / "runs" / name for name in ("pushed/podium-digits", "podium-digits-v1")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[0] / "pushed.json").write_text(json.dumps(pushed))
    for name, text in write_output(pushed["source"]).items():
        (folders[1] / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize("verb", [*VERBS, "webhook_setup.set_webhook_up"])
def test_every_refusal_of_every_other_verb_is_one_line_too(
    checkout: Checkout, kaggle: Kaggle, verb: str
):
    write_pulled(checkout)
    secret = {"PODIUM_WEBHOOK": "https://ntfy.sh/topic-of-many-letters"}
    for status, words in (
        (401, "does not know these credentials"),
        (403, "accept the competition's rules"),
        (404, "knows no such kernel or competition"),
        (429, "too many requests; wait"),
        (500, "trouble of its own (status 500)"),
    ):
        kaggle.always = refuse(status, "In Kaggle's words")
        line = refused(checkout.call("-c", WITHOUT_PAUSES, verb, **secret))
        assert words in line
        assert "(Kaggle says: In Kaggle's words)" in line
    down = checkout.call("-c", WITHOUT_PAUSES, verb, http_proxy="http://127.0.0.1:9", **secret)
    assert "Kaggle cannot be reached (ProxyError); check the network" in refused(down)
    none = {"KAGGLE_USERNAME": "unset", "KAGGLE_KEY": "unset"}
    line = refused(checkout.call("-c", WITHOUT_PAUSES, verb, **none, **secret))
    assert "there are no Kaggle credentials; create" in line


def test_a_submission_that_cannot_be_uploaded_is_not_called_submitted(
    checkout: Checkout, kaggle: Kaggle
):
    write_pulled(checkout)
    kaggle.upload_fails = True
    line = refused(checkout.run("collect", "submit"))
    assert "Kaggle does not take the file: Could not submit" in line
    assert not kaggle.submissions


@whatever_client
def test_what_a_machine_lacks_is_one_line(checkout: Checkout):
    checkout.write()
    done = checkout.run("push", PATH="/nowhere")
    assert "No such file or directory: 'git'" in refused(done)
    (checkout.folder / "runs").rename(checkout.folder / "elsewhere")
    (checkout.folder / "runs").touch()
    assert "Not a directory" in refused(checkout.run("push", "--dry"))
    line = refused(checkout.run("new_competition", "--competition", "other"))
    assert line == 'Refused: there is no terminal to ask at; ARGS="--flag value" answers beforehand'


def test_a_server_that_is_down_is_one_line(checkout: Checkout):
    checkout.write()
    down = checkout.run("push", http_proxy="http://127.0.0.1:9")
    assert "Kaggle cannot be reached (ProxyError); check the network" in refused(down)


@pytest.mark.parametrize("name", ["kernel/competitions/digits.toml", "src/podium/new.py"])
@whatever_client
def test_a_push_of_what_is_not_committed_or_not_set_up_is_refused(
    checkout: Checkout, kaggle: Kaggle, name: str
):
    assert "make new COMPETITION=its-slug" in refused(checkout.run("push"))
    checkout.write()
    readme = checkout.folder / "README.md"
    readme.write_text("old")
    assert checkout.run("push").returncode == 0  # what a push is not made of may wait
    checkout.commit()
    readme.write_text("new")
    assert "not committed: README.md; git add and commit" in refused(checkout.run("push"))
    checkout.commit()
    if name.endswith(".toml"):
        checkout.git("rm", "-q", "--cached", name)
    else:
        (checkout.folder / name).write_text('"""New: not in ORDER"""\n')
        change(
            checkout.folder / "build_kernel.py",
            '"settings", ',
            '"new", "settings", ',
        )
        checkout.git("add", "build_kernel.py")
    checkout.git("commit", "-q", "-m", "without it")
    assert f"not committed: {name}; git add and commit them" in refused(checkout.run("push"))
    assert kaggle.kernels["podium-digits"]["version"] == 1


@whatever_client
def test_the_tag_holds_the_link_and_the_hash_of_what_was_pushed(checkout: Checkout, kaggle: Kaggle):
    source = push_anew(checkout, kaggle, 1)
    assert re.fullmatch("[0-9a-f]{64}", source)
    message = checkout.git("tag", "-l", "--format=%(contents)", "podium-digits-v1").split()
    link = "https://www.kaggle.com/code/alice/podium-digits"
    assert message == [link, "sources", "sha256", source]


IMPATIENT = """
import sys
from workbench import kernel, push
push.PUSH_SECONDS = 2.0
sys.exit(kernel.run_verb(push.push, []))
"""


def test_a_push_without_an_answer_may_have_been_taken(checkout: Checkout, kaggle: Kaggle):
    checkout.write()
    kaggle.answers.clear()
    line = refused(checkout.call("-c", IMPATIENT))
    kaggle.answers.set()
    assert line.startswith("Refused: no answer from Kaggle within 2 s; Kaggle may have")
    assert "may have taken the push all the same: look at make status and https://www" in line
    assert kaggle.kernels["podium-digits"]["version"] == 1
    assert checkout.git("tag") == ""


@whatever_client
def test_a_dry_push_shows_everything_and_sends_nothing(checkout: Checkout):
    checkout.write(model__backbone="hub:imagenet21k-s")
    done = checkout.run("push", "--dry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "google/efficientnet-v2/tensorFlow2/imagenet21k-s-feature-vector/1" in done.stdout
    assert '"model.backbone": "hub:imagenet21k-s"' in done.stdout
    assert "Nothing was sent" in done.stdout
    assert not checkout.server.received


def test_the_module_of_a_hub_backbone_is_attached(checkout: Checkout, kaggle: Kaggle):
    checkout.write(model__backbone="hub:imagenet21k-s")
    assert checkout.run("push").returncode == 0
    module = "google/efficientnet-v2/tensorFlow2/imagenet21k-s-feature-vector/1"
    assert kaggle.kernels["podium-digits"]["asked"]["modelDataSources"] == [module]


@whatever_client
def test_what_kaggle_would_not_run_or_take_is_not_sent(checkout: Checkout, kaggle: Kaggle):
    checkout.write(kind="code", predict__run="attached")
    line = refused(checkout.run("push"))
    assert "a code competition's submission must run without internet; internet = false" in line
    with (checkout.folder / "src" / "podium" / "config.py").open("a") as module:
        module.write(f"\n\nLONG = 1  # {'x' * 900_000}\n")
    checkout.commit()
    line = refused(checkout.run("push"))
    assert "over the limit of 900,000; Kaggle takes 1 MB at most" in line
    assert not kaggle.kernels


@whatever_client
def test_a_script_with_a_secret_in_its_settings_is_not_pushed(checkout: Checkout, kaggle: Kaggle):
    secret = "https://discord.com/api/webhooks/123456789012345678/" + "x" * 40
    checkout.write(data__solution=secret)
    line = refused(checkout.run("push"))
    assert "Discord webhook" in line
    assert secret not in line
    assert not kaggle.kernels


@pytest.mark.parametrize(
    "part", ["https://own.example/in/a-word-of-many-letters", "a-word-of-many-letters"]
)
@whatever_client
def test_a_script_with_a_part_of_the_webhook_in_use_is_not_pushed(
    checkout: Checkout, kaggle: Kaggle, part: str
):
    checkout.write(data__solution=part)
    addresses = (
        "keras+http://127.0.0.1:9/publish/epoch/end/ https://own.example/in/a-word-of-many-letters"
    )
    done = checkout.run("push", PODIUM_WEBHOOK=addresses)
    line = refused(done)
    assert re.search(
        r"line \d+ of the script holds what looks like a part of your PODIUM_WEB", line
    )
    assert "a-word" not in done.stdout + done.stderr
    assert not kaggle.kernels
    checkout.write()
    assert checkout.run("push", PODIUM_WEBHOOK=addresses).returncode == 0


def test_the_quota_is_told_where_the_client_can(checkout: Checkout, client: str):
    done = checkout.run("watch", "quota")
    if client == "newest":
        assert done.stdout.splitlines() == [
            "GPU   29.0 h left of 30 h",
            "TPU   20.0 h left of 20 h",
            "renewed 2026-11-28 00:00 UTC",
        ], done.stdout + done.stderr
    else:
        assert "this version of the kaggle client cannot tell" in refused(done)


@whatever_client
def test_what_was_not_pushed_or_pulled_cannot_be_submitted(checkout: Checkout):
    checkout.write()
    assert "nothing was pushed from here yet" in refused(checkout.run("collect", "submit"))
    assert checkout.run("push").returncode == 0
    assert "submission.csv is not there; make pull" in refused(checkout.run("collect", "submit"))


def push_anew(checkout: Checkout, kaggle: Kaggle, epochs: int) -> str:
    """Pushes other settings; returns the hash of what was pushed."""
    checkout.write(train__head_epochs=epochs)
    done = checkout.run("push")
    assert done.returncode == 0, done.stdout + done.stderr
    return read_source(kaggle)


def read_source(kaggle: Kaggle) -> str:
    return kaggle.kernels["podium-digits"]["asked"]["text"].partition("Sources: sha256 ")[2][:64]


def write_output(source: str, **more: str) -> dict[str, str]:
    """What a run leaves, as the script would write it."""
    status = {"state": "finished", "error": None, "submission": True, "source": source}
    files = {"status__json": json.dumps(status), "submission__csv": "id,label\n1,0\n"}
    return {**files, "report__html": "<html>", **more}


def test_output_comes_after_the_end_and_from_all_pages(checkout: Checkout, kaggle: Kaggle):
    source = push_anew(checkout, kaggle, 1)
    early = refused(checkout.run("collect", "pull"))
    assert "alice/podium-digits is queued, and its output comes when it ends; make logs" in early
    assert not (checkout.folder / "runs" / "podium-digits-v1").exists()
    kaggle.plain_log = True
    files = write_output(source, **{f"epoch{number}": "x" for number in range(5)})
    kaggle.finish("podium-digits", 1, log="one\n", **files)
    pulled = checkout.run("collect", "pull")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    folder = checkout.folder / "runs" / "podium-digits-v1"
    assert {path.name.replace(".", "__"): path.read_text() for path in folder.iterdir()} == {
        **files,
        "podium-digits__log": "one\n",
    }
    assert "9 files in runs/podium-digits-v1; the kernel is complete" in pulled.stdout
    assert f"  report     {folder / 'report.html'}\n" in pulled.stdout
    assert "! " not in pulled.stdout


@whatever_client
def test_the_output_of_another_version_is_named_and_not_handed_in(
    checkout: Checkout, kaggle: Kaggle
):
    old = push_anew(checkout, kaggle, 1)
    kaggle.finish("podium-digits", 1, **write_output(old))
    new = push_anew(checkout, kaggle, 2)
    assert "is queued" in refused(checkout.run("collect", "pull"))
    kaggle.kernels["podium-digits"]["status"] = "COMPLETE"  # and Kaggle still serves the first
    pulled = checkout.run("collect", "pull")
    words = f"not the output of version 2: sources {old[:12]} made it, and {new[:12]} was pushed"
    assert words in pulled.stdout.splitlines()[-1]
    line = refused(checkout.run("collect", "submit"))
    assert "submission.csv is not handed in: this is " + words in line
    without = {"report__html": "<html>", "status__json": write_output(new)["status__json"]}
    kaggle.finish("podium-digits", 2, **without)
    assert "submission none" in checkout.run("collect", "pull").stdout
    assert "submission.csv is not there" in refused(checkout.run("collect", "submit"))
    assert not kaggle.submissions


@whatever_client
def test_a_submission_that_nothing_ties_to_its_version_is_not_handed_in(
    checkout: Checkout, kaggle: Kaggle
):
    push_anew(checkout, kaggle, 1)
    kaggle.finish("podium-digits", 1, submission__csv="id,label\n")
    assert "it has no status.json" in checkout.run("collect", "pull").stdout
    assert "it has no status.json" in refused(checkout.run("collect", "submit"))


@whatever_client
def test_a_link_that_expired_leaves_what_was_there(checkout: Checkout, kaggle: Kaggle):
    source = push_anew(checkout, kaggle, 1)
    kaggle.finish("podium-digits", 1, **write_output(source))
    assert checkout.run("collect", "pull").returncode == 0
    kaggle.expired.add("submission.csv")
    line = refused(checkout.run("collect", "pull"))
    assert "submission.csv cannot be fetched (status 403); links expire: make pull again" in line
    path = checkout.folder / "runs" / "podium-digits-v1" / "submission.csv"
    assert path.read_text() == "id,label\n1,0\n"


@whatever_client
def test_a_file_of_the_output_cannot_be_written_elsewhere(checkout: Checkout, kaggle: Kaggle):
    source = push_anew(checkout, kaggle, 1)
    kaggle.finish("podium-digits", 1, **write_output(source))
    kaggle.strange = ["../../build_kernel.py"]
    line = refused(checkout.run("collect", "pull"))
    assert "../../build_kernel.py would be written outside" in line


def test_a_version_of_a_code_competition_is_handed_in_once_it_has_ended(
    checkout: Checkout, kaggle: Kaggle
):
    checkout.write(kind="code")
    for half in ((), ("--infer",)):
        assert checkout.run("push", *half).returncode == 0
    asked = kaggle.kernels["podium-digits-infer"]["asked"]
    assert asked["enableInternet"] is False
    assert asked["kernelDataSources"] == ["alice/podium-digits"]
    assert "make submit INFER=1" in refused(checkout.run("collect", "submit"))
    assert "is queued" in refused(checkout.run("collect", "submit", "--infer"))
    kaggle.finish("podium-digits-infer", 1)
    submitted = checkout.run("collect", "submit", "--infer")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert kaggle.submissions[0]["kernelSlug"] == "podium-digits-infer"
    assert kaggle.submissions[0]["kernelVersion"] == 1


def test_the_addresses_go_into_a_private_dataset_and_then_into_its_next_version(
    checkout: Checkout, kaggle: Kaggle
):
    checkout.write()
    assert "export PODIUM_WEBHOOK" in refused(checkout.run("webhook_setup"))
    wrong = refused(checkout.run("webhook_setup", PODIUM_WEBHOOK="http://far.example/secret-word"))
    assert "address 1 cannot be used: over http anybody" in wrong
    assert "secret-word" not in wrong
    for number in range(2):
        address = f"https://ntfy.sh/topic-of-many-letters-{number}"
        done = checkout.run("webhook_setup", PODIUM_WEBHOOK=address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert address not in done.stdout + done.stderr
        assert kaggle.uploads[-1] == f"{address}\n".encode()
    first, second = kaggle.datasets["alice/podium-webhook"]
    assert first["isPrivate"] is True
    assert second["body"]["deleteOldVersions"] is True
    assert not [path for path in checkout.home.rglob("*") if b"topic-of" in read_bytes(path)]


def test_a_dataset_that_was_made_public_is_sent_no_address(checkout: Checkout, kaggle: Kaggle):
    checkout.write()
    secret = {"PODIUM_WEBHOOK": "https://ntfy.sh/topic-of-many-letters"}
    assert checkout.run("webhook_setup", **secret).returncode == 0
    kaggle.datasets["alice/podium-webhook"][0]["isPrivate"] = False
    line = refused(checkout.run("webhook_setup", **secret))
    assert "alice/podium-webhook is not private, so nothing was written" in line
    assert len(kaggle.uploads) == 1


def read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_a_kernel_with_a_webhook_attaches_its_dataset_and_must_be_private(
    checkout: Checkout, kaggle: Kaggle
):
    checkout.write(more="webhook = true\nprivate = false")
    assert "a public kernel must not attach podium-webhook" in refused(checkout.run("push"))
    checkout.write(more="webhook = true")
    assert checkout.run("push").returncode == 0
    asked = kaggle.kernels["podium-digits"]["asked"]
    assert asked["datasetDataSources"] == ["alice/podium-webhook"]
    assert asked["isPrivate"] is True


def test_a_plain_kaggle_kernels_push_sends_the_committed_script_too(
    checkout: Checkout, kaggle: Kaggle
):
    metadata = checkout.folder / "kernel-metadata.json"
    metadata.write_text(metadata.read_text().replace("YOUR-KAGGLE-NAME", "alice"))
    call = "import sys; from kaggle.cli import main; sys.argv[1:] = ['kernels', 'push']; main()"
    done = checkout.call("-c", call)
    assert "successfully pushed" in done.stdout, done.stdout + done.stderr
    asked = kaggle.kernels["podium"]["asked"]
    assert asked["text"] == (ROOT / "kernel" / "podium.py").read_text()
    assert asked["machineShape"] == "NvidiaTeslaT4"
    assert asked["isPrivate"] is True
