"""Config: names that many sections use."""

import os.path
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from podium.settings import SETTINGS


@dataclass(frozen=True)
class Config:
    """The settings."""

    given: Mapping[str, object]


def list_names() -> Iterator[str]:
    """The names of the settings, and of this folder."""
    yield os.path.sep
    yield from SETTINGS
