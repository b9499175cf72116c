"""Runs whose models look at images in several ways, which are then used or not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clocked_run import LOOK_COST, Clock, check_answers, make_plan, never, stop_at
from conftest import compute_step_by_step

from podium import adoption as adoption_room
from podium import crossval as crossval_room
from podium.adoption import Plan
from podium.blends import Blend
from podium.crossval import cross_validate
from podium.ensemble import Choice
from podium.events import Reporter
from podium.learning import TrainConfig
from podium.looks import Looks
from podium.predictions import read_predictions
from podium.questions import read_questions

pytestmark = [
    pytest.mark.modules,  # test_kill has whole runs of the script look
    pytest.mark.filterwarnings("ignore:Even though the .*eagerly` option is set:UserWarning"),
]

VIEWS = "flip shift-left"
OWN, TEST = "views.npz", "test-views.npz"


def make_short(folder: Path, deadline: float = 1e9, **predict: Any) -> Plan:
    """A run whose folds are trained for one epoch of everything."""
    plan = make_plan(folder, deadline, images=64, **predict)
    return plan._replace(config=replace(plan.config, train=TrainConfig(head_epochs=0, epochs=1)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done but for the use of its looks, which were not shown to help."""
    folder = tmp_path_factory.mktemp("trained")
    with compute_step_by_step():
        cross_validate(make_short(folder, 1e12, views=VIEWS), Reporter(folder), never)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch, untraced: None) -> list[list[str]]:
    """Pages and pictures are drawn elsewhere, and graphs compiled: what each page would hold.

    That is the names of its questions, and warnings.
    """

    def note(folder: Path, *given: Any) -> None:
        told = json.loads((folder / "summary.json").read_text())["warnings"]
        pages.append([one.name for one in read_questions(folder)] + told)

    pages = list[list[str]]()
    monkeypatch.setattr(crossval_room, "write_report", note)
    monkeypatch.setattr(crossval_room, "write_curves", lambda *given: None)
    return pages


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the evidence be for the mean of all looks."""
    judge = adoption_room.judge_looks

    def judge_well(task: Any, targets: Any, looks: Looks, folds: Any) -> Any:
        judged, count = judge(task, targets, looks, folds), len(looks.names)
        gain = judged.choice.comparison._replace(adopted=True)
        blend, probs = Blend("mean", (1 / count,) * count), looks.probs.mean(axis=0)
        choice = Choice("mean", blend, probs, judged.choice.options, gain)
        return judged._replace(choice=choice)

    monkeypatch.setattr(adoption_room, "judge_looks", judge_well)


def read_tta(folder: Path) -> Any:
    return next(one for one in read_questions(folder) if one.name == "tta")


def test_looks_that_are_shown_to_help_answer_the_test_part_and_what_they_did_is_kept(
    run: Path, clock: Clock, eager: None
):
    plan, report = make_short(run, views=VIEWS), Reporter(run)
    summary = cross_validate(plan, report, never)
    assert clock.time == pytest.approx(2 * 2 * LOOK_COST)
    assert report.warnings == []
    check_answers(plan)
    told = json.loads((run / "summary.json").read_text())["views"]
    assert told["names"] == list(summary["views"]["names"]) == ["identity", *VIEWS.split()]
    members = []
    for fold in range(2):
        looks = dict(np.load(run / f"fold{fold}" / TEST))
        assert looks["names"].tolist() == VIEWS.split()
        assert looks["ids"].tolist() == plan.test.table["id"].tolist()
        members += [read_predictions(run / f"fold{fold}" / "test.npz").probs, *looks["probs"]]
    answers = read_predictions(run / "test.npz").probs
    np.testing.assert_allclose(answers, np.mean(members, axis=0), atol=1e-6)
    own = np.concatenate(
        [np.load(run / f"fold{one}" / OWN)["probs"].mean(axis=0) for one in (0, 1)]
    )
    np.testing.assert_allclose(read_predictions(run / "oof.npz").probs, own, atol=1e-6)


def test_looks_that_are_not_shown_to_help_have_cost_the_own_parts_alone(
    run: Path, clock: Clock, pages: list[list[str]]
):
    (run / "decisions.json").unlink()
    before = read_predictions(run / "test.npz").probs
    summary = cross_validate(make_short(run, views=VIEWS), Reporter(run), never)
    assert clock.time == 0  # each fold's looks were taken when it had been trained
    assert summary["views"] is None
    assert not list(run.glob(f"fold*/{TEST}"))
    np.testing.assert_array_equal(read_predictions(run / "test.npz").probs, before)
    assert read_tta(run).chosen == "one view"
    assert pages == [["answers"], ["answers"], ["answers", "tta", "views"]]


def test_a_test_part_that_time_is_too_short_to_look_at_keeps_its_plain_answer(
    run: Path,
    clock: Clock,
    eager: None,
    pages: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
):
    plan, report, judge = make_short(run, 100.0, views=VIEWS), Reporter(run), None

    def judge_late(*given: Any) -> Any:
        clock.time = 100.0
        return judge(*given)

    judge = adoption_room.judge_looks
    monkeypatch.setattr(adoption_room, "judge_looks", judge_late)
    before = read_predictions(run / "test.npz").probs
    assert cross_validate(plan, report, never)["views"] is None
    (warning,) = report.warnings
    assert warning.startswith("views are shown to help, and are not used: 32 views take ")
    assert warning in pages[-1]
    assert "not used: 32 views take" in read_tta(run).answer
    assert read_tta(run).chosen == "one view"
    np.testing.assert_array_equal(read_predictions(run / "test.npz").probs, before)


def test_looks_are_off_with_a_warning_where_a_model_is_missing(
    run: Path, clock: Clock, eager: None
):
    (run / "fold1" / "model.keras").unlink()
    for gone, words in (("", "views are shown to help, and are not used: "), (OWN, "is not tried")):
        (run / "fold1" / (gone or "nothing")).unlink(missing_ok=True)
        report = Reporter(run)
        summary = cross_validate(make_short(run, views=VIEWS), report, never)
        (warning,) = report.warnings
        assert words in warning
        assert "model.keras cannot be loaded" in warning
        assert (summary["views"], summary["run"]["state"]) == (None, "complete")


@pytest.mark.long
def test_a_run_that_ends_in_the_midst_of_looks_goes_on_to_the_same_end(
    run: Path, trained: Path, clock: Clock, eager: None
):
    for path in run.glob(f"fold*/{OWN}"):
        path.unlink()
    plan = make_short(run, views="flip")
    for looks in (2.5, 5.5):  # in the second fold's own part, and in the test part
        cross_validate(plan, Reporter(run), stop_at(clock, looks * LOOK_COST))
        assert not (run / "fold1" / TEST).exists()
        check_answers(plan)
    torn = cross_validate(plan, Reporter(run), never)
    assert torn["views"] is not None
    again = Path(shutil.copytree(trained, run.parent / "whole"))
    cross_validate(make_short(again, views="flip"), Reporter(again), never)
    for name in ("oof.npz", "test.npz"):
        one, other = (read_predictions(folder / name).probs for folder in (run, again))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_one_fold_alone_judges_no_looks(
    run: Path, clock: Clock, eager: None, monkeypatch: pytest.MonkeyPatch
):
    (run / "fold1" / "test.npz").unlink()
    (run / "decisions.json").unlink()
    monkeypatch.setattr(crossval_room, "has_room", lambda *given: False)
    assert cross_validate(make_short(run, views=VIEWS), Reporter(run), never)["views"] is None
    assert [one.name for one in read_questions(run)] == ["answers"]


def test_images_that_drawn_views_leave_undecided_are_listed(run: Path, clock: Clock, eager: None):
    plan = make_short(run, views="none", most_views=2)  # less than what decides any
    summary = cross_validate(plan, Reporter(run), never)
    assert list(summary["views"]["names"]) == ["identity", "adaptive-2"]
    table = pd.read_csv(run / "undecided.csv")
    assert (table["part"] == "training").sum() == len(plan.data.images.table)
    assert table[table["part"] == "test"]["models"].tolist() == [2] * 8
