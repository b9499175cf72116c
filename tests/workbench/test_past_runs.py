import json
from pathlib import Path

import pytest
from run_folders import make_run_folder

from workbench.past_runs import MOST_RUNS, RunsError, list_differences, read_past_runs


def test_a_run_is_read_in_the_order_named_and_called_by_its_folder(tmp_path: Path):
    folders = [make_run_folder(tmp_path / name) for name in ("b", "a")]
    (tmp_path / "a" / "fold0" / "truth.json").write_text('{"verdict": "lag"}')
    runs = read_past_runs(folders)
    assert [run.name for run in runs] == ["b", "a"]
    assert list(runs[0].curves) == [0, 1]
    assert (runs[0].truths, runs[1].truths) == ({}, {0: {"verdict": "lag"}})
    assert runs[0].metric == "accuracy"


def test_runs_whose_folders_are_called_the_same_are_told_apart(tmp_path: Path):
    folders = [make_run_folder(tmp_path / name / "run") for name in ("b", "a")]
    assert [run.name for run in read_past_runs(folders)] == [str(one) for one in folders]


def test_a_run_that_was_cut_off_or_lost_its_settings_is_one(tmp_path: Path):
    begun, bare = make_run_folder(tmp_path / "a", folds=1), make_run_folder(tmp_path / "b")
    (begun / "fold0" / "history.csv").unlink()
    for path in (begun / "summary.json", bare / "summary.json", bare / "config.json"):
        path.unlink()
    first, second = read_past_runs([begun, bare])
    assert (first.curves, first.metric, first.part("run")) == ({}, None, {})
    assert second.settings == {}


def test_a_summary_of_a_later_version_is_read_as_far_as_it_is_understood(tmp_path: Path):
    later = {"metric": "elegance", "seconds": 3}
    run = read_past_runs([make_run_folder(tmp_path / "a", summary=later)])[0]
    assert run.metric is None
    assert run.part("seconds") == {}


def test_every_folder_that_is_no_run_is_named_and_runs_beside_it_are_suggested(tmp_path: Path):
    good = make_run_folder(tmp_path / "good")
    broken = make_run_folder(tmp_path / "broken")
    (broken / "summary.json").write_text("{half")
    with pytest.raises(RunsError) as told:
        read_past_runs([good, tmp_path, tmp_path / "missing", broken])
    lines = str(told.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{tmp_path} is no run: ")
    assert lines[1].startswith(f"{tmp_path / 'missing'} is not a folder")
    assert all(str(good) in line for line in lines[:2])
    assert lines[2].startswith(f"{broken} cannot be read")


def test_a_run_is_named_once_and_no_more_are_shown_than_can_be_told_apart(tmp_path: Path):
    folder = make_run_folder(tmp_path / "a")
    with pytest.raises(RunsError, match="named twice"):
        read_past_runs([folder, folder])
    with pytest.raises(RunsError, match=f"{MOST_RUNS + 1} runs, and at most {MOST_RUNS}"):
        read_past_runs([folder] * (MOST_RUNS + 1))


def test_only_settings_that_differ_are_listed_and_a_dash_is_one_that_was_not_known(tmp_path: Path):
    first = make_run_folder(tmp_path / "a", settings={"x.same": 1, "x.new": None})
    second = make_run_folder(tmp_path / "b", settings={"x.same": 1, "optimizer.name": "sgd"})
    assert list_differences(read_past_runs([first, second])) == {
        "optimizer.name": ["adamw", "sgd"],
        "x.new": ["none", "–"],
    }
    assert "runtime.folder" in json.loads((first / "config.json").read_text())
