import json
from pathlib import Path

import numpy as np

from podium.learning import PseudoConfig
from podium.pseudo import FoldPoll, Poll, Selection
from podium.pupil import (
    Found,
    describe_bands,
    describe_found,
    describe_none,
    keep_found,
    recall_found,
)

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
