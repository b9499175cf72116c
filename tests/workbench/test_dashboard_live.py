"""A real training, watched on the real dashboard in a real browser, and stopped from there."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from receivers import wait_until
from script_runs import SETTINGS

from podium.competition import read_competition
from podium.config import DataConfig
from podium.validate import check_submission
from workbench.browser import find_chromium, open_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(
        find_chromium() is None,
        reason="no Chromium to look at the page with; install one: apt-get install chromium",
    ),
]
ROOT = Path(__file__).resolve().parents[2]
DRAWN = "() => [...document.querySelectorAll('.plot canvas')].map(one => one.toDataURL())"


class Dashboard:
    """A dashboard in a process of its own, as a user starts it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "workbench.dashboard", "--folder", folder, "--port", "0"]
        environ = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        lines = [self.process.stdout.readline() for _ in range(4)]
        self.address = re.search(r"http://\S+", lines[0])[0].rstrip("/")
        self.webhook = re.search(r'PODIUM_WEBHOOK="(.*)"', lines[1])[1]

    def cards(self) -> dict[str, Any]:
        """The cards by their run folder's name."""
        told = requests.get(f"{self.address}/api/runs", timeout=10).json()["runs"]
        return {card["name"]: card for card in told}

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    one = Dashboard(tmp_path_factory.mktemp("dashboard"))
    try:
        yield one
    finally:
        one.close()


@contextmanager
def train(folder: Path, demo: Path, webhook: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The built script in a process of its own, told where to post."""
    settings = [*SETTINGS, f"--data.folder={demo}", f"--runtime.folder={folder}", *words]
    command = [sys.executable, str(ROOT / "kernel" / "podium.py"), *settings]
    environ = os.environ | {"PYTHONPATH": "", "PODIUM_WEBHOOK": webhook}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environ, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_training_is_seen_as_it_goes_stopped_from_a_phone_and_compared(
    dashboard: Dashboard, tmp_path: Path, demo: Path
):
    unwanted = list[str]()
    with open_browser() as browser:
        phone, desktop = (open_tab(browser, width, unwanted) for width in (360, 1280))
        for tab in (phone, desktop):
            tab.goto(f"{dashboard.address}/#/")
        with train(tmp_path / "long", demo, dashboard.webhook, "--train.epochs=500") as process:
            for tab in (phone, desktop):
                watch(tab)
            assert dashboard.cards()["long"]["state"] in ("running", "warned")
            phone.get_by_role("button", name="Stop after this epoch").click()
            phone.get_by_role("button", name="Stop the run").click()
            log = process.communicate(timeout=300)[0]
        assert process.returncode == 0, log[-2000:]
        for tab in (phone, desktop):
            tab.get_by_text("stopped", exact=True).first.wait_for()
        check_stopped(tmp_path / "long", demo, dashboard.cards()["long"], log)

        with train(tmp_path / "short", demo, dashboard.webhook, "--optimizer.ema=0") as process:
            log = process.communicate(timeout=300)[0]
        assert process.returncode == 0, log[-2000:]
        for tab in (phone, desktop):
            check_compared(tab, dashboard)
    assert unwanted == []


def open_tab(browser: Any, width: int, unwanted: list[str]) -> Any:
    """A tab as wide as a screen; what it complains of is noted."""
    tab = browser.new_page()
    tab.set_viewport_size({"width": width, "height": 800})
    tab.set_default_timeout(240_000)  # ms; to start the libraries takes long on a busy machine
    tab.on("console", lambda message: unwanted.append(message.text))
    tab.on("pageerror", lambda error: unwanted.append(str(error)))
    tab.on("dialog", lambda dialog: (unwanted.append(dialog.message), dialog.dismiss()))
    return tab


def watch(tab: Any) -> None:
    """The page was open before the run began, and is not loaded again: run and curves appear."""
    card = tab.locator(".card", has_text="long")
    card.get_by_text(re.compile(r"epoch [3-9]|epoch \d\d")).first.wait_for()
    card.get_by_role("link").first.click()
    tab.wait_for_selector(".plot canvas")
    drawn = tab.evaluate(DRAWN)
    wait_until(lambda: tab.evaluate(DRAWN) != drawn, 240)


def check_stopped(folder: Path, demo: Path, card: dict[str, Any], log: str) -> None:
    """It ended after a whole epoch, with a checkpoint and a valid submission."""
    assert (card["state"], card["stop"]["state"], card["missing"]) == ("stopped", "taken", 0)
    assert "Stopped as asked" in log
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    submission = pd.read_csv(folder / "submission.csv")
    competition = read_competition(DataConfig(folder=str(demo)), 0)
    check_submission(submission.astype(str), competition, None)
    assert submission["id"].tolist() == pd.read_csv(demo / "sample_submission.csv")["id"].tolist()
    updates = pd.read_csv(folder / "fold0" / "history.csv")["updates"]
    assert (updates % updates.iloc[0] == 0).all()
    assert list((folder / "fold0").glob("checkpoint-*.npz"))


def check_compared(tab: Any, dashboard: Dashboard) -> None:
    """Both runs are in one chart, and their settings' difference stands below."""
    cards = dashboard.cards()
    runs = ",".join(cards[name]["run"] for name in ("long", "short"))
    assert len(cards["short"]["scores"]) == 2
    tab.goto(f"{dashboard.address}/#/compare?runs={runs}")
    tab.wait_for_selector(".plot canvas")
    tab.get_by_text("optimizer.ema").wait_for()
    assert tab.get_by_text("0.8", exact=True).count() >= 1
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
