"""The simulator plays a run as training obeys it, with costs that the plans do not know."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.budget import (
    SLACK,
    Budget,
    Costs,
    Course,
    Pacer,
    describe_plan,
    format_hours,
    guess_costs,
    list_courses,
    plan_folds,
    spare_ending,
    still_fits,
    time_course,
)

COSTS = Costs(start=60, head=0.1, all=0.3, check=20, answer=100)
COURSE = Course(head=500, all=4000, steps=500)  # 1 epoch and 8


@dataclass
class Machine:
    """A clock that only work moves: planted costs with noise, and updates slower for a while.

    A start, a check and an answer are many steps, whose noise is a third of one step's.
    """

    costs: Costs
    noise: float = 0.0
    slow: tuple[float, float, float] = (0.0, 0.0, 1.0)  # from, until, how many times as slow
    seed: int = 0
    now: float = 0.0
    surprise: float = 0.0  # the most by which an update took longer than planted
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def work(self, part: str) -> float:
        step = part in ("head", "all")
        noise = self.noise if step else self.noise / 3
        seconds = getattr(self.costs, part) * (1 + noise * self.random.uniform(-1, 1))
        if step and self.slow[0] <= self.now < self.slow[1]:
            seconds *= self.slow[2]
        if step:
            self.surprise = max(self.surprise, seconds - getattr(self.costs, part))
        self.now += seconds
        return seconds


@dataclass
class Run:
    """Plays a run; `folds` holds the updates of those that ended with an answer."""

    machine: Machine
    deadline: float
    course: Course
    count: int
    pacer: Pacer
    folds: list[tuple[int, int]] = field(default_factory=list)

    def play(self) -> "Run":
        budget = Budget(self.deadline, lambda: self.machine.now)
        for fold in range(self.count):
            begun = (0, 0) if fold == 0 else None
            left = self.count - fold
            if not plan_folds(budget.left(), self.course, self.pacer.costs(), left, begun):
                break
            self.folds.append(self.train(budget, left))
            self.pacer.note("answer", self.machine.work("answer"))
        return self

    def train(self, budget: Budget, left: int) -> tuple[int, int]:
        done = [0, 0]

        def plan() -> Course:
            given = (budget.left(), self.course, self.pacer.costs(), left, (done[0], done[1]))
            course = plan_folds(*given)[0]
            assert course.head >= done[0]
            assert course.all >= done[1]
            assert course.updates > 0
            return course

        course = plan()
        while done != [course.head, course.all]:
            phase = 0 if done[0] < course.head else 1
            name, target = ("head", "all")[phase], course[phase]
            if not done[phase]:
                self.pacer.note("start", self.machine.work("start"))
            end = min(target, (done[phase] // course.steps + 1) * course.steps)
            seconds, count = 0.0, 0
            while done[phase] < end:
                seconds += self.machine.work(name)
                count += 1
                done[phase] += 1
                if count >= course.steps / 10 or done[phase] in (1, end):
                    self.pacer.note(name, seconds, count)
                    seconds, count = 0.0, 0
                costs, here = self.pacer.costs(), (done[0], done[1])
                if done[phase] < end and not still_fits(budget.left(), course, costs, here):
                    course = plan()
                    end = min(end, course[phase])
            self.pacer.note("check", self.machine.work("check"))
            course = plan()
        return done[0], done[1]


def need(course: Course, costs: Costs, folds: int) -> float:
    return folds * time_course(course, costs)


# Planted costs: of one update of the head; the rest as shares of it.
@st.composite
def courses(draw: st.DrawFn) -> Course:
    steps = draw(st.integers(1, 500))
    return Course(draw(st.integers(0, 3)) * steps, draw(st.integers(1, 8)) * steps, steps)


@st.composite
def planted(draw: st.DrawFn, course: Course) -> Costs:
    """Costs; what cannot be shortened is up to a fifth of a fold."""
    head, ratio = draw(st.floats(0.01, 2)), draw(st.floats(1, 3))
    training = head * (course.head + ratio * course.all)
    share = st.floats(0, 0.1)
    check = draw(share) * course.steps * head
    return Costs(draw(share) * training, head, ratio * head, check, draw(share) * training + check)


@st.composite
def runs(draw: st.DrawFn, most: float = 1.0, slow: float = 3.0) -> tuple[Run, Costs]:
    course = draw(courses())
    costs = draw(planted(course))
    count = draw(st.integers(1, 5))
    whole = need(course, costs, count)
    deadline = whole * draw(st.sampled_from([share / 10 for share in range(1, 11)])) * most
    begin, length = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    slowness = (begin * deadline, (begin + length) * deadline, draw(st.floats(1, slow)))
    machine = Machine(costs, 0.2, slowness, draw(st.integers(0, 2**32)))
    guess = costs._replace(all=3 * costs.head)
    return Run(machine, deadline, course, count, Pacer(guess)), costs


@settings(max_examples=3000)
@given(runs())
def test_a_run_overshoots_its_deadline_by_less_than_a_hundredth(given: tuple[Run, Costs]):
    run, costs = given
    run.play()
    assert run.folds
    least = costs.start + costs.head + costs.all + costs.check + costs.answer
    overshoot = run.machine.now - run.deadline
    if 1.3 * least < run.deadline:
        over = overshoot - run.machine.surprise
        assert over < 0.01 * run.deadline, (over / run.deadline, run.folds, costs)
