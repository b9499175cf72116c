"""The verdict of a race: which arm is used, by what its answers out of fold show.

An arm is better where the gate says so of it and the plain one. The best of several is luckier than
one, so p counts as often as there were arms to be lucky (Bonferroni): of arms that change nothing
at most one race in twenty adopts any, whichever went on after a quarter of the epochs, since the
sum over all arms holds whatever the choice among them. Where none is better, the cheapest is used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from podium.evidence import DOUBT, Comparison, compare_answers
from podium.metrics import METRICS, score_answers
from podium.questions import Option, Question
from workbench.arms import Race
from workbench.paired import Answered, PairError

CHEAPER = 0.9  # of the plain arm's time: nearer ones are no cheaper, as times of one run vary


class Entry(NamedTuple):
    """What an arm reached, and at what cost."""

    name: str
    answered: Answered
    seconds: float  # of an epoch
    rate: float = np.nan  # images that train in a second
    curves: dict[int, pd.DataFrame] | None = None  # fold → one row an epoch

    @property
    def score(self) -> float:
        """The metric, out of fold."""
        return score_answers(self.answered.task, self.answered.targets, self.answered.answers)


def judge_race(race: Race, entries: Sequence[Entry], notes: Sequence[str] = ()) -> Question:
    """The question with its answer; `entries` are the arms at full length, the plain one first."""
    plain, *others = entries
    gains = {entry.name: compare_arms(plain, entry, len(race.arms) - 1) for entry in others}
    chosen = choose_arm(entries, gains)
    options = tuple(
        Option(entry.name, entry.score, gains.get(entry.name), round(entry.seconds, 3))
        for entry in entries
    )
    task = plain.answered.task
    answer = describe_choice(plain, chosen, entries, gains)
    if race.is_at_edge(find_best(entries).name):
        answer += "; the best rate is at the edge of its grid, so this is not final: widen LR"
    told = (*describe_costs(entries), *describe_trials(len(race.arms) - 1), *notes)
    return Question(
        race.name, race.asks, answer, task.metric, chosen.name, options, "s an epoch", told
    )


def compare_arms(plain: Entry, other: Entry, rivals: int) -> Comparison:
    """What an arm gains over the plain one, as one of so many that were tried.

    Raises PairError if they did not answer the same images.
    """
    one, two = plain.answered, other.answered
    same = one.task == two.task and one.ids == two.ids and np.array_equal(one.targets, two.targets)
    if not same:
        raise PairError(f"{other.name} and {plain.name} did not answer the same images")
    found = compare_answers(one.task, one.targets, one.answers, two.answers)
    p = min(found.p * rivals, 1.0)
    return found._replace(p=p, adopted=found.adopted and p < DOUBT)


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
    sign = 1 if METRICS[entries[0].answered.task.metric].higher_is_better else -1
    return max(entries, key=lambda entry: sign * entry.score)


def describe_choice(
    plain: Entry, chosen: Entry, entries: Sequence[Entry], gains: dict[str, Comparison]
) -> str:
    """The verdict in words, with the figures that decide."""
    title = METRICS[plain.answered.task.metric].title
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


def describe_trials(rivals: int) -> list[str]:
    """Says what several arms cost each of them."""
    if rivals == 1:
        return []
    return [f"{rivals} arms were compared with the first: each p is {rivals} times its own"]


def describe_costs(entries: Sequence[Entry]) -> list[str]:
    """Images a second, and the metric at equal wall clock, where the arms were timed."""
    told = []
    if all(np.isfinite(entry.rate) for entry in entries):
        rates = ", ".join(f"{entry.name} {entry.rate:,.0f}" for entry in entries)
        told.append(f"images that train in a second: {rates}")
    if all(entry.curves for entry in entries):
        then = score_at_equal_time([entry.curves or {} for entry in entries])
        reached = zip(entries, then, strict=True)
        scores = ", ".join(
            f"{entry.name} {f'{score:.4f}' if np.isfinite(score) else '–'}"
            for entry, score in reached
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
