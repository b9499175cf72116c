"""The simulator plays a run as training obeys it, with costs that the plans do not know."""

import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from podium.budget import (
    BACKWARD,
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
            if done == [course.head, course.all] and sum(done) % course.steps:
                break  # it ended within an epoch, so there is no time for more
            course = plan()
        return done[0], done[1]


def need(course: Course, costs: Costs, folds: int) -> float:
    """Seconds that lead to whole courses of so many folds, and no less."""
    return (folds * time_course(course, costs) + spare_ending(costs)) / (1 - SLACK)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    steps = draw(st.integers(1, 500))
    return Course(draw(st.integers(0, 3)) * steps, draw(st.integers(1, 8)) * steps, steps)


@st.composite
def planted(draw: st.DrawFn, course: Course) -> Costs:
    """Costs whose start, check and answer are each up to a tenth of a fold's training, or epoch."""
    head, ratio, share = draw(st.floats(0.01, 2)), draw(st.floats(1, 3)), st.floats(0, 0.1)
    training = head * (course.head + ratio * course.all)
    check = draw(share) * course.steps * head
    return Costs(draw(share) * training, head, ratio * head, check, draw(share) * training + check)


@st.composite
def plans(draw: st.DrawFn) -> tuple[float, Course, Costs, int]:
    """What plan_folds is given: 0 to 120 % of the seconds needed."""
    course, folds = draw(courses()), draw(st.integers(1, 5))
    costs = draw(planted(course))
    return draw(st.floats(0, 1.2)) * need(course, costs, folds), course, costs, folds


@st.composite
def begun(draw: st.DrawFn) -> tuple[float, Course, Costs, int, tuple[int, int]]:
    """Likewise in the middle of a fold."""
    seconds, course, costs, folds = draw(plans())
    head = draw(st.integers(0, course.head))
    return seconds, course, costs, folds, (head, draw(st.integers(0, course.all)))


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """10, 20, … 100 % of the seconds needed; updates get up to three times as slow for a while."""
    course, folds = draw(courses()), draw(st.integers(1, 5))
    costs = draw(planted(course))
    deadline = draw(st.integers(1, 10)) / 10 * need(course, costs, folds)
    first, length = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    slow = (first * deadline, (first + length) * deadline, draw(st.floats(1, 3)))
    machine = Machine(costs, 0.2, slow, draw(st.integers(0, 2**32)))
    return Run(machine, deadline, course, folds, Pacer(costs._replace(all=BACKWARD * costs.head)))


@settings(max_examples=400)
@given(runs())
def test_a_run_overshoots_its_deadline_by_less_than_a_hundredth(run: Run):
    costs = run.machine.costs
    least = costs.start + costs.head + costs.all + costs.check + costs.answer
    run.play()
    assert run.folds
    if 1.3 * least < run.deadline:  # else not even one update can be trained for sure
        overshoot = run.machine.now - run.deadline
        # An update that is on its way can only be waited for.
        assert overshoot - run.machine.surprise < 0.01 * run.deadline


@settings(max_examples=200)
@given(runs())
def test_a_run_whose_costs_are_known_gives_each_fold_but_the_last_all_its_updates(run: Run):
    costs = run.machine.costs
    run = Run(Machine(costs), run.deadline, run.course, run.count, Pacer(costs)).play()
    assert set(run.folds[:-1]) <= {(run.course.head, run.course.all)}
    if len(run.folds) > 1:
        assert sum(run.folds[-1]) >= 0.5 * run.course.updates


@given(st.data(), courses(), st.integers(1, 5))
def test_all_the_time_that_is_needed_gives_everything(
    data: st.DataObject, course: Course, folds: int
):
    assume(folds * course.updates > 1)  # the first update is always given
    costs = data.draw(planted(course))
    deadline = need(course, costs, folds) * (1 + 1e-9)
    run = Run(Machine(costs), deadline, course, folds, Pacer(costs)).play()
    assert run.folds == [(course.head, course.all)] * folds
    assert plan_folds(deadline * (1 - 1e-6), course, costs, folds) != (course,) * folds


def test_a_run_that_has_no_time_at_all_trains_one_update_and_answers():
    run = Run(Machine(COSTS), 0.0, COURSE, 5, Pacer(COSTS)).play()
    assert run.folds == [(0, 1)]
    assert run.machine.now == pytest.approx(60 + 0.3 + 20 + 100)


def test_a_compilation_that_takes_unforeseen_time_shortens_the_fold():
    deadline = need(COURSE, COSTS, 1)
    machine = Machine(COSTS._replace(start=400))
    run = Run(machine, deadline, COURSE, 1, Pacer(COSTS)).play()
    assert 0.4 * deadline < machine.now < deadline
    assert run.folds[0][0] == 500
    assert 1000 < run.folds[0][1] < 4000


def test_an_input_that_gets_slow_in_the_last_epoch_ends_the_fold_in_its_middle():
    deadline = need(COURSE, COSTS, 1)
    machine = Machine(COSTS, slow=(0.8 * deadline, deadline, 10.0))
    (fold,) = Run(machine, deadline, COURSE, 1, Pacer(COSTS)).play().folds
    assert machine.now < deadline
    assert fold[1] % 500


def test_updates_that_prove_fast_make_a_shortened_fold_longer_again():
    deadline = need(COURSE, COSTS, 1)
    guess = COSTS._replace(all=5 * COSTS.all)
    assert plan_folds(deadline, COURSE, guess, 1) == (Course(500, 500, 500),)
    assert Run(Machine(COSTS), deadline, COURSE, 1, Pacer(guess)).play().folds == [(500, 4000)]


@given(plans(), st.floats(1, 3))
def test_more_time_never_gives_fewer_updates(given: tuple[float, Course, Costs, int], times: float):
    seconds, *rest = given
    less, more = plan_folds(seconds, *rest), plan_folds(seconds * times, *rest)
    assert sum(one.updates for one in less) <= sum(one.updates for one in more)
    assert len(less) <= len(more)


@given(begun(), st.floats(1, 3))
def test_more_time_never_shortens_a_fold_that_has_begun(
    given: tuple[float, Course, Costs, int, tuple[int, int]], times: float
):
    seconds, *rest = given
    less, more = plan_folds(seconds, *rest)[0], plan_folds(seconds * times, *rest)[0]
    assert less.head <= more.head
    assert less.all <= more.all


@given(begun())
def test_a_plan_takes_nothing_back_and_nothing_more_than_the_course(
    given: tuple[float, Course, Costs, int, tuple[int, int]],
):
    _, course, _, _, done = given
    first, *others = plan_folds(*given)
    assert done[0] <= first.head <= course.head
    assert max(done[1], not any(done)) <= first.all <= course.all
    assert first.head == done[0] or not done[1]
    assert set(others[:-1]) <= {course}
    assert all(0.5 * course.updates <= other.updates for other in others)


@given(begun())
def test_a_plan_takes_no_more_than_97_percent_of_the_time_if_it_can(
    given: tuple[float, Course, Costs, int, tuple[int, int]],
):
    seconds, course, costs, _, done = given
    plan = plan_folds(*given)
    shortest = list(list_courses(course, done))[-1]
    spent = time_course(plan[0], costs, done) + sum(time_course(one, costs) for one in plan[1:])
    if plan != (shortest,):
        assert spent + spare_ending(costs) <= 0.97 * seconds * (1 + 1e-9)
        assert still_fits(seconds, plan[0], costs, done)


@given(plans())
def test_a_fold_gets_whole_epochs_if_one_fits_and_the_most_of_them(
    given: tuple[float, Course, Costs, int],
):
    seconds, course, costs, _ = given
    (first,) = plan_folds(*given[:3], 1)
    epochs = first.updates / course.steps
    longer = [one for one in list_courses(course, (0, 0)) if one.updates > first.updates]
    assert epochs < 1 or epochs.is_integer()
    assert not any(
        time_course(one, costs) + spare_ending(costs) <= 0.97 * seconds * (1 - 1e-9)
        for one in longer
    )


@given(courses())
def test_a_shorter_course_keeps_the_share_of_its_head(course: Course):
    share = course.head / course.updates
    for shorter in list_courses(course, (0, 0)):
        unit = course.steps if shorter.updates >= 2 * course.steps else 1
        assert shorter.head % unit == shorter.all % unit == 0
        assert abs(shorter.head - share * shorter.updates) <= unit
        assert shorter.all
        assert bool(shorter.head) == bool(course.head and shorter.updates > 1)


def test_the_courses_of_a_fold_go_from_the_longest_to_one_update():
    assert [one[:2] for one in list_courses(Course(3, 6, 3), (0, 0))] == [
        (3, 6), (3, 3), (1, 2), (1, 1), (0, 1),
    ]  # fmt: skip


def test_the_courses_of_a_fold_in_its_middle_go_down_to_what_is_done():
    assert [one[:2] for one in list_courses(Course(3, 9, 3), (3, 4))] == [
        (3, 9), (3, 6), (3, 5), (3, 4),
    ]  # fmt: skip
    assert [one[:2] for one in list_courses(Course(6, 6, 3), (4, 0))] == [
        (6, 6), (6, 3), (4, 3), (4, 1), (4, 1), (4, 1), (4, 0),
    ]  # fmt: skip
    assert {one[:2] for one in list_courses(Course(6, 6, 3), (2, 6))} == {(2, 6)}


def test_further_folds_are_whole_but_for_the_last_which_is_at_least_a_half():
    fold = time_course(COURSE, COSTS)
    spare, epoch = spare_ending(COSTS), 500 * 0.3 + 20
    half = time_course(Course(500, 2000, 500), COSTS)

    def plan(seconds: float, done: tuple[int, int] | None = (0, 0)) -> list[float]:
        courses = plan_folds((seconds + spare) / 0.97 + 1e-6, COURSE, COSTS, 3, done)
        return [one.updates / 500 for one in courses]

    assert plan(2 * fold) == [9, 9]
    assert plan(2 * fold + half - 1) == [9, 9]
    assert plan(2 * fold + half) == [9, 9, 5]
    assert plan(fold - 1) == [8]
    assert plan(fold - epoch - 1) == [7]
    assert plan(half - 1) == [4]
    assert plan(half - 1, None) == []
    assert plan(half, None) == [5]
    assert plan(fold + half, None) == [9, 5]


def test_what_is_left_of_a_fold_is_timed_from_its_parts():
    course = Course(20, 35, 10)
    costs = Costs(start=1000, head=1, all=3, check=100, answer=10000)
    assert time_course(course, costs) == 10000 + 2000 + 20 + 105 + 600
    assert time_course(course, costs, (5, 0)) == 10000 + 1000 + 15 + 105 + 600
    assert time_course(course, costs, (20, 0)) == 10000 + 1000 + 105 + 400
    assert time_course(course, costs, (20, 30)) == 10000 + 15 + 100
    assert time_course(course, costs, (20, 35)) == 10000
    assert time_course(course._replace(head=7), costs, (7, 10)) == 10000 + 75 + 300


def test_a_fold_still_fits_until_its_ending_is_in_danger():
    left = time_course(COURSE, COSTS, (500, 100)) + 0.2 * (20 + 100) + 0.3
    assert still_fits(left + 1e-6, COURSE, COSTS, (500, 100))
    assert not still_fits(left - 1e-6, COURSE, COSTS, (500, 100))


def test_costs_are_guessed_from_the_device_and_its_input():
    device = guess_costs(step=0.1, supply=0.02, start=30, checked=10, answered=50)
    assert device == pytest.approx((30, 0.1, 0.3, 1, 5))
    slow_input = guess_costs(step=0.1, supply=0.2, start=30, checked=10, answered=50)
    assert slow_input == pytest.approx((30, 0.2, 0.3, 2, 10))


def test_what_is_not_measured_yet_is_as_far_off_its_guess_as_what_is_like_it():
    pacer = Pacer(COSTS)
    assert pacer.costs() == COSTS
    pacer.note("head", 30, 100)
    assert pacer.costs() == pytest.approx(COSTS._replace(head=0.3, all=0.9))
    pacer.note("all", 40, 100)
    pacer.note("check", 30)
    assert pacer.costs() == pytest.approx((60, 0.3, 0.4, 30, 150))
    pacer.note("answer", 70)
    pacer.note("start", 50)
    assert pacer.costs() == pytest.approx((50, 0.3, 0.4, 30, 70))


def test_a_fast_check_makes_no_answer_cheaper_than_guessed():
    pacer = Pacer(COSTS)
    pacer.note("check", 1)
    assert pacer.costs() == COSTS._replace(check=1)


def test_a_guess_of_nothing_is_no_measure_of_others():
    pacer = Pacer(COSTS._replace(check=0))
    pacer.note("check", 10)
    assert pacer.costs() == COSTS._replace(check=10)


def test_a_stretch_that_stalls_is_no_trend_and_three_of_five_are():
    pacer = Pacer(COSTS)
    for seconds in (1, 1, 1, 9, 1, 9):
        pacer.note("all", seconds)
    assert pacer.costs().all == 1
    pacer.note("all", 9)
    assert pacer.costs().all == 9


def test_the_budget_reads_its_clock():
    assert Budget(100.0, lambda: 70.0).left() == 30
    assert Budget(time.time() + 50).left() == pytest.approx(50, abs=5)


@pytest.mark.parametrize(
    ("share", "numbers", "said"),
    [
        (1.0, range(5), "5 folds × 9 epochs need 2 h 18 of the 2 h 22 left: all fit"),
        (0.8, range(5), "folds 0 to 2 get 9 epochs, fold 3 gets 8 epochs, fold 4 is left out"),
        (0.45, range(5), "folds 0 and 1 get 9 epochs, folds 2 to 4 are left out"),
        (0.01, range(3, 5), "fold 3 gets 0.002 epochs, fold 4 is left out"),
        (
            0.26,
            range(4, 5),
            "1 fold × 9 epochs need 28 min of the 7 min left: fold 4 gets 1 epoch",
        ),
    ],
)
def test_a_plan_is_told_in_words(share: float, numbers: range, said: str):
    seconds = share * need(COURSE, COSTS, len(numbers)) + 1e-6
    plan = plan_folds(seconds, COURSE, COSTS, len(numbers))
    text = describe_plan(plan, COURSE, COSTS, numbers, seconds)
    assert said in text
    assert text.endswith(" (an epoch takes 70.0 s with the head alone, 170.0 s with everything)")


def test_a_plan_from_the_middle_of_a_fold_is_told_by_what_is_left():
    plan = plan_folds(2000, COURSE, COSTS, 2, (500, 3500))
    course = COURSE._replace(head=0)
    assert describe_plan(plan, COURSE, COSTS, range(1, 3), 2000, (500, 3500)).startswith(
        "2 folds × 9 epochs need 32 min of the 33 min left: fold 1 gets 9 epochs, fold 2 gets 8"
    )
    assert "head" not in describe_plan((course,), course, COSTS, range(1), 9000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (89, "1 min"), (3600, "1 h 00"), (7290, "2 h 02")],
)
def test_times_are_read_at_a_glance(seconds: float, text: str):
    assert format_hours(seconds) == text
