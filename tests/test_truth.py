import json

import keras
import numpy as np
import pytest
from planted import CASES, SIDE, make_data, train_case

from podium import truth as room
from podium.metrics import METRICS
from podium.recalibrate import Moments
from podium.task import Task, encode_targets
from podium.truth import (
    Anew,
    Examiner,
    Finding,
    find_judge,
    judge,
    keep_if_better,
    knows_better,
    measure_gain,
)

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))]
LABEL = Task("label", ("a", "b"))


def copy_state(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def examine(name: str, seed: int) -> tuple[Finding, dict[str, object]]:
    """The finding, and what keeping the statistics says; the model must be left as it was."""
    model, fold, augmented = train_case(CASES[name], seed)
    before = copy_state(model)
    examiner = Examiner(model, SIDE, fold)
    anew = examiner.recalibrate()
    finding = examiner.examine(anew, augmented)
    assert same(copy_state(model), before)
    kept = keep_if_better(fold, anew)
    assert same(copy_state(model), before) == (not kept["kept"])
    return finding, kept


@pytest.mark.modules
@pytest.mark.either
@pytest.mark.parametrize("seed", SEEDS)
def test_statistics_that_lag_are_named_and_mended(seed: int):
    """Ten epochs of twelve steps with momentum 0.99: the weights are good, the averages are not."""
    finding, kept = examine("lag", seed)
    assert finding.verdict == "lag"
    assert finding.lag > 0.2
    assert "model.bn_momentum to 0.75" in finding.words
    assert kept["kept"]
    model, fold, _ = train_case(CASES["lag"]._replace(momentum=0.9), seed)
    settled = fold.predict(model, fold.validated).argmax(axis=1)
    accuracy = (settled == fold.data.labels[fold.validated]).mean()
    assert finding.c == pytest.approx(accuracy, abs=0.03)  # what momentum 0.9 would have given


@pytest.mark.modules
@pytest.mark.either
@pytest.mark.parametrize("seed", SEEDS)
def test_statistics_that_augmentation_shifted_are_named_and_mended(seed: int):
    finding, kept = examine("shift", seed)
    assert finding.verdict == "shift"
    assert finding.shift > 0.03 > abs(finding.lag)
    assert "train.clean_epochs" in finding.words
    assert kept["kept"]


@pytest.mark.modules
@pytest.mark.either
@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_that_knows_its_images_by_heart_is_named(seed: int):
    finding, _ = examine("overfit", seed)
    assert finding.verdict == "overfit"
    assert finding.gap > 0.2
    assert abs(finding.c - finding.e) < 0.02
    assert "head.dropout" in finding.words


@pytest.mark.modules
@pytest.mark.either
@pytest.mark.parametrize("seed", SEEDS)
def test_where_nothing_is_wrong_nothing_is_named(seed: int):
    finding, _ = examine("none", seed)
    assert finding.verdict == "none"
    assert finding.e > 0.95


@pytest.mark.parametrize(
    ("figures", "harmed", "overfitted", "verdict"),
    [
        ((0.4, 0.8, 0.8, 0.9), True, True, "lag"),
        ((0.4, 0.4, 0.8, 0.9), True, True, "shift"),
        ((0.4, 0.5, 0.8, 0.9), True, True, "shift"),
        ((0.4, 0.7, 0.8, 0.9), True, True, "lag"),
        ((0.7, 0.8, 0.8, 1.0), True, True, "overfit"),
        ((0.7, 0.8, 0.8, 1.0), True, False, "lag"),
        ((0.7, 0.8, 0.8, 0.84), False, True, "none"),  # a gap as every network has
        ((0.7, 0.8, 0.8, 1.0), False, False, "none"),
        ((0.8, 0.6, 0.8, 0.8), False, False, "none"),  # shifted, but training's averages are not
        ((0.8, 0.804, 0.805, 0.81), True, True, "none"),  # true, and worth no remedy
    ],
)
def test_the_largest_part_that_is_not_luck_is_the_verdict(figures, harmed, overfitted, verdict):
    assert judge(*figures, harmed=harmed, overfitted=overfitted) == verdict


def test_a_gap_that_luck_explains_is_none():
    """Of 20 images 2 more are right: as likely as not by luck; of 2,000 images 200 are not."""
    for images, sure in ((20, False), (2000, True)):
        truth = encode_targets(np.zeros(images, int), 2)
        learned, new = truth.astype(float), truth.astype(float)
        learned[: images // 10], new[: images // 5] = [0, 1], [0, 1]
        assert knows_better(LABEL, (truth, learned), (truth, new)) == sure
        assert not knows_better(LABEL, (truth, new), (truth, learned))


def test_log_loss_is_judged_by_accuracy_as_its_differences_have_no_usual_size():
    for metric, row in METRICS.items():
        judged = find_judge(Task(row.fits[0], ("a", "b"), metric=metric))
        assert judged.metric == ("accuracy" if metric == "log_loss" else metric)


def test_a_gain_is_kept_beyond_one_standard_error_and_measured_on_the_competition_metric():
    truth = encode_targets(np.zeros(100, int), 2)
    before = np.tile(np.float32([0.9, 0.1]), (100, 1))
    before[:30] = [0.1, 0.9]
    better, hardly = before.copy(), before.copy()
    better[:9] = [0.9, 0.1]  # nine fixed
    hardly[:9], hardly[90:97] = [0.9, 0.1], [0.1, 0.9]  # nine fixed, seven broken: 0.02 ± 0.04
    assert measure_gain(LABEL, truth, before, better).kept
    gain = measure_gain(LABEL, truth, before, hardly)
    assert gain.difference == pytest.approx(0.02)
    assert gain.se == pytest.approx(0.04, rel=0.1)
    assert not gain.kept
    assert not measure_gain(LABEL, truth, better, before).kept
    assert measure_gain(LABEL, truth, before, before) == (0.0, 0.0, False)
    surprise = Task("probabilities", ("a", "b"), metric="log_loss")
    sharper = np.float32([[0.95, 0.05]]) * np.ones((100, 1), np.float32)
    assert measure_gain(surprise, truth, before, sharper).difference > 0


def test_where_the_metric_is_not_defined_nothing_is_kept():
    truth = encode_targets(np.zeros(4, int), 2)
    task = Task("probability", ("a", "b"), metric="auc")
    gain = measure_gain(task, truth, np.eye(2)[[0, 1, 0, 1]], np.eye(2)[[0, 0, 0, 1]])
    assert not gain.kept


@pytest.mark.parametrize("better", [True, False])
def test_new_statistics_are_written_only_if_they_are_better(
    monkeypatch: pytest.MonkeyPatch, better: bool
):
    fold, written = make_data(0), []
    monkeypatch.setattr(room, "write_statistics", written.extend)
    right = fold.encode(fold.validated).astype(np.float32)
    wrong = np.roll(right, 1, axis=1)
    moments = [Moments(None, np.zeros(1), np.ones(1))]
    anew = Anew(moments, *((wrong, right) if better else (right, wrong)))
    record = keep_if_better(fold, anew)
    assert record["kept"] is better
    assert written == (moments if better else [])
    json.dumps(record, allow_nan=False)
