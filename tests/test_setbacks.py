import keras
import pytest

from podium.epochs import Position
from podium.learning import ScheduleConfig
from podium.schedule import make_schedule
from podium.setbacks import OutOfMemoryError, halve_parts, is_out_of_memory, lower_rate

START = Position(make_schedule(ScheduleConfig("constant", warmup=0.0), 0.1, 10), 10, "all", 64, 1)


def test_a_rate_is_halved_twice_and_then_no_more():
    rates, now = [], START
    while (lower := lower_rate(now, START)) is not None:
        rates.append(lower.schedule.rate(3))
        now = lower
    assert rates == pytest.approx([0.05, 0.025])
    assert now.lowered == 2


def test_a_checkpoint_of_the_lower_rate_is_not_lowered_twice():
    once = lower_rate(START, START)
    assert once is not None
    twice = lower_rate(once, once)
    assert twice is not None
    assert twice.schedule.rate(3) == pytest.approx(0.025)


def test_parts_double_as_long_as_the_devices_can_share_them():
    place = START
    for parts in (2, 4):
        place = halve_parts(place, 32, devices=8)
        assert place.parts == parts
    with pytest.raises(OutOfMemoryError, match="8 images at once, of 32 for an update, are too"):
        halve_parts(place, 32, devices=8)


def test_memory_errors_of_both_backends_are_known_and_others_are_not():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        assert is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, "OOM"))
    assert is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to"))
    assert not is_out_of_memory(ValueError("shapes (3,) and (4,)"))
