"""Writes kernel/competitions/<slug>.toml after a few questions; a flag answers one beforehand."""

import sys
from argparse import Namespace
from collections.abc import Sequence

from workbench.competition_file import (
    ACCELERATORS,
    FOLDER,
    INFERENCE,
    KINDS,
    SLUG_LIMIT,
    CompetitionFileError,
    read_competition_file,
)
from workbench.kernel import VerbError, make_parser, run_verb

TEMPLATE = """\
# {slug}: what `make push COMPETITION={slug}` sends.
kernel = "{owner}/{kernel}"
kind = "{kind}"                # "file": you submit a CSV; "code": Kaggle runs a script of yours
accelerator = "{accelerator}"         # gpu (2×T4), tpu (v5e-8) or cpu
internet = true            # for weights that are not attached, and for a webhook
private = true
webhook = false            # true attaches the private dataset of `make webhook-setup`
datasets = []              # more sources, "owner/slug"
kernels = []

[settings]                 # docs/settings.md lists them
{preset}"model.backbone" = "{backbone}"
"""


def new_competition(argv: Sequence[str]) -> None:
    """Asks, writes, reads it back."""
    parser = make_parser("new", __doc__)
    parser.add_argument("--owner", help="your Kaggle name")
    parser.add_argument("--kind", choices=KINDS, help="how one submits")
    parser.add_argument("--accelerator", choices=ACCELERATORS)
    parser.add_argument("--backbone", help="a name from `make backbones`")
    options = parser.parse_args(argv)
    slug = options.competition
    if not slug:
        raise VerbError("make new COMPETITION=slug, the last part of kaggle.com/competitions/slug")
    path = FOLDER / f"{slug}.toml"
    if path.exists():
        raise VerbError(f"{path.name} is there already; edit it, or delete it first")
    path.parent.mkdir(exist_ok=True)
    path.write_text(fill_template(slug, options), encoding="utf-8")
    try:
        read_competition_file(slug)
    except CompetitionFileError:
        path.unlink()
        raise
    print(f"{path.relative_to(FOLDER.parents[1])} is written; make push COMPETITION={slug} DRY=1")


def fill_template(slug: str, options: Namespace) -> str:
    """The file's text, from flags and questions."""
    accelerator = options.accelerator or choose("Which accelerator?", ACCELERATORS)
    return TEMPLATE.format(
        slug=slug,
        owner=options.owner or input("Your Kaggle name (kaggle.com/your-name): ").strip(),
        kernel=f"podium-{slug}"[: SLUG_LIMIT - len(INFERENCE)].rstrip("-"),
        kind=options.kind or choose("How does one submit?", KINDS),
        accelerator=accelerator,
        preset="" if accelerator == "cpu" else f'preset = "{accelerator}"\n',
        backbone=options.backbone or "keras:EfficientNetV2S",
    )


def choose(question: str, answers: Sequence[str]) -> str:
    """One of the answers; the first if the line is empty."""
    given = input(f"{question} [{answers[0]}] ({', '.join(answers)}): ").strip() or answers[0]
    if given not in answers:
        raise VerbError(f"{given!r} is none of {', '.join(answers)}")
    return given


if __name__ == "__main__":
    sys.exit(run_verb(new_competition, sys.argv[1:]))
