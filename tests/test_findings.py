"""What a run has found, against counts by hand, and told as events."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mixed_up import LABELS, MANY, ONE, PROBS, SEVERAL, record
from PIL import Image
from run_folders import CLASSES, make_run_folder

from podium.competition import Competition
from podium.events import LONGEST_TEXT, Reporter, read_record
from podium.findings import count_mixes, rank_recalls, rank_worst, tell_findings
from podium.questions import Option, Question, keep_questions
from podium.task import Task


def test_classes_that_are_taken_for_one_another_are_counted_most_first():
    labels = [0, 0, 0, 1, 1]
    run = record(ONE, labels)  # the answers are cat, dog, dog, dog, cow
    assert count_mixes(run) == [(0, 1, 2), (1, 2, 1)]
    assert count_mixes(record(ONE, [])) == []
    assert count_mixes(record(SEVERAL, MANY)) == []


def test_the_weakest_class_comes_first_and_none_without_images():
    run = record(ONE, LABELS)
    assert rank_recalls(run) == [(0, 2, 1), (1, 2, 2), (2, 1, 1)]
    assert [one.label for one in rank_recalls(record(ONE, [2, 2]))] == [2]


def test_the_worst_is_what_was_least_expected():
    run = record(ONE, LABELS)
    order = rank_worst(run)
    likelihood = PROBS[np.arange(len(LABELS)), LABELS]
    assert order.tolist() == np.argsort(likelihood, kind="stable").tolist()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = make_run_folder(tmp_path / "run", summary={"folds": [{"fold": 0}, {"fold": 1}]})
    option = Option("plain", 0.8)
    keep_questions(folder, [Question("tta", "Is it?", "no", "accuracy", "plain", (option,))])
    return folder


def compete_in(folder: Path) -> Competition:
    """The competition of a run folder, its images of pure noise, the first missing."""
    dice = np.random.default_rng(0)
    table = pd.read_csv(folder / "folds.csv", dtype={"id": str})
    table["path"] = [str(folder.parent / f"{one}.png") for one in table["id"]]
    for path in table["path"][1:]:
        Image.fromarray(dice.integers(0, 256, (150, 150, 3), np.uint8)).save(path)
    return Competition(table, table, Task("label", CLASSES), table, ())


def test_a_page_that_is_elsewhere_is_told_what_was_mixed_up_decided_and_worst(run_folder: Path):
    report = Reporter(run_folder)
    tell_findings(run_folder, compete_in(run_folder), report)
    events = [event for event, _ in read_record(report.path)]
    assert report.lost == 0
    mistakes, question, *images = events
    assert (mistakes["event"], mistakes["wrong"], mistakes["of"]) == ("mistakes_counted", 10, 60)
    assert sum(count for *_, count in mistakes["pairs"]) == 10
    assert mistakes["pairs"][0][:2] == ["cat", "dog"]
    assert mistakes["weakest"][0][0] in CLASSES
    assert (question["event"], question["chosen"]) == ("question_answered", "plain")
    assert 7 <= len(images) <= 8  # one of the worst cannot be read
    for image in images:
        assert (image["event"], image["folds"]) == ("image_shown", 2)
        assert image["truth"] != image["guess"]
        assert image["prob"] == pytest.approx(0.8)
        assert len(image["jpeg"]) <= LONGEST_TEXT  # noise is the hardest to compress
        with Image.open(io.BytesIO(base64.b64decode(image["jpeg"]))) as picture:
            assert picture.size == (96, 96)
