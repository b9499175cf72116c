"""Writes docs/settings.md from the configuration; `--check` fails if the page is stale."""

import sys
from collections.abc import Sequence
from pathlib import Path

from podium.config import PRESETS, Config
from podium.knobs import Knob, list_knobs
from podium.override import unit_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def main(argv: Sequence[str]) -> int:
    """Writes or checks the page; returns the exit code."""
    page = format_page()
    if "--check" not in argv:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print(f"docs/{PAGE.name} does not match src/podium/config.py; run make build", file=sys.stderr)
    return 1


def format_page() -> str:
    """The page as Markdown: a table of settings for each stage, then the presets."""
    lines = [
        "# Settings",
        "",
        "Generated from `src/podium/config.py` by `make build`; edit that file, not this one.",
        "",
        "Three sources, later wins: these defaults, the `SETTINGS` block at the top of the script,",
        'the command line. `{"train.epochs": 12}` in the block is `--train.epochs 12` on the line.',
    ]
    stage = ""
    for knob in list_knobs():
        if knob.name.partition(".")[0] != stage:
            stage = knob.name.partition(".")[0]
            lines += ["", f"## {stage}", "", type(getattr(Config(), stage)).__doc__ or "", ""]
            lines += ["| setting | default | takes | meaning |", "|---|---|---|---|"]
        lines.append(format_row(knob))
    lines += ["", "## Presets", "", '`--preset NAME`, or `"preset": NAME` in the block.', ""]
    for name, settings in PRESETS.items():
        chosen = ", ".join(f"`{key}` {value}" for key, value in settings.items())
        lines.append(f"- **{name}**: {chosen}")
    return "\n".join(lines) + "\n"


def format_row(knob: Knob) -> str:
    """One setting as a row."""
    default = "none" if knob.default is None else f"{knob.default}"
    return f"| `{knob.name}` | {default} | {knob.limit}{unit_text(knob)} | {knob.meaning} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
