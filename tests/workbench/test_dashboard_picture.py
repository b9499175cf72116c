from pathlib import Path

import pytest
from dashboard_world import World, serve_world
from PIL import Image

from workbench.browser import find_chromium
from workbench.dashboard.picture import DESKTOP, GAP, HEIGHT, PHONE, main


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt-get install chromium")
def test_two_phones_in_the_dark_and_a_desktop_by_day_are_side_by_side(tmp_path: Path):
    world, picture = World(), tmp_path / "picture.png"
    world.plant("4042", name="plain")
    world.plant("77ab", name="light")
    with serve_world(world) as address:
        assert main([address, str(picture), "light", "plain"]) == 0
    assert "api/run/77ab" in world.asked  # the first that is named is shown
    with Image.open(picture) as drawn:
        assert drawn.size == (2 * (PHONE + GAP) + DESKTOP, HEIGHT)
        seen = drawn.convert("L")
    phones, gap, desktop = (
        seen.getpixel((column, HEIGHT - 2)) for column in (2, PHONE + GAP // 2, seen.width - 4)
    )
    assert phones < 60
    assert gap > 240
    assert desktop > 200


def test_the_readmes_picture_is_small():
    committed = Path(__file__).resolve().parents[2] / "docs" / "images" / "dashboard.png"
    assert committed.stat().st_size < 300_000
