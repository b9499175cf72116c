import numpy as np
import pytest
from scipy.stats import beta

from podium.adaptive import FIRST_VIEWS, Gathered, find_certainty, gather_views

pytestmark = pytest.mark.either

CAP = 48


class Voter:
    """A model whose views are drawn: of image i a view names class 0 with probability share[i]."""

    def __init__(self, share: np.ndarray, classes: int = 3, seed: int = 0) -> None:
        dice = np.random.default_rng(seed)
        named = np.where(dice.random((CAP, len(share))) < share, 0, 1)
        others = dice.dirichlet(np.ones(classes), (CAP, len(share)))
        self.probs = 0.6 * np.eye(classes)[named] + 0.4 * others
        self.asked: list[np.ndarray] = []

    def __call__(self, view: int, rows: np.ndarray) -> np.ndarray:
        self.asked.append(rows)
        return self.probs[view, rows].astype(np.float32)


def gather(voter: Voter, most: int = CAP) -> Gathered:
    return gather_views(voter, np.arange(voter.probs.shape[1]), most, exclusive=True)


def test_an_image_of_which_all_views_agree_takes_the_first_views_and_no_more():
    voter = Voter(np.array([1.0, 0.0]))
    found = gather(voter)
    assert found.taken.tolist() == [FIRST_VIEWS] * 2
    assert not found.undecided.any()
    np.testing.assert_allclose(found.probs, voter.probs[:FIRST_VIEWS].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("votes", "done"),
    [((6, 0), True), ((5, 1), False), ((6, 1), True), ((8, 2), True), ((9, 4), False)],
)
def test_an_image_is_done_where_the_leading_class_keeps_its_majority_at_95_per_cent(
    votes: tuple[int, int], done: bool
):
    sure = find_certainty(np.array([[*votes, 0.0]]), sum(votes), exclusive=True)
    assert sure[0] == pytest.approx(beta.sf(0.5, votes[0] + 1, votes[1] + 1))
    assert (sure[0] >= 0.95) == done


def test_each_view_is_asked_only_of_images_that_are_undecided():
    voter = Voter(np.random.default_rng(1).uniform(0, 1, 200))
    found = gather(voter)
    assert [len(rows) for rows in voter.asked[:FIRST_VIEWS]] == [200] * FIRST_VIEWS
    counts = [len(rows) for rows in voter.asked]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == found.taken.sum()
    for row in (0, 50, 199):
        taken = found.taken[row]
        assert all(row in rows for rows in voter.asked[:taken])
        assert all(row not in rows for rows in voter.asked[taken:])
        np.testing.assert_allclose(found.probs[row], voter.probs[:taken, row].mean(0), atol=1e-6)


def test_votes_are_counted_after_rounds_and_at_the_cap():
    share = np.random.default_rng(2).uniform(0.3, 0.7, 300)
    assert set(gather(Voter(share), 16).taken.tolist()) == {6, 9, 12, 15, 16}


def test_no_image_takes_more_than_the_cap_and_those_that_never_agree_are_named():
    voter = Voter(np.array([0.5] * 50 + [1.0] * 50), seed=3)
    found = gather(voter, 10)
    assert found.taken.max() == 10
    assert found.undecided[:50].mean() > 0.5
    assert not found.undecided[50:].any()
    assert (found.taken[found.undecided] == 10).all()


@pytest.mark.parametrize("most", [1, FIRST_VIEWS - 1])
def test_a_cap_below_the_first_views_is_kept_and_decides_nothing(most: int):
    found = gather(Voter(np.array([1.0] * 4)), most)
    assert found.taken.tolist() == [most] * 4
    assert found.undecided.all()


def test_three_times_fewer_views_answer_nearly_as_all_do():
    share = np.random.default_rng(0).beta(4, 0.5, 4000)  # a task where one view errs often
    voter = Voter(share)
    found, full = gather(voter), voter.probs.mean(axis=0)
    assert CAP / found.taken.mean() >= 3
    assert (found.probs.argmax(axis=1) == full.argmax(axis=1)).mean() >= 0.99


def test_more_doubt_allowed_takes_fewer_views():
    share = np.random.default_rng(0).beta(4, 0.5, 500)
    taken = [
        gather_views(Voter(share), np.arange(500), CAP, exclusive=True, unsure=unsure).taken.mean()
        for unsure in (0.001, 0.05, 0.2)
    ]
    assert taken == sorted(taken, reverse=True)
    assert taken[0] > taken[2]


def test_of_classes_that_do_not_exclude_each_other_the_least_clear_one_decides():
    def answer(view: int, rows: np.ndarray) -> np.ndarray:
        clear, torn = [0.9, 0.1, 0.9], [0.9, 0.1, 0.9 if view % 2 else 0.1]
        return np.array([clear, torn], np.float32)[rows]

    found = gather_views(answer, np.arange(2), 12, exclusive=False)
    assert found.taken.tolist() == [FIRST_VIEWS, 12]
    assert found.undecided.tolist() == [False, True]
    np.testing.assert_allclose(found.probs[1], [0.9, 0.1, 0.5], atol=1e-6)


def test_rows_are_those_of_the_pixels_and_answers_are_in_their_order():
    voter = Voter(np.array([1.0, 0.0, 1.0, 0.0]))
    found = gather_views(voter, np.array([3, 0]), CAP, exclusive=True)
    assert found.probs.argmax(axis=1).tolist() == [1, 0]
    assert voter.asked[0].tolist() == [3, 0]


def test_nothing_to_answer_is_answered_and_no_views_are_refused():
    assert gather_views(Voter(np.ones(3)), np.arange(0), 8, exclusive=True).probs.shape == (0, 3)
    with pytest.raises(ValueError, match="at least one view must be taken, not 0"):
        gather(Voter(np.ones(3)), 0)
