"""Planner: what the run's parts cost, and how far each fold may go

Of several hosts each measures its own costs, and all do as the first decides.
"""

from collections.abc import Sequence
from statistics import median

from podium.budget import (
    BACKWARD,
    ENDING_SLACK,
    Budget,
    Costs,
    Course,
    Done,
    Pacer,
    describe_plan,
    guess_costs,
    plan_folds,
    still_fits,
    time_course,
)
from podium.events import Reporter
from podium.hosts import ask_first_host
from podium.stretch import Stretch

FIRST_UPDATES = 4  # timed before there is a plan


class Planner:
    """Measures the run as it goes, and plans what is left of it."""

    def __init__(
        self, budget: Budget, folds: int, batches: tuple[int, int], report: Reporter
    ) -> None:
        self.budget, self.folds, self.report = budget, folds, report
        self.checked, self.answered = batches  # of a validation, and of a fold's answers
        self.fold = 0  # in hand
        self.pacer: Pacer | None = None
        self.whole = Course(0, 0, 1)  # of a fold, as the settings have it
        self.timed = set[str]()  # phases
        self.plans = list[str]()  # what was said, in words
        self.planned: tuple[Course, ...] = ()
        self.learned = 0.0  # when the fold in hand had come to its course's end

    def now(self) -> float:
        """Seconds since 1970."""
        return self.budget.now()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.budget.left()

    def begin_fold(self, fold: int, whole: Course) -> None:
        """Takes a fold in hand; those before it are done with."""
        self.fold, self.whole, self.planned = fold, whole, ()

    def plan(self, done: tuple[int, int]) -> Course:
        """The course of the fold in hand, of which so many updates are done."""
        if self.pacer is None:
            return self.whole
        folds, costs = range(self.fold, self.folds), self.pacer.costs()
        plan = plan_folds(self.left(), self.whole, costs, len(folds), done)
        head, everything = (int(ask_first_host(updates)) for updates in plan[0][:2])
        plan = (plan[0]._replace(head=head, all=everything), *plan[1:])
        if plan != self.planned and (self.planned or self.fold == 0):
            text = describe_plan(plan, self.whole, costs, folds, self.left(), done)
            self.plans.append(text)
            self.report.say(f"  {text}")
        self.planned = plan
        self.tell(plan, costs, done)
        return plan[0]

    def tell(self, plan: Sequence[Course], costs: Costs, done: Done) -> None:
        """Emits what is planned: of each fold that is left, the share of its updates."""
        seconds = time_course(plan[0], costs, done)
        seconds += sum(time_course(course, costs) for course in plan[1:])
        shares = [one.updates / max(self.whole.updates, 1) for one in plan]
        self.report.emit(
            "plan_made",
            fold=self.fold,
            shares=[*shares, *[0.0] * (self.folds - self.fold - len(plan))],
            seconds=round(seconds, 1),
            left=round(self.left(), 1),
            words=self.plans[-1] if self.plans else "",
        )

    def is_late(self, course: Course, done: tuple[int, int]) -> bool:
        """Does what is left of the fold in hand no longer fit?"""
        costs = self.pacer.costs() if self.pacer else None
        late = costs is not None and not still_fits(self.left(), course, costs, done)
        return bool(ask_first_host(late))

    def fits_another(self) -> bool:
        """Is there time for a fold after the one in hand?"""
        if self.pacer is None:
            return True
        costs = self.pacer.costs()
        plan = plan_folds(self.left(), self.whole, costs, 1, done=None)
        return bool(ask_first_host(len(plan)))

    def spares_time(self) -> bool:
        """Is there time to look at what was learned before it answers, twice as long as that?"""
        costs = self.pacer.costs() if self.pacer else None
        return bool(ask_first_host(costs is None or self.left() > 3 * (costs.answer + costs.start)))

    def affords(self, seconds: float) -> bool:
        """Is there time for what takes so many seconds, and for a fifth more?"""
        return self.left() > (1 + ENDING_SLACK) * seconds

    def time_updates(self, phase: str, stretch: Stretch, done: tuple[int, int]) -> Course | None:
        """The course as planned anew once some updates of a phase were timed for the first time."""
        if phase in self.timed or len(stretch.times) < FIRST_UPDATES:
            return None
        self.timed.add(phase)
        pacer = self.pacer or self.open_pacer(phase, stretch)
        pacer.note(phase, median(stretch.times))
        return self.plan(done)

    def open_pacer(self, phase: str, stretch: Stretch) -> Pacer:
        """Guesses all costs from those of the first updates."""
        update = median(stretch.times or [stretch.first])
        step = update if phase == "head" else update / BACKWARD
        supply = 0.0  # an update that was timed has waited for its images
        self.pacer = Pacer(guess_costs(step, supply, stretch.first, self.checked, self.answered))
        return self.pacer

    def end_stretch(self, phase: str, stretch: Stretch, started: float | None) -> None:
        """Takes note of a stretch's updates, and of what came before the first one of a phase,
        which started then.
        """
        pacer = self.pacer or self.open_pacer(phase, stretch)
        if stretch.times:
            pacer.note(phase, sum(stretch.times), len(stretch.times))
        if started is not None:
            pacer.note("start", stretch.started - started + stretch.first)

    def end_check(self, seconds: float) -> None:
        """Takes note of the validation after an epoch."""
        if self.pacer:
            self.pacer.note("check", seconds)

    def end_course(self) -> None:
        """From here on the fold in hand is answering."""
        self.learned = self.now()

    def end_fold(self) -> None:
        """Takes note of what the answers took."""
        if self.pacer:
            self.pacer.note("answer", self.now() - self.learned)
