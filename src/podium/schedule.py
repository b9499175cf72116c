"""Schedule: how fast the weights move

The learning rate is a function of progress: 0 before the first update, 1 after the last. Each
update takes the rate of its middle, so that the first moves the weights too. Where the end moves,
because the deadline comes nearer or farther, the rest of the curve is run through at another
speed from the same rate on: it never jumps.

    cosine      up over the warm-up, then down half a cosine to 1 % (arXiv 1608.03983)
    one-cycle   up half a cosine from 4 %, then down another to almost nothing (arXiv 1708.07120)
    constant    up, then level
    plateau     up, then level; times 0.3 after 3 checks without improvement
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.learning import ScheduleConfig

FINAL_SHARE = 0.01  # of the peak, where the cosine ends
CYCLE_ENDS = (1 / 25, 4e-6)  # shares of the peak where one-cycle begins and ends, as in fastai
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.3, 3


class Schedule(NamedTuple):
    """The learning rate of every update, and where in its course it is; JSON holds `_asdict()`.

    Values, not tensors: the same on every backend and after every resume.
    """

    name: Literal["cosine", "constant", "plateau", "one-cycle"]
    peak: float
    warmup: float  # share of the course that climbs
    slope: float  # progress of an update
    update: int = 0  # at which the course has come to:
    progress: float = 0.0  # 0 to 1
    factor: float = 1.0  # what rollbacks and plateaus have left of the peak
    best: float | None = None  # lowest validation loss; None before the first check
    waited: int = 0  # checks since then

    def rate(self, update: int) -> float:
        """The learning rate of one update, counted from 0; after the last one it stays."""
        return float(self.rates(update, 1)[0])

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        """The learning rates [count] of consecutive updates."""
        progress = self.progress + self.slope * (np.arange(first, first + count) - self.update)
        return self.peak * self.factor * self.draw_shape(np.clip(progress, 0.0, 1.0))

    def draw_shape(self, progress: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of the peak, 0 to 1, at each progress."""
        level = np.ones_like(progress)
        climbed = np.minimum(progress, self.warmup) / self.warmup if self.warmup else level
        fallen = np.clip((progress - self.warmup) / (1.0 - self.warmup), 0.0, 1.0)
        if self.name == "cosine":
            return np.where(progress < self.warmup, climbed, ease(fallen, 1.0, FINAL_SHARE))
        if self.name == "one-cycle":
            begin, end = CYCLE_ENDS
            up, down = ease(climbed, begin, 1.0), ease(fallen, 1.0, end)
            return np.where(progress < self.warmup, up, down)
        return climbed

    def shorten(self, update: int, updates_left: int) -> "Schedule":
        """The same course from this update on, which now ends with the updates left, at least one.

        The rate of the update itself stays; more updates than before lengthen the course.
        """
        progress = float(np.clip(self.progress + self.slope * (update - self.update), 0.0, 1.0))
        slope = (1.0 - progress) / (max(updates_left, 1) - 0.5)
        return self._replace(update=update, progress=progress, slope=slope)

    def scaled(self, share: float) -> "Schedule":
        """The same course at a share of its rates, 0 to 1, as after a loss that was no number."""
        return self._replace(factor=self.factor * share)

    def check(self, loss: float) -> "Schedule":
        """What a validation loss makes of the course: plateau falls where it stalls, others not.

        A loss that is no number is no improvement.
        """
        if self.name != "plateau":
            return self
        if loss < (np.inf if self.best is None else self.best):
            return self._replace(best=float(loss), waited=0)
        if self.waited + 1 < PLATEAU_PATIENCE:
            return self._replace(waited=self.waited + 1)
        return self._replace(waited=0).scaled(PLATEAU_FACTOR)


def make_schedule(config: ScheduleConfig, peak: float, updates: int) -> Schedule:
    """The course of so many updates, at least one, from its begin."""
    return Schedule(config.name, peak, config.warmup, slope=1 / updates, progress=0.5 / updates)


def ease(progress: NDArray[np.float64], begin: float, end: float) -> NDArray[np.float64]:
    """Half a cosine from begin to end, as progress goes from 0 to 1."""
    eased: NDArray[np.float64] = end + (begin - end) * (1.0 + np.cos(np.pi * progress)) / 2
    return eased
