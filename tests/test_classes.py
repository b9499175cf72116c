import pytest

from podium.classes import are_lists, is_whole, list_classes, put_positive_last, split_names
from podium.config import DataConfig
from podium.inputs import CompetitionError


@pytest.mark.parametrize(
    ("labels", "lists"),
    [
        ({"scab", "rust", "scab rust"}, True),
        ({"1 23", "23 4"}, True),  # whole numbers need not stand alone
        ({"Sugar beet", "Common wheat", "Black-grass"}, False),
        ({"cat", "dog"}, False),
    ],
)
def test_labels_with_spaces_are_lists_if_each_part_is_a_label(labels: set[str], lists: bool):
    assert are_lists(labels) == lists


def test_labels_that_are_lists_and_names_are_refused_with_both_readings():
    with pytest.raises(CompetitionError) as caught:
        are_lists({"scab", "rust", "scab rust", "powdery mildew"})
    assert str(caught.value) == (
        "label 'scab rust' may be a list, as each of its parts is a label by itself, but "
        "'powdery mildew' has a part that is none: set data.answer to labels if an image has "
        "several labels, or to label if these are names with spaces"
    )


def test_a_name_keeps_its_spaces_and_a_list_is_split_at_them():
    assert split_names("Sugar beet", "label", []) == ("Sugar beet",)
    assert split_names("scab  rust scab", "labels", []) == ("scab", "rust")
    assert split_names("ETT - Normal", "probabilities", ["ETT - Normal", "x"]) == ("ETT - Normal",)
    assert split_names("a b", "probabilities", ["a", "b"]) == ("a", "b")
    assert split_names("a c", "probabilities", ["a", "b"]) == ("a c",)
    assert split_names(("a", "b"), "probabilities", ["a", "b"]) == ("a", "b")


def test_classes_are_in_natural_order_or_in_that_of_the_columns():
    assert list_classes({"10", "9", "-1"}, [], 5) == ["-1", "9", "10"]
    assert list_classes({"b", "10", "9"}, [], 5) == ["10", "9", "b"]
    assert list_classes({"a", "b"}, ["c", "b", "a"], 5) == ["c", "b", "a"]
    assert [is_whole(text) for text in ("7", "-7", "7.0", "")] == [True, True, False, False]


def test_the_class_whose_probability_is_asked_is_the_last():
    assert put_positive_last(["cat", "dog"], DataConfig()) == ["cat", "dog"]
    assert put_positive_last(["cat", "dog"], DataConfig(positive_class="cat")) == ["dog", "cat"]
    with pytest.raises(CompetitionError, match="positive_class is 'cow', but the labels are cat"):
        put_positive_last(["cat", "dog"], DataConfig(positive_class="cow"))
    with pytest.raises(CompetitionError, match=r"but the training labels are 3 classes \(a, b, c…"):
        put_positive_last(["a", "b", "c"], DataConfig())
