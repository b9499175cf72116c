from pathlib import Path

import pytest
from PIL import Image

from workbench.browser import find_chromium
from workbench.gallery_picture import DESKTOP, GAP, HEIGHT, PHONE, main

PAGE = """<!doctype html><html><style>
:root{color-scheme:light dark}body{margin:0;background:#fff}i{display:block;height:3000px}
@media(prefers-color-scheme:dark){body{background:#000}}b{display:block;height:3000px}
#a{background:#c00}#b{background:#00c}</style>
<a href="#a">randaugment</a><a href="#b">mixup</a><i></i><b id="a"></b><b id="b"></b></html>"""


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt-get install chromium")
def test_a_phone_and_a_desktop_are_shown_side_by_side_each_at_its_policy(tmp_path: Path):
    (tmp_path / "page.html").write_text(PAGE)
    picture = tmp_path / "picture.png"
    assert main([str(picture), "--page", str(tmp_path / "page.html")]) == 0
    with Image.open(picture) as drawn:
        assert drawn.size == (PHONE + GAP + DESKTOP, HEIGHT)
        seen = drawn.convert("RGB")
    red, white, blue = (
        seen.getpixel((column, HEIGHT // 2)) for column in (PHONE // 2, PHONE + GAP // 2, 1000)
    )
    assert red[0] > 150 > red[2]
    assert blue[2] > 150 > blue[0]
    assert min(white) > 240


def test_the_readmes_picture_is_small():
    committed = Path(__file__).resolve().parents[2] / "docs" / "images" / "gallery.png"
    assert committed.stat().st_size < 300_000
