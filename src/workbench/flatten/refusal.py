"""Refusal: where something cannot be flattened, why, and the way out."""

from collections.abc import Sequence
from typing import NamedTuple


class Refusal(NamedTuple):
    """One thing that cannot be flattened: where, why, and the way out."""

    file: str  # from the project's root, "src/podium/train.py"
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class BuildError(ValueError):
    """The modules cannot be flattened; the message has one line for each refusal."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("\n".join(map(str, refusals)))
        self.refusals = tuple(refusals)
