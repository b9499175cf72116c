import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.learning import ScheduleConfig
from podium.schedule import FINAL_SHARE, StagewiseAdamW, make_optimizer, make_schedule


def rates(peak: float, updates: int, warmup: float) -> np.ndarray:
    schedule = make_schedule(peak, updates, warmup)
    return np.array([float(schedule(float(update))) for update in range(updates + 1)])


def test_it_climbs_linearly_peaks_and_falls_to_its_final_share():
    curve = rates(1.0, 100, 0.1)
    np.testing.assert_allclose(curve[:11], np.arange(11) / 10, atol=1e-6)
    assert (np.diff(curve[10:]) < 0).all()
    assert curve[-1] == pytest.approx(FINAL_SHARE)


def test_halfway_down_it_is_halfway_between_peak_and_end():
    assert rates(1.0, 100, 0.2)[60] == pytest.approx((1 + FINAL_SHARE) / 2, abs=1e-6)


def test_without_warmup_it_starts_at_the_peak():
    assert rates(0.5, 10, 0.0)[0] == pytest.approx(0.5)


@settings(max_examples=10)
@given(st.integers(1, 15), st.floats(0, 0.9))
def test_it_never_leaves_zero_to_peak_and_never_jumps(updates: int, warmup: float):
    curve = rates(1.0, updates, warmup)
    assert curve.min() >= 0
    assert curve.max() <= 1 + 1e-6
    climbing = min(round(warmup * updates), updates - 1)
    steepest = max(1 / climbing if climbing else 0, np.pi / 2 / (updates - climbing))
    assert np.abs(np.diff(curve)).max() <= steepest + 1e-6


def test_biases_and_normalisation_are_not_decayed():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    )
    optimizer = make_optimizer(ScheduleConfig(), 1e-3, 10)
    optimizer.build(model.trainable_variables)
    decayed = [v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    assert [path.rpartition("/")[2] for path in decayed] == ["kernel"]


def test_each_variable_moves_at_its_share_of_the_rate():
    slow, fast = (keras.Variable(np.ones(3), name=name) for name in ("slow", "fast"))
    optimizer = StagewiseAdamW(0.1, weight_decay=0.0, shares={slow.path: 0.25})
    optimizer.build([slow, fast])
    for _ in range(3):
        optimizer.apply([keras.ops.ones(3), keras.ops.ones(3)])
    moved = [1 - float(keras.ops.convert_to_numpy(one)[0]) for one in (slow, fast)]
    assert moved[1] == pytest.approx(0.3, rel=1e-4)
    assert moved[0] == pytest.approx(0.25 * moved[1], rel=1e-4)


def test_each_variable_decays_at_its_share_of_the_rate():
    slow, fast = (keras.Variable(np.ones(3), name=name) for name in ("slow", "fast"))
    optimizer = StagewiseAdamW(0.1, weight_decay=0.5, shares={slow.path: 0.25})
    optimizer.build([slow, fast])
    optimizer.apply([keras.ops.zeros(3), keras.ops.zeros(3)])
    left = [float(keras.ops.convert_to_numpy(one)[0]) for one in (slow, fast)]
    assert left == pytest.approx([1 - 0.25 * 0.05, 1 - 0.05], rel=1e-6)


def test_without_shares_it_is_the_adamw_of_keras():
    both = [
        optimizer(0.1, weight_decay=0.01) for optimizer in (StagewiseAdamW, keras.optimizers.AdamW)
    ]
    ends = []
    for optimizer in both:
        variable = keras.Variable(np.linspace(-1, 1, 5), name="kernel")
        optimizer.build([variable])
        for step in range(5):
            optimizer.apply([keras.ops.ones(5) * (step - 1.5)])
        ends.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(*ends)
