from pathlib import Path

import pytest
from folders import write_csv

from podium.inputs import CompetitionError
from podium.solution import read_solution
from podium.task import Task


def read(folder: Path, columns: dict[str, list], task: Task) -> list[tuple[str, ...]]:
    ids = ["b", "a"]
    write_csv(folder / "solution.csv", {" id": [*reversed(ids), "more"], **columns})
    return read_solution(folder / "solution.csv", ids, task)


@pytest.mark.parametrize(
    ("answer", "cells", "truth"),
    [
        ("label", ["cat", " dog", "cat"], [("dog",), ("cat",)]),
        ("probabilities", ["cat", "dog", "cat"], [("dog",), ("cat",)]),
        ("probability", ["cat", "dog", "cat"], [("dog",), ("cat",)]),
        ("probability", [0, 1, 0], [("dog",), ("cat",)]),
        ("probability", [0.2, 0.9, 0.4], [("dog",), ("cat",)]),
        ("ranking", ["cat dog", "dog cat", "cat dog"], [("dog",), ("cat",)]),
        ("ranking", ["cat", "dog", "cat"], [("dog",), ("cat",)]),
        ("label", ["cow", "dog", "cat"], [("dog",), ("cow",)]),  # what is no class is told later
    ],
)
def test_the_truth_stands_in_the_first_column_after_the_ids(tmp_path, answer, cells, truth):
    assert read(tmp_path, {"y": cells}, Task(answer, ("cat", "dog"))) == truth


def test_several_labels_are_a_list_or_a_column_for_each_class(tmp_path):
    lists = Task("labels", ("cat", "dog"), exclusive=False)
    assert read(tmp_path, {"y": ["cat", "cat dog", "cat"]}, lists) == [("cat", "dog"), ("cat",)]
    columns = {"dog": [0, 1, 0], "cat": [0, 0.7, 0]}
    each = Task("probabilities", ("cat", "dog"), exclusive=False)
    assert read(tmp_path, columns, each) == [("cat", "dog"), ()]
    assert read(tmp_path, columns, Task("probabilities", ("cat", "dog"))) == [("dog",), ("cat",)]


def test_a_solution_must_be_there_and_know_every_id(tmp_path):
    task = Task("label", ("cat", "dog"))
    with pytest.raises(CompetitionError, match=r"data.solution is .*none.csv, which is not a file"):
        read_solution(tmp_path / "none.csv", ["a"], task)
    write_csv(tmp_path / "solution.csv", {"id": ["a"], "y": ["cat"]})
    with pytest.raises(CompetitionError, match=r"7 test ids \(0, 1, 2, 3, 4, …\) have no label in"):
        read_solution(tmp_path / "solution.csv", [*"0123456"], task)
