"""Overrides: from defaults to the settings of this run

Three sources, later wins: defaults, the SETTINGS block above, the command line. A preset is a
bundle of settings that its source applies first. All mistakes are reported together and before
Keras loads, because a round trip to Kaggle costs minutes.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin

from podium.config import PRESETS, Config
from podium.knobs import Knob, list_knobs, section_class, unwrap_optional
from podium.settings import SETTINGS

SWITCH = {"yes": True, "true": True, "no": False, "false": False}


class SettingsError(ValueError):
    """Settings that cannot be used; the message has one line for each mistake."""


def convert_value(knob: Knob, value: object) -> object:
    """Turns one given value, text from a command line or an object from SETTINGS, into its type.

    Raises SettingsError naming the setting, its limit and the value.
    """
    kind, optional = unwrap_optional(knob.hint)
    if optional and (value is None or str(value).lower() == "none"):
        return None
    refusal = SettingsError(f"{knob.name} must be {knob.limit}{unit_text(knob)}, not {value!r}")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise refusal
        return value
    if kind is bool:
        if str(value).lower() not in SWITCH:
            raise refusal
        return SWITCH[str(value).lower()]
    if kind is str:
        if not isinstance(value, str) or not value:
            raise refusal
        return value
    return convert_number(kind, knob, value, refusal)


def convert_number(kind: Any, knob: Knob, value: object, refusal: SettingsError) -> int | float:
    """Turns a value into an int or float within the knob's limits, or raises the refusal."""
    if isinstance(value, bool):  # True is an int to Python, but nobody means 1 by it
        raise refusal
    try:
        number = float(value) if kind is float else int(str(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise refusal from None
    low = -math.inf if knob.low is None else knob.low
    high = math.inf if knob.high is None else knob.high
    if not (low <= number <= high) or math.isinf(number):
        raise refusal
    return number


def unit_text(knob: Knob) -> str:
    """The unit in brackets, where there is one."""
    return f" ({knob.unit})" if knob.unit else ""


def override(config: Config, given: Mapping[str, object]) -> Config:
    """Returns the config with the given dotted settings replaced.

    Raises SettingsError listing every unknown name and every value out of its limits.
    """
    knobs = {knob.name: knob for knob in list_knobs()}
    mistakes, changes = [], dict[str, dict[str, Any]]()
    for name, value in given.items():
        if name not in knobs:
            mistakes.append(f"unknown setting {name!r}{suggest(name, knobs)}")
            continue
        try:
            section, leaf = name.split(".")
            changes.setdefault(section, {})[leaf] = convert_value(knobs[name], value)
        except SettingsError as mistake:
            mistakes.append(str(mistake))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    sections = {name: replace(getattr(config, name), **new) for name, new in changes.items()}
    return replace(config, **sections)


def suggest(name: str, known: Mapping[str, object]) -> str:
    """Says which known name was probably meant."""
    leaf_match = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    close = difflib.get_close_matches(name, known, n=1) or leaf_match
    return f"; did you mean {close[0]!r}?" if close else "; --help lists them all"


def expand_preset(given: Mapping[str, object]) -> dict[str, object]:
    """Replaces the entry "preset" by the settings it stands for; the other entries win over it."""
    chosen = dict(given)
    name = chosen.pop("preset", None)
    if name is None:
        return chosen
    if name not in PRESETS:
        raise SettingsError(f"preset must be {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[str(name)] | chosen


def parse_command_line(argv: Sequence[str]) -> dict[str, object]:
    """Reads `--name value` and `--name=value` into a dict; raises SettingsError for the rest."""
    given, mistakes, words = dict[str, object](), [], list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            mistakes.append(f"{word!r} is not a setting; write --name value")
        elif equals:
            given[name] = value
        elif words and not words[0].startswith("--"):
            given[name] = words.pop(0)
        else:
            mistakes.append(f"--{name} has no value; write --{name} value")
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return given


def read_config(argv: Sequence[str], settings: Mapping[str, object] = SETTINGS) -> Config:
    """Resolves defaults, SETTINGS and command line into one Config.

    Raises SettingsError with every mistake of all sources, one line each.
    """
    config, mistakes = Config(), []
    for source, read in (("SETTINGS", lambda: settings), ("", lambda: parse_command_line(argv))):
        try:
            config = override(config, expand_preset(read()))
        except SettingsError as error:
            prefix = f"{source}: " if source else ""
            mistakes += [prefix + line for line in str(error).splitlines()]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return config


def format_help() -> str:
    """The text of `--help`: usage, presets, then every setting grouped by stage."""
    lines = [
        "Trains an image classifier on a Kaggle competition and writes submission.csv.",
        "",
        "usage: python podium.py [--preset NAME] [--stage.setting VALUE …]",
        "   eg: python podium.py --preset dry-run --data.folder my-competition",
        "",
        f"presets: {', '.join(PRESETS)}",
    ]
    stages = {section.name: section_class(section).__doc__ for section in fields(Config)}
    stage = ""
    for knob in list_knobs():
        if not knob.name.startswith(f"{stage}.") or not stage:
            stage = knob.name.partition(".")[0]
            lines += ["", f"{stage}: {stages[stage]}"]
        default = "none" if knob.default is None else f"{knob.default}"
        lines.append(f"  --{knob.name:<24} {default:<22}  {knob.limit}{unit_text(knob)}")
        lines.append(f"  {'':<26} {knob.meaning}")
    return "\n".join(lines)
