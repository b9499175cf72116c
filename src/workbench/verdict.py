"""The verdict of a race: which arm is used, by what its answers out of fold show.

An arm is better where the gate says so twice: of the images, which might have been others, and of
the trainings, which might have gone otherwise: a fold, with a seed, each. Images alone would call
the same arm better that is trained from another seed (bench/races.py). The best of several is
luckier than one, so p counts as often as there were arms to be lucky (Bonferroni): of arms that
change nothing at most one race in twenty adopts any, whichever went on after a quarter of the
epochs, as the sum over all arms holds whatever the choice among them. Where none is better, the
cheapest is used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from podium.evidence import DOUBT, Comparison, compare_answers, compare_repeats, count_flips
from podium.metrics import METRICS, Metric, score_answers
from podium.questions import Option, Question
from workbench.arms import Race
from workbench.paired import Answered, PairError, check_same

CHEAPER = 0.9  # of the plain arm's time: nearer ones are no cheaper, as times of one run vary
FEW = 5  # trainings, of fewer of which hardly any gain is sure


class Entry(NamedTuple):
    """What an arm reached, and at what cost."""

    name: str
    answered: tuple[Answered, ...]  # one for each seed
    seconds: float  # of an epoch
    rate: float = np.nan  # images that train in a second
    curves: dict[int, pd.DataFrame] | None = None  # fold → one row an epoch, of the first seed

    @property
    def score(self) -> float:
        """The metric, out of fold: the mean over seeds."""
        return float(
            np.mean([score_answers(one.task, one.targets, one.answers) for one in self.answered])
        )

    @property
    def metric(self) -> Metric:
        """What it is judged by."""
        return METRICS[self.answered[0].task.metric]

    @property
    def sign(self) -> int:
        """1 where a higher score is a better one, else -1."""
        return 1 if self.metric.higher_is_better else -1


def judge_race(race: Race, entries: Sequence[Entry], notes: Sequence[str] = ()) -> Question:
    """The question with its answer; `entries` are the arms at full length, the plain one first."""
    plain, *others = entries
    rivals = len(race.arms) - 1
    gains = {entry.name: compare_arms(plain, entry, rivals) for entry in others}
    chosen = choose_arm(entries, gains)
    answer = describe_choice(plain, chosen, entries, gains)
    if race.is_at_edge(find_best(entries).name):
        answer += "; the best rate is at the edge of its grid, so this is not final: widen LR"
    return Question(
        race.name,
        race.asks,
        answer,
        plain.answered[0].task.metric,
        chosen.name,
        tuple(make_option(plain, entry, gains.get(entry.name)) for entry in entries),
        "s an epoch",
        (*describe_costs(entries), *describe_trials(plain, rivals), *notes),
    )


def make_option(plain: Entry, entry: Entry, gain: Comparison | None) -> Option:
    """An arm as the question holds it; images are counted with the first seed."""
    one, two = plain.answered[0], entry.answered[0]
    flips = (
        (None, None)
        if gain is None
        else count_flips(one.task, one.targets, one.answers, two.answers)
    )
    cost = round(entry.seconds, 3) if np.isfinite(entry.seconds) else None
    return Option(entry.name, entry.score, gain, cost, *flips)


def compare_arms(plain: Entry, other: Entry, rivals: int) -> Comparison:
    """What an arm gains over the plain one, as one of so many that were tried.

    Bounds and p are those of images (with the first seed) or of trainings, whichever doubt more.
    Raises PairError if the arms did not answer the same images.
    """
    pairs = list(zip(plain.answered, other.answered, strict=True))
    for one, two in pairs:
        check_same(one, two)
        if not np.array_equal(one.folds, two.folds):
            raise PairError(f"{other.name} and {plain.name} were not trained on the same folds")
    one, two = pairs[0]
    images = compare_answers(one.task, one.targets, one.answers, two.answers)
    trainings = compare_trainings(plain, other)
    if trainings is None:
        return images._replace(p=1.0, adopted=False)
    p = min(max(images.p, trainings.p) * rivals, 1.0)
    return Comparison(
        n=images.n,
        difference=plain.sign * (other.score - plain.score),
        low=min(images.low, trainings.low),
        high=max(images.high, trainings.high),
        p=p,
        adopted=images.adopted and trainings.adopted and p < DOUBT,
        detectable=max(images.detectable, trainings.detectable),
    )


def compare_trainings(plain: Entry, other: Entry) -> Comparison | None:
    """What an arm gains over folds and seeds; None where fewer than two of them have a score."""
    gains = [
        plain.sign * (score_fold(two, fold) - score_fold(one, fold))
        for one, two in zip(plain.answered, other.answered, strict=True)
        for fold in np.unique(one.folds)
    ]
    known = np.array(gains)[np.isfinite(gains)]
    folds = len(np.unique(plain.answered[0].folds))
    return compare_repeats(known, 1, folds - 1) if len(known) > 1 else None


def score_fold(answered: Answered, fold: int) -> float:
    """The metric on the images of one fold."""
    rows = answered.folds == fold
    return score_answers(answered.task, answered.targets[rows], answered.answers[rows])


def choose_arm(entries: Sequence[Entry], gains: dict[str, Comparison]) -> Entry:
    """The best of those that are better; else the cheapest of those that are not worse."""
    better = [entry for entry in entries[1:] if gains[entry.name].adopted]
    if better:
        return find_best(better)
    plain = entries[0]
    cheaper = [
        entry
        for entry in entries[1:]
        if gains[entry.name].high >= 0 and entry.seconds < CHEAPER * plain.seconds
    ]
    return min(cheaper, key=lambda entry: entry.seconds, default=plain)


def find_best(entries: Sequence[Entry]) -> Entry:
    """The arm with the best score, the first of those that are alike."""
    return max(entries, key=lambda entry: entry.sign * entry.score)


def describe_choice(
    plain: Entry, chosen: Entry, entries: Sequence[Entry], gains: dict[str, Comparison]
) -> str:
    """The verdict in words, with the figures that decide."""
    title = plain.metric.title
    if chosen is not plain and gains[chosen.name].adopted:
        return f"{chosen.name} is better than {plain.name}: {title} {say_gain(gains[chosen.name])}"
    best = max(gains, key=lambda name: (gains[name].difference, name))
    words = (
        f"nothing is shown to be better than {plain.name}: of the others, {best} gains most, "
        f"{title} {say_gain(gains[best])}"
    )
    worse = [entry.name for entry in entries[1:] if gains[entry.name].high < 0]
    if worse:
        words += f"; {' and '.join(worse)} {'are' if len(worse) > 1 else 'is'} worse"
    if chosen is plain:
        return f"{words}; {plain.name} stays"
    share = f"{chosen.seconds:.3g} s an epoch instead of {plain.seconds:.3g}"
    return f"{words}; of the tie, {chosen.name} is the cheapest, {share}"


def say_gain(gain: Comparison) -> str:
    """A gain with its bounds, as words hold it."""
    return (
        f"{gain.difference:+.4f}, one-sided 95 % bounds {gain.low:+.4f} and {gain.high:+.4f}, "
        f"p {gain.p:.3g}, on {gain.n} images"
    )


def describe_trials(plain: Entry, rivals: int) -> list[str]:
    """Says of how many trainings and arms the verdict is, and what follows."""
    seeds, folds = len(plain.answered), len(np.unique(plain.answered[0].folds))
    told = [
        f"bounds and p hold over images and over {folds} folds × {seeds} seeds, each trained anew"
    ]
    if folds * seeds < FEW:
        told.append(
            f"of fewer than {FEW} trainings hardly any gain is sure: raise folds.count or SEEDS"
        )
    if rivals > 1:
        told.append(f"{rivals} arms were compared with the first: each p is {rivals} times its own")
    return told


def describe_costs(entries: Sequence[Entry]) -> list[str]:
    """Images a second, and the metric at equal wall clock, where the arms were timed."""
    told = list[str]()
    if all(np.isfinite(entry.rate) for entry in entries):
        rates = ", ".join(f"{entry.name} {entry.rate:,.0f}" for entry in entries)
        told.append(f"images that train in a second: {rates}")
    if told and all(entry.curves for entry in entries):
        then = score_at_equal_time([entry.curves or {} for entry in entries])
        scores = ", ".join(
            f"{entry.name} {score:.4f}" if np.isfinite(score) else f"{entry.name} no epoch"
            for entry, score in zip(entries, then, strict=True)
        )
        told.append(f"when the fastest had ended, schedules of the others being on: {scores}")
    return told


def score_at_equal_time(arms: Sequence[dict[int, pd.DataFrame]]) -> list[float]:
    """The mean over folds of what each arm's last epoch reached within the time of the fastest.

    NaN for one that had not ended an epoch by then.
    """
    reached = np.full((len(arms), len(arms[0])), np.nan)
    for place, fold in enumerate(arms[0]):
        tables = [arm[fold] for arm in arms if fold in arm]
        if len(tables) < len(arms):
            continue
        limit = min(table["seconds"].sum() for table in tables)
        for row, table in enumerate(tables):
            ended = table[table["seconds"].cumsum() <= limit * (1 + 1e-9)]
            scores = ended["valid/metric"].fillna(ended["valid/accuracy"])
            if len(scores):
                reached[row, place] = scores.iloc[-1]
    known = np.isfinite(reached).all(axis=1)
    return [
        float(row.mean()) if all_in else np.nan for row, all_in in zip(reached, known, strict=True)
    ]
