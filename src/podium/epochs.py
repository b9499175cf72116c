"""Epochs: how far a fold has got, and what comes next

A fold's course is so many updates of its head alone, then so many of everything. Where it stands
is told in updates too, so that a course may be shortened, and a killed run go on, anywhere.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

from podium.budget import Course
from podium.config import Config
from podium.schedule import Schedule, make_schedule

SIZE_STAGES = 3  # of progressive resolution; each size is compiled anew


class Epoch(NamedTuple):
    """One epoch, or what is left of it."""

    phase: str  # "head" or "all"
    number: int  # from 1, over both phases
    total: int
    first: int  # update of the phase with which it begins, or goes on
    updates: int  # that are left of it
    size: int  # px, side of the squares that the network sees
    clean: bool  # without augmentation


@dataclass(frozen=True)
class Position:
    """How far a fold has got, and what its next update needs to know."""

    schedule: Schedule  # of the phase at hand
    end: int  # update of the phase, at which the schedule has come down
    phase: str  # "head" or "all"; "" before the first
    size: int  # px, side of the squares that the network sees
    parts: int  # in which each batch goes through the network
    head: int = 0  # updates done, the backbone frozen
    all: int = 0  # and everything training
    lowered: int = 0  # how often the loss was no number, and the rate was lowered
    loss: float = 0.0  # sums over the updates of the epoch at hand
    accuracy: float = 0.0
    summed: int = 0  # such updates

    @property
    def done(self) -> tuple[int, int]:
        """Updates of both phases."""
        return self.head, self.all

    @property
    def updates(self) -> int:
        """Updates since the fold began."""
        return self.head + self.all

    def move(self, phase: str, updates: int, loss: float, accuracy: float) -> Self:
        """The place after more updates of a phase, of that mean loss and accuracy."""
        if not updates:
            return self
        moved = replace(
            self,
            loss=self.loss + updates * loss,
            accuracy=self.accuracy + updates * accuracy,
            summed=self.summed + updates,
        )
        if phase == "head":
            return replace(moved, head=self.head + updates)
        return replace(moved, all=self.all + updates)

    def close_epoch(self) -> Self:
        """The place at the begin of the next epoch."""
        return replace(self, loss=0.0, accuracy=0.0, summed=0)

    def facts(self) -> dict[str, Any]:
        """The place as JSON holds it."""
        return asdict(self) | {"schedule": self.schedule._asdict()}


def read_position(facts: dict[str, Any]) -> Position:
    """Reads what `Position.facts` gave; raises KeyError or TypeError if it is no place."""
    return Position(**facts | {"schedule": Schedule(**facts["schedule"])})


def set_course(config: Config, steps: int) -> Course:
    """The course as the settings have it, of that many updates an epoch."""
    return Course(config.train.head_epochs * steps, config.train.epochs * steps, steps)


def start_position(config: Config, course: Course) -> Position:
    """Where a fold stands before its first update."""
    schedule = start_schedule(config, "head", course)
    parts = config.optimizer.accumulate
    return Position(schedule, course.head, "", find_size(config, 0.0), parts)


def start_schedule(config: Config, phase: str, course: Course) -> Schedule:
    """The schedule of a phase, as the settings have it."""
    head = phase == "head"
    peak = config.schedule.head_lr if head else config.schedule.peak_lr
    updates = course.head if head else course.all
    return make_schedule(config.schedule, peak or 0.0, max(updates, 1))


def enter_epoch(config: Config, course: Course, place: Position, epoch: Epoch) -> Position:
    """The position as an epoch needs it: a phase that begins has its own schedule, and one whose
    end has moved runs through the rest of it at another speed.
    """
    schedule, end = place.schedule, course.head if epoch.phase == "head" else course.all
    if epoch.phase != place.phase:
        schedule = start_schedule(config, epoch.phase, course)
    elif end != place.end:
        schedule = schedule.shorten(epoch.first, end - epoch.first)
    return replace(place, schedule=schedule, end=end, phase=epoch.phase, size=epoch.size)


def find_epoch(config: Config, course: Course, place: Position) -> Epoch | None:
    """The epoch that a place is in, or None at the end of the course."""
    heads, alls = -(-course.head // course.steps), -(-course.all // course.steps)
    if place.head < course.head:
        phase, done, end, before = "head", place.head, course.head, 0
    elif place.all < course.all:
        phase, done, end, before = "all", place.all, course.all, heads
    else:
        return None
    number = done // course.steps
    updates = min((number + 1) * course.steps, end) - done
    clean = round(config.train.clean_epochs * alls / config.train.epochs)
    return Epoch(
        phase,
        before + number + 1,
        heads + alls,
        done,
        updates,
        find_size(config, (number + 1 if phase == "all" else 0) / max(alls, 1)),
        clean=phase == "all" and number >= alls - clean,
    )


def find_size(config: Config, progress: float) -> int:
    """The side of the squares in the epoch that ends at a share of all: in equal steps up to
    image_size (Tan and Le 2021, EfficientNetV2, arXiv 2104.00298, section 4.2), in whole eights.
    """
    full, first = config.pixels.image_size, config.train.first_size
    stage = max(math.ceil(round(SIZE_STAGES * progress, 9)) - 1, 0)
    share = first + (1 - first) * stage / (SIZE_STAGES - 1)
    return full if share == 1 else max(8, round(full * share / 8) * 8)
