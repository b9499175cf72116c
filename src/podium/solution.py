"""Solution: what the test images show, where that is known

For rehearsals: the truth as labels, or in the form in which the submission answers.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from podium.classes import Names
from podium.inputs import CompetitionError, name_some, read_clean_table
from podium.task import Task


def read_solution(path: Path, ids: Sequence[str], task: Task) -> list[Names]:
    """The classes that each test image shows; the first column of the CSV holds the ids.

    Raises CompetitionError if there is no such file, or an id is missing.
    """
    if not path.is_file():
        raise CompetitionError(f"data.solution is {path}, which is not a file")
    table = read_clean_table(path)
    known = table.iloc[:, 0].isin(ids)
    rows = table[known].set_index(table.columns[0])
    truth = dict(zip(rows.index, read_truth(rows, task), strict=True))
    missing = [image_id for image_id in ids if image_id not in truth]
    if missing:
        raise CompetitionError(f"data.solution: {name_some(missing, 'test id')} no label in {path}")
    return [truth[image_id] for image_id in ids]


def read_truth(rows: pd.DataFrame, task: Task) -> list[Names]:
    """The classes of each row: from a column for each class, else from the first column."""
    if set(task.classes) <= set(rows.columns):
        shares = rows[list(task.classes)].apply(pd.to_numeric, errors="coerce").fillna(0)
        if task.exclusive:
            return [(str(name),) for name in shares.idxmax(axis=1)]
        there = (shares >= 0.5).to_numpy()
        return [tuple(pd.Index(task.classes)[row]) for row in there]
    return [read_cell(str(cell), task) for cell in rows.iloc[:, 0]]


def read_cell(cell: str, task: Task) -> Names:
    """The classes that one cell of an answer tells."""
    if cell in task.classes:
        return (cell,)
    if not task.exclusive:
        return tuple(cell.split())
    if task.answer == "ranking":
        return tuple(cell.split()[:1]) or (cell,)
    share = pd.to_numeric(cell, errors="coerce")
    if task.answer == "probability" and not pd.isna(share):
        return (task.classes[int(share >= 0.5) - 2],)
    return (cell,)
