"""Test-time augmentation: whether several views of an image answer better than one

Of views by themselves one learns little: each may be worse than the image as it is, and their
mean better. So means are judged, by the metric, on images that their models have not seen, and
only one that is shown to gain is used. A view in which a class is no longer found (a mirrored
digit) is shown, and left out of every mean.

Shapes: V looks, N images, C classes; members [V, N, C].
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from podium.blends import FITS, Blend, Fit, apply_blend, fit_power
from podium.ensemble import Choice, choose_blend
from podium.evidence import DOUBT, compare_answers, count_flips
from podium.looks import ADAPTIVE, Looks
from podium.members import Members
from podium.metrics import METRICS, score_answers
from podium.questions import Option, Question
from podium.rules import apply_rule, plain_rule
from podium.tallies import Answers, Truth, find_named
from podium.task import Task
from podium.views import IDENTITY

PLAIN = "one view"
WARMED = ", temperature"  # what the name of a blend with a fitted temperature ends with
COST_UNIT = "s/image"


class Judgement(NamedTuple):
    """What the evidence says of looks: the choice, and the questions that it answers."""

    choice: Choice
    names: tuple[str, ...]  # [V]
    questions: tuple[Question, Question]  # tta, views

    @property
    def used(self) -> tuple[str, ...]:
        """The looks that count in the choice."""
        weights = self.choice.blend.weights
        return tuple(name for name, weight in zip(self.names, weights, strict=True) if weight)


def judge_looks(task: Task, targets: Truth, looks: Looks, folds: NDArray[np.int64]) -> Judgement:
    """Judges what models say of images that they have not learned, of which the folds are [N].

    The first look is the image as it is. A temperature alone has its own gate, so that what it
    gains is not credited to views.
    """
    plain = {PLAIN: fit_alone(0)}
    if is_tempered(task):
        plain[PLAIN + WARMED] = warm(plain[PLAIN])
    alone = choose_blend(task, targets, looks.probs, folds, plain)
    fits = {alone.name: plain[alone.name], **list_candidates(task, looks.names)}
    choice = choose_blend(task, targets, looks.probs, folds, fits)
    if alone.name == PLAIN:
        choice = choice._replace(options=(*alone.options, *choice.options[1:]))
    else:  # what others gain is over it
        choice = choice._replace(options=(*choice.options, alone.options[0]))
    questions = (
        ask_tta(task, targets, looks, choice, plain | fits),
        ask_views(task, targets, looks, choice),
    )
    return Judgement(choice, looks.names, questions)


def is_tempered(task: Task) -> bool:
    """Can a temperature change the metric? It keeps what is likeliest, and so what is decided."""
    return METRICS[task.metric].takes != "decisions"


def list_candidates(task: Task, names: Sequence[str]) -> dict[str, Fit]:
    """The ways to put looks together: of the views by name, each also with a temperature."""
    count = sum(not name.startswith(ADAPTIVE) for name in names)
    chosen = {"mean": "uniform", "geometric mean": "geometric mean", "greedy": "greedy"}
    fits = {name: among_sound(FITS[fit], count) for name, fit in chosen.items() if count > 1}
    fits |= {name: fit_alone(place) for place, name in enumerate(names) if place >= count}
    warmed = {name + WARMED: warm(fit) for name, fit in fits.items()}
    return fits | (warmed if is_tempered(task) else {})


def fit_alone(place: int) -> Fit:
    """One look by itself."""

    def fit(_: Task, __: Truth, members: Members) -> Blend:
        return Blend("mean", tuple(np.eye(len(members))[place].tolist()))

    return fit


def warm(fit: Fit) -> Fit:
    """A fit, and after it a temperature of its answers."""

    def warmed(task: Task, targets: Truth, members: Members) -> Blend:
        blend = fit(task, targets, members)
        probs = apply_blend(blend, members, exclusive=task.exclusive)
        return blend._replace(power=blend.power * fit_power(task, targets, probs))

    return warmed


def among_sound(fit: Fit, count: int) -> Fit:
    """A fit over those of the first looks, so many, that break no class of the images it sees."""

    def chosen(task: Task, targets: Truth, members: Members) -> Blend:
        first, weights = members[0], np.zeros(len(members))
        sound = [
            place
            for place in range(count)
            if place == 0 or not find_broken(task, targets, first, members[place])
        ]
        blend = fit(task, targets, members[sound])
        weights[sound] = blend.weights
        return blend._replace(weights=tuple(weights.tolist()))

    return chosen


def find_broken(task: Task, targets: Truth, plain: Answers, view: Answers) -> dict[int, float]:
    """Classes of which a view loses more than half that was found without it, and which share.

    By McNemar's test of each class's images, at 5 % for all classes together (Bonferroni).
    """
    before, after = (targets * find_named(task, probs) for probs in (plain, view))
    found = before.sum(axis=0, dtype=np.int64)
    lost, won = ((one > other).sum(axis=0) for one, other in ((before, after), (after, before)))
    p = binom.sf(lost - 1, lost + won, 0.5)
    broken = (2 * (lost - won) > found) & (p < DOUBT / len(found))
    return {int(at): float((lost - won)[at] / found[at]) for at in np.flatnonzero(broken)}


def ask_tta(
    task: Task, targets: Truth, looks: Looks, choice: Choice, fits: Mapping[str, Fit]
) -> Question:
    """The question whether to take several looks, and what each way to do so gains and costs."""
    options = []
    for option in choice.options:
        blend = fits[option.name](task, targets, looks.probs)
        seconds = float(looks.seconds[np.array(blend.weights) > 0].sum())
        options.append(option._replace(cost=seconds))
    return Question(
        "tta",
        "Is test-time augmentation worth it?",
        describe_choice(task, looks, choice),
        task.metric,
        choice.name,
        tuple(options),
        COST_UNIT,
        (*describe_warmth(task, choice.options), *describe_adaptive(looks)),
    )


def describe_choice(task: Task, looks: Looks, choice: Choice) -> str:
    """What the evidence says of several looks, in words."""
    gain, title = choice.comparison, METRICS[task.metric].title
    if not gain.adopted:
        alone = "" if choice.name == PLAIN else "; a temperature alone is, and is used"
        return (
            f"no: what does best on other folds gains {gain.difference:+.4f} {title} "
            f"(one-sided 95 % bound {gain.low:+.4f}, p {gain.p:.2g}), and {gain.n} images would "
            f"show a gain of {gain.detectable:.4f}{alone}"
        )
    weights = np.array(choice.blend.weights)
    times = looks.seconds[weights > 0].sum() / max(looks.seconds[0], 1e-9)
    return (
        f"yes: {choice.name} of {int((weights > 0).sum())} gains {gain.difference:+.4f} {title} "
        f"(one-sided 95 % bound {gain.low:+.4f}, p {gain.p:.2g}) for {times:.1f} times the "
        f"prediction's time"
    )


def describe_warmth(task: Task, options: Sequence[Option]) -> list[str]:
    """What a temperature makes of one view, where that is what the others are compared with."""
    title, before, after = METRICS[task.metric].title, options[-1].score, options[0].score
    words = f"a temperature alone takes {title} of one view from {before:.4f} to {after:.4f}"
    return [] if options[0].name == PLAIN else [f"{words}; the others are compared with that"]


def describe_adaptive(looks: Looks) -> list[str]:
    """How many views an image took, and what stayed open."""
    return [
        f"{name} took {views:.1f} views an image, and left {int(looks.undecided.sum())} of "
        f"{len(looks.ids)} images undecided"
        for name, views in zip(looks.names, looks.taken.tolist(), strict=True)
        if name.startswith(ADAPTIVE)
    ]


def ask_views(task: Task, targets: Truth, looks: Looks, choice: Choice) -> Question:
    """The question which views: each by itself, and those that are used together."""
    answers = [apply_rule(plain_rule(task), probs) for probs in looks.probs]
    options = list[Option]()
    for name, answer, cost in zip(looks.names, answers, looks.seconds.tolist(), strict=True):
        score = score_answers(task, targets, answer)
        if not options:
            options.append(Option(name, score, cost=cost))
            continue
        gain = compare_answers(task, targets, answers[0], answer)
        flips = count_flips(task, targets, answers[0], answer)
        options.append(Option(name, score, gain, cost, *flips))
    weights = np.array(choice.blend.weights)
    used = [name for name, weight in zip(looks.names, weights, strict=True) if weight]
    chosen = " + ".join(used)
    if len(used) > 1:
        together = apply_rule(plain_rule(task), choice.probs)
        gain = compare_answers(task, targets, answers[0], together)
        flips = count_flips(task, targets, answers[0], together)
        score, cost = score_answers(task, targets, together), looks.seconds[weights > 0].sum()
        options.append(Option(chosen, score, gain, float(cost), *flips))
    words = f"{chosen}, {choice.name}" if len(used) > 1 else f"{chosen} alone"
    notes = describe_broken(task, targets, looks) + describe_colour(task, options)
    return Question(
        "views", "Which views?", words, task.metric, chosen, tuple(options), COST_UNIT, tuple(notes)
    )


def describe_broken(task: Task, targets: Truth, looks: Looks) -> list[str]:
    """Which views break which classes."""
    notes = []
    for name, probs in zip(looks.names[1:], looks.probs[1:], strict=True):
        broken = find_broken(task, targets, looks.probs[0], probs)
        worst = sorted(broken, key=lambda at: broken[at], reverse=True)[:3]
        told = ", ".join(f"{task.classes[at]} ({broken[at]:.0%} lost)" for at in worst)
        if broken:
            number = f"{len(broken)} class{'es' if len(broken) > 1 else ''}"
            notes.append(f"{name} breaks {number} and is not used: {told}")
    return notes


def describe_colour(task: Task, options: Sequence[Option]) -> list[str]:
    """How much the network relies on colour, if that was looked at."""
    return [
        f"without colour {METRICS[task.metric].title} is {option.score:.4f} instead of "
        f"{options[0].score:.4f}: so much the network relies on it"
        for option in options
        if option.name == "grey"
    ]


def withdraw(question: Question, why: str) -> Question:
    """The question where what was shown to help cannot be used."""
    answer = f"{question.answer}; not used: {why}"
    plain = PLAIN if question.name == "tta" else IDENTITY.name
    return question._replace(answer=answer, chosen=plain)
