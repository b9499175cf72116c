from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.task import AnswerKind, MetricName, encode_targets, infer_metric


@given(st.lists(st.integers(0, 4)))
def test_a_label_is_one_target(labels: list[int]):
    targets = encode_targets(np.array(labels, np.int64), 5)
    assert targets.shape == (len(labels), 5)
    assert targets.dtype == np.uint8
    assert targets.argmax(axis=1).tolist() == labels
    assert (targets.sum(axis=1) == 1).all()


@given(st.lists(st.sets(st.integers(0, 4)), min_size=1))
def test_several_labels_are_as_many_targets(labels: list[set[int]]):
    targets = encode_targets([tuple(sorted(label)) for label in labels], 5)
    assert [set(np.flatnonzero(row).tolist()) for row in targets] == labels
    assert int(targets.sum()) == sum(map(len, labels))


def test_a_label_that_is_no_class_is_an_error():
    with pytest.raises(IndexError):
        encode_targets([5], 5)


@pytest.mark.parametrize("answer", get_args(AnswerKind))
@pytest.mark.parametrize("exclusive", [True, False])
def test_every_kind_of_answer_has_a_usual_metric(answer, exclusive: bool):
    assert infer_metric(answer, exclusive) in get_args(MetricName)


def test_probabilities_of_several_classes_at_once_are_judged_column_by_column():
    assert infer_metric("probabilities", exclusive=True) == "log_loss"
    assert infer_metric("probabilities", exclusive=False) == "auc"
