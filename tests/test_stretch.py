import itertools
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from podium.stretch import Ending, Stretch


@pytest.fixture
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    metrics = [
        keras.metrics.CategoricalAccuracy(name="accuracy"),
        keras.metrics.CategoricalCrossentropy(name="log_loss", from_logits=True),
    ]
    model.compile("sgd", loss, weighted_metrics=metrics, jit_compile=False)
    return model


def make_batches(spoilt: int | None = None) -> tf.data.Dataset:
    """Endless batches of 8, one of them of no numbers."""

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in itertools.count():
            images = np.full((8, 3), np.nan if number == spoilt else number % 5, np.float32)
            yield images, np.eye(2, dtype=np.float32)[np.arange(8) % 2]

    kinds = (tf.TensorSpec((8, 3), tf.float32), tf.TensorSpec((8, 2), tf.float32))
    return tf.data.Dataset.from_generator(generate, output_signature=kinds)


def fit(
    model: keras.Model,
    steps: int,
    ask: Callable[[Stretch], Ending] = lambda stretch: "",
    parts: int = 1,
    spoilt: int | None = None,
) -> Stretch:
    ticks = itertools.count()
    stretch = Stretch(model, parts, ask, lambda: float(next(ticks)))
    model.fit(make_batches(spoilt), steps_per_epoch=steps, callbacks=stretch, verbose=0)
    return stretch


def test_updates_are_counted_and_timed_but_for_the_first_two(model: keras.Model):
    stretch = fit(model, 6)
    assert (stretch.updates, stretch.ending) == (6, "")
    assert len(stretch.times) == 4
    assert min(stretch.times) > 0
    assert stretch.first > 0


def test_figures_are_those_of_all_updates_as_keras_gives_them(model: keras.Model):
    stretch = fit(model, 5)
    for name, value in stretch.figures().items():
        assert value == pytest.approx(model.history.history[name][0], rel=1e-6)


def test_a_batch_in_parts_is_one_update(model: keras.Model):
    asked = []
    stretch = fit(model, 6, lambda stretch: asked.append(stretch.updates) or "", parts=3)
    assert stretch.updates == 2
    assert asked == [1, 2]


@pytest.mark.parametrize("ending", ["replanned", "stopped", "diverged"])
def test_who_is_asked_after_an_update_can_end_the_stretch(model: keras.Model, ending: Ending):
    stretch = fit(model, 9, lambda stretch: ending if stretch.updates == 4 else "")
    assert (stretch.updates, stretch.ending) == (4, ending)


def test_a_loss_that_is_no_number_ends_it_one_update_later(model: keras.Model):
    stretch = fit(model, 9, spoilt=3)
    assert (stretch.updates, stretch.ending) == (5, "diverged")


def test_what_was_learned_so_far_is_in_the_models_variables_when_asked_for(model: keras.Model):
    seen = []

    def look(stretch: Stretch) -> Ending:
        stretch.synchronise()
        seen.append(keras.ops.convert_to_numpy(stretch.model.optimizer.iterations).item())
        return ""

    fit(model, 4, look)
    assert seen == [1, 2, 3, 4]
