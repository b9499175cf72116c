"""Knobs: the settings one by one, as help, override and report show them"""

import types
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from podium.config import Config


class Knob(NamedTuple):
    """One setting as `--help` and docs/settings.md show it."""

    name: str  # dotted: "train.epochs"
    hint: Any  # its type
    default: object
    meaning: str
    unit: str
    low: float | None
    high: float | None

    @property
    def limit(self) -> str:
        """What values it takes, in words: "2 to 20", "cpu, gpu or tpu", "text"."""
        kind, optional = unwrap_optional(self.hint)
        if get_origin(kind) is Literal:
            text = ", ".join(get_args(kind))
        elif kind is str:
            text = "text"
        elif self.high is None and self.low is None:
            text = "yes or no" if kind is bool else "any number"
        elif self.high is None:
            text = f"{self.low:g} or more"
        elif self.low is None:
            text = f"up to {self.high:g}"
        else:
            text = f"{self.low:g} to {self.high:g}"
        return f"{text}, or none" if optional else text


def list_knobs() -> Iterator[Knob]:
    """Yields every setting, stage by stage, in the order of the stages."""
    for section in fields(Config):
        for declared in fields(section_class(section)):
            yield Knob(
                f"{section.name}.{declared.name}",
                declared.type,
                declared.default,
                **declared.metadata,
            )


def section_class(section: Field[Any]) -> Any:
    """The dataclass of one section of Config."""
    if not is_dataclass(section.type):
        raise TypeError(f"Config.{section.name} is not a section")
    return section.type


def unwrap_optional(hint: Any) -> tuple[Any, bool]:
    """Splits `int | None` into (int, True); any other type T gives (T, False)."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None)), True
    return hint, False


def list_settings(config: Config) -> dict[str, object]:
    """Every setting and its value, by dotted name."""
    named = {}
    for knob in list_knobs():
        section, leaf = knob.name.split(".")
        named[knob.name] = getattr(getattr(config, section), leaf)
    return named
