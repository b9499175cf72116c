"""A: the first."""

import os
import random
from pathlib import Path
from threading import Thread
from typing import NamedTuple

ROWS: dict[str, int] = {}


class Row(NamedTuple):
    """A row."""

    name: str
    width: int


def read_table(text: str) -> dict[str, Row]:
    """Makes values, by the methods of texts and tables."""
    rows = dict[str, Row]()
    for line in text.strip().splitlines()[1:]:
        name, width = line.split()
        rows[name.lower()] = Row(name, width=int(width))._replace(name=name)
    if not rows:
        raise ValueError("no rows")
    return rows | read_table(text)


def load() -> str:
    return open("x").read()


def load_all() -> list[str]:
    """Opens at one remove."""
    return [load()]


def make_folder() -> Path:
    return Path("x").mkdir()


def remove() -> None:
    os.remove("x")


def set_variable() -> None:
    os.environ["X"] = "1"


def set_state() -> None:
    global STATE
    STATE = 1


def load_library() -> object:
    import keras

    return keras


def run(function):
    """Calls what it decorates."""
    function()
    return function


def keep(function):
    """Enters what it decorates in a table."""
    ROWS[function.__name__] = len(ROWS)
    return function


def delay() -> object:
    """Makes something that opens only when it is called."""

    def later() -> None:
        load()

    return later, lambda: load()


class Opened:
    """Opens when it is made."""

    def __init__(self) -> None:
        self.text = load()

    def close(self) -> None:
        remove()


class Counted:
    """Does nothing when it is made."""

    def close(self) -> None:
        remove()


class Worker(Thread): ...


class Late(Opened): ...
