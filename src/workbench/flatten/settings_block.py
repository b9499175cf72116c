"""The SETTINGS block: a script of one's own settings, built from a copy of the modules."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.flatten.refusal import BuildError, Refusal

EMPTY_SETTINGS = "SETTINGS: dict[str, object] = {}"


def copy_with_settings(package: Path, settings: Mapping[str, Any], folder: Path) -> Path:
    """Copies the package into a folder, these settings in its block; raises BuildError."""
    copy = folder / package.parent.name / package.name  # its lines are named as the modules' are
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    module = copy / "settings.py"
    text = module.read_text(encoding="utf-8")
    if text.count(EMPTY_SETTINGS) != 1:
        reason = f"must hold the line {EMPTY_SETTINGS!r}, which a competition's settings replace"
        refusal = Refusal("src/podium/settings.py", 1, f"{reason}; move yours to its file")
        raise BuildError([refusal])
    module.write_text(text.replace(EMPTY_SETTINGS, format_settings(settings)), encoding="utf-8")
    return copy


def format_settings(settings: Mapping[str, Any]) -> str:
    """The SETTINGS block, an entry a line."""
    entries = "".join(f"    {quote(name)}: {quote(value)},\n" for name, value in settings.items())
    return EMPTY_SETTINGS.removesuffix("{}") + "{" + (f"\n{entries}" if entries else "") + "}"


def quote(value: Any) -> str:
    """A value as Python, text in double quotes: JSON's escapes are Python's too."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
