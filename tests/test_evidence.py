import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from bench.gate import FAIR, SCENES, count_power, count_rules, count_scene
from podium.evidence import (
    DOUBT,
    SHOWN,
    compare_answers,
    compare_repeats,
    count_changes,
    count_flips,
    find_paired_error,
    judge_draws,
    pass_gate,
)
from podium.metrics import METRICS, bootstrap_scores, score_answers
from podium.task import Task, encode_targets

SHARES = np.array([0.5, 0.3, 0.15, 0.05])


def ask(metric):
    return Task(METRICS[metric].fits[0], tuple("abcd"), True, metric)


def answer_noisily(dice, targets, metric, signal=2.0):
    """Two answers whose errors are shared in part and whose quality is the same."""
    base = dice.normal(0, 1, targets.shape) + signal * targets
    for _ in range(2):
        odds = np.exp(base + dice.normal(0, 0.7, targets.shape))
        probs = odds / odds.sum(axis=1, keepdims=True)
        decided = METRICS[metric].takes == "decisions"
        yield encode_targets(probs.argmax(axis=1), 4).astype(float) if decided else probs


def bound_rate(repeats):
    """5 %, and two standard errors of what so many repeats show of it."""
    return 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.modules
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_of_answers_that_are_no_better_one_in_twenty_is_adopted(metric):
    rates = count_scene(SCENES[0], metric, 300)
    assert rates.gate <= bound_rate(300)
    assert rates.naive > 0.4


@pytest.mark.long
@pytest.mark.parametrize(
    ("scene", "metric"), [(scene, metric) for scene in SCENES for metric in scene.metrics]
)
def test_one_in_twenty_is_adopted_by_every_metric_also_where_few_images_decide(scene, metric):
    rates = count_scene(scene, metric, 1000)
    print(scene.name, metric, rates)
    assert rates.gate <= bound_rate(1000)


@pytest.mark.long
@pytest.mark.parametrize("plant", FAIR)
def test_of_rules_that_help_nothing_one_in_twenty_is_adopted(plant):
    rates = count_rules(plant, 1000)
    print(plant.__name__, rates)
    assert rates.gate <= bound_rate(1000)


@pytest.mark.modules
@pytest.mark.parametrize(
    ("images", "gain", "adopted"),
    [
        (500, 0.0, 0.03),
        (500, -0.004, 0.01),
        (500, 0.006, 0.12),
        (2000, 0.0, 0.04),
        (2000, -0.004, 0.004),
        (2000, 0.006, 0.33),
        (10000, 0.0, 0.04),
        (10000, -0.004, 0.0),
        (10000, 0.006, 0.91),
    ],
)
def test_a_gain_of_accuracy_is_adopted_as_often_as_its_size_and_the_images_allow(
    images, gain, adopted
):
    """4 % of the answers change; the naive rule adopts half of what is worth nothing."""
    rates = count_power(images, gain, 4000)
    assert rates.gate == pytest.approx(adopted, abs=0.02)
    assert rates.naive > rates.gate


@pytest.mark.parametrize("metric", METRICS)
def test_better_answers_are_adopted_and_worse_ones_are_not(metric):
    dice = np.random.default_rng(1)
    targets = encode_targets(dice.choice(4, 600, p=SHARES), 4)
    plain, _ = answer_noisily(dice, targets, metric)
    better, _ = answer_noisily(dice, targets, metric, signal=4.0)
    gain = compare_answers(ask(metric), targets, plain, better)
    assert gain.adopted
    assert 0 < gain.low < gain.difference < gain.high
    assert gain.p < DOUBT
    loss = compare_answers(ask(metric), targets, better, plain)
    assert not loss.adopted
    assert loss.high < 0
    assert loss.difference == pytest.approx(-gain.difference)


def test_draws_are_paired():
    """Of two answers that differ by a constant every draw says the same."""
    targets = encode_targets([0, 1, 0, 1, 1], 2)
    plain = np.array([[0.6, 0.4]] * 5)
    task = Task("probability", ("a", "b"), metric="pf1")
    one = bootstrap_scores(task, targets, plain, seed=3)
    np.testing.assert_array_equal(one, bootstrap_scores(task, targets, plain, seed=3))
    sharper = np.where(targets, 0.9, 0.1)
    duller = np.where(targets, 0.45, 0.55)
    task = task._replace(metric="log_loss")
    gain = compare_answers(task, targets, duller, sharper)
    assert gain.low == pytest.approx(np.log(2))
    assert gain.high == pytest.approx(np.log(2))


@given(st.integers(0, 40), st.integers(0, 40))
def test_accuracies_are_compared_by_the_exact_test(fixed, broken):
    gain = count_changes(100, fixed, broken)
    if fixed + broken:
        expected = binomtest(fixed, fixed + broken, alternative="greater")
        assert gain.p == pytest.approx(expected.pvalue)
        low = expected.proportion_ci(0.95, "exact").low
        assert gain.low == pytest.approx((fixed + broken) * (2 * low - 1) / 100, abs=1e-9)
    assert gain.adopted == (gain.p < DOUBT) == (gain.low > 0)
    mirrored = count_changes(100, broken, fixed)
    assert gain.high == pytest.approx(-mirrored.low)


def test_changed_answers_are_counted_as_fixed_or_broken():
    targets = encode_targets([0] * 10, 2)
    plain = encode_targets([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], 2).astype(float)
    other = encode_targets([0, 0, 0, 1, 0, 0, 0, 0, 0, 1], 2).astype(float)
    gain = compare_answers(Task("label", ("a", "b")), targets, plain, other)
    assert gain == count_changes(10, fixed=5, broken=1)


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_answers_gain_nothing(metric):
    dice = np.random.default_rng(2)
    targets = encode_targets(dice.choice(4, 50, p=SHARES), 4)
    plain, _ = answer_noisily(dice, targets, metric)
    gain = compare_answers(ask(metric), targets, plain, plain.copy())
    assert gain == (50, 0.0, 0.0, 0.0, 1.0, False, 0.0)


def test_where_the_metric_is_not_defined_nothing_is_adopted():
    targets, task = encode_targets([0, 0], 2), Task("probability", ("a", "b"), metric="auc")
    gain = compare_answers(task, targets, np.eye(2), 1 - np.eye(2))
    assert not gain.adopted
    assert np.isnan([gain.difference, gain.low, gain.high]).all()
    assert gain.p == 1


def test_draws_without_a_score_are_left_out():
    gain = judge_draws(9, 0.5, np.array([np.nan, *np.linspace(0.4, 0.6, 99), np.inf]))
    assert gain.adopted
    assert 0.4 <= gain.low < gain.high <= 0.6
    assert gain.p == 0.01


def test_what_has_no_score_cannot_be_compared():
    targets = encode_targets([0, 1], 2)
    with pytest.raises(ValueError, match="cannot score 1 predictions"):
        compare_answers(Task("label", ("a", "b")), targets, np.eye(2), np.eye(2)[:1])


def test_a_gain_is_the_difference_of_the_scores():
    dice = np.random.default_rng(5)
    targets = encode_targets(dice.choice(4, 80, p=SHARES), 4)
    for metric, row in METRICS.items():
        plain, other = answer_noisily(dice, targets, metric)
        one, two = (score_answers(ask(metric), targets, answers) for answers in (plain, other))
        expected = two - one if row.higher_is_better else one - two
        gain = compare_answers(ask(metric), targets, plain, other, draws=50)
        assert gain.difference == pytest.approx(expected)


def test_the_error_of_a_gain_counts_only_the_images_that_changed_sides():
    """Of accuracy it is known: √(fixed + broken − (fixed − broken)² / n) / n."""
    targets = encode_targets([0] * 400, 2)
    plain, candidate = (encode_targets([0] * 400, 2).astype(float) for _ in range(2))
    plain[:30], candidate[20:40] = [0, 1], [0, 1]  # 20 fixed, 10 broken, 10 wrong in both
    error = find_paired_error(Task("label", ("a", "b")), targets, plain, candidate)
    assert error == pytest.approx(np.sqrt(30 - 10**2 / 400) / 400, rel=0.1)
    assert find_paired_error(Task("label", ("a", "b")), targets, plain, plain) == 0


def test_a_gain_without_a_score_has_no_error():
    targets, task = encode_targets([1, 1], 2), Task("probability", ("a", "b"), metric="auc")
    assert np.isnan(find_paired_error(task, targets, np.eye(2), 1 - np.eye(2)))


@pytest.mark.parametrize(
    ("gain", "low", "p", "adopted"),
    [
        (0.1, 0.01, 0.049, True),
        (0.1, 0.0, 0.01, False),
        (0.1, 0.01, 0.05, False),
        (-0.1, 0.01, 0.01, False),
        (0.1, np.nan, 0.01, False),
    ],
)
def test_a_candidate_needs_both_a_bound_above_zero_and_a_p_below_one_in_twenty(
    gain, low, p, adopted
):
    assert pass_gate(100, gain, p, low, 0.2, 0.1).adopted is adopted


def name_labels(dice, images):
    """Truth and two answers of one class each, of which some differ."""
    targets = encode_targets(dice.choice(4, images, p=SHARES), 4)
    return targets, *answer_noisily(dice, targets, "accuracy")


def test_the_randomisation_test_is_to_other_metrics_what_mcnemars_is_to_accuracy():
    """Micro F1 of one class an image is accuracy, and McNemar's p is known exactly."""
    task = Task("label", tuple("abcd"), metric="micro_f1")
    for seed in range(5):
        targets, plain, other = name_labels(np.random.default_rng(seed), 80)
        exact = count_changes(80, *count_flips(task, targets, plain, other)).p
        found = compare_answers(task, targets, plain, other, draws=20_000).p
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


@pytest.mark.parametrize("metric", ["macro_f1", "qwk", "auc", "pf1", "log_loss"])
def test_p_is_the_share_of_all_mixtures_of_two_answers_that_score_as_well(metric):
    """Ten images have 1,024 mixtures, each of which is scored by itself."""
    dice = np.random.default_rng(1)
    targets = encode_targets([0, 1, 0, 1, 2, 3, 1, 0, 2, 3], 4)
    plain, other = answer_noisily(dice, targets, metric)
    if metric == "auc":  # on one scale, that of ranks
        plain, other = (one.argsort(axis=0).argsort(axis=0) + 1.0 for one in (plain, other))
    sign = 1 if METRICS[metric].higher_is_better else -1
    coins = (np.arange(1024)[:, None] >> np.arange(10)) % 2 == 1
    mixtures = [np.where(coin[:, None], other, plain) for coin in coins]
    scores = sign * np.array([score_answers(ask(metric), targets, one) for one in mixtures])
    exact = np.mean(scores >= scores[-1] - 1e-12)
    found = compare_answers(ask(metric), targets, plain, other, draws=20_000).p
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)


def test_log_loss_is_bounded_by_the_paired_t_of_its_images():
    dice = np.random.default_rng(4)
    targets = encode_targets(dice.choice(4, 60, p=SHARES), 4)
    plain, other = answer_noisily(dice, targets, "log_loss")
    losses = [-np.log(one[targets == 1]) for one in (plain, other)]
    gain = compare_answers(ask("log_loss"), targets, plain, other)
    for bound, side in ((gain.low, "greater"), (gain.high, "less")):
        student = ttest_rel(*losses, alternative=side)
        ends = student.confidence_interval(0.95)
        assert bound == pytest.approx(ends.low if side == "greater" else ends.high)


def test_three_images_that_gain_are_not_enough_for_a_mean_over_images():
    """Student's bound alone would adopt them, of which chance makes one in eight."""
    targets = encode_targets([0] * 200, 2)
    plain, other = (encode_targets([0] * 200, 2).astype(float) for _ in range(2))
    plain[:3] = [0, 1]
    task = Task("labels", ("a", "b"), metric="samples_f1")
    gain = compare_answers(task, targets, plain, other)
    assert gain.low > 0
    assert gain.p == pytest.approx(1 / 8, abs=0.04)
    assert not gain.adopted


def test_for_auc_only_the_order_of_the_answers_counts():
    dice = np.random.default_rng(6)
    targets = encode_targets(dice.choice(4, 150, p=SHARES), 4)
    plain, other = answer_noisily(dice, targets, "auc")
    gain = compare_answers(ask("auc"), targets, plain, other)
    assert compare_answers(ask("auc"), targets, plain, np.exp(other)) == gain
    assert compare_answers(ask("auc"), targets, plain, np.exp(plain)).p == 1


def test_flips_are_counted_of_what_answers_name():
    targets = encode_targets([0, 0, 0, 1], 2)
    task = Task("probabilities", ("a", "b"), metric="log_loss")
    plain = np.array([[0.6, 0.4], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    other = np.array([[0.4, 0.6], [0.9, 0.1], [0.8, 0.2], [0.2, 0.8]])
    assert count_flips(task, targets, plain, other) == (2, 1)
    loose = Task("probabilities", ("a", "b"), False, "auc")
    both = np.array([[1, 1], [1, 0], [0, 0], [0, 1]], np.uint8)
    assert count_flips(loose, both, plain, other) == (1, 0)
    decided = Task("labels", ("a", "b"), False, "macro_f1")
    assert count_flips(decided, targets, np.zeros((4, 2)), targets.astype(float)) == (4, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_what_can_be_detected_is_two_and_a_half_standard_errors_of_the_gain(metric):
    dice = np.random.default_rng(8)
    targets = encode_targets(dice.choice(4, 300, p=SHARES), 4)
    plain, other = answer_noisily(dice, targets, metric)
    gain = compare_answers(ask(metric), targets, plain, other)
    error = find_paired_error(ask(metric), targets, plain, other)
    assert gain.detectable == pytest.approx(SHOWN * error, rel=0.1)


def test_a_detectable_gain_of_accuracy_is_shown_four_times_in_five():
    """200 of 4,000 images change sides, as many of them for the better as that gain takes."""
    gain = count_changes(4000, 100, 100).detectable
    dice = np.random.default_rng(0)
    fixed = dice.binomial(200, 0.5 + gain * 4000 / 200 / 2, 2000)
    shown = [count_changes(4000, one, 200 - one).adopted for one in fixed.tolist()]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_repeats_that_share_no_images_are_compared_by_students_t():
    gains = np.random.default_rng(0).normal(0.01, 0.02, 12)
    found = compare_repeats(gains, validated=0, trained=800)
    student = ttest_1samp(gains, 0, alternative="greater")
    assert found.p == pytest.approx(student.pvalue)
    assert found.low == pytest.approx(student.confidence_interval(0.95).low)
    assert found[:2] == (12, pytest.approx(gains.mean()))


def test_repeats_that_share_training_images_are_corrected_for_it():
    """The variance of the mean of 15 is 1 / 15 + 200 / 800 of theirs (Nadeau and Bengio 2003)."""
    gains = np.random.default_rng(0).normal(0.01, 0.02, 15)
    loose, found = (compare_repeats(gains, validated, 800) for validated in (0, 200))
    wider = np.sqrt((1 / 15 + 0.25) * 15)
    assert found.difference - found.low == pytest.approx(wider * (loose.difference - loose.low))
    assert found.detectable == pytest.approx(wider * loose.detectable)
    assert loose.p < found.p < 0.5
    assert compare_repeats(-gains, 200, 800).high == pytest.approx(-found.low)


@pytest.mark.parametrize("gains", [[0.1], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_repeats_without_a_spread_adopt_nothing(gains):
    found = compare_repeats(np.array(gains), 200, 800)
    assert not found.adopted
    assert found.p == 1
