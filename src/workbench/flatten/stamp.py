"""Stamp: the hash of the sources, which the script carries in its settings."""

import hashlib
from collections.abc import Iterator, Sequence

from workbench.flatten.refusal import Refusal
from workbench.flatten.script import Line
from workbench.flatten.source import Module


def check_stamp(module: Module) -> Iterator[Refusal]:
    """Refuses a settings module that cannot be stamped."""
    if module.name == "settings" and not any(map(is_stamp, module.lines)):
        yield module.refuse(1, 'does not say where the script comes from; add SOURCE = "modules"')


def is_stamp(line: str) -> bool:
    """Is it the settings line that the builder fills in?"""
    return line.startswith('SOURCE = "modules"')


def stamp_line(line: Line, digest: str) -> list[Line]:
    """Fills in SOURCE; its comment goes above it, because the hash takes the room beside it."""
    if not is_stamp(line.text):
        return [line]
    comment = line.text.partition("#")[2].strip()
    stamp = line._replace(text=f'SOURCE = "{digest}"')
    sentence = f"# {comment[:1].upper()}{comment[1:]}"
    return [line._replace(text=sentence), stamp] if comment else [stamp]


def digest_sources(modules: Sequence[Module]) -> str:
    """The sha256 over names and texts of the modules, in order."""
    digest = hashlib.sha256()
    for module in modules:
        text = module.text.encode()
        digest.update(f"{module.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()
