"""push → queued → running → logs → complete → pull → submit, with the real client."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from kaggle_standin import Kaggle, refuse
from receivers import Server, serve

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
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={name: value for name, value in (clean | environ).items() if value != "unset"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(params=["2.0.2", "newest"])
def client(request: pytest.FixtureRequest) -> str:
    assert request.param != "newest" or NEWEST.is_dir(), "make setup installs the newest client"
    return request.param


@pytest.fixture
def kaggle(tmp_path: Path) -> Kaggle:
    return Kaggle(tmp_path / "machine", tmp_path / "input")


@pytest.fixture
def checkout(tmp_path: Path, kaggle: Kaggle, client: str) -> Iterator[Checkout]:
    with serve(kaggle) as server:
        yield Checkout(tmp_path, server, client)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["old", "new"])
def test_the_whole_loop_ends_in_a_submission(checkout: Checkout, kaggle: Kaggle, layout: str):
    mounted = kaggle.inputs / ("digits" if layout == "old" else "competitions/digits")
    mounted.parent.mkdir(parents=True)
    shutil.copytree(make_demo(kaggle.inputs.parent / "demo"), mounted)
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
        time.sleep(0.5)
    assert statuses[0] == "queued"
    assert "running" in statuses
    logs = checkout.run("watch", "logs").stdout
    assert statuses[-1] == "complete", logs
    assert "fold 1 epoch  1/2 head" in logs
    assert logs.endswith("— complete\n")
    pulled = checkout.run("collect", "pull")
    assert "run        finished" in pulled.stdout, pulled.stdout + pulled.stderr
    folder = checkout.folder / "runs" / "podium-digits-v1"
    assert (folder / "report.html").is_file()
    assert len(pd.read_csv(folder / "submission.csv")) == 360
    check_watched_without_a_network(folder, logs)
    submitted = checkout.run("collect", "submit")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "Successfully submitted to Digits" in submitted.stdout
    assert kaggle.uploads == [(folder / "submission.csv").read_bytes()]


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
def test_a_code_competition_is_trained_with_and_answered_without_internet(
    checkout: Checkout, kaggle: Kaggle
):
    mounted = kaggle.inputs / "digits"
    mounted.parent.mkdir(parents=True)
    shutil.copytree(make_demo(kaggle.inputs.parent / "demo"), mounted)
    checkout.write(kind="code")
    for half, kernel in (((), "podium-digits"), (("--infer",), "podium-digits-infer")):
        pushed = checkout.run("push", *half)
        assert pushed.returncode == 0, pushed.stdout + pushed.stderr
        while kaggle.kernels[kernel]["status"] not in ("COMPLETE", "ERROR"):
            checkout.run("watch", "status", *half)
            time.sleep(0.5)
        working = kaggle.kernels[kernel]["working"]
        status = json.loads((working / "status.json").read_text())
        assert status["state"] == "finished", kaggle.kernels[kernel]["log"]
        if not half:
            shutil.copytree(working, kaggle.inputs / kernel)
    asked = kaggle.kernels["podium-digits-infer"]["asked"]
    assert asked["enableInternet"] is False
    assert asked["kernelDataSources"] == ["alice/podium-digits"]
    first, second = (
        pd.read_csv(kaggle.kernels[name]["working"] / "submission.csv")
        for name in ("podium-digits", "podium-digits-infer")
    )
    pd.testing.assert_frame_equal(first, second)
    assert "make submit INFER=1" in refused(checkout.run("collect", "submit"))
    submitted = checkout.run("collect", "submit", "--infer")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert kaggle.submissions[0]["kernelSlug"] == "podium-digits-infer"
    assert kaggle.submissions[0]["kernelVersion"] == 1


@pytest.mark.slow
def test_a_kernel_that_fails_ends_complete_with_a_status_and_names_source_lines(
    checkout: Checkout, kaggle: Kaggle
):
    (kaggle.inputs / "digits").mkdir(parents=True)
    (kaggle.inputs / "digits" / "sample_submission.csv").write_text("id,label\n1,0\n")
    checkout.write()
    assert checkout.run("push").returncode == 0
    while kaggle.kernels["podium-digits"]["status"] not in ("COMPLETE", "ERROR"):
        checkout.run("watch", "status")
        time.sleep(0.2)
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


def test_a_server_that_is_down_is_one_line(checkout: Checkout):
    checkout.write()
    down = checkout.run("push", http_proxy="http://127.0.0.1:9")
    assert "Kaggle cannot be reached (ProxyError); check the network" in refused(down)


def test_a_push_that_is_not_committed_or_not_set_up_is_refused(checkout: Checkout, kaggle: Kaggle):
    assert "make new COMPETITION=its-slug" in refused(checkout.run("push"))
    checkout.write()
    (checkout.folder / "build_kernel.py").write_text(
        (checkout.folder / "build_kernel.py").read_text() + "\n"
    )
    assert "changes that are not committed" in refused(checkout.run("push"))
    assert not kaggle.kernels


def test_a_dry_push_shows_everything_and_sends_nothing(checkout: Checkout):
    checkout.write(model__backbone="hub:imagenet21k-s")
    done = checkout.run("push", "--dry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "google/efficientnet-v2/tensorFlow2/imagenet21k-s-feature-vector/1" in done.stdout
    assert '"model.backbone": "hub:imagenet21k-s"' in done.stdout
    assert "Nothing was sent" in done.stdout
    assert not checkout.server.received


def test_a_script_with_a_secret_in_its_settings_is_not_pushed(checkout: Checkout, kaggle: Kaggle):
    secret = "https://discord.com/api/webhooks/123456789012345678/" + "x" * 40
    checkout.write(data__solution=secret)
    line = refused(checkout.run("push"))
    assert "Discord webhook" in line
    assert secret not in line
    assert not kaggle.kernels


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


def test_what_was_not_pushed_or_pulled_cannot_be_submitted(checkout: Checkout):
    checkout.write()
    assert "nothing was pushed from here yet" in refused(checkout.run("collect", "submit"))
    assert checkout.run("push").returncode == 0
    assert "submission.csv is not there; make pull" in refused(checkout.run("collect", "submit"))


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
