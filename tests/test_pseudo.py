from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pseudo_world import GAIN, NULL, race_arms
from scipy.stats import binom, norm

from podium.duplicates import Pairs
from podium.learning import PseudoConfig
from podium.pseudo import (
    FoldPoll,
    Poll,
    ban_copies,
    ban_groups,
    bound_share,
    count_bands,
    count_needed,
    expect_counts,
    find_thresholds,
    keep_likeliest,
    poll_views,
    select_labels,
)

CONFIG = PseudoConfig(precision=0.8, ratio=10.0)
CLASSES = 3
NONE = np.zeros(60, np.bool_)


def draw_poll(images: int, rng: np.random.Generator) -> Poll:
    agreement = rng.choice([0.6, 0.9, 1.0], images, p=[0.2, 0.2, 0.6])
    return Poll(rng.integers(0, CLASSES, images), agreement, rng.uniform(0.4, 1, images))


def draw_fold(rng: np.random.Generator, images: int = 120) -> FoldPoll:
    """Confident answers are mostly right."""
    own = draw_poll(images, rng)
    wrong = rng.random(images) > own.confidence + 0.3
    return FoldPoll(
        own, np.where(wrong, (own.labels + 1) % CLASSES, own.labels), draw_poll(60, rng)
    )


def draw_folds(seed: int, count: int = 3) -> list[FoldPoll]:
    rng = np.random.default_rng(seed)
    return [draw_fold(rng) for _ in range(count)]


def label(polls: Sequence[FoldPoll], fold: int, banned=NONE, config=CONFIG):
    return select_labels(polls, fold, banned, CLASSES, config)


def test_a_poll_is_the_mean_of_the_views_and_how_many_see_its_class():
    votes = np.float32([[[0.9, 0.1], [0.4, 0.6]], [[0.6, 0.4], [0.8, 0.2]]])
    poll = poll_views(votes)
    assert poll.labels.tolist() == [0, 0]
    assert poll.agreement.tolist() == [1.0, 0.5]
    np.testing.assert_allclose(poll.confidence, [0.75, 0.6], rtol=1e-6)


# Who may label whom.


def test_the_truth_of_a_fold_decides_nothing_about_its_labels():
    polls, rng = draw_folds(0), np.random.default_rng(1)
    kept = label(polls, 1)
    assert (kept.labels >= 0).any()
    polls[1] = polls[1]._replace(own=draw_poll(120, rng), truth=rng.integers(0, CLASSES, 120))
    again = label(polls, 1)
    np.testing.assert_array_equal(kept.labels, again.labels)
    np.testing.assert_array_equal(kept.thresholds, again.thresholds)


def test_a_fold_is_labelled_by_its_own_model_alone():
    """Another fold's model has seen the images that validate this one."""
    polls, rng = draw_folds(0), np.random.default_rng(1)
    kept = label(polls, 1)
    others = [poll._replace(test=draw_poll(60, rng)) for poll in polls]
    others[1] = polls[1]
    np.testing.assert_array_equal(kept.labels, label(others, 1).labels)
    own = [*polls[:1], polls[1]._replace(test=draw_poll(60, rng)), *polls[2:]]
    assert (label(own, 1).labels != kept.labels).any()


def test_the_other_folds_truth_sets_the_thresholds():
    polls = draw_folds(0)
    wrong = [poll._replace(truth=(poll.own.labels + 1) % CLASSES) for poll in polls]
    assert np.isinf(label(wrong, 1).thresholds).all()
    assert (label(wrong, 1).labels == -1).all()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_accepted_agrees_and_is_sure_of_the_class_that_the_views_see(seed: int):
    polls = draw_folds(seed)
    for fold in range(3):
        test, kept = polls[fold].test, label(polls, fold)
        chosen = kept.labels >= 0
        expected = (test.agreement >= 0.95) & (test.confidence >= kept.thresholds[test.labels])
        np.testing.assert_array_equal(chosen, expected)
        np.testing.assert_array_equal(kept.labels[chosen], test.labels[chosen])
        assert kept.sure == chosen.sum()


def test_nineteen_of_twenty_views_are_enough():
    polls = [
        one._replace(test=one.test._replace(agreement=np.full(60, np.mean(np.arange(20) > 0))))
        for one in draw_folds(0)
    ]
    assert (label(polls, 0).labels >= 0).any()
    assert (label(polls, 0, config=replace(CONFIG, agreement=0.96)).labels == -1).all()


def test_precision_is_that_of_answers_which_agree_as_a_label_must():
    """Confident images on which the views differ are wrong here, and are not accepted either."""
    polls = [
        one._replace(truth=np.where(one.own.agreement < 0.95, -1, one.own.labels) % CLASSES)
        for one in draw_folds(0)
    ]
    assert np.isfinite(label(polls, 0).thresholds).all()


# Thresholds.


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.9]), st.integers(1, 60))
def test_a_threshold_is_the_lowest_whose_bound_is_reached(seed: int, precision: float, n: int):
    """By brute force over all thresholds, with Wilson's bound as the root that it is."""
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.uniform(0.3, 1, n), 1)  # with ties
    known = Poll(rng.integers(0, 2, n), np.ones(n), confidence)
    right = rng.random(n) < known.confidence + 0.2
    found = find_thresholds(known, right, CLASSES, precision)
    for one in range(CLASSES):
        reached = []
        for threshold in np.unique([0, *confidence[known.labels == one]]):
            among = (known.labels == one) & (confidence >= threshold)
            if not among.any():
                continue
            share, size = right[among].mean(), among.sum()
            # The bound is the least true share that lies within z errors of what was seen.
            true = np.linspace(0, share, 20_001)
            error = norm.ppf(0.95) * np.sqrt(true * (1 - true) / size)
            least = true[np.argmax(share - true <= error)]
            if abs(least - precision) < 1e-4:
                return  # too near to tell by a grid
            reached += [threshold] if least >= precision else []
        assert found[one] == min(reached, default=np.inf)


def test_a_class_of_few_answers_is_never_sure_enough():
    for precision in (0.8, 0.9, 0.99):
        needed = count_needed(precision)
        fewer = np.array([needed - 1])
        assert bound_share(fewer, fewer)[0] < precision <= bound_share(fewer + 1, fewer + 1)[0]
    assert count_needed(0.99) == 268


# How many of a class.


def test_an_answer_counts_as_what_it_turned_out_to_be():
    predicted, truth = np.array([0] * 10 + [1] * 10), np.array([0] * 8 + [1] * 2 + [1] * 10)
    expected = expect_counts(predicted, truth, np.array([0] * 50 + [1] * 10 + [2] * 4), CLASSES)
    np.testing.assert_allclose(expected, [40, 20, 4])


@given(st.integers(0, 10_000))
def test_the_most_confident_of_each_class_are_kept_up_to_its_limit(seed: int):
    rng = np.random.default_rng(seed)
    test, free = draw_poll(40, rng), rng.random(40) < 0.7
    limits = rng.integers(0, 12, CLASSES).astype(float)
    kept = keep_likeliest(test, free, limits)
    assert not (kept & ~free).any()
    for one in range(CLASSES):
        of_class = np.flatnonzero(free & (test.labels == one))
        best = of_class[np.argsort(-test.confidence[of_class])][: int(limits[one])]
        np.testing.assert_array_equal(np.flatnonzero(kept & (test.labels == one)), np.sort(best))


def test_a_class_gets_its_expected_share_of_as_many_labels_as_there_are_training_images():
    polls = draw_folds(0)
    known = [polls[1], polls[2]]  # 240 images train fold 0, and 60 are asked of
    expected = expect_counts(
        np.concatenate([one.own.labels for one in known]),
        np.concatenate([one.truth for one in known]),
        polls[0].test.labels,
        CLASSES,
    )
    for ratio, share in ((10.0, 1.0), (0.25, 1.0), (0.1, 0.4), (0.025, 0.1)):
        found = label(polls, 0, config=replace(CONFIG, ratio=ratio))
        counts = np.bincount(found.labels[found.labels >= 0], minlength=CLASSES)
        assert (counts <= share * expected).all()
        assert counts.sum() + found.capped == found.sure
        assert (found.capped > 0) == (ratio < 0.2)


# What is too near to the validation.


def test_a_copy_of_a_validation_image_is_no_training_image_of_that_fold():
    folds = np.array([0, 1, 0, 2])
    pairs = Pairs(np.array([0, 1, 2]), np.array([2, 5, 4]), np.ones(3, np.float32))
    banned = ban_copies(pairs, folds, 3, 3)
    assert np.argwhere(banned).tolist() == [[0, 0], [1, 1]]
    assert not ban_copies(None, folds, 3, 3).any()
    polls = draw_folds(0)
    accepted = np.flatnonzero(label(polls, 0).labels >= 0)
    copies = np.isin(np.arange(60), accepted[:2])
    kept = label(polls, 0, copies)
    assert np.flatnonzero(kept.labels >= 0).tolist() == accepted[2:].tolist()
    assert kept.copies == 2


def test_a_copy_takes_no_place_from_others_of_its_class():
    polls = draw_folds(0)
    config = replace(CONFIG, ratio=0.025)
    kept = label(polls, 0, config=config)
    again = label(polls, 0, kept.labels >= 0, config=config)
    assert (again.labels >= 0).sum() == min((kept.labels >= 0).sum(), kept.capped) > 0


def test_a_group_that_validates_a_fold_trains_it_not():
    groups = np.array(["ann", "bob", "", "ann"], object)
    asked = np.array(["bob", "ann", "", "eve"], object)
    banned = ban_groups(groups, np.array([0, 1, 1, 0]), asked, 2)
    assert np.argwhere(banned).tolist() == [[0, 1], [1, 0]]


def test_precision_is_told_by_how_many_views_agree():
    bands = count_bands(np.array([0.4, 0.5, 0.64, 0.95, 0.99, 1, 1]), np.arange(7) % 2 == 0)
    assert [(band.n, band.right) for band in bands] == [
        (1, 1), (2, 1), (0, 0), (0, 0), (2, 1), (2, 1)
    ]  # fmt: skip
    assert [band.name for band in bands][::5] == ["below 0.5", "1"]


# What the gate makes of it, in a world of points.


@pytest.mark.parametrize("repeats", [40, pytest.param(600, marks=pytest.mark.long)])
def test_arms_between_which_nothing_but_luck_differs_are_called_alike(repeats: int):
    """And an arm of fewer updates would lend them a gain that is none of theirs."""
    arms = [race_arms(NULL, seed, exchanged=True) for seed in range(repeats)]
    adopted = sum(one.fair.adopted for one in arms)
    assert adopted <= binom.ppf(0.99, repeats, 0.05)
    assert adopted / repeats <= 0.05 or repeats < 100
    assert np.mean([one.naive.adopted for one in arms]) > 0.9


@pytest.mark.parametrize("repeats", [20, pytest.param(300, marks=pytest.mark.long)])
def test_labels_that_add_nothing_are_not_adopted_though_nearly_all_are_right(repeats: int):
    arms = [race_arms(NULL, seed) for seed in range(repeats)]
    assert sum(one.right for one in arms) / sum(one.accepted for one in arms) > 0.9
    assert np.mean([one.fair.adopted for one in arms]) <= 0.05


@pytest.mark.parametrize("repeats", [5, pytest.param(40, marks=pytest.mark.long)])
def test_a_gain_that_is_there_is_found(repeats: int):
    arms = [race_arms(GAIN, seed) for seed in range(repeats)]
    assert np.mean([one.fair.adopted for one in arms]) >= 0.8
    assert sum(one.right for one in arms) / sum(one.accepted for one in arms) > 0.95
