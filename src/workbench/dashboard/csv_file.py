"""A run's epochs as a CSV file, which a spreadsheet may open without running anything of it."""

import csv
import io
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.dashboard.series import AXES, list_numbers, read_curves

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one


def write_csv(db: sqlite3.Connection, number: int, card: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the file: one an epoch, of all folds, with every figure; then none."""
    curves = read_curves(db, number)
    names = list(dict.fromkeys(name for curve in curves for name in curve.names))
    yield write_row(["run", "name", "fold", *AXES, *names])
    for curve in curves:
        columns = dict(zip((*AXES, *curve.names), curve.block.T, strict=True))
        blank = [None] * len(curve.block)
        shown = [list_numbers(columns[one]) if one in columns else blank for one in (*AXES, *names)]
        for epoch, *figures in zip(*shown, strict=True):
            yield write_row([card["run"], card["name"], curve.fold, int(epoch), *figures])


def write_row(cells: list[Any]) -> str:
    """A line of cells; text that a spreadsheet would compute begins with an apostrophe."""
    file = io.StringIO()
    csv.writer(file).writerow([quote(cell) if isinstance(cell, str) else cell for cell in cells])
    return file.getvalue()


def quote(text: str) -> str:
    """Text that is text to a spreadsheet, too."""
    return f"'{text}" if text.startswith(FORMULAS) else text
