import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from folders import make_csv_competition
from small_fold import CONFIG, START, TASK, make_set

from podium.events import Reporter
from podium.learning import HeadConfig
from podium.model import build_model
from podium.predictions import read_predictions
from podium.questions import read_questions
from podium.task import encode_targets
from workbench.frozen_race import Featured, build_features, take_features, train_head
from workbench.past_runs import read_past_runs
from workbench.race import main

COMPETITION: Any = SimpleNamespace(task=TASK)


def make_features(images: int = 60) -> Featured:
    """Features of which the first tells the class."""
    dice, labels = np.random.default_rng(0), np.arange(images) % 2
    features = dice.normal(0, 1, (images, 8)).astype(np.float32)
    features[:, 0] += 8 * labels - 4
    table = pd.DataFrame({"id": [f"{row:02d}" for row in range(images)], "label": labels})
    folds = np.arange(images) // 2 % 2
    return Featured(COMPETITION, table, features, encode_targets(labels, 2), folds)


@pytest.mark.parametrize("colour", ["keep", "grey"])
def test_features_are_what_a_run_hands_to_its_head(colour: str):
    config = replace(CONFIG, pixels=replace(CONFIG.pixels, colour=colour))
    pixels = make_set().images.pixels[:, 1:17, 1:17]
    keras.utils.set_random_seed(3)
    features = build_features(config, START).predict(pixels, verbose=0)
    model = build_model(config, START, 2, 16, seed=3)
    expected = keras.Model(model.input, model.get_layer("dropout").input).predict(pixels, verbose=0)
    assert features.shape == (50, START.backbone.features)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_features_are_computed_once_and_anew_when_an_image_or_a_weight_is_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images, path, report = make_set().images, tmp_path / "features.npz", Reporter(tmp_path)
    files = [tmp_path / one for one in images.table["id"]]
    for file in files:
        file.touch()
    images = images._replace(table=images.table.assign(path=list(map(str, files))))
    images = images._replace(pixels=images.pixels[:, 1:17, 1:17])

    def take(seed: int) -> bool:
        keras.utils.set_random_seed(seed)
        features = take_features(CONFIG, START, images, path, report)
        assert features.shape == (50, START.backbone.features)
        return "are used again" in capsys.readouterr().out

    assert [take(1), take(1)] == [False, True]
    os.utime(files[7], ns=(1, 1))
    assert [take(1), take(1), take(2)] == [False, True, False]
    path.write_bytes(b"PK torn")
    assert [take(2), take(2)] == [False, True]


def test_no_head_sees_what_it_answers():
    data = make_features()
    probs, rows = train_head(CONFIG, data, 0)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    held = data.folds == 0
    assert ((probs.argmax(axis=1)) == data.targets[held].argmax(axis=1)).mean() > 0.9
    turned = data.targets.copy()
    turned[held] = turned[held][:, ::-1]
    np.testing.assert_array_equal(probs, train_head(CONFIG, data._replace(targets=turned), 0)[0])
    wider = replace(CONFIG, head=HeadConfig(hidden=4, dropout=0.0))
    assert (train_head(wider, data, 0)[0] != probs).any()


def test_a_frozen_race_leaves_a_verdict_and_runs_that_can_be_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_csv_competition(tmp_path / "data")
    out = tmp_path / "race"
    own = ["--head", "linear dense8elu", "--frozen", "--data", str(tmp_path / "data")]
    words = ["--pixels.image_size=16", "--folds.count=2", "--train.epochs=1"]
    assert main([*own, "--out", str(out), "--", *words, "--data.holdout=0"]) == 0
    (question,) = read_questions(out)
    assert question.asks == "Does the extra dense layer help?"
    assert [option.name for option in question.options] == ["linear", "dense8elu"]
    assert all((option.cost or 0) > 0 for option in question.options)
    one, other = read_past_runs([out / "linear", out / "dense8elu"])
    assert len(read_predictions(one.folder / "oof.npz").ids) == 20
    assert (one.folder / "folds.csv").read_bytes() == (other.folder / "folds.csv").read_bytes()
    assert (one.settings["head.hidden"], other.settings["head.hidden"]) == (0, 8)
    assert f"→ {question.chosen}: " in capsys.readouterr().out
