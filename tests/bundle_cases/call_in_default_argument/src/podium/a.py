"""A: the first."""

import time
from pathlib import Path


def own() -> int:
    """Makes a value."""
    return len(open("x").read())


def fine(folder: Path = Path("x"), size: int = own(), *, key: object = lambda: input()) -> float:
    """Calls when it is called."""

    def inner(at: float = time.time()) -> float:
        return at

    return inner()


def wrong(at: float = time.time(), *, text: str = input()) -> None: ...


async def waits(file: object = open("x")) -> None: ...


class Row:
    def show(self, at: float = time.monotonic()) -> None: ...


KEY = lambda text=input(): text
