"""Budget: what still fits before the deadline

A schedule that is cut off has not brought its learning rate down, so what does not fit is made
shorter from the outset, and planned anew as costs are measured: after each epoch, and within
one that falls behind. The first fold always ends with an answer; further folds are begun only
if they fit, whole ones before shortened ones.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from statistics import median
from typing import NamedTuple

# What a plan leaves free, as shares: of all that is left, for updates are never all alike; and of
# the last check and answer, which cannot be made shorter once they prove slow.
SLACK, ENDING_SLACK = 0.03, 0.2
# An update of everything costs three of the head alone until it is measured: the backbone's forward
# pass, and backward about as much again for its activations and once more for its weights.
BACKWARD = 3.0
RECENT = 5  # stretches whose median is the cost of those to come: one that stalls is no trend
LEAST_SHARE = 0.5  # of a further fold's updates: with fewer its model would not earn its place

Done = tuple[int, int]  # updates of a fold so far, with the head alone and with everything


@dataclass(frozen=True)
class Budget:
    """The moment by which the run must be done, and the clock, both in seconds since 1970."""

    deadline: float
    now: Callable[[], float] = time.time

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.deadline - self.now()


class Course(NamedTuple):
    """Optimizer updates of one fold: with the head alone, with everything, and in one epoch."""

    head: int
    all: int
    steps: int

    @property
    def updates(self) -> int:
        """Of both phases together."""
        return self.head + self.all


class Costs(NamedTuple):
    """Seconds of the parts of a fold."""

    start: float  # to build and compile one phase
    head: float  # an update of the head alone
    all: float  # an update of everything
    check: float  # the validation after an epoch
    answer: float  # out-of-fold and test prediction, all views; saving, submission and report


class Pacer:
    """What the parts of a fold cost: guessed until measured, then the median of recent stretches.

    Until then `all` is as far off its guess as `head` was, and `answer` as `check`, but not below.
    """

    def __init__(self, guess: Costs) -> None:
        self.guess = guess
        self.measured = {part: deque[float](maxlen=RECENT) for part in Costs._fields}

    def note(self, part: str, seconds: float, count: int = 1) -> None:
        """Notes that so many of a part, a field of Costs, took so many seconds together."""
        self.measured[part].append(seconds / count)

    def costs(self) -> Costs:
        """The costs as they are known now."""
        return Costs(
            self.find("start"),
            self.find("head"),
            self.find("all", "head"),
            self.find("check"),
            self.find("answer", "check"),
        )

    def find(self, part: str, kin: str = "") -> float:
        """The cost of a part; if it has not been measured, from its guess and what its kin cost."""
        if self.measured[part]:
            return median(self.measured[part])
        guess, expected = getattr(self.guess, part), getattr(self.guess, kin, 0.0)
        off = self.find(kin) / expected if expected else 1.0
        return float(guess * (off if part == "all" else max(off, 1.0)))


def guess_costs(step: float, supply: float, start: float, checked: float, answered: float) -> Costs:
    """Costs before anything has trained.

    `step` is the device's seconds for an update of the head, `supply` those in which the input
    makes its batch, `start` those of the first update; `checked` and `answered` are the batches of
    a validation and of an answer, each as dear as the head's update, which is a forward pass too.
    """
    head = max(step, supply)
    return Costs(start, head, max(BACKWARD * step, supply), checked * head, answered * head)


def time_course(course: Course, costs: Costs, done: Done = (0, 0)) -> float:
    """Seconds of what is left of a fold after so many updates of each phase.

    Each phase that has not begun is compiled first. Each epoch, a short last one too, has a check.
    """
    seconds = costs.answer
    updates = (costs.head, costs.all)
    for whole, begun, update in zip(course[:2], done, updates, strict=True):
        if whole > begun:
            checks = math.ceil(whole / course.steps) - begun // course.steps
            start = 0.0 if begun else costs.start
            seconds += start + (whole - begun) * update + checks * costs.check
    return seconds


def shorten_course(course: Course, updates: int) -> Course:
    """The course with so many updates, both phases in proportion.

    From two epochs on, each phase has at least one, and whole ones if `updates` is of whole ones.
    """
    if updates >= course.updates:
        return course
    unit = course.steps if updates >= 2 * course.steps else 1
    head = unit * round(updates * course.head / course.updates / unit)
    least, most = min(course.head, unit), updates - min(course.all, unit)
    head = min(max(head, least), most)
    return Course(head, updates - head, course.steps)


def list_courses(course: Course, done: Done) -> Iterator[Course]:
    """The courses that a fold can still take, from the longest on, none shorter than what is done.

    Whole epochs down to the one in hand, then parts of that; the last one is to end at once, with
    one update if there has been none. A head phase that is over stays as long as it was.
    """
    head, begun = done
    rest = course._replace(head=0) if begun else course
    first = (begun // course.steps + 1) * course.steps
    yield Course(max(rest.head, head), max(rest.all, begun), course.steps)
    last = (rest.updates - 1) // course.steps * course.steps
    for updates in (
        *range(last, first - 1, -course.steps),
        *range(min(first, rest.updates) - 1, begun, -1),
    ):
        shorter = shorten_course(rest, updates)
        yield Course(max(shorter.head, head), max(shorter.all, begun), course.steps)
    if head or begun:
        yield Course(head, begun, course.steps)


def spare_ending(costs: Costs) -> float:
    """Seconds that are kept free: of the ending, and of one update, after which one can replan."""
    return ENDING_SLACK * (costs.check + costs.answer) + costs.all


def still_fits(seconds: float, course: Course, costs: Costs, done: Done) -> bool:
    """Whether what is left of a fold fits; if not, the rest of the epoch has to be planned anew."""
    return time_course(course, costs, done) + spare_ending(costs) <= seconds


def fit_course(seconds: float, course: Course, costs: Costs, done: Done = (0, 0)) -> Course:
    """The longest course of a fold that takes no longer, or the shortest there is."""
    shorter = course
    for shorter in list_courses(course, done):
        if time_course(shorter, costs, done) <= seconds:
            break
    return shorter


def plan_folds(
    seconds: float, course: Course, costs: Costs, folds: int, done: Done | None = (0, 0)
) -> tuple[Course, ...]:
    """The courses of the folds that fit, of those left; what has none is not to be begun.

    `done` are the updates of the fold in hand, which is the first of those left: it gets what fits
    of its course, and at least one update. None says that no fold is in hand and that none need be
    begun, since an earlier one has left an answer. Only the last course is ever shortened.
    """
    left = (1 - SLACK) * seconds - spare_ending(costs)
    plan = list[Course]()
    for fold in range(folds):
        begun = (done if fold == 0 else None) or (0, 0)
        chosen = fit_course(left, course, costs, begun)
        left -= time_course(chosen, costs, begun)
        in_hand = fold == 0 and done is not None
        if not in_hand and (left < 0 or chosen.updates < LEAST_SHARE * course.updates):
            break
        plan.append(chosen)
        if chosen != next(list_courses(course, begun)):
            break
    return tuple(plan)


def describe_plan(
    plan: Sequence[Course],
    course: Course,
    costs: Costs,
    folds: range,
    seconds: float,
    done: Done | None = (0, 0),
) -> str:
    """One line on what plan_folds made of the numbered folds that are left, and of the seconds."""
    further = (len(folds) - 1) * time_course(course, costs)
    need = format_hours(time_course(course, costs, done or (0, 0)) + further)
    shares = [name_epochs(one) for one in plan] + [""] * (len(folds) - len(plan))
    runs = groupby(zip(shares, folds, strict=True), key=itemgetter(0))
    verdict = ", ".join(name_folds([fold for _, fold in pairs], share) for share, pairs in runs)
    if tuple(plan) == (course,) * len(folds):
        verdict = "all fit"
    head, everything = (
        f"{course.steps * update + costs.check:.1f} s" for update in (costs.head, costs.all)
    )
    head = f"{head} with the head alone, " if course.head else ""
    return (
        f"{len(folds)} fold{'s' if len(folds) > 1 else ''} × {name_epochs(course)} need {need} of "
        f"the {format_hours(seconds)} left: {verdict} "
        f"(an epoch takes {head}{everything} with everything)"
    )


def name_epochs(course: Course) -> str:
    """A course's length in words: "9 epochs", "0.25 epochs"."""
    epochs = f"{course.updates / course.steps:.3g}"
    return f"{epochs} epoch{'' if epochs == '1' else 's'}"


def name_folds(folds: Sequence[int], share: str) -> str:
    """What neighbouring folds get, in words; no share is to be left out."""
    if len(folds) == 1:
        return f"fold {folds[0]} " + (f"gets {share}" if share else "is left out")
    names = f"folds {folds[0]} {'and' if len(folds) == 2 else 'to'} {folds[-1]}"
    return f"{names} " + (f"get {share}" if share else "are left out")


def format_hours(seconds: float) -> str:
    """Hours and minutes; seconds if there is no minute."""
    if seconds < 60:
        return f"{max(0, math.floor(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02}" if hours else f"{minutes} min"
