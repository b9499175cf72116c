import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.blends import fit_likelihood
from podium.greedy import Judge, rank_members, search_greedily
from podium.members import squash
from podium.metrics import METRICS, score_answers
from podium.rules import apply_rule, plain_rule
from podium.task import Task, encode_targets

pytestmark = pytest.mark.either


def ask(metric, exclusive=True):
    return Task(METRICS[metric].fits[-1], ("a", "b", "c"), exclusive, metric)


def plant(seed, exclusive=True, images=60, signals=(1.0, 1.2, 1.4)):
    dice = np.random.default_rng(seed)
    targets = encode_targets(dice.integers(0, 3, images), 3)
    if not exclusive:
        targets |= (dice.random(targets.shape) < 0.2).astype(np.uint8)
    logits = [signal * targets + dice.normal(0, 1, targets.shape) for signal in signals]
    members = [squash(one - (not exclusive), exclusive) for one in logits]
    return targets, np.array(members, np.float32)


def score(task, targets, members, weights):
    probs = np.tensordot(weights, members.astype(np.float64), 1).clip(0, 1)
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    return sign * score_answers(task, targets, apply_rule(plain_rule(task), probs))


@st.composite
def cases(draw):
    metric = draw(st.sampled_from(list(METRICS)))
    kinds = [True] if "labels" not in METRICS[metric].fits else [True, False]
    exclusive = draw(st.sampled_from(kinds if metric != "samples_f1" else [False]))
    signals = draw(st.lists(st.sampled_from([0.0, 1.0, 3.0]), min_size=1, max_size=4))
    return ask(metric, exclusive), *plant(draw(st.integers(0, 2**32)), exclusive, 30, signals)


@given(cases(), st.integers(0, 99))
def test_a_mean_is_judged_by_what_it_scores(case, seed):
    """Though images that all members decide alike are counted but once."""
    task, targets, members = case
    counts = np.random.default_rng(seed).integers(0, 3, len(members)) + 1
    told = Judge(task, targets, members).score(counts)
    assert told == pytest.approx(score(task, targets, members, counts / counts.sum()))


@settings(max_examples=20)
@given(cases())
def test_the_search_never_ends_below_the_best_single_member(case):
    task, targets, members = case
    found = score(task, targets, members, search_greedily(task, targets, members))
    alone = np.eye(len(members))
    assert found >= max(score(task, targets, members, one) for one in alone) - 1e-9


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_where_members_decide_everything_alike_nothing_is_left_to_judge(metric):
    task, (targets, members) = ask(metric), plant(0)
    judge = Judge(task, targets, np.repeat(members[:1], 3, axis=0))
    assert len(judge.targets) == 0
    assert judge.score(np.array([1, 0, 2])) == pytest.approx(
        score(task, targets, members, np.array([1, 0, 0]))
    )


def test_members_are_ranked_by_the_metric_and_equals_by_their_log_loss():
    task = ask("accuracy")
    targets = encode_targets([0, 1, 2] * 4, 3)
    timid, sure = (0.1 * (1 - targets) + told * targets for told in (0.5, 0.8))
    wrong = np.roll(sure, 1, axis=0)
    members = np.array([timid, wrong, sure], np.float32)
    assert rank_members(Judge(task, targets, members)) == [2, 0, 1]


def test_the_greedy_search_optimises_the_metric_and_not_its_proxy():
    task, better = ask("accuracy"), 0
    for seed in range(5):
        targets, members = plant(seed, images=200)
        members[2] = members[2] ** 9 / (members[2] ** 9).sum(axis=1, keepdims=True)
        found = search_greedily(task, targets, members)
        likely = np.array(fit_likelihood(task, targets, members).weights)
        greedy, likely = (score(task, targets, members, one) for one in (found, likely))
        assert greedy >= likely - 0.005
        better += greedy > likely
    assert better >= 4


def test_fewer_members_are_taken_where_more_are_no_better():
    task, targets = ask("accuracy"), encode_targets([0, 1, 2] * 4, 3)
    sure = (0.1 + 0.7 * targets).astype(np.float32)
    assert max(search_greedily(task, targets, np.array([sure, sure]))) == 1


def test_the_mean_of_bags_does_not_hang_on_one_draw_of_the_noise():
    """Of six equal members the search on all would leave some out; bags give each its share."""
    task, (targets, members) = ask("accuracy"), plant(1, images=300, signals=(1.0,) * 6)
    assert min(search_greedily(task, targets, members)) > 0.02
