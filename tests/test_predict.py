import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from podium.pixels import Images
from podium.predict import predict_images, predict_probs, take_probs

PIXELS = np.random.default_rng(0).integers(0, 256, (21, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Its logits are the image's mean brightness, and nothing."""
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    ones = keras.layers.Dense(2, kernel_initializer="ones", use_bias=False)(mean)
    return keras.Model(pixels, ones * np.array([[1.0, 0.0]], np.float32))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 21])
def test_every_row_is_answered_once_whatever_the_batch(model: keras.Model, rows: int):
    chosen = np.arange(21)[::-1][:rows]
    probs = predict_probs(model, PIXELS, chosen, 8)
    brightness = PIXELS[chosen].mean(axis=(1, 2)).sum(axis=1) / 255
    np.testing.assert_allclose(probs[:, 0], 1 / (1 + np.exp(-brightness)), rtol=1e-4)


def test_predictions_carry_the_ids_of_their_rows(model: keras.Model):
    table = pd.DataFrame({"id": [f"i{row}" for row in range(21)]})
    chosen = np.arange(21) % 3 == 0
    part = predict_images(model, Images(table, PIXELS, []), chosen, 8)
    whole = predict_images(model, Images(table, PIXELS, []), None, 8)
    assert part.ids.tolist() == [f"i{row}" for row in range(0, 21, 3)]
    np.testing.assert_allclose(part.probs, whole.probs[::3], rtol=1e-5)


@given(arrays(np.float32, (6, 4), elements=st.floats(-1000, 1000, width=32)))
def test_softmax_gives_probabilities_however_large_the_logits(logits: np.ndarray):
    probs = take_probs(logits, exclusive=True)
    assert probs.dtype == np.float32
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probs[np.arange(6), logits.argmax(axis=1)], probs.max(axis=1))


def test_a_model_that_diverged_spreads_no_nan():
    pixels = keras.Input((4, 4, 3), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(pixels))
    logits = keras.layers.Dense(3, kernel_initializer=keras.initializers.Constant(float("nan")))
    model = keras.Model(pixels, logits(features))
    images = np.zeros((5, 4, 4, 3), np.uint8)
    probs = predict_probs(model, images, np.arange(5), 2)
    np.testing.assert_allclose(probs, 1 / 3, rtol=1e-6)
