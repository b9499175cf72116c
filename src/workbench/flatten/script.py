"""Script: its lines, and the place in the sources that each of them comes from."""

from dataclasses import dataclass
from typing import NamedTuple

from workbench.flatten.refusal import BuildError, Refusal

WIDTH = 100  # columns, as in pyproject.toml


class Place(NamedTuple):
    """Where a script line comes from; no line number where the builder wrote it."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Line(NamedTuple):
    """One line of the script."""

    text: str
    place: Place


@dataclass(frozen=True)
class Script:
    """The built script: its text, the place of every line, and its sections' first lines."""

    text: str
    places: tuple[Place, ...]
    sections: tuple[tuple[int, str], ...]  # first line and heading


def check_script(script: Script, size_limit: int) -> None:
    """Raises BuildError if the script is too large for Kaggle or is not Python as a whole."""
    size = len(script.text.encode())
    if size > size_limit:
        reason = f"has {size:,} bytes, over the limit of {size_limit:,}; Kaggle takes 1 MB at most"
        raise BuildError([Refusal("kernel/podium.py", 1, f"{reason}, so move data to a data set")])
    try:
        compile(script.text, "kernel/podium.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        place = script.places[(error.lineno or 1) - 1]
        reason = f"is not Python in the script ({error.msg}); mend this line"
        raise BuildError([Refusal(place.file, place.line or 1, reason)]) from None
