import itertools

import numpy as np
import pytest

from podium import pace as pace_room
from podium.pace import describe_bottleneck, measure_rate


class Clock:
    """A clock that only batches move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def spend(self, seconds: list[float]):
        """Batches of 8 images, each of which takes so long."""
        for second in seconds:
            self.now += second
            yield np.zeros((8, 4, 4, 3), np.uint8), np.zeros(8)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace_room, "time", clock)
    return clock


def test_the_rate_leaves_the_start_of_the_pipeline_out(clock: Clock):
    assert measure_rate(clock.spend([30.0] + [0.25] * 100), seconds=2.0) == pytest.approx(32)
    assert clock.now == pytest.approx(32)


def test_an_endless_stream_is_left_when_time_is_up(clock: Clock):
    assert measure_rate(clock.spend(itertools.repeat(0.5)), seconds=1.0) == pytest.approx(16)


def test_a_slow_pipeline_is_measured_by_one_batch(clock: Clock):
    assert measure_rate(clock.spend([1.0, 40.0, 40.0]), seconds=1.0) == pytest.approx(0.2)


def test_a_single_batch_tells_nothing(clock: Clock):
    assert measure_rate(clock.spend([1.0])) == 0.0


def test_a_fast_input_waits_for_the_device():
    assert describe_bottleneck(5000, 400) == (
        "the input gives 5,000 images/s, training takes 400: the device is the limit, its input "
        "is 12.5 times as fast"
    )


@pytest.mark.parametrize("training", [400, 380, 330, 420])
def test_training_as_fast_as_its_input_waits_for_it(training: float):
    said = describe_bottleneck(400, training)
    assert "the input is the limit, and the device waits for it; a cheaper augment.policy" in said
