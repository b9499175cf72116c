from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from podium import train as train_room
from podium.backbones import find_backbone
from podium.batches import make_train_batches
from podium.config import AugmentConfig, Config, FoldsConfig, PixelsConfig
from podium.events import Reporter, read_record
from podium.learning import HeadConfig, ModelConfig, ScheduleConfig, TrainConfig
from podium.model import build_model
from podium.network import Start
from podium.pixels import Images, PixelError
from podium.predict import predict_probs
from podium.sharing import share_devices
from podium.task import Task
from podium.train import EpochLog, Phase, TrainingSet, append_row, list_phases, train_fold

CONFIG = replace(
    Config(),
    folds=FoldsConfig(2),
    model=ModelConfig("tiny", "random"),
    head=HeadConfig(dropout=0.0),
    pixels=PixelsConfig(image_size=16, batch_size=16),
    augment=AugmentConfig("flip-crop", flip="no"),
    schedule=ScheduleConfig(head_lr=1e-2, peak_lr=1e-2),
    train=TrainConfig(head_epochs=1, epochs=4),
)

START = Start(find_backbone("tiny"), "inception")
TASK = Task("label", ("dark", "bright"))


def make_set(images: int = 50) -> TrainingSet:
    """Bright images are class 1, dark ones class 0."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 2
    pixels = rng.integers(0, 100, (images, 18, 18, 3)) + 120 * labels[:, None, None, None]
    ids = [f"{row:03d}" for row in range(images)]
    table = pd.DataFrame({"id": ids, "path": ids, "label": labels})
    return TrainingSet(Images(table, pixels.astype(np.uint8), []), np.arange(images) // 2 % 2, TASK)


@pytest.fixture
def report(tmp_path: Path) -> Reporter:
    return Reporter(tmp_path)


def test_a_fold_learns_what_can_be_learned(tmp_path: Path, report: Reporter):
    train_fold(CONFIG, START, make_set(), 0, tmp_path / "fold0", report)
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["phase"].tolist() == ["head"] + ["all"] * 4
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["valid/accuracy"].iloc[-1] == 1.0
    assert history["train/loss"].iloc[-1] < history["train/loss"].iloc[0]
    assert (history["images_per_second"] > 0).all()


@pytest.mark.parametrize("policy", ["cutmix", "albumentations:coarse-dropout"])
def test_a_fold_learns_under_what_the_host_does_to_its_images(
    tmp_path: Path, report: Reporter, policy: str
):
    config = replace(CONFIG, augment=AugmentConfig(policy, margin=0.0, workers=2))
    data = make_set()
    squares = data.images._replace(pixels=data.images.pixels[:, 1:17, 1:17].copy())
    train_fold(config, START, data._replace(images=squares), 0, tmp_path / "fold0", report)
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["valid/accuracy"].iloc[-1] == 1.0


def test_the_second_phase_goes_on_where_the_stream_of_the_first_ended(
    tmp_path: Path, report: Reporter, monkeypatch: pytest.MonkeyPatch
):
    starts = []

    def watch(*given: Any) -> Any:
        starts.append(given[5:])
        return make_train_batches(*given)

    monkeypatch.setattr(train_room, "make_train_batches", watch)
    train_fold(CONFIG, START, make_set(), 0, tmp_path / "fold0", report)
    assert starts == [(0,), (0,), (2,)]  # the pace; the head, of 26 images in batches of 16; all


def test_each_epoch_is_one_line_for_people_and_one_event(
    tmp_path: Path, report: Reporter, capsys: pytest.CaptureFixture[str]
):
    train_fold(CONFIG, START, make_set(), 1, tmp_path / "fold1", report)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert len(lines) == 5
    assert lines[0].startswith("  fold 1 epoch  1/5 head  loss 0.")
    assert "\r" not in "".join(lines)
    assert (tmp_path / "events.jsonl").read_text().count("epoch_ended") == 5


def test_the_saved_model_is_the_one_returned(tmp_path: Path, report: Reporter):
    data = make_set()
    model = train_fold(CONFIG, START, data, 0, tmp_path / "fold0", report)
    saved = keras.models.load_model(tmp_path / "fold0" / "model.keras")
    expected = model.predict(data.images.pixels, verbose=0)
    answered = saved.predict(data.images.pixels, verbose=0)
    np.testing.assert_allclose(answered, expected, atol=1e-5)


def test_a_loss_that_is_no_number_is_warned_of_once(tmp_path: Path, report: Reporter):
    log = EpochLog(tmp_path / "history.csv", 0, 50, 3, report)
    log.set_model(build_model(CONFIG, START, 2, 18, 0))
    log.model.compile("adam", "mse")
    figures = {"accuracy": 0.5, "val_log_loss": 1.0, "val_accuracy": 0.5}
    for epoch, loss in enumerate((1.0, float("nan"), float("nan"))):
        log.on_epoch_begin(epoch)
        log.on_epoch_end(epoch, {"log_loss": loss, **figures})
    (warning,) = report.warnings
    assert warning.startswith("fold 0 epoch 2: the loss is no number any more; lower schedule.")


def test_images_per_second_are_those_of_training_and_not_of_validation(
    tmp_path: Path, report: Reporter
):
    log = EpochLog(tmp_path / "history.csv", 0, 200, 1, report)
    log.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    log.model.compile("sgd", "mse")
    log.on_epoch_begin(0)
    log.started -= 10  # so long ago, and six of these seconds are validation's
    log.on_test_begin()
    assert log.trained > log.started
    log.trained = log.started + 4
    log.on_epoch_end(0, {"log_loss": 1, "accuracy": 1, "val_log_loss": 1, "val_accuracy": 1})
    (row,) = pd.read_csv(tmp_path / "history.csv").to_dict("records")
    assert row["seconds"] >= 10
    assert row["images_per_second"] == 50


def test_a_long_epoch_says_now_and_then_that_it_is_alive(tmp_path: Path, report: Reporter):
    log = EpochLog(tmp_path / "history.csv", 1, 50, 3, report)
    log.set_params({"steps": 9})
    log.on_epoch_begin(0)
    log.on_train_batch_end(3)
    log.spoke -= 60
    log.on_train_batch_end(4)
    (event,) = [event for event, _ in read_record(report.path)]
    place = {name: event[name] for name in ("event", "fold", "epoch", "step", "steps")}
    assert place == {"event": "step_reached", "fold": 1, "epoch": 1, "step": 5, "steps": 9}


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        (lambda pixels: pixels // 255, "the first batch is uint8 from 0 to "),
        (lambda pixels: pixels / np.float32(255), "the first batch is float32 from 0"),
        (lambda pixels: pixels / np.float32(127.5) - 1, "the first batch is float32 from -"),
        (lambda pixels: (pixels - 123.675) / 58.395, "the first batch is float64 from -"),
        (lambda pixels: pixels[..., ::-1] - 110.0, "the first batch is float64 from -"),
    ],
    ids=["to 0 or 1", "by 255", "to -1 to 1", "as ImageNet", "as Caffe"],
)
def test_pixels_that_were_scaled_before_are_refused(
    tmp_path: Path, report: Reporter, scale: Callable, told: str
):
    data = make_set()
    scaled = data._replace(images=data.images._replace(pixels=scale(data.images.pixels)))
    with pytest.raises(PixelError) as caught:
        train_fold(CONFIG, START, scaled, 0, tmp_path / "fold0", report)
    assert str(caught.value).startswith(told)
    assert "the model takes raw pixels, uint8 from 0 to 255" in str(caught.value)


def test_layer_decay_and_frozen_stages_train_through_a_whole_fold(tmp_path: Path, report: Reporter):
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, frozen_stages=1, batch_norm="frozen"),
        schedule=replace(CONFIG.schedule, layer_decay=0.5),
    )
    model = train_fold(config, START, make_set(), 0, tmp_path / "fold0", report)
    fresh = build_model(config, START, 2, 18, seed=0)
    moved = {
        name: bool(
            (
                keras.ops.convert_to_numpy(model.get_layer("backbone").get_layer(name).kernel)
                != keras.ops.convert_to_numpy(fresh.get_layer("backbone").get_layer(name).kernel)
            ).any()
        )
        for name in ("conv1", "conv2", "conv3", "conv4")
    }
    assert moved == {"conv1": False, "conv2": False, "conv3": True, "conv4": True}


def test_training_again_starts_a_new_history(tmp_path: Path, report: Reporter):
    config = replace(CONFIG, train=TrainConfig(head_epochs=0, epochs=1))
    for _ in range(2):
        train_fold(config, START, make_set(), 0, tmp_path / "fold0", report)
    assert len(pd.read_csv(tmp_path / "fold0" / "history.csv")) == 1


def test_a_run_on_the_cpu_repeats_itself(tmp_path: Path, report: Reporter):
    weights = [
        train_fold(CONFIG, START, make_set(), 0, tmp_path / name, report).get_weights()
        for name in ("one", "two")
    ]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs virtual devices")
def test_eight_devices_learn_what_one_learns(tmp_path: Path, report: Reporter):
    alone = train_fold(CONFIG, START, make_set(), 0, tmp_path / "one", report)
    pixels = make_set().images.pixels
    expected = alone.predict(pixels, verbose=0)
    before = keras.distribution.distribution()
    try:
        share_devices(8)
        shared = train_fold(CONFIG, START, make_set(), 0, tmp_path / "eight", report)
        answered = shared.predict(np.resize(pixels, (48, 18, 18, 3)), batch_size=16, verbose=0)
    finally:
        keras.distribution.set_distribution(before)
    np.testing.assert_allclose(answered, expected[:48], atol=2e-2)


def test_only_phases_with_epochs_are_trained():
    config = replace(CONFIG, train=TrainConfig(head_epochs=0, epochs=3))
    assert list(list_phases(config)) == [Phase("all", 3, 1e-2)]
    assert [phase.name for phase in list_phases(CONFIG)] == ["head", "all"]


def test_rows_are_appended_under_one_header(tmp_path: Path):
    for epoch in (1, 2):
        append_row(tmp_path / "history.csv", {"epoch": epoch, "loss": 0.5})
    assert (tmp_path / "history.csv").read_text().split() == ["epoch,loss", "1,0.5", "2,0.5"]


def test_classes_that_do_not_exclude_each_other_are_learned_each_by_itself(
    tmp_path: Path, report: Reporter
):
    data = make_set()
    bright = data.images.table["label"].to_numpy() == 1
    labels = np.empty(len(bright), object)
    labels[:] = [(0, 1) if one else (0,) for one in bright]  # the first class is always there
    table = data.images.table.assign(label=labels)
    task = Task("labels", ("image", "bright"), exclusive=False)
    several = data._replace(images=data.images._replace(table=table), task=task)
    model = train_fold(CONFIG, START, several, 0, tmp_path / "fold0", report)
    probs = predict_probs(model, data.images.pixels, np.arange(50), 16, exclusive=False)
    assert (probs[:, 0] > 0.5).all()
    np.testing.assert_array_equal(probs[:, 1] > 0.5, bright)
    last = pd.read_csv(tmp_path / "fold0" / "history.csv").iloc[-1]
    assert last["valid/accuracy"] == 1
