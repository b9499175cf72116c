import numpy as np
import pytest
from sklearn import metrics as reference

from podium.metrics import score_answers
from podium.tallies import combine_kappa, rank_classes, tally_ranks, weigh_auc
from podium.task import Task, encode_targets

RNG = np.random.default_rng(0)
N = 300
LABELS = RNG.choice(4, N, p=[0.5, 0.3, 0.15, 0.05])
ONE = encode_targets(LABELS, 4)
PROBS = RNG.dirichlet(np.ones(4), N) * 0.7 + 0.3 * ONE
CHOSEN = PROBS.argmax(axis=1)
DECIDED = encode_targets(CHOSEN, 4).astype(np.float32)
MANY = (RNG.random((N, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.uint8)
LOOSE = np.clip(0.6 * RNG.random((N, 4)) + 0.4 * MANY, 0, 1)
CLAIMED = (LOOSE > 0.5).astype(np.float32)


def ask(metric, exclusive=True, ranks=5, classes=4):
    return Task("label", tuple("abcdefgh"[:classes]), exclusive, metric, ranks)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", reference.accuracy_score(LABELS, CHOSEN)),
        ("balanced_accuracy", reference.balanced_accuracy_score(LABELS, CHOSEN)),
        ("macro_f1", reference.f1_score(LABELS, CHOSEN, average="macro")),
        ("micro_f1", reference.f1_score(LABELS, CHOSEN, average="micro")),
        ("samples_f1", reference.accuracy_score(LABELS, CHOSEN)),
        ("qwk", reference.cohen_kappa_score(LABELS, CHOSEN, weights="quadratic")),
    ],
)
def test_scores_of_one_class_for_an_image_are_scikit_learns(metric, expected):
    assert score_answers(ask(metric), ONE, DECIDED) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", reference.accuracy_score(MANY, CLAIMED)),
        ("macro_f1", reference.f1_score(MANY, CLAIMED, average="macro")),
        ("micro_f1", reference.f1_score(MANY, CLAIMED, average="micro")),
        ("samples_f1", reference.f1_score(MANY, CLAIMED, average="samples", zero_division=1)),
    ],
)
def test_scores_of_several_classes_for_an_image_are_scikit_learns(metric, expected):
    assert score_answers(ask(metric, exclusive=False), MANY, CLAIMED) == pytest.approx(expected)


def test_log_loss_is_scikit_learns():
    expected = reference.log_loss(LABELS, PROBS)
    assert score_answers(ask("log_loss"), ONE, PROBS) == pytest.approx(expected)
    columns = [reference.log_loss(MANY[:, at], LOOSE[:, at]) for at in range(4)]
    loose = score_answers(ask("log_loss", exclusive=False), MANY, LOOSE)
    assert loose == pytest.approx(np.mean(columns))


def test_rows_are_scaled_to_one_before_log_loss_but_not_columns_of_their_own():
    assert score_answers(ask("log_loss"), ONE, PROBS / 2) == pytest.approx(
        score_answers(ask("log_loss"), ONE, PROBS)
    )
    loose = ask("log_loss", exclusive=False)
    assert score_answers(loose, MANY, LOOSE / 2) > score_answers(loose, MANY, LOOSE) + 0.01


def test_a_sure_mistake_costs_what_kaggle_charges():
    sure = np.array([[1.0, 0.0]], np.float32)
    wrong = np.array([[0, 1]], np.uint8)
    for exclusive in (True, False):
        task = ask("log_loss", exclusive, classes=2)
        assert score_answers(task, wrong, sure) == pytest.approx(-np.log(1e-15))


def test_auc_is_scikit_learns_mean_of_columns():
    expected = reference.roc_auc_score(MANY, LOOSE, average="macro")
    assert score_answers(ask("auc", exclusive=False), MANY, LOOSE) == pytest.approx(expected)
    coarse = LOOSE.round(1)  # ties
    expected = reference.roc_auc_score(MANY, coarse, average="macro")
    assert score_answers(ask("auc", exclusive=False), MANY, coarse) == pytest.approx(expected)
    several = reference.roc_auc_score(ONE, PROBS, average="macro")
    assert score_answers(ask("auc"), ONE, PROBS) == pytest.approx(several)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_auc_of_two_classes_is_that_of_the_last(share):
    truth = (RNG.random(N) < share).astype(np.int64)
    last = np.clip(RNG.random(N) * 0.8 + 0.2 * truth, 0, 1)
    probs = np.stack([1 - last, last], axis=1)
    score = score_answers(ask("auc", classes=2), encode_targets(truth, 2), probs)
    assert score == pytest.approx(reference.roc_auc_score(truth, last))


def test_a_column_with_one_class_only_is_left_out_of_auc():
    targets = np.array([[0, 1], [1, 1], [0, 1]], np.uint8)
    scores = np.array([[0.1, 0.3], [0.9, 0.2], [0.2, 0.1]])
    ones = np.ones((3, 1))
    assert weigh_auc(targets, scores, ones).tolist() == [1.0]
    assert np.isnan(weigh_auc(targets[:, 1:], scores[:, 1:], ones)).all()
    drawn = np.array([[1.0, 2], [1, 0], [1, 1]])  # the second draw lacks the only positive
    assert np.isnan(weigh_auc(targets, scores, drawn)).tolist() == [False, True]


def test_a_class_neither_true_nor_claimed_is_left_out_of_macro_means():
    targets, answers = encode_targets([0, 0, 1], 3), encode_targets([0, 1, 1], 3)
    f1 = score_answers(ask("macro_f1", classes=3), targets, answers.astype(np.float32))
    assert f1 == pytest.approx(reference.f1_score([0, 0, 1], [0, 1, 1], average="macro"))
    recall = score_answers(ask("balanced_accuracy", classes=3), targets, answers.astype(np.float32))
    assert recall == pytest.approx((0.5 + 1) / 2)


def test_an_image_without_classes_is_answered_rightly_by_none():
    task = ask("samples_f1", exclusive=False, classes=2)
    nothing = np.zeros((1, 2), np.uint8)
    assert score_answers(task, nothing, np.array([[0.0, 0.0]])) == 1
    assert score_answers(task, nothing, np.array([[0.0, 1.0]])) == 0


def test_average_precision_at_5_of_one_true_class_is_one_over_its_rank():
    falling = np.array([[0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02]] * 7)
    targets = encode_targets(np.arange(7), 7)
    gained = tally_ranks(ask("map", classes=7), targets, falling)[:, 0]
    np.testing.assert_allclose(gained, [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 0, 0])


def test_average_precision_of_several_true_classes_by_hand():
    """Ranked a b c d e; a, c and f are true: (1/1 + 2/3) / 3; of the first 2 ranks, (1/1) / 2."""
    falling = np.array([[0.6, 0.5, 0.4, 0.3, 0.2, 0.1]])
    targets = np.array([[1, 0, 1, 0, 0, 1]], np.uint8)
    five, two = (ask("map", exclusive=False, ranks=ranks, classes=6) for ranks in (5, 2))
    assert score_answers(five, targets, falling) == pytest.approx((1 + 2 / 3) / 3)
    assert score_answers(two, targets, falling) == pytest.approx(1 / 2)


def test_equal_probabilities_rank_by_index():
    assert rank_classes(np.array([[0.2, 0.4, 0.2, 0.4]]), 3).tolist() == [[1, 3, 0]]
    assert rank_classes(np.array([[0.2, 0.8]]), 5).tolist() == [[1, 0]]


def test_probabilistic_f1_by_hand():
    """Truth 1 1 0 0, told .9 .4 .2 .1: precision 1.3 / 1.6, recall 1.3 / 2; F1 2 · 1.3 / 3.6."""
    last = np.array([0.9, 0.4, 0.2, 0.1])
    probs = np.stack([1 - last, last], axis=1)
    score = score_answers(ask("pf1", classes=2), encode_targets([1, 1, 0, 0], 2), probs)
    precision, recall = 1.3 / 1.6, 1.3 / 2
    assert score == pytest.approx(2 * precision * recall / (precision + recall))


def test_kappa_of_one_grade_only_is_full_agreement():
    same = np.array([[0.0, 3.0, 3.0, 18.0], [4e-15, 3.0, 3.0, 18 + 4e-15]])  # all grades are 3
    assert combine_kappa(same).tolist() == [1.0, 1.0]
