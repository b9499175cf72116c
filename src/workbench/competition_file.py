"""kernel/competitions/<slug>.toml: one competition, its kernel, its sources and its settings.

kernel = "your-name/podium-digits"   # the kernel's address: owner/slug
kind = "file"                        # "code" for a code competition
accelerator = "gpu"                  # gpu (2×T4), tpu (v5e-8) or cpu
internet = true                      # a download of weights needs it, and a webhook
private = true
webhook = false                      # attach the private dataset of `make webhook-setup`
datasets = []                        # more sources: "owner/slug"
kernels = []

[settings]                           # what SETTINGS holds in the pushed script
preset = "gpu"
"model.backbone" = "keras:EfficientNetV2S"
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from podium.config import Config
from podium.override import SettingsError, read_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "kernel" / "competitions"
KINDS = ("file", "code")
ACCELERATORS = ("gpu", "tpu", "cpu")
ADDRESS = re.compile(r"[\w-]+/([a-z0-9][a-z0-9-]{4,})")
SLUG_LIMIT = 50  # letters in the slug, and title, of a kernel
INFERENCE = "-infer"  # ends the slug of a code competition's second kernel


class CompetitionFileError(ValueError):
    """A competition's file that cannot be used; one line for each mistake."""


@dataclass(frozen=True)
class CompetitionFile:
    """What one TOML file says."""

    competition: str  # its slug, the file's name
    kernel: str  # owner/slug
    kind: str = "file"
    accelerator: str = "gpu"
    internet: bool = True
    private: bool = True
    webhook: bool = False
    datasets: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The Kaggle name in the kernel's address."""
        return self.kernel.partition("/")[0]

    @property
    def slug(self) -> str:
        """The kernel's own name."""
        return self.kernel.partition("/")[2]

    @property
    def config(self) -> Config:
        """All settings of the pushed script."""
        return read_config([], self.settings)


def read_competition_file(slug: str, folder: Path = FOLDER) -> CompetitionFile:
    """Reads and checks a file; raises CompetitionFileError with every mistake."""
    path = folder / f"{slug}.toml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.toml"))) or "none"
        raise CompetitionFileError(
            f"{path.name} is not in kernel/competitions (there: {known}); "
            f"make new COMPETITION={slug} writes it"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompetitionFileError(f"{path.name} is no TOML: {error}") from None
    if mistakes := list_mistakes(content):
        raise CompetitionFileError("\n".join(f"{path.name}: {line}" for line in mistakes))
    lists = {name: tuple(content.get(name, ())) for name in ("datasets", "kernels")}
    return CompetitionFile(**{"competition": slug, **content, **lists})


def list_mistakes(content: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a file's content, in words."""
    known = {one.name: one for one in fields(CompetitionFile) if one.name != "competition"}
    mistakes = []
    for name, value in content.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            mistakes.append(f"unknown key {name!r}{hint}")
        elif name in ("internet", "private", "webhook") and not isinstance(value, bool):
            mistakes.append(f"{name} must be true or false, not {value!r}")
    limit = SLUG_LIMIT - len(INFERENCE) if content.get("kind") == "code" else SLUG_LIMIT
    address = ADDRESS.fullmatch(str(content.get("kernel", "")))
    if not address or len(address[1]) > limit:
        mistakes.append(
            f"kernel must be owner/slug, the slug 5 to {limit} small letters, digits and hyphens, "
            f"not {content.get('kernel')!r}"
        )
    for name, allowed in (("kind", KINDS), ("accelerator", ACCELERATORS)):
        if content.get(name, allowed[0]) not in allowed:
            mistakes.append(f"{name} must be {', '.join(allowed)}, not {content[name]!r}")
    for name in ("datasets", "kernels"):
        mistakes += list_source_mistakes(name, content.get(name, []))
    if not isinstance(content.get("settings", {}), dict):
        return [*mistakes, f"settings must be a table, [settings], not {content['settings']!r}"]
    try:
        read_config([], content.get("settings", {}))
    except SettingsError as error:
        mistakes += [line.removeprefix("SETTINGS: ") for line in str(error).splitlines()]
    return mistakes


def list_source_mistakes(name: str, sources: Any) -> list[str]:
    """What is wrong with a list of sources."""
    if not isinstance(sources, list):
        return [f"{name} must be a list of addresses such as owner/slug, not {sources!r}"]
    return [
        f"{name} must be addresses such as owner/slug, not {one!r}"
        for one in sources
        if str(one).count("/") != 1
    ]
