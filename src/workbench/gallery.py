"""The gallery: what each policy makes of a person's own images, as one page to choose by eye.

The page holds all it shows: it fetches nothing, runs no script, and is at most 4 MB.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from podium.config import Config
from podium.inputs import CompetitionError
from podium.override import SettingsError, override, parse_command_line
from podium.policies import POLICIES
from workbench.demo import DEMO_SETTINGS, make_demo
from workbench.dry_run import read_options
from workbench.exhibits import make_gallery
from workbench.gallery_page import render_gallery

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "runs" / "gallery.html"
MOST_IMAGES = 24


def main(argv: Sequence[str]) -> int:
    """Writes the page, says where, and returns 0; a folder or setting it cannot use is 1."""
    options, extra = parse_options(argv)
    cv2.setNumThreads(1)  # what is measured is one core's work
    try:
        config = choose_config(options.data, extra)
        names = options.policies.split() if options.policies else list(POLICIES)
        page = render_gallery(make_gallery(config, names, options.images))
    except (SettingsError, CompetitionError) as error:
        print(error, file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")
    print(
        f"{options.out.resolve()}: {options.out.stat().st_size / 1e3:.1f} MB; open it in a browser"
    )
    return 0


def parse_options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits our own options from Podium's settings, which follow `--`."""
    parser = argparse.ArgumentParser("make gallery", description=__doc__)
    parser.add_argument("--data", type=Path, help="a competition's folder; none is the demo")
    parser.add_argument("--policies", default="", help="names between spaces; none is all")
    parser.add_argument("--images", type=int, default=8, help=f"shown, at most {MOST_IMAGES}")
    parser.add_argument("--out", type=Path, default=PAGE, help="where the page is written")
    options, extra = read_options(parser, argv)
    if not 1 <= options.images <= MOST_IMAGES:
        parser.error(f"IMAGES={options.images} must be 1 to {MOST_IMAGES}")
    return options, extra


def choose_config(data: Path | None, extra: Sequence[str]) -> Config:
    """The settings of a run on that folder, or on the demo; what is given after `--` wins."""
    settings: dict[str, object] = {"data.holdout": 0.2}  # else a sample submission must be there
    if data is None:
        settings |= DEMO_SETTINGS | {"data.folder": str(make_demo(ROOT / "runs" / "demo"))}
    else:
        settings["data.folder"] = str(data.resolve())
    return override(Config(), settings | parse_command_line(extra))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
