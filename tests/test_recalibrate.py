import keras
import numpy as np
import pytest

from podium.model import share_devices
from podium.recalibrate import (
    Moments,
    Recalibrator,
    draw_clean,
    find_norms,
    read_statistics,
    write_statistics,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
BATCHES = list(PIXELS.reshape(4, 8, 8, 8, 3))


def copy_state(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))


def build(noise: bool = False, width: int = 5) -> keras.Model:
    """Two batch norms, one of them inside a model inside a model."""
    keras.utils.set_random_seed(0)
    inner = entry = keras.Input((8, 8, width))
    inner = keras.layers.BatchNormalization(name="deep")(inner)
    block = keras.Model(entry, keras.layers.Activation("relu")(inner), name="block")
    outer = entry = keras.Input((8, 8, 3))
    outer = keras.layers.Conv2D(width, 3, padding="same", name="conv")(outer)
    outer = block(keras.layers.BatchNormalization(name="shallow")(outer))
    backbone = keras.Model(entry, outer, name="backbone")
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 64, -2.0, dtype="float32")(pixels)
    if noise:
        for layer in (
            keras.layers.Dropout(0.5),
            keras.layers.SpatialDropout2D(0.5),
            keras.layers.GaussianDropout(0.5),
            keras.layers.AlphaDropout(0.5),
            keras.layers.GaussianNoise(0.5),
            keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1)),  # stochastic depth
        ):
            x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    return keras.Model(pixels, keras.layers.Dense(3, dtype="float32", name="head")(x))


def count_in_numpy(model: keras.Model) -> tuple[np.ndarray, ...]:
    """What the two batch norms must find: per batch, then over batches."""
    backbone = model.get_layer("backbone")
    shallow = backbone.get_layer("shallow")
    features = keras.Model(backbone.input, backbone.get_layer("conv").output)
    maps = features.predict(PIXELS / np.float32(64) - 2, verbose=0).astype(np.float64)
    first = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    parts = maps.reshape(4, 8, 8, 8, -1)
    centred = parts - parts.mean(axis=(1, 2, 3), keepdims=True)
    scaled = centred / np.sqrt(parts.var(axis=(1, 2, 3), keepdims=True) + shallow.epsilon)
    gamma, beta = (keras.ops.convert_to_numpy(one) for one in (shallow.gamma, shallow.beta))
    second = scaled * gamma + beta
    return *first, second.mean(axis=(0, 1, 2, 3)), second.var(axis=(0, 1, 2, 3))


def by_name(moments: list[Moments]) -> dict[str, Moments]:
    return {one.norm.name: one for one in moments}


@pytest.mark.parametrize("noise", [False, True])
def test_statistics_are_those_that_numpy_counts_whatever_is_dropped_in_training(noise: bool):
    model = build(noise)
    backbone = model.get_layer("backbone")
    backbone.get_layer("shallow").gamma.assign([0.5, 1.0, 1.5, 2.0, 2.5])
    backbone.get_layer("shallow").beta.assign([0.0, 1.0, -1.0, 2.0, 3.0])
    found = by_name(Recalibrator(model).estimate(BATCHES))
    mean, variance, deep_mean, deep_variance = count_in_numpy(model)
    np.testing.assert_allclose(found["shallow"].mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["shallow"].variance, variance, rtol=1e-4)
    np.testing.assert_allclose(found["deep"].mean, deep_mean, atol=1e-4)
    np.testing.assert_allclose(found["deep"].variance, deep_variance, rtol=1e-3)


def test_an_estimate_leaves_weights_statistics_seeds_momenta_and_rates_as_they_were():
    model = build(noise=True)
    before = copy_state(model)
    options = [layer.get_config() for layer in model._flatten_layers(include_self=False)]
    Recalibrator(model).estimate(BATCHES)
    Recalibrator(model, as_trained=True).estimate(BATCHES)
    assert same(copy_state(model), before)
    assert [layer.get_config() for layer in model._flatten_layers(include_self=False)] == options
    assert {norm.momentum for norm in find_norms(model)} == {0.99}


def test_an_estimate_that_fails_leaves_momenta_and_rates_as_they_were():
    model = build(noise=True)

    def break_off():
        yield BATCHES[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        Recalibrator(model).estimate(break_off())
    assert {norm.momentum for norm in find_norms(model)} == {0.99}
    assert model.layers[2].rate == 0.5
    with pytest.raises(ValueError, match="no images"):
        Recalibrator(model).estimate([])


@pytest.mark.parametrize("estimate_first", [True, False])
def test_training_before_and_after_an_estimate_moves_statistics_by_its_own_momentum(
    estimate_first: bool,
):
    targets = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 32)]
    ends = []
    for estimated in (True, False):
        model = build()
        model.compile("sgd", "mse")
        if not estimate_first:
            model.fit(PIXELS, targets, batch_size=8, shuffle=False, verbose=0)
        if estimated:
            Recalibrator(model).estimate(BATCHES)
        model.fit(PIXELS, targets, batch_size=8, shuffle=False, verbose=0)
        ends.append(copy_state(model))
    assert same(*ends)


def test_one_recalibrator_follows_weights_and_what_is_frozen():
    model = build()
    counter = Recalibrator(model)
    first = by_name(counter.estimate(BATCHES))
    conv = model.get_layer("backbone").get_layer("conv")
    conv.kernel.assign(2 * keras.ops.convert_to_tensor(conv.kernel))
    second = by_name(counter.estimate(BATCHES))
    np.testing.assert_allclose(second["shallow"].variance, 4 * first["shallow"].variance, rtol=1e-4)
    model.get_layer("backbone").get_layer("shallow").trainable = False
    third = by_name(counter.estimate(BATCHES))
    assert set(third) == {"deep"}
    # The frozen one runs as in inference, by its statistics, 0 and 1: what it passes on is larger.
    assert (third["deep"].variance > 2 * second["deep"].variance).all()


def test_a_model_without_batch_norm_that_trains_is_not_even_called():
    model = build()
    model.trainable = False

    def refuse():
        raise AssertionError("no batch is needed")
        yield

    assert Recalibrator(model).estimate(refuse()) == []
    assert read_statistics(model) == []


def test_what_was_read_is_written_back_to_the_last_bit():
    model = build()
    for norm in find_norms(model):
        norm.moving_mean.assign(RNG.normal(size=5))
        norm.moving_variance.assign(RNG.uniform(size=5))
    before, answers = copy_state(model), model.predict(PIXELS, verbose=0)
    kept = read_statistics(model)
    write_statistics(Recalibrator(model).estimate(BATCHES))
    assert (model.predict(PIXELS, verbose=0) != answers).any()
    write_statistics(kept)
    assert same(copy_state(model), before)
    np.testing.assert_array_equal(model.predict(PIXELS, verbose=0), answers)


def test_statistics_that_overflowed_are_mended():
    model = build()
    expected = by_name(Recalibrator(model).estimate(BATCHES))
    for norm in find_norms(model):
        norm.moving_mean.assign([np.inf, np.nan, 0, 0, 0])
        norm.moving_variance.assign([np.inf, np.nan, 1, 1, 1])
    found = by_name(Recalibrator(model).estimate(BATCHES))
    for name, moments in expected.items():
        np.testing.assert_allclose(found[name].mean, moments.mean, atol=1e-6)
        np.testing.assert_allclose(found[name].variance, moments.variance, rtol=1e-5)


def test_as_trained_what_training_drops_is_dropped_and_differently_in_each_batch():
    model = build(noise=True)
    twice = [BATCHES[0], BATCHES[0]]
    still = Recalibrator(model).estimate(twice)
    again = Recalibrator(model).estimate(BATCHES[:1])
    noisy = Recalibrator(model, as_trained=True).estimate(twice)
    noisy_once = Recalibrator(model, as_trained=True).estimate(BATCHES[:1])
    for one, two in zip(still, again, strict=True):
        np.testing.assert_allclose(one.mean, two.mean, atol=1e-6)
    for others in (noisy_once, still):
        pairs = zip(noisy, others, strict=True)
        assert any(np.abs(one.mean - two.mean).max() > 1e-3 for one, two in pairs)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_statistics_are_float32_and_nearly_the_same(precision: str):
    whole = by_name(Recalibrator(build()).estimate(BATCHES))
    keras.config.set_dtype_policy(precision)
    try:
        half = by_name(Recalibrator(build()).estimate(BATCHES))
    finally:
        keras.config.set_dtype_policy("float32")
    for name, moments in whole.items():
        assert half[name].mean.dtype == half[name].variance.dtype == np.float32
        np.testing.assert_allclose(half[name].mean, moments.mean, atol=0.02)
        np.testing.assert_allclose(half[name].variance, moments.variance, rtol=0.05)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Keras shares out on JAX alone")
def test_eight_devices_count_what_one_counts():
    alone = by_name(Recalibrator(build()).estimate(BATCHES))
    share_devices(8)
    try:
        model = build()
        shared = by_name(Recalibrator(model).estimate(BATCHES))
        write_statistics(list(shared.values()))
        assert model.predict(PIXELS, batch_size=8, verbose=0).shape == (32, 3)
    finally:
        keras.distribution.set_distribution(None)
    for name, moments in alone.items():
        np.testing.assert_allclose(shared[name].mean, moments.mean, atol=1e-5)
        np.testing.assert_allclose(shared[name].variance, moments.variance, rtol=1e-4)


def test_clean_batches_are_full_shuffled_and_of_the_rows_alone():
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    rows = np.arange(5, 16)
    drawn = [batch[:, 0, 0, 0].tolist() for batch in draw_clean(pixels, rows, 4, seed=0)]
    assert [len(batch) for batch in drawn] == [4, 4, 4]
    flat = [row for batch in drawn for row in batch]
    assert set(flat) == set(rows.tolist())
    assert flat[:11] != rows.tolist()
