from collections.abc import Iterator

import keras
import numpy as np
import pytest

from podium.learning import OptimizerConfig, ScheduleConfig
from podium.lr_range import RangeTest, draw_range_test, run_range_test, smooth_losses, suggest_rate
from podium.objective import compile_model
from podium.optimizers import make_optimizer, set_rates
from podium.schedule import make_schedule
from podium.task import Task

JIT = keras.backend.backend() == "jax"
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(1024, 10)) * np.geomspace(1, 0.2, 10)
LABELS = (FEATURES @ RNG.normal(size=10) * 2 > RNG.logistic(size=1024)).astype(np.int64)
TARGETS = np.eye(2, dtype=np.float32)[LABELS]
UPDATES = 100


def make_classifier(**given: float) -> keras.Model:
    """A linear one, with dropout that drops nothing to speak of but draws."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10,))
    x = keras.layers.Dropout(1e-6)(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")(x)
    )
    config = OptimizerConfig("sgd", weight_decay=0.0, clip=0.0, **given)
    task = Task("label", ("a", "b"))
    compile_model(model, make_optimizer(config, UPDATES), task=task, jit=JIT)
    return model


def draw_batches(scale: float, seed: int = 0, count: int = UPDATES) -> Iterator[tuple]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        chosen = rng.integers(0, len(FEATURES), 32)
        yield (FEATURES[chosen] * scale).astype(np.float32), TARGETS[chosen]


def find_best_rate() -> float:
    """The best peak of a cosine at scale 1, by trying all: float64, without Keras."""
    rates = np.geomspace(1e-3, 10, 25)
    course = make_schedule(ScheduleConfig(warmup=0.0), 1.0, UPDATES).rates(0, UPDATES)
    ends = np.zeros(len(rates))
    for seed in range(3):
        weights = speed = np.zeros((len(rates), 10, 2))
        for share, (pixels, targets) in zip(course, draw_batches(1.0, seed), strict=True):
            slope = pixels.T @ (softmax(pixels @ weights) - targets) / len(pixels)
            speed = 0.9 * speed - share * rates[:, None, None] * slope
            weights = weights + speed
        probs = softmax(FEATURES @ weights)
        ends -= np.log(np.maximum(probs, 1e-30))[:, np.arange(1024), LABELS].mean(axis=1)
    return float(rates[ends.argmin()])


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def make_test(losses: list[float]) -> RangeTest:
    values = np.array(losses)
    return RangeTest(np.geomspace(1e-4, 1e4, len(values)), values, values)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_best_rate_is_found_within_three_times_wherever_it_is_planted(scale: float):
    """Inputs of another scale have the same course at rates of its square."""
    best = find_best_rate() / scale**2
    found = run_range_test(make_classifier(), draw_batches(scale), low=1e-5, high=1e5)
    assert best / 3 < suggest_rate(found) < best * 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_afterwards_the_model_is_as_it_was_before(accumulate: int):
    model = make_classifier(accumulate=accumulate, ema=0.9)
    set_rates(model.optimizer, np.linspace(0.1, 0.2, UPDATES))
    pixels, targets = next(draw_batches(1.0))
    model.fit(pixels, targets, batch_size=8, verbose=0)
    held = [*model.variables, *model.optimizer.variables]
    before = [np.array(keras.ops.convert_to_numpy(one)) for one in held]
    found = run_range_test(model, draw_batches(1.0, count=20), updates=10, high=1.0)
    assert len(found.rates) == 10
    for one, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), value)


def test_it_ends_where_the_loss_explodes_or_the_batches_do():
    exploded = run_range_test(make_classifier(), draw_batches(10.0), high=1e6)
    assert 5 < len(exploded.rates) < UPDATES
    assert exploded.smoothed[-1] > 4 * exploded.smoothed.min()
    assert len(run_range_test(make_classifier(), draw_batches(1.0, count=7)).rates) == 7


def test_each_loss_is_that_of_its_own_batch_before_the_update():
    batches = list(draw_batches(1.0, count=3))
    found = run_range_test(make_classifier(), batches, updates=3, low=1e-9, high=1e-8)
    np.testing.assert_allclose(found.losses, np.log(2), rtol=1e-5)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-9, 1e-8, 3))


def test_smoothing_keeps_a_slope_and_lowers_noise_without_lag():
    slope = np.arange(50.0)
    np.testing.assert_allclose(smooth_losses(slope, 2.0)[16:-16], slope[16:-16])
    noise = RNG.normal(size=500)
    assert smooth_losses(noise, 3.0).std() < 0.4 * noise.std()


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested():
    assert suggest_rate(make_test([3, 3, 2, 1, 2, 9])) == pytest.approx(10**0.8 / 10)


def test_without_a_finite_loss_nothing_is_suggested():
    with pytest.raises(ValueError, match="no finite loss"):
        suggest_rate(make_test([]))


def test_the_drawing_is_a_picture(tmp_path):
    draw_range_test(make_test([3, 3, 2, 1, 2, 9]), tmp_path / "range.png")
    data = (tmp_path / "range.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 5000
