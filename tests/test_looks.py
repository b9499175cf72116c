from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from podium.blends import Blend
from podium.learning import PredictConfig
from podium.looks import (
    Looks,
    NoTimeError,
    Use,
    Viewer,
    count_looks,
    join_looks,
    list_looks,
    read_looks,
    read_use,
    use_fields,
    write_looks,
)
from podium.pixels import Images
from podium.predictions import Predictions
from podium.task import Task

TABLE = pd.DataFrame({"id": [f"i{row}" for row in range(9)]})
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 18, 18, 3), dtype=np.uint8)
IMAGES = Images(TABLE, PIXELS, [])
NAMES = ("identity", "flip", "shift-left")
TASK = Task("label", ("left", "right"))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Its logits are how bright the left and the right half of the centre are."""
    pixels = keras.Input((18, 18, 3), dtype="uint8")
    centre = keras.layers.CenterCrop(16, 16)(keras.layers.Rescaling(1 / 64)(pixels))
    halves = keras.layers.AveragePooling2D((16, 8))(centre)
    return keras.Model(pixels, keras.ops.mean(halves, axis=(1, 3)))


def make_viewer(seconds: float = np.inf, *, flip: bool = False) -> Viewer:
    """Who has so many seconds left, of which each glance at the clock costs one."""
    clock = iter(range(1000))
    return Viewer(
        4, lambda need: need <= seconds, lambda: next(clock), exclusive=True, flip=flip
    )  # fmt: skip


def test_each_look_is_what_the_model_says_of_the_view(model: keras.Model):
    looks = make_viewer().look(model, IMAGES, None, NAMES)
    assert (looks.names, looks.ids.tolist()) == (NAMES, TABLE["id"].tolist())
    assert looks.probs.shape == (3, 9, 2)
    np.testing.assert_allclose(looks.probs[1], looks.probs[0][:, ::-1], atol=1e-5)
    assert np.abs(looks.probs[2] - looks.probs[0]).max() > 1e-3
    np.testing.assert_allclose(looks.seconds, 1 / 9)
    assert looks.taken.tolist() == [1, 1, 1]
    assert not looks.undecided.any()


def test_a_part_of_the_images_is_looked_at_by_a_mask(model: keras.Model):
    chosen = np.arange(9) % 2 == 0
    part = make_viewer().look(model, IMAGES, chosen, NAMES)
    whole = make_viewer().look(model, IMAGES, None, NAMES)
    assert part.ids.tolist() == TABLE["id"][chosen].tolist()
    np.testing.assert_allclose(part.probs, whole.probs[:, chosen], atol=1e-6)


def test_an_adaptive_look_takes_drawn_views_up_to_its_number(model: keras.Model):
    looks = make_viewer(flip=True).look(model, IMAGES, None, ("identity", "adaptive-9"))
    assert 6 <= looks.taken[1] <= 9
    assert looks.undecided.shape == (9,)
    assert np.abs(looks.probs[1] - looks.probs[0]).max() > 1e-3
    again = make_viewer(flip=True).look(model, IMAGES, None, ("identity", "adaptive-9"))
    np.testing.assert_array_equal(again.probs, looks.probs)


def test_there_is_no_look_that_time_does_not_allow(model: keras.Model):
    with pytest.raises(NoTimeError, match="9 views take 1 s, which are not left"):
        make_viewer(0.5).look(model, IMAGES, None, NAMES)
    looks = make_viewer(0.5).look(model, IMAGES, None, NAMES[:1])  # the first has no known cost
    assert looks.names == NAMES[:1]
    with pytest.raises(NoTimeError):
        make_viewer(0.05).look(model, IMAGES, None, ("identity", "adaptive-9"))


def make_looks(ids: str = "abc", names: tuple[str, ...] = NAMES, seconds: float = 0.1) -> Looks:
    probs = np.random.default_rng(len(ids)).dirichlet([1, 1], (len(names), len(ids)))
    figures = np.full(len(names), seconds), np.ones(len(names))
    left_open = np.arange(len(ids)) == 1
    return Looks(np.array(list(ids)), names, probs.astype(np.float32), *figures, left_open)


def test_looks_are_read_as_they_were_written_and_only_if_they_are_those(tmp_path: Path):
    looks, path = make_looks(), tmp_path / "views.npz"
    write_looks(looks, path)
    kept = read_looks(path, NAMES, looks.ids)
    assert kept is not None
    assert kept.names == NAMES
    for one, other in zip(kept, looks, strict=True):
        np.testing.assert_array_equal(one, other)
    assert read_looks(path, NAMES[:2], looks.ids) is None
    assert read_looks(path, NAMES, looks.ids[::-1]) is None
    assert read_looks(tmp_path / "none.npz", NAMES, looks.ids) is None
    path.write_bytes(path.read_bytes()[:-40])
    assert read_looks(path, NAMES, looks.ids) is None


def test_looks_at_several_parts_are_one_after_the_other_and_cost_what_an_image_costs():
    joined = join_looks([make_looks("abc", seconds=0.1), make_looks("d", seconds=0.5)])
    assert joined.ids.tolist() == list("abcd")
    np.testing.assert_allclose(joined.seconds, 0.2)
    np.testing.assert_array_equal(joined.probs[:, :3], make_looks("abc").probs)
    assert joined.undecided.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("settings", "names", "passes"),
    [
        ({"views": "none"}, (), 0),
        ({"views": "identity"}, (), 0),
        ({"views": "flip"}, ("identity", "flip"), 1),
        ({"views": "none", "most_views": 48}, ("identity", "adaptive-48"), 16),
        ({"views": "flip", "most_views": 6}, ("identity", "flip", "adaptive-6"), 3),
    ],
)
def test_looks_are_listed_as_the_settings_ask(
    settings: dict[str, Any], names: tuple[str, ...], passes: float
):
    assert list_looks(PredictConfig(**settings)) == names
    assert count_looks(PredictConfig(**settings)) == passes


def test_what_is_used_is_one_answer_of_the_image_as_it_is_and_the_other_looks():
    looks = make_looks(names=("flip", "shift-left"))
    plain = Predictions(np.array(list("cba")), np.float32([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]))
    use = Use(NAMES, Blend("mean", (0.5, 0.25, 0.25)), 3.0, flip=False)
    assert use.extra == ("flip", "shift-left")
    answer = use.answer(plain, looks, exclusive=True)
    assert answer.ids.tolist() == list("abc")
    expected = plain.probs[::-1] / 2 + looks.probs.sum(axis=0) / 4
    np.testing.assert_allclose(answer.probs, expected, atol=1e-6)


def test_a_temperature_alone_needs_no_other_look():
    plain = Predictions(np.array(["a"]), np.float32([[0.8, 0.2]]))
    use = Use(("identity",), Blend("mean", (1.0,), 0.5), 1.0, flip=False)
    assert use.extra == ()
    np.testing.assert_allclose(use.answer(plain, None, exclusive=True).probs, [[2 / 3, 1 / 3]])


def test_what_is_used_is_read_from_the_summary_of_the_same_metric_alone():
    use = Use(NAMES, Blend("geometric", (0.5, 0.3, 0.2), 1.5), 3.0, flip=True)
    summary = {"metric": "accuracy", "views": use_fields(use)}
    assert read_use(summary, TASK) == use
    assert read_use(summary, TASK._replace(metric="auc")) is None
    assert read_use({"metric": "accuracy", "views": None}, TASK) is None
    assert read_use({}, TASK) is None
