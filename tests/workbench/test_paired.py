from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import CLASSES, make_run_folder
from scipy.stats import binomtest

from podium.evidence import compare_answers
from podium.predictions import Predictions, read_predictions, write_predictions
from workbench.paired import PairError, compare_pair, describe_pair, read_answered
from workbench.past_runs import PastRun, read_past_runs


def make_pair(
    place: Path, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None
) -> list[PastRun]:
    folders = [
        make_run_folder(place / "a", **{"wrong": 20} | (first or {})),
        make_run_folder(place / "b", **{"wrong": 5} | (second or {})),
    ]
    return read_past_runs(folders)


def test_a_gain_is_that_of_mcnemars_test_on_the_images_both_answered(tmp_path: Path):
    found = compare_pair(*make_pair(tmp_path, second={"folds": 3}))  # and so in another order
    assert found.n == 60
    assert found.difference == pytest.approx(15 / 60)
    assert found.p == pytest.approx(binomtest(15, 15, alternative="greater").pvalue)
    assert found.adopted


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (5, "b is better than a: accuracy gain +0.2500"),
        (19, "b is not shown to be better than a: accuracy gain +0.0167"),
        (20, "b is not shown to be better than a: accuracy gain +0.0000"),
        (50, "b is worse than a: accuracy gain -0.5000"),
    ],
)
def test_the_words_say_no_more_than_the_evidence(tmp_path: Path, wrong: int, words: str):
    told = describe_pair(*make_pair(tmp_path, second={"wrong": wrong}))
    assert told.startswith(words)
    assert "on the same 60 images" in told


def test_answers_are_those_of_rules_fitted_on_the_other_folds(tmp_path: Path):
    told = {"metric": "macro_f1"}
    run, _ = make_pair(tmp_path, {"summary": told}, {"summary": told})
    one = read_answered(run)
    assert one.ids == sorted(one.ids)
    assert one.task.classes == CLASSES
    assert one.task.exclusive
    same = compare_answers(one.task, one.targets, one.answers, one.answers)
    assert same.difference == 0
    assert (one.targets != one.answers).any(axis=1).sum() == 20


def test_several_labels_an_image_are_read(tmp_path: Path):
    told = {"answer": "labels", "metric": "samples_f1"}
    runs = make_pair(tmp_path, {"summary": told}, {"summary": told})
    for run in runs:
        path = run.folder / "folds.csv"
        path.write_text(path.read_text().replace("image-0,0,", "image-0,0 2,"))
    one = read_answered(runs[0])
    assert one.targets[one.ids.index("image-0")].tolist() == [1, 0, 1]
    assert not one.task.exclusive
    assert compare_pair(*runs).difference > 0


def drop_an_image(run: PastRun) -> None:
    path = run.folder / "oof.npz"
    whole = read_predictions(path)
    write_predictions(Predictions(whole.ids[1:], whole.probs[1:]), path)


def change_a_label(run: PastRun) -> None:
    path = run.folder / "folds.csv"
    path.write_text(path.read_text().replace("image-0,0,", "image-0,1,"))


def lose_an_image(run: PastRun) -> None:
    path = run.folder / "folds.csv"
    lines = [one for one in path.read_text().splitlines() if not one.startswith("image-7,")]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_an_image, "60 and 59 images, of which 59 are the same"),
        (change_a_label, "label the same images differently"),
        (lose_an_image, "folds.csv of b does not know all images"),
        (lambda run: (run.folder / "oof.npz").unlink(), "b lacks what is needed"),
        (lambda run: (run.folder / "oof.npz").write_bytes(b"PK\3\4half"), "b lacks what is needed"),
        (lambda run: (run.folder / "folds.csv").unlink(), "b lacks what is needed"),
        (lambda run: run.summary.pop("classes"), "b has no summary.json with metric, answer"),
        (lambda run: run.summary.update(metric="elegance"), "b has no summary.json with metric"),
        (lambda run: run.summary.update(metric="macro_f1"), "their metric, classes or kind"),
        (lambda run: run.summary.update(classes=["dog", "cat", "emu"]), "their metric, classes"),
        (lambda run: run.summary.update(classes=["cat", "dog"]), "b lacks what is needed"),
        (lambda run: run.summary.update(answer="ranking"), "how many labels a ranking has"),
    ],
)
def test_what_cannot_be_compared_says_why(tmp_path: Path, change: Any, reason: str):
    one, other = make_pair(tmp_path)
    change(other)
    with pytest.raises(PairError, match=reason):
        compare_pair(one, other)
    words = describe_pair(one, other)
    assert words.startswith("b and a are not compared image by image: ")
    assert reason in words


def test_a_ranking_is_as_long_as_those_submitted(tmp_path: Path):
    told = {"answer": "ranking", "metric": "map"}
    runs = make_pair(tmp_path, {"summary": told}, {"summary": told})
    for run in runs:
        (run.folder / "submission.csv").write_text("id,labels\nx,cat dog\ny,emu cat\n")
    assert read_answered(runs[0]).task.ranks == 2
    assert compare_pair(*runs).difference > 0


def test_a_probability_of_nothing_is_no_answer(tmp_path: Path):
    one, other = make_pair(tmp_path)
    whole = read_predictions(other.folder / "oof.npz")
    empty = Predictions(whole.ids[:0], np.zeros((0, 3), np.float32))
    write_predictions(empty, other.folder / "oof.npz")
    with pytest.raises(PairError):
        compare_pair(one, other)
