"""Range test: which learning rates a network bears

The rate climbs exponentially from one update to the next while the loss is watched (Smith 2017,
arXiv 1506.01186): too low and nothing moves, too high and the loss explodes. Then the model is
as it was before.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from podium.checkpoint import capture_state, count_parts, restore_state
from podium.events import Reporter
from podium.optimizers import set_rates

EXPLODED = 4.0  # times the lowest loss so far, where the test ends
BLUR = 0.03  # standard deviation of the smoothing, as a share of the updates
SUSPECT = 10.0  # a peak that is so many times the suggested one is worth a warning
MARGIN = 10.0  # from the rate of the lowest loss down to the suggested one


class RangeTest(NamedTuple):
    """The learning rates tried, and the training loss that each met [U]; all float64."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]


def run_range_test(
    model: keras.Model,
    batches: Iterable[Any],
    updates: int = 100,
    low: float = 1e-7,
    high: float = 10.0,
) -> RangeTest:
    """Trains a compiled model for so many updates, or until its loss explodes, and takes it back.

    Batches are (images, targets) or (images, targets, weights); fewer than needed end the test.
    """
    before, parts = capture_state(model), count_parts(model)
    rates, losses, stream = np.geomspace(low, high, updates), list[float](), iter(batches)
    smoothed = np.empty(0)
    try:
        for rate in rates:
            set_rates(model.optimizer, np.array([rate]))
            met = [train_once(model, batch) for _, batch in zip(range(parts), stream, strict=False)]
            if len(met) < parts or not np.isfinite(met).all():
                break
            losses.append(float(np.mean(met)))
            smoothed = smooth_losses(np.array(losses), BLUR * updates)
            if smoothed[-1] > EXPLODED * smoothed.min():
                break
    finally:
        restore_state(model, before)
    return RangeTest(rates[: len(losses)], np.array(losses), smoothed)


def show_range_test(
    model: keras.Model, batches: Iterable[Any], peak: float, folder: Path, report: Reporter
) -> None:
    """Runs the range test, leaves its figures and picture in a folder, and compares with a peak."""
    test = run_range_test(model, batches)
    try:
        rate = suggest_rate(test)
    except ValueError as error:
        report.warn(str(error))
        return
    np.savetxt(folder / "range-test.csv", np.transpose(test), delimiter=",", comments="",
               header="learning_rate,loss,smoothed")  # fmt: skip
    draw_range_test(test, folder / "range-test.png")
    report.say(f"  range test: {rate:.2g} is suggested, schedule.peak_lr is {peak:.2g}")
    if not rate / SUSPECT <= peak <= rate * SUSPECT:
        report.warn(
            f"schedule.peak_lr is {peak:.2g}, and the range test suggests {rate:.2g}: look at "
            f"{folder / 'range-test.png'}"
        )


def train_once(model: keras.Model, batch: Any) -> float:
    """The loss of one batch, on which the model then trains."""
    model.reset_metrics()  # else Keras gives the mean over all batches so far
    parts = [np.asarray(part) for part in batch]
    return float(model.train_on_batch(*parts, return_dict=True)["loss"])


def smooth_losses(losses: NDArray[np.float64], blur: float) -> NDArray[np.float64]:
    """Means over neighbours on both sides, weighed by a normal curve, so that nothing lags."""
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / max(blur, 1e-3)) ** 2)
    return np.asarray(weights @ losses / weights.sum(axis=1))


def suggest_rate(test: RangeTest) -> float:
    """A peak rate: a tenth of the one with the lowest loss.

    The loss has its lowest value just before the edge, far enough above where it falls steepest to
    be found under noise: on simulated classifiers this was within 3 times the best rate in most
    cases, the steepest fall often off by powers of ten. Where the last rate has the lowest loss,
    the range was too short. Raises ValueError for an empty test.
    """
    if not len(test.rates):
        raise ValueError(
            "the range test has no finite loss; set runtime.precision to float32, or begin lower"
        )
    return float(test.rates[test.smoothed.argmin()]) / MARGIN


def draw_range_test(test: RangeTest, path: Path) -> None:
    """Draws the losses over the rates, with the suggested one, as a PNG."""
    rate = suggest_rate(test)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, color="0.8", label="loss")
    axes.plot(test.rates, test.smoothed, label="smoothed")
    axes.axvline(rate, color="C3", linestyle="--", label=f"suggested: {rate:.2g}")
    lowest, first = test.smoothed.min(), test.smoothed[0]
    axes.set_ylim(lowest - 0.1 * abs(first - lowest) - 1e-9, first + 1.0 * abs(first - lowest))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Range test")
    axes.legend()
    figure.savefig(path, dpi=100)
