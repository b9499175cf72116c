import re

import numpy as np
import pytest
from mixed_up import CLASSES, LABELS, MANY, ONE, PROBS, SEVERAL, compete, record
from sklearn.metrics import confusion_matrix

from podium.mistakes import name_classes, render_confusion, render_recall, render_worst
from podium.record import RunRecord


def test_confusions_are_counted_as_scikit_learn_counts_them():
    section = render_confusion(record(ONE, LABELS), CLASSES)
    expected = confusion_matrix(LABELS, PROBS.argmax(axis=1))
    cells = [int(cell or 0) for cell in re.findall(r"<i[^>]*>(\d*)</i>", section)]
    assert cells == expected.ravel().tolist()
    assert "true cat → predicted dog: 1 image<" in section
    assert "1 of 5 images are wrong" in section


@pytest.mark.parametrize("run", [record(SEVERAL, MANY), record(ONE, [])])
def test_without_one_class_an_image_there_is_no_confusion(run: RunRecord):
    assert render_confusion(run, CLASSES) == ""


def test_recall_is_of_the_images_that_show_a_class():
    one = render_recall(record(ONE, LABELS), CLASSES)
    assert re.findall(r">([\d.]+)%<", one) == ["50.00", "100.00", "100.00"]
    several = render_recall(record(SEVERAL, MANY), CLASSES)
    rows = re.findall(r"<td>(\w+)</td><td>(\d)</td><td>(\d)</td>", several)
    assert rows == [("cat", "2", "1"), ("dog", "2", "1"), ("cow", "2", "1")]


def test_the_image_of_the_highest_loss_is_the_worst():
    worst = render_worst(record(ONE, LABELS), compete(ONE, LABELS), CLASSES)
    figures = re.findall(r"<figure>.*?</figure>", worst, re.DOTALL)
    assert len(figures) == 5
    assert "i1<" in figures[0]
    assert "true <b>cat</b>" in figures[0]
    assert "predicted <b>dog</b> 90.00%" in figures[0]


def test_of_several_classes_all_are_named():
    worst = render_worst(record(SEVERAL, MANY), compete(SEVERAL, MANY), CLASSES)
    first = re.findall(r"<figure>.*?</figure>", worst, re.DOTALL)[0]
    assert "i1<" in first
    assert "true <b>cat</b><br>predicted <b>dog</b> 90.00%" in first
    assert "true nothing" in worst
    assert "true <b>dog</b>, <b>cow</b>" in worst


def test_an_image_of_very_many_classes_names_a_few():
    names = [f"c{place}" for place in range(9)]
    assert name_classes(np.ones(9, np.uint8), names).endswith("<b>c4</b>, …")
