import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.tells import cut_numbers, follow_majority, is_group, measure_agreement, share_split


def text(values) -> np.ndarray:
    return np.array([str(one) for one in values], np.object_)


def test_a_column_that_tells_the_label_is_followed_and_one_of_noise_is_not():
    draw = np.random.default_rng(0)
    labels, folds = draw.integers(0, 3, 300), np.arange(300) % 5
    told, base = follow_majority(text(labels * 7), labels, folds)
    assert told == 1
    assert base == np.bincount(labels).max() / 300
    noise, _ = follow_majority(text(draw.integers(0, 100, 300)), labels, folds)
    assert noise < base + 0.1


def test_ids_that_are_unique_tell_nothing():
    labels = np.array([0, 0, 0, 1] * 25)
    told, base = follow_majority(text(f"x{row}" for row in range(100)), labels, np.arange(100) % 5)
    assert told == base == 0.75


def test_numbers_of_many_values_are_cut_into_parts():
    draw = np.random.default_rng(0)
    labels, folds = np.arange(400) // 200, draw.integers(0, 5, 400)
    numbers = text(np.arange(400) * 0.37)
    assert len(set(cut_numbers(numbers))) == 20
    assert follow_majority(numbers, labels, folds)[0] == 1
    few, words = text([1, 2] * 30), text(f"word {row}" for row in range(60))
    assert cut_numbers(few) is few
    assert cut_numbers(words) is words


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=2, max_size=20))
def test_agreement_is_the_share_of_pairs_with_one_label(rows):
    values, labels = text(one for one, _ in rows), np.array([one for _, one in rows])
    pairs = [(a, b) for a in range(len(rows)) for b in range(a)]
    inside = [(a, b) for a, b in pairs if values[a] == values[b]]
    agreed = [labels[a] == labels[b] for a, b in inside]
    agreement, base = measure_agreement(values, labels)
    assert agreement == pytest.approx(np.mean(agreed) if agreed else 0)
    assert base == pytest.approx(np.mean([labels[a] == labels[b] for a, b in pairs]))


def test_values_in_several_folds_are_counted_but_for_empty_ones():
    values = text(["a", "a", "b", "b", "", "", "c"])
    assert share_split(values, np.array([0, 1, 2, 2, 0, 1, 0])) == (1 / 3, 1)
    assert share_split(text([""] * 2), np.array([0, 1])) == (0, 0)


def test_a_column_is_a_group_by_its_name_or_by_what_it_does():
    draw = np.random.default_rng(0)
    labels, folds = np.repeat(draw.integers(0, 2, 60), 5), text(np.repeat(np.arange(60), 5))
    assert is_group("unit", folds, labels)
    assert not is_group("unit", text(draw.integers(0, 60, 300)), labels)
    assert is_group("Patient_ID", text(draw.integers(0, 60, 300)), labels)
    assert not is_group("patient", text(range(300)), labels)
    assert not is_group("patient", text([1] * 300), labels)
    assert not is_group("kind", text(labels), labels)
