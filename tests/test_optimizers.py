from collections.abc import Iterator

import keras
import numpy as np
import pytest

from podium.learning import OptimizerConfig, ScheduleConfig
from podium.objective import compile_model
from podium.optimizers import KINDS, make_optimizer, set_rates, swap_averages
from podium.schedule import make_schedule
from podium.task import Task

JIT = keras.backend.backend() == "jax"
TASK = Task("label", ("a", "b", "c"))
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(64, 5)).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[(INPUTS @ RNG.normal(size=(5, 3))).argmax(axis=1)]
RATES = np.array([0.05, 0.01, 0.002, 0.03])


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def settled(name: str = "sgd", **given: float) -> OptimizerConfig:
    return OptimizerConfig(name, **{"weight_decay": 0.0, "clip": 0.0, **given})


def make_net(config: OptimizerConfig, updates: int = 4, hidden: int = 0) -> keras.Model:
    """A net without batch norm, the same for every call."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((5,))
    if hidden:
        x = keras.layers.Dense(hidden, "relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x))
    compile_model(model, make_optimizer(config, updates), task=TASK, jit=JIT)
    return model


def fit(model: keras.Model, batch: int = 16, epochs: int = 1) -> list[float]:
    fitted = model.fit(INPUTS, TARGETS, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
    return fitted.history["loss"]


def to_array(value: object) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [to_array(variable) for variable in model.trainable_variables]


def make_bare(shares: dict[str, float] | None = None, **given: float) -> tuple[list, object]:
    """Two variables of ones, the first at a quarter of the rate, which is 0.1."""
    slow, fast = (keras.Variable(np.ones(3), name=name) for name in ("slow", "fast"))
    optimizer = make_optimizer(settled(**given), 1, {slow.path: 0.25})
    optimizer.build([slow, fast])
    set_rates(optimizer, np.array([0.1]))
    return [slow, fast], optimizer


@pytest.mark.parametrize("name", KINDS)
def test_a_fit_with_a_table_is_a_step_by_step_fit_at_the_same_rates(name: str):
    one, other = make_net(settled(name)), make_net(settled(name))
    set_rates(one.optimizer, RATES)
    fit(one)
    for step, rate in enumerate(RATES):
        set_rates(other.optimizer, np.array([rate]))
        part = slice(16 * step, 16 * step + 16)
        other.train_on_batch(INPUTS[part], TARGETS[part])
    for mine, theirs in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_each_update_is_that_of_kerass_optimizer_at_the_rate_of_the_table(name: str):
    kind, options = KINDS[name]
    variable, twin = (keras.Variable(np.linspace(-1, 1, 5), name="kernel") for _ in range(2))
    mine = make_optimizer(settled(name, weight_decay=0.01), len(RATES))
    kerass = getattr(keras.optimizers, kind)(0.1, weight_decay=0.01, **options)
    mine.build([variable])
    kerass.build([twin])
    set_rates(mine, RATES)
    for step, rate in enumerate(RATES):
        kerass.learning_rate = rate
        mine.apply([keras.ops.ones(5) * (step - 1.5)])
        kerass.apply([keras.ops.ones(5) * (step - 1.5)])
        np.testing.assert_allclose(to_array(variable), to_array(twin), rtol=1e-6)


def test_the_present_rate_can_be_read_and_the_last_of_the_table_stays():
    model = make_net(settled(), updates=4)
    set_rates(model.optimizer, RATES[:2])
    assert float(model.optimizer.learning_rate) == pytest.approx(RATES[0])
    fit(model, batch=64)
    assert float(model.optimizer.learning_rate) == pytest.approx(RATES[1])
    fit(model)
    assert float(model.optimizer.learning_rate) == pytest.approx(RATES[1])
    set_rates(model.optimizer, RATES)
    assert float(model.optimizer.learning_rate) == pytest.approx(RATES[0])


@pytest.mark.parametrize("count", [0, 5])
def test_a_table_takes_no_more_rates_than_it_has_room_for_and_not_none(count: int):
    with pytest.raises(ValueError, match=f"{count} rates do not fit a table of 4 updates"):
        set_rates(make_net(settled(), updates=4).optimizer, np.full(count, 0.1))


def test_without_rates_nothing_moves():
    model = make_net(settled())
    before = weights_of(model)
    fit(model)
    np.testing.assert_array_equal(weights_of(model)[0], before[0])


@pytest.mark.parametrize("name", ["adamax", "rmsprop"])
def test_parts_of_a_batch_make_the_update_of_the_whole(name: str):
    given = {"weight_decay": 0.1, "clip": 0.5, "ema": 0.5}
    whole = make_net(settled(name, **given), 2, hidden=8)
    parts = make_net(settled(name, accumulate=4, **given), 2, hidden=8)
    for model, batch in ((whole, 32), (parts, 8)):
        set_rates(model.optimizer, RATES[:2])
        fit(model, batch)
        assert int(model.optimizer.iterations) == 2
    for _ in range(2):
        for one, other in zip(weights_of(whole), weights_of(parts), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        swap_averages(whole)
        swap_averages(parts)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("adamax", "constant"),
        ("adamax", "cosine"),
        ("adamax", "plateau"),
        ("adamax", "one-cycle"),
        ("adamw", "cosine"),
        ("sgd", "cosine"),
        ("rmsprop", "one-cycle"),
        ("lion", "plateau"),
    ],
)
def test_every_optimizer_and_every_schedule_trains(name: str, schedule: str):
    peak = {"adamax": 0.05, "lion": 0.01}.get(name, 0.02)
    course = make_schedule(ScheduleConfig(schedule), peak, 40)
    model = make_net(settled(name), updates=10, hidden=8)
    losses = []
    for stretch in range(4):
        set_rates(model.optimizer, course.rates(10 * stretch, 10))
        losses.append(fit(model, batch=32, epochs=5)[-1])
        course = course.check(losses[-1])
    assert losses[-1] < 0.75 * losses[0]


def test_averages_are_the_closed_form_and_the_weights_stay_the_weights():
    kept, rates = 0.6, np.array([0.5, 0.4, 0.3, 0.2])
    model = make_net(settled(ema=kept))
    plain = make_net(settled())
    course = []
    for rate in rates:
        for net in (model, plain):
            set_rates(net.optimizer, np.array([rate]))
            fit(net, batch=64)
        course.append(weights_of(plain)[0])
        np.testing.assert_allclose(weights_of(model)[0], course[-1], rtol=1e-6)
    shares = [kept**3, *((1 - kept) * kept**age for age in (2, 1, 0))]
    expected = sum(share * one for share, one in zip(shares, course, strict=True))
    swap_averages(model)
    np.testing.assert_allclose(weights_of(model)[0], expected, rtol=1e-5)


def test_two_swaps_are_none():
    model = make_net(settled(ema=0.9))
    set_rates(model.optimizer, RATES)
    fit(model)
    before = [to_array(one) for one in (*model.variables, *model.optimizer.variables)]
    swap_averages(model)
    assert (weights_of(model)[0] != before[0]).any()
    swap_averages(model)
    after = [to_array(one) for one in (*model.variables, *model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_swap_where_nothing_was_averaged_yet_keeps_the_weights(ema: float):
    model = make_net(settled(ema=ema))
    before = weights_of(model)
    swap_averages(model)
    np.testing.assert_array_equal(weights_of(model)[0], before[0])


def test_training_goes_on_after_a_swap_there_and_back():
    one, other = make_net(settled(ema=0.9), 8), make_net(settled(ema=0.9), 8)
    for model in (one, other):
        set_rates(model.optimizer, np.linspace(0.1, 0.2, 8))
        fit(model)
        if model is one:
            swap_averages(model)
            model.evaluate(INPUTS, TARGETS, verbose=0)
            swap_averages(model)
        fit(model)
    np.testing.assert_array_equal(weights_of(one)[0], weights_of(other)[0])


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"], indirect=True)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_and_averages_reach_the_optimizer_of_half_precision(precision: str, accumulate: int):
    model = make_net(settled("adamw", ema=0.9, accumulate=accumulate), 4, hidden=8)
    wrapped = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert wrapped == (precision == "mixed_float16")
    before = weights_of(model)
    set_rates(model.optimizer, np.full(4, 0.05))
    losses = fit(model, epochs=6)
    assert losses[-1] < 0.7 * losses[0]
    trained = weights_of(model)
    swap_averages(model)
    for start, average, end in zip(before, weights_of(model), trained, strict=True):
        assert (average != end).any()
        assert np.abs(average - end).mean() < np.abs(start - end).mean()


def test_gradients_are_clipped_by_the_norm_of_all_together():
    one, other = (keras.Variable(np.zeros(2), name=name) for name in ("one", "other"))
    optimizer = make_optimizer(settled(clip=1.0), 1)
    optimizer.build([one, other])
    set_rates(optimizer, np.array([1.0]))
    optimizer.apply([keras.ops.array([3.0, 0.0]), keras.ops.array([0.0, 4.0])])
    np.testing.assert_allclose(to_array(one), [-0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(to_array(other), [0.0, -0.8], rtol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_biases_and_normalisation_are_not_decayed(name: str):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    )
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer = make_optimizer(settled(name, weight_decay=0.5), 1)
    optimizer.build(model.trainable_variables)
    set_rates(optimizer, np.array([0.1]))
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
    left = {one.name: float(to_array(one).ravel()[0]) for one in model.trainable_variables}
    assert left == pytest.approx({"kernel": 0.95, "bias": 1.0, "gamma": 1.0, "beta": 1.0})


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_each_variable_moves_at_its_share_of_the_rate(name: str):
    variables, optimizer = make_bare(name=name)
    for _ in range(3):
        optimizer.apply([keras.ops.ones(3), keras.ops.ones(3)])
    slow, fast = (1 - float(to_array(one)[0]) for one in variables)
    assert fast > 0.29
    assert slow == pytest.approx(0.25 * fast, rel=1e-4)


def test_each_variable_decays_at_its_share_of_the_rate():
    variables, optimizer = make_bare(weight_decay=0.5)
    optimizer.apply([keras.ops.zeros(3), keras.ops.zeros(3)])
    left = [float(to_array(one)[0]) for one in variables]
    assert left == pytest.approx([1 - 0.25 * 0.05, 1 - 0.05], rel=1e-6)


@pytest.mark.skipif(not JIT, reason="TensorFlow does not share a batch over devices")
def test_tables_and_averages_live_on_all_devices():
    from podium.model import share_devices

    single = make_net(settled("adamax", ema=0.5, accumulate=2), 2, hidden=8)
    set_rates(single.optimizer, RATES[:2])
    fit(single)
    try:
        share_devices(8)
        shared = make_net(settled("adamax", ema=0.5, accumulate=2), 2, hidden=8)
        set_rates(shared.optimizer, RATES[:2])
        fit(shared)
        assert len(shared.optimizer.coming.value.sharding.device_set) == 8
        for _ in range(2):
            for one, other in zip(weights_of(single), weights_of(shared), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
            swap_averages(single)
            swap_averages(shared)
        set_rates(shared.optimizer, RATES[:1])
        fit(shared)
    finally:
        keras.distribution.set_distribution(None)
