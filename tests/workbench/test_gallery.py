"""The gallery from a folder of images, and its page in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from seen_text import READ_TEXT

from workbench import gallery
from workbench.browser import find_chromium, open_browser

# A class is a folder here, so no name holds a slash.
CLASSES = (
    "<img src=x onerror=window.hacked=1>",
    "\"' onload='window.hacked=1' x=\"",
    "\u202egnp.exe & co",
    "glass_with_a_name_that_takes_up_more_than_the_room_there_is" * 2,
)
SCREENS = [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")]
needs_browser = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium to look at the page with; install one: apt-get install chromium",
)

# Pictures that cannot be decoded, by their text.
UNDECODED = """async () => {
  const pictures = [...document.images]
  const made = await Promise.allSettled(pictures.map(one => one.decode()))
  return pictures.filter((one, n) => made[n].status !== "fulfilled" || !one.naturalWidth)
    .map(one => one.alt)
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders and file names that an attacker or an accident may bring."""
    place = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (place / name[:120]).mkdir()
        for copy in range(3):
            pixels = rng.integers(0, 256, (90, 70 + 10 * number, 3), dtype=np.uint8)
            file = f'{number}{copy} "><img src=x onerror=window.hacked=1> \u202e.png'
            Image.fromarray(pixels).save(place / name[:120] / file)
    return place


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    out = folder.parent / "hostile.html"
    words = ["--data", str(folder), "--images", "6", "--out", str(out)]
    assert gallery.main([*words, "--", "--pixels.image_size", "64"]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any, page: Path) -> Iterator[Any]:
    """Opens the page on a screen; whatever it fetched or complained of fails the test."""
    tab, unwanted = browser.new_page(), list[str]()
    tab.set_default_timeout(10_000)  # ms; only a broken page is waited for
    tab.on("console", lambda message: unwanted.append(message.text))
    tab.on("pageerror", lambda error: unwanted.append(str(error)))
    tab.on("request", lambda request: unwanted.append(request.url))

    def open_on(width: int, scheme: str) -> Any:
        tab.set_viewport_size({"width": width, "height": 800})
        tab.emulate_media(color_scheme=scheme)
        tab.goto(page.as_uri())
        return tab

    yield open_on
    kept = [one for one in unwanted if one != page.as_uri() and not one.startswith("data:")]
    tab.close()
    assert kept == []


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_everything_is_legible_and_nothing_scrolls_sideways(
    width: int, scheme: str, open_page: Any
):
    tab = open_page(width, scheme)
    tab.get_by_role("radio", name="all", exact=True).check()
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    texts = tab.evaluate(READ_TEXT, "main *")
    assert len(texts) > 300
    assert [one for one in texts if one[1] < 12] == []
    assert [one for one in texts if one[2] < 4.5] == []


@needs_browser
def test_every_picture_can_be_seen_and_no_name_becomes_code(open_page: Any):
    tab = open_page(360, "light")
    tab.get_by_role("radio", name="all", exact=True).check()
    assert tab.evaluate("document.images.length") == 6 + 6 * (2 + 11 * 6)
    assert tab.evaluate(UNDECODED) == []
    assert tab.evaluate("[...document.images].every(one => one.alt.startsWith('class '))")
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("body").inner_text().count("<img src=x onerror=") > 5
    assert "\u202e" not in tab.content()


@needs_browser
def test_the_picked_image_is_shown_of_every_policy_without_a_script(open_page: Any):
    tab = open_page(1280, "light")
    rows = tab.locator(".row:visible")
    assert rows.count() == tab.locator("section .head").count() == 12
    before = rows.first.inner_text()
    tab.keyboard.press("Tab")
    for _ in range(12):  # links to the policies
        tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".r1:visible").count() == rows.count() == 12
    assert rows.first.inner_text() != before
    tab.get_by_role("radio", name="all", exact=True).check()
    assert rows.count() == 12 * 6
    assert tab.locator("script").count() == 0


@needs_browser
def test_what_is_tapped_is_as_large_as_a_finger(open_page: Any):
    tab = open_page(360, "light")
    for tapped in tab.locator("label, summary:visible, .index a").all():
        box = tapped.bounding_box()
        assert min(box["width"], box["height"]) >= 44


@needs_browser
def test_a_policy_that_is_jumped_to_is_not_hidden_below_the_picker(open_page: Any):
    for width in (360, 1280):
        tab = open_page(width, "light")
        tab.get_by_role("link", name="cutmix").click()
        picker = tab.locator("fieldset").bounding_box()
        assert tab.locator("h2", has_text="cutmix").bounding_box()["y"] > picker["height"]


def test_the_page_says_how_to_choose_and_what_decides(page: Path):
    text = page.read_text()
    assert "An augmentation earns its place by a better out-of-fold score" in text
    assert page.stat().st_size < 4_000_000


def test_chosen_policies_alone_are_shown(folder: Path, tmp_path: Path, capsys: Any):
    out = tmp_path / "new" / "page.html"
    words = ["--data", str(folder), "--policies", "none  mixup", "--images", "2", "--out", str(out)]
    assert gallery.main([*words, "--", "--pixels.image_size=32"]) == 0
    assert str(out) in capsys.readouterr().out
    assert out.read_text().count('<section id="p') == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policies", "lihgt"], "augment.policy must be"),
        (["--", "--data.foldr", "x"], "unknown setting 'data.foldr'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    words: list[str], message: str, folder: Path, capsys: Any
):
    assert gallery.main(["--data", str(folder), *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--images", "25"], ["--images", "0"], ["--data", "/nowhere"]])
def test_images_out_of_bounds_and_a_missing_folder_are_refused(words: list[str], capsys: Any):
    with pytest.raises(SystemExit):
        gallery.main(words)
    assert f"{words[0].removeprefix('--').upper()}={words[1]}" in capsys.readouterr().err


def test_without_a_folder_the_demo_is_shown_with_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    config = gallery.choose_config(None, ["--pixels.batch_size", "8"])
    assert config.data.folder == str(tmp_path / "runs" / "demo" / "digits")
    assert (config.pixels.image_size, config.pixels.batch_size) == (32, 8)
