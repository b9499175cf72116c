"""Runs side by side: the page from folders, and in a real browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from folders import make_csv_competition
from PIL import Image
from run_folders import make_run_folder

from podium.evidence import count_changes
from podium.questions import Option, Question, keep_questions
from workbench import compare_runs
from workbench.browser import find_chromium, open_browser
from workbench.compare_page import render_comparison
from workbench.past_runs import read_past_runs

HOSTILE = "<img src=x onerror=window.hacked=1>"
needs_browser = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium to look at the page with; install one: apt-get install chromium",
)


class Reader(HTMLParser):
    """The cells of a page's tables by their first, its tags, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self.cells: list[str] = []
        self.text = ""
        self.feed(page)
        self.keep_row()

    def keep_row(self) -> None:
        if self.cells:
            name, *values = (" ".join(cell.split()) for cell in self.cells)
            self.rows[name] = values
        self.cells = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.keep_row()
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "br":
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tr", "table"):
            self.keep_row()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cells:
            self.cells[-1] += data


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A run that examined batch norm, and one with other settings that had just begun."""
    first = make_run_folder(tmp_path / "first")
    for fold, verdict in enumerate(("lag", "lag")):
        (first / f"fold{fold}" / "truth.json").write_text(json.dumps({"verdict": verdict}))
    second = make_run_folder(
        tmp_path / "second", settings={"optimizer.name": "sgd", "model.backbone": HOSTILE}
    )
    (second / "summary.json").unlink()
    return [first, second]


def test_runs_are_columns_with_what_each_reached_and_was_set_to(folders: list[Path]):
    page = Reader(render_comparison(read_past_runs(folders)))
    assert page.rows["out of fold"] == ["0.8333 accuracy 0.7000 to 0.9000", "–"]
    assert page.rows["time"] == ["2 h 00 min", "–"]
    assert page.rows["batch norm"] == ["lag × 2", "–"]
    assert page.rows["state"] == ["complete", "not finished"]
    assert page.rows["optimizer"] == page.rows["optimizer.name"] == ["adamw", "sgd"]
    assert page.rows["model.backbone"] == ["tiny", HOSTILE]
    assert "test, one model" not in page.rows
    assert "second and first are not compared image by image: second has no summary" in page.text
    assert page.tags.count("h2") == 4


def test_names_are_text_and_nothing_is_fetched(tmp_path: Path, folders: list[Path]):
    odd = make_run_folder(tmp_path / "<b>&amp;", summary={"run": {"state": HOSTILE}})
    text = render_comparison(read_past_runs([*folders, odd]))
    page = Reader(text)
    assert "img" not in page.tags
    assert "<b>&amp;" in page.text
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert "http" not in text.replace("http-equiv", "")
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 20


def test_equal_settings_are_said_to_be_so(tmp_path: Path):
    runs = read_past_runs([make_run_folder(tmp_path / name) for name in "ab"])
    assert "All are the same." in Reader(render_comparison(runs)).text


def test_the_page_and_its_picture_are_written_where_asked(
    tmp_path: Path, folders: list[Path], capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "new" / "page.html"
    assert compare_runs.main([*map(str, folders), "--out", str(out)]) == 0
    assert "Runs side by side" in out.read_text()
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 3 * picture.height
    told = capsys.readouterr().out
    assert str(out) in told
    assert str(out.with_suffix(".png")) in told


def test_folders_that_are_no_runs_are_told_and_nothing_is_written(
    tmp_path: Path, folders: list[Path], capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "page.html"
    words = [str(folders[0]), str(tmp_path / "none"), "--out", str(out)]
    assert compare_runs.main(words) == 1
    assert "none is not a folder" in capsys.readouterr().err
    assert not out.exists()


def test_without_a_run_the_command_says_how_to_name_one(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        compare_runs.main([])
    assert 'make report RUNS="runs/a runs/b"' in capsys.readouterr().err


def test_help_shows_how_to_call_it(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        compare_runs.main(["--help"])
    told = capsys.readouterr().out
    assert 'make report RUNS="runs/a runs/b"' in told
    assert "make report RUNS=runs/a " in told


def make_own_run(tmp_path: Path, classes: list[str]) -> Path:
    """A run on a competition that lies on this machine."""
    data = make_csv_competition(tmp_path / "data")
    settings = {"data.folder": str(data), "data.metric": "auto", "runtime.seed": 0}
    summary = {"classes": classes, "out_of_fold": None}
    folder = make_run_folder(tmp_path / "run", settings=settings, summary=summary)
    (folder / "oof.npz").unlink()
    (folder / "report.html").write_text("as it was")
    return folder


def test_of_one_run_the_report_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, out = make_own_run(tmp_path, ["cat", "dog"]), tmp_path / "page.html"
    assert compare_runs.main([str(folder), "--out", str(out)]) == 0
    assert "Learning curves" in (folder / "report.html").read_text()
    assert str(folder / "report.html") in capsys.readouterr().out
    assert not out.exists()


QUESTION = Question(
    "head",
    "Which head?",
    "The dense one.",
    "accuracy",
    "dense256elu",
    (Option("linear", 0.9), Option("dense256elu", 0.95, count_changes(400, 30, 10), 2.5, 30, 10)),
    "s/epoch",
)


def test_decisions_of_other_folders_are_shown_on_the_page_of_one_run(tmp_path: Path):
    folder, race = make_own_run(tmp_path, ["cat", "dog"]), tmp_path / "race"
    race.mkdir()
    keep_questions(race, [QUESTION])
    keep_questions(folder, [QUESTION._replace(asks="Which views?")])
    assert compare_runs.main([str(folder), "--evidence", str(race), str(race)]) == 0
    asked = re.findall("<h3>(.*?) <", (folder / "report.html").read_text())
    assert asked == ["Which views?", "Which head?", "Which head?"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "race holds no decisions.json"), ("{", "race/decisions.json does not hold questions")],
)
def test_a_folder_without_decisions_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, reason: str
):
    folder, race = make_own_run(tmp_path, ["cat", "dog"]), tmp_path / "race"
    race.mkdir()
    if content:
        (race / "decisions.json").write_text(content)
    assert compare_runs.main([str(folder), "--evidence", str(race)]) == 1
    assert reason in capsys.readouterr().err
    assert (folder / "report.html").read_text() == "as it was"


def test_decisions_of_other_folders_go_with_one_run(
    folders: list[Path], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        compare_runs.main([*map(str, folders), "--evidence", "race"])
    assert "EVIDENCE is shown on the page of one run" in capsys.readouterr().err


@needs_browser
def test_the_evidence_page_fits_a_phone_and_a_desktop(tmp_path: Path):
    """No figure is cut off: of a table that has every column, all is to be seen."""
    folder = make_own_run(tmp_path, ["cat", "dog"])
    gain = count_changes(9999, 330, 210)
    long = Option("a subset of views by greed, " * 2, 0.95, gain, 1, 330, 210)
    question = QUESTION._replace(options=(*QUESTION.options, long), chosen=long.name)
    keep_questions(folder, [question])
    assert compare_runs.main([str(folder)]) == 0
    with open_browser(color_scheme="dark") as browser:
        tab = browser.new_page()
        tab.goto((folder / "report.html").as_uri())
        for width in (360, 1280):
            tab.set_viewport_size({"width": width, "height": 800})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            table = tab.locator(".proof .wide")
            assert table.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
            assert tab.locator(".proof svg.chart").bounding_box()["width"] > 250


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data.folder": "/kaggle/input/gone"}, "/kaggle/input/gone, which is not a folder"),
        ({"data.colour": "blue"}, "unknown setting 'data.colour'"),
        ({}, "other classes than run had"),
    ],
)
def test_where_its_competition_is_not_to_be_had_a_run_has_curves_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], reason: str
):
    folder, out = make_own_run(tmp_path, ["cat", "emu"]), tmp_path / "page.html"
    settings = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(settings))
    assert compare_runs.main([str(folder), "--out", str(out)]) == 0
    assert (folder / "report.html").read_text() == "as it was"
    page = Reader(out.read_text())
    assert page.text.count("Learning curves") == 1
    assert page.rows["state"] == ["complete"]
    assert "Better, or luckier?" not in page.text
    assert reason in capsys.readouterr().out


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1080, "dark")])
def test_the_page_fits_a_phone_and_runs_no_code(
    tmp_path: Path, folders: list[Path], width: int, scheme: str
):
    out, unwanted = tmp_path / "page.html", list[str]()
    out.write_text(render_comparison(read_past_runs(folders)), encoding="utf-8")
    size = {"width": width, "height": 800}
    with open_browser(viewport=size, color_scheme=scheme) as browser:
        tab = browser.new_page()
        tab.on("console", lambda message: unwanted.append(message.text))
        tab.on("request", lambda request: unwanted.append(request.url))
        tab.goto(out.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("window.hacked") is None
        charts = tab.locator("svg.chart")
        assert charts.count() == 3
        boxes = [charts.nth(place).bounding_box() for place in range(3)]
        assert all(box["width"] > 250 and box["height"] > 150 for box in boxes)
    assert unwanted == [out.as_uri()]
