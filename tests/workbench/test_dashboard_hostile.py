"""Names made to break a page, sent to the real server and shown by its real page."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from live_site import make_event, serve_site
from test_dashboard_page import Tab

from workbench.browser import find_chromium, open_browser
from workbench.dashboard.site import read_files
from workbench.dashboard.uplot import find

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(
        find_chromium() is None,
        reason="no Chromium to look at the page with; install one: apt-get install chromium",
    ),
]
BREAKERS = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\u202egnp.exe \u2066& co",
    "javascript:alert(3)",
    "=HYPERLINK(1)",
    "W" * 10_000,
)
SVG = "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIG9ubG9hZD0iYWxlcnQoNCkiLz4="


def make_run() -> list[dict[str, Any]]:
    """A run every text of which is hostile."""
    texts = BREAKERS * 4
    epoch = {"fold": 0, "epochs": 9, "metric": texts[0], "valid/loss": 1.0, "train/loss": 1.0}
    options = [{"name": one, "score": 0.9, "gain": None, "cost": None} for one in BREAKERS]
    question = {"name": "tta", "asks": texts[0], "answer": texts[1], "chosen": texts[2]}
    settings = {"model.backbone": texts[0], "data.folder": texts[1], texts[2]: texts[3]}
    told = [
        ("run_started", {"folder": texts[1], "accelerator": texts[0], "settings": settings}),
        *(("epoch_ended", {**epoch, "epoch": n, "valid/metric": n / 9}) for n in range(1, 4)),
        ("mistakes_counted", {"wrong": 3, "of": 9, "pairs": [(*texts[:2], 3)], "weakest": []}),
        ("question_answered", {**question, "metric": texts[3], "options": options, "notes": []}),
        ("files_listed", {"files": [{"name": one, "bytes": 1} for one in BREAKERS]}),
        *(("line_said", {"text": one}) for one in BREAKERS),
        *(("warning_raised", {"text": one}) for one in BREAKERS),
        ("heartbeat", {"deliveries": [{"name": texts[0], "trouble": texts[1]}]}),
        ("run_failed", {"error": texts[0], "reason": texts[1]}),
    ]
    key = {"run": BREAKERS[0].replace("/", ""), "time": time.time()}
    return [make_event(n, name) | values | key for n, (name, values) in enumerate(told, 1)]


def test_a_run_of_hostile_names_is_shown_as_text_and_nothing_else(tmp_path: Path):
    with serve_site(tmp_path) as live, open_browser() as browser:
        live.site.files = read_files(find())
        live.tell(make_run())
        svg = make_event(99, "image_shown", place=0, folds=1, id=BREAKERS[0], jpeg=SVG)
        before = live.count()
        assert live.post(json.dumps({"events": [svg]}).encode()).status_code == 400
        assert live.count() == before
        (card,) = live.get("/api/runs")["runs"]
        page = Tab(browser.new_page(), live.url)
        for view in ("#/", f"#/run/{card['run']}", f"#/compare?runs={card['run']}", "#/health"):
            for width in (360, 1280):
                tab = page.open(view, width)
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, view
                assert tab.evaluate("document.images.length") == 0
        assert tab.evaluate("document.scripts.length") == 2  # the page's own and the library
    assert page.unwanted == []
