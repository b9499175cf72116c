"""Draws the gallery as a phone and a desktop show it, side by side, for the README.

PYTHONPATH=src .venv/bin/python -m workbench.gallery_picture docs/images/gallery.png
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from workbench.browser import open_browser
from workbench.gallery import PAGE

PHONE, DESKTOP, HEIGHT, GAP = 360, 1080, 1000, 24  # px


def main(argv: Sequence[str]) -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser("gallery_picture", description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE, help="what make gallery wrote")
    options = parser.parse_args(argv)
    left = take_picture(options.page, PHONE, "dark", "randaugment")
    right = take_picture(options.page, DESKTOP, "light", "mixup")
    whole = Image.new("RGB", (PHONE + GAP + DESKTOP, HEIGHT), "white")
    whole.paste(left, (0, 0))
    whole.paste(right, (PHONE + GAP, 0))
    whole.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        options.picture, optimize=True
    )
    print(options.picture)
    return 0


def take_picture(page: Path, width: int, scheme: str, policy: str) -> Image.Image:
    """What a screen of that width shows of a policy."""
    size = {"width": width, "height": HEIGHT}
    with open_browser(viewport=size, color_scheme=scheme) as browser:
        tab = browser.new_page()
        tab.goto(page.resolve().as_uri())
        tab.get_by_role("link", name=policy).click()
        return Image.open(io.BytesIO(tab.screenshot())).convert("RGB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
