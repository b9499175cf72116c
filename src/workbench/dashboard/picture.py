"""Draws the live page as a phone and a desktop show it, side by side, for the README.

PYTHONPATH=src .venv/bin/python -m workbench.dashboard.picture http://127.0.0.1:8008 FILE RUN RUN
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from workbench.browser import open_browser

PHONE, DESKTOP, HEIGHT, GAP = 360, 1080, 1000, 24  # px
STILL = 400.0  # ms in which charts are drawn


def main(argv: Sequence[str]) -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser("picture", description=__doc__)
    parser.add_argument("address", help="of a dashboard on this machine")
    parser.add_argument("picture", type=Path)
    parser.add_argument("runs", nargs="+", help="names of the runs to compare; the first is shown")
    options = parser.parse_args(argv)
    told = requests.get(f"{options.address}/api/runs", timeout=10).json()["runs"]
    ids = {card["name"]: card["run"] for card in told}
    runs = [ids[name] for name in options.runs]
    views = [
        ("", PHONE, "dark"),
        (f"run/{runs[0]}", PHONE, "dark"),
        (f"compare?runs={','.join(runs)}", DESKTOP, "light"),
    ]
    screens = [take_picture(f"{options.address}/#/{view[0]}", *view[1:]) for view in views]
    width = sum(screen.width for screen in screens) + GAP * (len(screens) - 1)
    whole, left = Image.new("RGB", (width, HEIGHT), "white"), 0
    for screen in screens:
        whole.paste(screen, (left, 0))
        left += screen.width + GAP
    colours = whole.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colours.save(options.picture, optimize=True)
    print(options.picture)
    return 0


def take_picture(address: str, width: int, scheme: str) -> Image.Image:
    """What a screen of that width shows of a view, once its charts are drawn."""
    size: Any = {"width": width, "height": HEIGHT}
    with open_browser(viewport=size, color_scheme=scheme) as browser:
        tab = browser.new_page()
        tab.goto(address)
        tab.wait_for_selector(".pulse[data-is=live]")
        tab.wait_for_timeout(STILL)
        return Image.open(io.BytesIO(tab.screenshot())).convert("RGB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
