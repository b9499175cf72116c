"""The page of some runs as one file, which needs no dashboard."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_world import HOSTILE, World, needs_library

from workbench.browser import find_chromium, open_browser
from workbench.dashboard.static_report import ORDER, PAGE, BundleError, bundle, render

needs_browser = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium to look at the report with; install one: apt-get install chromium",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with names that would be code."""
    world = World()
    world.names = HOSTILE
    world.plant("4042", title=HOSTILE[0], note=HOSTILE[1])
    world.plant("77ab", (12,) * 5, title="the other", name=HOSTILE[2], state="finished")
    place = tmp_path_factory.mktemp("report") / "report.html"
    place.write_text(render(world.report("4042", "77ab")), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def tab(report: Path) -> Iterator[Any]:
    """The report from its file; whatever it fetched or complained of fails the test."""
    unwanted = list[str]()
    with open_browser(viewport={"width": 360, "height": 800}, offline=True) as browser:
        tab = browser.new_page()
        tab.on("console", lambda message: unwanted.append(message.text))
        tab.on("pageerror", lambda error: unwanted.append(str(error)))
        tab.on("request", lambda request: unwanted.append(request.url))
        tab.on("dialog", lambda dialog: (unwanted.append(dialog.message), dialog.dismiss()))
        tab.goto(report.as_uri())
        yield tab
    kept = [one for one in unwanted if not one.startswith("data:image/jpeg")]
    assert kept == [report.as_uri()]


@needs_library
@needs_browser
def test_the_file_shows_its_runs_without_a_dashboard(tab: Any):
    tab.evaluate("location.hash = '#/'")
    tab.locator(".card").nth(1).wait_for()
    assert tab.locator("nav a").all_inner_texts() == ["Runs", "Compare"]
    assert re.match(r"as of \d+ \w+ \d\d:\d\d", tab.locator(".pulse").inner_text())
    assert tab.get_by_role("button", name="Stop after this epoch").count() == 0
    assert HOSTILE[0] in tab.locator("main").inner_text()
    assert HOSTILE[1] in tab.locator("main").inner_text()
    assert "\u202e" not in tab.locator("main").inner_text()


@needs_library
@needs_browser
def test_the_file_draws_charts_and_pictures(tab: Any):
    tab.evaluate("location.hash = '#/compare'")
    tab.locator(".plot canvas").nth(11).wait_for()
    assert tab.locator(".names a").count() == 2
    tab.get_by_text("time", exact=True).click()
    assert tab.locator(".readout .value").count() == 2 * 2 + 2 * (3 * 2 + 2)
    tab.evaluate("location.hash = '#/run/4042'")
    tab.locator(".images img").first.wait_for()
    assert tab.evaluate("document.images[0].decode()") is None
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


@needs_library
def test_the_file_holds_no_name_as_html_and_allows_its_own_script_alone(report: Path):
    text = report.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert text.count("</script>") == 3
    policy = re.search('Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].count("'sha256-") == 4
    assert policy[1].startswith("default-src 'none'; img-src data:;")


def test_every_module_of_the_page_is_in_the_file():
    assert {one.stem for one in PAGE.glob("*.js")} == set(ORDER)


def test_modules_are_joined_as_they_stand(tmp_path: Path):
    (tmp_path / "one.js").write_text("export const a = 1;\nexport async function b() {}\n")
    (tmp_path / "two.js").write_text('import { a, b } from "./one.js";\n\nconst [c] = [a, b];\n')
    assert bundle(tmp_path, ("one", "two")) == (
        '(() => {\n"use strict";\nconst a = 1;\nasync function b() {}\n'
        "\n\nconst [c] = [a, b];\n})();\n"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('import { z } from "./one.js";\n', r"two\.js imports z, which one\.js does not define"),
        ('import { z } from "./zwei.js";\n', r"zwei\.js, which does not stand before it"),
        ('import * as one from "./one.js";\n', "an import or export of a form"),
        ('import one from "./one.js";\n', "an import or export of a form"),
        ("export default 3;\n", "an import or export of a form"),
        ("let a = 2;\n", r"two\.js: a is a name of one\.js already"),
        ("const { b, a } = {};\n", r"two\.js: a is a name of one\.js already"),
        ('const b = "</script>";\n', r"two\.js holds the end of an element"),
    ],
)
def test_what_cannot_be_joined_is_refused(text: str, reason: str, tmp_path: Path):
    (tmp_path / "one.js").write_text("export const a = 1;\n")
    (tmp_path / "two.js").write_text(text)
    with pytest.raises(BundleError, match=reason):
        bundle(tmp_path, ("one", "two"))
