import numpy as np
import pytest

from podium.marks import mark_probs
from podium.task import Task, encode_targets


def test_marks_are_log_loss_accuracy_and_the_competitions_metric():
    task = Task("label", ("a", "b", "c"), metric="macro_f1")
    truth = encode_targets([0, 1, 2, 2], 3)
    probs = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    marks = mark_probs(probs.astype(np.float32), truth, task)
    assert marks.loss == pytest.approx(-np.log([0.8, 0.5, 0.8, 0.2]).mean(), abs=1e-6)
    assert marks.accuracy == 0.75
    assert marks.metric == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)


def test_of_several_classes_accuracy_is_the_share_of_questions_answered_rightly():
    task = Task("labels", ("a", "b"), exclusive=False, metric="samples_f1")
    probs = np.array([[0.9, 0.2], [0.6, 0.4]], np.float32)
    marks = mark_probs(probs, encode_targets([(0,), (0, 1)], 2), task)
    assert marks.accuracy == 0.75
    assert marks.metric == pytest.approx((1 + 2 / 3) / 2)
