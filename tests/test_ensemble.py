import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from bench.ensembles import CASES, compare_with_uniform, find_errors, measure_case
from podium.blends import FITS, Blend, apply_blend, list_fits
from podium.ensemble import Nest, choose_blend, divide, find_luck
from podium.evidence import compare_answers
from podium.members import squash
from podium.metrics import METRICS, score_answers
from podium.rules import apply_rule, plain_rule
from podium.tallies import find_named
from podium.task import Task, encode_targets

pytestmark = pytest.mark.either

QUICK = {name: FITS[name] for name in ("uniform", "best single", "log-loss weights")}


def ask(metric, classes=4):
    return Task(METRICS[metric].fits[0], tuple(map(str, range(classes))), True, metric)


def plant(seed, signals, images=300, classes=4, sharpened=1.0):
    """Members whose logits are their signal times the truth, and noise; the last is sharpened."""
    dice = np.random.default_rng(seed)
    targets = encode_targets(dice.integers(0, classes, images), classes)
    logits = np.array([signal * targets + dice.normal(0, 1, targets.shape) for signal in signals])
    logits[-1] *= sharpened
    members = np.array([squash(one, True) for one in logits], np.float32)
    return targets, members, np.arange(images) % 5


def decide(task, probs):
    return apply_rule(plain_rule(task), probs)


def test_a_bad_member_that_is_sure_of_itself_is_not_averaged_with_a_good_one():
    task = ask("accuracy")
    targets, members, folds = plant(0, (4.0, 0.3), sharpened=8.0)
    choice = choose_blend(task, targets, members, folds, FITS)
    assert choice.comparison.adopted
    assert choice.name != "uniform"
    assert choice.blend.weights[0] > 5 * choice.blend.weights[1]
    gain = compare_answers(
        task, targets, decide(task, members.mean(axis=0)), decide(task, choice.probs)
    )
    found = choice.comparison
    assert found[:2] == gain[:2]
    assert found.high == gain.high
    assert 0 < found.low < gain.low
    assert gain.p <= found.p < 0.05
    assert found.detectable > gain.detectable


def test_members_of_equal_worth_keep_the_plain_mean_and_what_it_answers():
    task = ask("accuracy")
    targets, members, folds = plant(1, (2.0, 2.0, 2.0))
    choice = choose_blend(task, targets, members, folds, list_fits(task))
    assert not choice.comparison.adopted
    assert choice.name == "uniform"
    assert choice.blend == Blend("mean", (1 / 3,) * 3)
    np.testing.assert_allclose(choice.probs, members.mean(axis=0), atol=1e-6)


def take_alone(place):
    """A candidate that is one member by itself."""
    return lambda task, targets, members: Blend("mean", tuple(np.eye(len(members))[place].tolist()))


def count_adoptions(metric, repeats):
    """How often one of four members of equal worth takes the place of a fifth."""
    task, adopted = ask(metric), 0
    fits = {f"member {place}": take_alone(place) for place in range(5)}
    for seed in range(repeats):
        targets, members, folds = plant(seed, (1.5,) * 5, images=200)
        adopted += choose_blend(task, targets, members, folds, fits).comparison.adopted
    return adopted


def test_of_choices_that_change_nothing_one_in_twenty_is_adopted():
    """20 times at 5 %: 5 or more adoptions would have odds of three in a thousand."""
    assert count_adoptions("accuracy", 20) <= 4


def test_where_the_plain_one_is_the_only_candidate_it_stays():
    targets, members, folds = plant(0, (1.5, 1.5), images=60)
    choice = choose_blend(ask("accuracy"), targets, members, folds, {"first": take_alone(0)})
    assert choice.name == "first"
    assert not choice.comparison.adopted
    np.testing.assert_allclose(choice.probs, members[0])


def test_the_luckiest_of_several_is_beyond_what_one_would_be():
    """Of independent ones as the maximum of as many normal figures; of copies as one."""
    dice = np.random.default_rng(0)
    several = dice.normal(0, 0.01, (5, 20_000))
    bound = np.quantile(find_luck(several, 100), 0.95)
    assert bound == pytest.approx(norm.ppf(0.95 ** (1 / 5)), abs=0.05)
    copies = np.repeat(several[:1], 5, axis=0)
    assert np.quantile(find_luck(copies, 100), 0.95) == pytest.approx(1.645, abs=0.05)


def test_candidates_that_are_clearly_worse_or_the_same_have_no_luck():
    dice = np.random.default_rng(0)
    gains = dice.normal(0, 0.01, (4, 5000)) - np.array([[0.0], [0.05], [0.05], [0.05]])
    np.testing.assert_allclose(find_luck(gains, 1000), find_luck(gains[:1], 1000))
    gains[1:] = 0
    np.testing.assert_allclose(find_luck(gains, 1000), find_luck(gains[:1], 1000))
    assert not find_luck(gains[1:], 1000).any()


def test_options_are_all_candidates_with_scores_and_gains_out_of_fold():
    task = ask("log_loss")
    targets, members, folds = plant(2, (2.0, 1.0))
    choice = choose_blend(task, targets, members, folds, QUICK)
    assert [option.name for option in choice.options] == list(QUICK)
    plain, single, weighted = choice.options
    assert plain.gain is None
    expected = np.zeros_like(members[0])
    for fold in range(5):
        held = folds == fold
        blend = QUICK["log-loss weights"](task, targets[~held], members[:, ~held])
        expected[held] = apply_blend(blend, members[:, held], exclusive=True)
    assert weighted.score == pytest.approx(score_answers(task, targets, expected))
    mean = members.mean(axis=0)
    assert plain.score == pytest.approx(score_answers(task, targets, mean))
    assert weighted.gain.difference == pytest.approx(plain.score - weighted.score)
    assert single.gain.n == 300
    right, righter = ((find_named(task, one) == targets).all(axis=1) for one in (mean, expected))
    assert weighted.fixed == (righter > right).sum() > 0
    assert weighted.broken == (righter < right).sum()


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(0, 4))
def test_a_folds_answers_do_not_depend_on_its_own_truth(seed, fold):
    """Neither by the weights nor by which candidate was chosen."""
    task = ask("accuracy")
    targets, members, folds = plant(seed, (2.5, 0.5), 100, sharpened=6.0)
    held, lied = folds == fold, targets.copy()
    lied[held] = np.random.default_rng(seed).permutation(targets[held], axis=1)
    honest, other = (
        Nest(task, truth, members, folds, QUICK).answer_chosen() for truth in (targets, lied)
    )
    np.testing.assert_array_equal(honest[held], other[held])


def test_no_fit_sees_what_it_is_judged_on():
    """Ten fits are made without two folds, to choose by, and five without one, to answer it."""
    task, sizes = ask("accuracy"), list[int]()
    targets, members, folds = plant(3, (2.0, 1.0), 100)

    def fit(_, truth, some):
        sizes.append(len(truth))
        return Blend("mean", (1.0, 0.0))

    choose_blend(task, targets, members, folds, {"uniform": FITS["uniform"], "noted": fit})
    assert sorted(sizes) == [60] * 10 + [80] * 5


def test_the_final_blend_is_fitted_on_all_images():
    task = ask("accuracy")
    targets, members, folds = plant(0, (4.0, 0.3), sharpened=8.0)
    choice = choose_blend(task, targets, members, folds, FITS)
    assert choice.blend == FITS[choice.name](task, targets, members)
    best = max(choice.options[1:], key=lambda option: option.score)
    assert best.name == choice.name


def test_one_fold_alone_keeps_the_plain_blend():
    task = ask("accuracy")
    targets, members, _ = plant(0, (4.0, 0.3), sharpened=8.0)
    choice = choose_blend(task, targets, members, np.full(300, 2), FITS)
    assert choice.name == "uniform"
    assert not choice.comparison.adopted
    assert [option.name for option in choice.options] == ["uniform"]


def test_two_folds_are_chosen_by_in_halves():
    folds = np.array([3, 3, 3, 0, 0, 0])
    parts = divide(folds)
    assert len(np.unique(parts)) == 4
    assert all(len(set(folds[parts == part])) == 1 for part in parts)
    assert divide(np.array([0, 1, 2])).tolist() == [0, 1, 2]
    task = ask("accuracy")
    targets, members, _ = plant(0, (4.0, 0.3), sharpened=8.0)
    choice = choose_blend(task, targets, members, np.arange(300) // 150, QUICK)
    assert choice.comparison.adopted


def test_the_first_candidate_is_the_plain_one_whatever_it_is():
    task = ask("accuracy")
    targets, members, folds = plant(1, (2.0, 2.0))
    first = {"first": lambda *_: Blend("mean", (1.0, 0.0)), "uniform": FITS["uniform"]}
    choice = choose_blend(task, targets, members, folds, first)
    assert choice.comparison.adopted
    assert choice.name == "uniform"
    targets, members, folds = plant(1, (3.0, 0.0))
    choice = choose_blend(task, targets, members, folds, first)
    assert choice.name == "first"
    np.testing.assert_allclose(choice.probs, members[0], atol=1e-6)


def test_a_metric_that_is_not_defined_adopts_nothing():
    task = Task("probability", ("a", "b"), metric="auc")
    members = np.random.default_rng(0).dirichlet(np.ones(2), (2, 20)).astype(np.float32)
    targets, folds = encode_targets([1] * 20, 2), np.arange(20) % 4
    choice = choose_blend(task, targets, members, folds, FITS)
    assert choice.name == "uniform"
    assert not choice.comparison.adopted


@pytest.mark.modules
def test_nested_choice_is_not_below_uniform_where_a_bad_member_is_too_sure():
    """Of few repeats, by more than twice the error of the mean; of twenty see below."""
    ways = ("uniform", "geometric stack", "nested, accuracy", "nested, log loss")
    found = measure_case(CASES[2], 3, ways, images=600)
    for gain, error in compare_with_uniform(found).values():
        assert gain >= -2 * error
    assert (found["geometric stack"] < found["uniform"])[:, 1].all()


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_simulation_gives_the_reference_s_figures_and_nested_choice_loses_nothing(case):
    """Both are means over 20 repeats, so their difference has twice the variance of either.

    Three standard errors of that: of 70 figures one would be further out in one run of six.
    """
    found = measure_case(case, 20)
    print(case.name, {name: values.mean(axis=0) for name, values in found.items()})
    for name, known in zip(found, case.known, strict=False):
        apart = np.abs(found[name].mean(axis=0) - known)
        assert (apart <= 3 * np.sqrt(2) * find_errors(found[name]) + 1e-4).all(), name
    for name, (gain, error) in compare_with_uniform(found).items():
        assert gain >= -error, name


@pytest.mark.long
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "qwk", "log_loss", "auc"])
def test_of_choices_that_change_nothing_no_more_are_adopted_by_other_metrics(metric):
    """300 times at 5 %: 25 or more adoptions would have odds of one in a hundred."""
    adopted = count_adoptions(metric, 300)
    print(metric, adopted)
    assert adopted <= 24
