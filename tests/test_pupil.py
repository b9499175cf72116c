import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
from sklearn.datasets import load_digits
from small_fold import CONFIG, START, make_session

from podium.competition import Competition
from podium.config import AugmentConfig, PixelsConfig
from podium.evidence import compare_answers
from podium.fold_data import TrainingSet
from podium.folds import write_folds
from podium.learning import PredictConfig, PseudoConfig, TrainConfig
from podium.pixels import Images
from podium.predict import predict_probs
from podium.pseudo import FoldPoll, Poll, Selection
from podium.pupil import (
    Found,
    describe_bands,
    describe_found,
    describe_none,
    keep_found,
    recall_found,
)
from podium.rules import choose_classes
from podium.task import encode_targets
from podium.teacher import Lesson, label_test_part
from podium.train import train_fold

CLASSES = ("cat", "dog", "NA")
IDS = ("a", "b", "007")


def find(arm: str = "pseudo") -> Found:
    """Two folds; the second labels two images."""
    own = Poll(np.array([0, 1, 1]), np.array([0.4, 1.0, 1.0]), np.full(3, 0.9))
    test = Poll(np.array([0, 1, 2]), np.array([1.0, 0.5, 1.0]), np.array([0.9, 0.6, 0.99]))
    poll = FoldPoll(own, np.array([1, 1, 0]), test)
    levels = np.array([0.8, np.inf, 0.9])
    chosen = [
        Selection(np.full(3, -1), np.full(3, np.inf), 0, 0, 0),
        Selection(np.array([0, -1, 2]), levels, 4, 1, 1),
    ]
    return Found(PseudoConfig(run="runs/a", arm=arm), 16, CLASSES, [poll, poll], chosen)


def test_labels_are_read_as_they_were_kept(tmp_path: Path):
    assert recall_found(tmp_path, 2, IDS, CLASSES) is None
    keep_found(find(), IDS, tmp_path)
    np.testing.assert_array_equal(
        recall_found(tmp_path, 2, IDS, CLASSES), [[-1, -1, -1], [0, -1, 2]]
    )
    (tmp_path / "fold1" / "pseudo.csv").unlink()
    assert recall_found(tmp_path, 2, IDS, CLASSES) is None


def test_pseudo_json_tells_thresholds_counts_bands_and_the_rule_risk(tmp_path: Path):
    keep_found(find("control"), IDS, tmp_path)
    told = json.loads((tmp_path / "pseudo.json").read_text())
    assert told["run"] == "runs/a"
    assert told["arm"] == "control"
    assert "read the rules" in told["rule_risk"]
    assert [(band["name"], band["n"], band["right"]) for band in told["bands"] if band["n"]] == [
        ("below 0.5", 2, 0), ("1", 4, 2)
    ]  # fmt: skip
    fold = told["folds"][1]
    assert fold["thresholds"] == {"cat": 0.8, "dog": None, "NA": 0.9}
    assert fold["classes"] == {"cat": 1, "dog": 0, "NA": 1}
    assert (fold["accepted"], fold["of"], fold["near_validation"]) == (2, 3, 1)


def test_words_tell_how_often_the_teacher_is_right_and_what_was_accepted():
    first, _, last = describe_found(find())
    assert first.endswith("of its 16 views that agree: below 0.5: 0.0% of 2, 1: 50.0% of 4")
    assert last == (
        "fold 1: 2 of 3 test images are labelled (cat 1, NA 1); 4 are sure, 1 of them near to "
        "validation, 1 beyond the share of their class"
    )
    assert describe_bands(find().bands(), 16) == first


def test_words_tell_how_many_images_a_precision_takes():
    told = describe_none(PseudoConfig(run="runs/a"), 144)
    assert "at least 268 answers" in told
    assert "largest class has 144 images" in told
    assert "lower pseudo.precision" in told


# A gain that is there: networks that learn 450 images each by heart, and see thousands more.

HARD = planted.Strength(25, 0.25, 0.15, 0, 60)
LABELLED, UNLABELLED, FOLDS = 900, 2700, 2
LEARNING = replace(
    CONFIG,
    pixels=PixelsConfig(planted.SIDE, 64),
    augment=AugmentConfig("none", flip="no"),
    train=TrainConfig(head_epochs=0, epochs=12),
    predict=PredictConfig(recalibrate="no"),
)


def draw_digits(name: str, scans: np.ndarray, count: int) -> Images:
    """Digits that are hard to read, each scan as often as need be."""
    digits, rows = load_digits(), np.resize(scans, count)
    grey = [planted.enlarge(scan) for scan in digits.images[rows]]
    pixels = np.repeat(np.stack(grey)[..., None], 3, axis=3)
    ids = [f"{name}{row:04d}" for row in range(count)]
    table = pd.DataFrame({"id": ids, "path": ids, "label": digits.target[rows]})
    return Images(table, planted.change_images(pixels, HARD, np.random.default_rng(0)), [])


def answer_folds(folder: Path, data: TrainingSet, arm: str = "pseudo") -> np.ndarray:
    """Trains all folds of an arm, and answers out of fold: decisions [N, C]."""
    config, named = replace(LEARNING, pseudo=PseudoConfig(arm=arm)), np.zeros(LABELLED, np.int64)
    for fold in range(FOLDS):
        model = train_fold(config, START, data, fold, make_session(folder)).model
        rows = np.flatnonzero(data.folds == fold)
        named[rows] = predict_probs(model, data.images.pixels, rows, 64).argmax(axis=1)
    return choose_classes(named, 10)


@pytest.mark.long
def test_networks_that_have_seen_few_images_gain_by_the_labels_of_many(tmp_path: Path):
    scans = np.random.default_rng(0).permutation(1797)
    images = draw_digits("i", scans[:LABELLED], LABELLED)
    test = draw_digits("t", scans[LABELLED:], UNLABELLED)
    data = TrainingSet(images, np.arange(LABELLED) % FOLDS, planted.TASK)
    run = tmp_path / "teacher"
    answer_folds(run, data)
    write_folds(images.table, data.folds, run / "folds.csv")
    (run / "summary.json").write_text(json.dumps({"classes": planted.TASK.classes}))

    settings = PseudoConfig(run=str(run), agreement=0.75, precision=0.6, ratio=10.0)
    runtime: Any = SimpleNamespace(folder=tmp_path, precision="float32", devices=("cpu",))
    sample = pd.DataFrame({"id": test.table["id"], "label": "0"})
    competition = Competition(images.table, test.table, planted.TASK, sample, ())
    config = replace(LEARNING, pseudo=settings)
    report = make_session(tmp_path).report
    taught = label_test_part(Lesson(config, runtime, competition, data, test, None), report)

    control = answer_folds(tmp_path / "control", taught, "control")
    pseudo = answer_folds(tmp_path / "pseudo", taught)
    counts = [
        [
            pd.read_csv(tmp_path / arm / f"fold{fold}" / "history.csv")["updates"].iloc[-1]
            for arm in ("control", "pseudo")
        ]
        for fold in range(FOLDS)
    ]
    assert all(one == other > 12 * 8 for one, other in counts)  # 450 images are 8 batches
    truth = encode_targets(images.table["label"].to_numpy(), 10)
    found = compare_answers(planted.TASK, truth, control, pseudo)
    assert found.adopted
    assert found.difference > 0.05
