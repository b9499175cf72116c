import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from small_fold import CONFIG, START, make_session, make_set

from podium.conclude import Observer, is_followed
from podium.fold_data import FoldData, take_fold
from podium.learning import ModelConfig, PredictConfig, TrainConfig
from podium.model import strip_augmentation
from podium.recalibrate import find_norms, read_statistics
from podium.train import train_fold
from podium.trainee import Shape, Trainee

# On the script the dry runs show this: they train, are killed and go on.
pytestmark = pytest.mark.modules

# Statistics that hardly move: validation gains by clean ones.
SLOW = replace(
    CONFIG,
    model=ModelConfig("tiny", "random", bn_momentum=0.999),
    train=TrainConfig(head_epochs=0, epochs=3),
)


@pytest.fixture
def fold() -> FoldData:
    return take_fold(SLOW, make_set(), 0)


def make_model(fold: FoldData) -> keras.Model:
    return Trainee(SLOW, START, fold).prepare(Shape("all", 16, clean=False, parts=1), 2)


def test_one_looks_closer_less_and_less_often():
    assert [epoch for epoch in range(1, 210) if is_followed(epoch)] == [
        1, 2, 3, 5, 10, 20, 30, 50, 100, 150, 200,
    ]  # fmt: skip


def test_who_looks_closer_leaves_the_network_as_it_was(fold: FoldData):
    model = make_model(fold)
    before = [weights.copy() for weights in model.get_weights()]
    closer = Observer(SLOW, START).follow(model, fold)
    assert 0 <= closer.clean <= 1
    assert 0 <= closer.recalibrated <= 1
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_statistics_that_are_wrong_are_replaced_and_the_record_says_so(tmp_path: Path):
    model = train_fold(CONFIG, START, make_set(), 0, make_session(tmp_path)).model
    fold = take_fold(CONFIG, make_set(), 0)
    learned = make_model(fold)
    body = model.get_layer("network").get_weights()
    strip_augmentation(learned, 16).get_layer("network").set_weights(body)
    for norm in find_norms(learned):
        norm.moving_mean.assign(norm.moving_mean + 40.0)
    observer, stream = Observer(CONFIG, START), fold.make_batches(None, 1, 0)
    spoilt = fold.mark(learned).metric
    answering, record = observer.conclude(learned, fold, stream)
    assert record["kept"]
    assert (record["e"], record["c"]) == (pytest.approx(spoilt), 1.0)
    assert spoilt < 0.9
    assert fold.mark(answering).metric == 1.0


@pytest.mark.either
def test_a_fold_leaves_its_record_and_the_metric_by_clean_statistics(tmp_path: Path):
    train_fold(SLOW, START, make_set(), 0, make_session(tmp_path))
    record = json.loads((tmp_path / "fold0" / "truth.json").read_text())
    assert record["verdict"] in ("lag", "shift", "overfit", "none")
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["recalibrated/metric"].notna().tolist() == [True, True, True]
    assert history["recalibrated/metric"].iloc[-1] == pytest.approx(record["c"])


def test_who_wants_no_recalibration_has_none(fold: FoldData):
    model = make_model(fold)
    before = [moments.mean for moments in read_statistics(model)]
    config = replace(SLOW, predict=PredictConfig(recalibrate="no"))
    answering, record = Observer(config, START).conclude(model, fold, fold.make_batches(None, 1, 0))
    assert record == {}
    for one, moments in zip(before, read_statistics(model), strict=True):
        np.testing.assert_array_equal(one, moments.mean)
    assert len(find_norms(answering)) == len(before)


def test_larger_images_are_tried_where_they_are_asked_for(fold: FoldData):
    config = replace(SLOW, predict=PredictConfig(recalibrate="no", test_size="if-better"))
    model = make_model(fold)
    answering, record = Observer(config, START).conclude(model, fold, fold.make_batches(None, 1, 0))
    assert [tried["size"] for tried in record["test_size"]["tried"]] == [24]
    assert answering.input_shape == (None, 18, 18, 3)
