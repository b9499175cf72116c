import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from podium import fixres as room
from podium.backbones import find_backbone
from podium.batches import Labelled
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.fixres import choose_size, enlarge, list_sizes
from podium.fold_data import FoldData
from podium.learning import HeadConfig, ModelConfig
from podium.model import build_model
from podium.network import Start
from podium.recalibrate import find_norms
from podium.task import Task
from podium.truth import Gain

CONFIG = replace(
    Config(),
    model=ModelConfig("tiny", "random"),
    head=HeadConfig(dropout=0.5, hidden=8),
    pixels=PixelsConfig(image_size=16, batch_size=8),
    augment=AugmentConfig("flip-crop", flip="no"),
)
START = Start(find_backbone("tiny"), "inception")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 18, 18, 3), dtype=np.uint8)
FOLD = FoldData(
    Labelled(PIXELS, np.arange(40) % 3, 3),
    np.arange(24),
    np.arange(24, 40),
    Task("label", ("a", "b", "c")),
    8,
    seed=0,
)

# What a user has who has the saved model and Keras, and nothing of Podium.
LOAD = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


def make_model(config: Config = CONFIG) -> keras.Model:
    """Its head prefers classes at random."""
    model = build_model(config, START, 3, 18, seed=0)
    last = model.get_layer("head")
    last.kernel.assign(RNG.normal(size=last.kernel.shape))
    return model


def test_sizes_are_larger_multiples_of_eight():
    assert list_sizes(224) == [256, 288]
    assert list_sizes(300) == [344, 384]
    assert list_sizes(32) == [40]
    assert list_sizes(16) == [24]
    for size in range(16, 700):
        assert all(one > size and one % 8 == 0 for one in list_sizes(size))


@pytest.mark.parametrize("head", [HeadConfig(), HeadConfig(pooling="gem", hidden=8)])
def test_the_larger_model_is_the_same_network_on_the_enlarged_centre(head: HeadConfig):
    config = replace(CONFIG, head=head)
    model = make_model(config)
    for norm in find_norms(model):
        norm.moving_mean.assign(RNG.normal(size=norm.moving_mean.shape))
    larger = enlarge(model, config, START, 3, 24)
    assert larger.input_shape == (None, 18, 18, 3)
    centre = PIXELS[:, 1:17, 1:17].astype(np.float32)
    big = keras.ops.image.resize(centre, (24, 24), "bilinear")
    alike = build_model(
        replace(config, pixels=PixelsConfig(24, 8), augment=AugmentConfig("none", flip="no")),
        START,
        3,
        24,
        seed=5,
    )
    alike.set_weights(model.get_weights())
    body = keras.Model(alike.get_layer("augment").output, alike.output)
    expected = body.predict(keras.ops.convert_to_numpy(big), verbose=0)
    np.testing.assert_allclose(larger.predict(PIXELS, verbose=0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("differences", "size"),
    [((-0.1, 0.0), 32), ((0.1, 0.2), 44), ((0.2, 0.1), 36), ((0.01, -0.1), 32)],
)
def test_the_size_that_gains_most_answers_if_it_gains_more_than_its_error(
    monkeypatch: pytest.MonkeyPatch, differences: tuple[float, ...], size: int
):
    gains = iter(Gain(one, 0.05, one > 0.05) for one in differences)
    monkeypatch.setattr(room, "list_sizes", lambda seen: [36, 44])
    monkeypatch.setattr(room, "measure_gain", lambda *_: next(gains))
    config = replace(CONFIG, pixels=PixelsConfig(32, 8))
    pixels = RNG.integers(0, 256, (40, 34, 34, 3), dtype=np.uint8)
    model = build_model(config, START, 3, 34, seed=0)
    chosen = choose_size(
        model, config, START, FOLD._replace(data=FOLD.data._replace(pixels=pixels))
    )
    assert chosen.record["size"] == size
    assert [one["size"] for one in chosen.record["tried"]] == [36, 44]
    network = chosen.model.get_layer("network")
    assert network.input_shape == (None, size, size, 3)
    probs = keras.ops.softmax(chosen.model.predict(pixels[24:], verbose=0))
    np.testing.assert_allclose(chosen.probs, keras.ops.convert_to_numpy(probs), atol=1e-5)


def test_trying_sizes_leaves_the_model_as_it_was():
    model = make_model()
    before = [np.array(one) for one in model.get_weights()]
    choose_size(model, CONFIG, START, FOLD)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_larger_model_answers_alike_where_there_is_only_keras(tmp_path: Path):
    larger = enlarge(make_model(), CONFIG, START, 3, 24)
    larger.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", PIXELS[:4])
    files = (tmp_path / name for name in ("model.keras", "pixels.npy", "logits.npy"))
    subprocess.run([sys.executable, "-I", "-c", LOAD, *map(str, files)], check=True)
    expected = larger.predict(PIXELS[:4], verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-5, rtol=1e-5)


def test_a_saved_model_stays_at_its_size():
    start = START._replace(module=Path("somewhere"))
    chosen = choose_size(make_model(), CONFIG, start, FOLD)
    assert chosen.record == {"size": 16, "tried": []}
