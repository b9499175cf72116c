import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from small_fold import CONFIG, START, make_session, make_set

from podium import keeper as keeper_room
from podium import train as train_room
from podium.config import AugmentConfig
from podium.fold_data import FoldData
from podium.learning import HeadConfig, OptimizerConfig, TrainConfig
from podium.model import build_model
from podium.predict import predict_probs
from podium.setbacks import OutOfMemoryError
from podium.task import Task
from podium.train import Session, train_fold

# On the script the dry runs show this: they train, are killed and go on.
pytestmark = pytest.mark.modules


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return make_session(tmp_path)


def test_a_fold_learns_what_can_be_learned(tmp_path: Path, session: Session):
    train_fold(CONFIG, START, make_set(), 0, session)
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["phase"].tolist() == ["head"] + ["all"] * 4
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["valid/accuracy"].iloc[-1] == 1.0
    assert history["train/loss"].iloc[-1] < history["train/loss"].iloc[0]
    assert (history["images_per_second"] > 0).all()


@pytest.mark.either
@pytest.mark.parametrize("policy", ["cutmix", "albumentations:coarse-dropout"])
def test_a_fold_learns_under_what_the_host_does_to_its_images(
    tmp_path: Path, session: Session, policy: str
):
    config = replace(CONFIG, augment=AugmentConfig(policy, margin=0.0, workers=2))
    data = make_set()
    squares = data.images._replace(pixels=data.images.pixels[:, 1:17, 1:17].copy())
    train_fold(config, START, data._replace(images=squares), 0, session)
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["valid/accuracy"].iloc[-1] == 1.0


@pytest.mark.either
def test_each_epoch_is_one_line_for_people_and_one_event(
    tmp_path: Path, session: Session, capsys: pytest.CaptureFixture[str]
):
    train_fold(CONFIG, START, make_set(), 1, session)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert len(lines) == 5
    assert lines[0].startswith("  fold 1 epoch  1/5 head  loss 0.")
    assert "\r" not in "".join(lines)
    assert (tmp_path / "events.jsonl").read_text().count("epoch_ended") == 5


def test_the_saved_model_is_the_one_returned(tmp_path: Path, session: Session):
    data = make_set()
    model = train_fold(CONFIG, START, data, 0, session).model
    saved = keras.models.load_model(tmp_path / "fold0" / "model.keras")
    expected = model.predict(data.images.pixels, verbose=0)
    answered = saved.predict(data.images.pixels, verbose=0)
    np.testing.assert_allclose(answered, expected, atol=1e-5)


@pytest.mark.either
def test_a_run_on_the_cpu_repeats_itself(tmp_path: Path, session: Session):
    weights = [
        train_fold(CONFIG, START, make_set(), 0, make_session(tmp_path / name)).model.get_weights()
        for name in ("one", "two")
    ]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_classes_that_do_not_exclude_each_other_are_learned_each_by_itself(
    tmp_path: Path, session: Session
):
    data = make_set()
    bright = data.images.table["label"].to_numpy() == 1
    labels = np.empty(len(bright), object)
    labels[:] = [(0, 1) if one else (0,) for one in bright]  # the first class is always there
    table = data.images.table.assign(label=labels)
    task = Task("labels", ("image", "bright"), exclusive=False)
    several = data._replace(images=data.images._replace(table=table), task=task)
    model = train_fold(CONFIG, START, several, 0, session).model
    probs = predict_probs(model, data.images.pixels, np.arange(50), 16, exclusive=False)
    assert (probs[:, 0] > 0.5).all()
    np.testing.assert_array_equal(probs[:, 1] > 0.5, bright)
    last = pd.read_csv(tmp_path / "fold0" / "history.csv").iloc[-1]
    assert last["valid/accuracy"] == 1


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="TensorFlow compiles nothing ahead")
def test_a_second_fold_compiles_nothing_that_the_first_one_did(
    tmp_path: Path, session: Session, compiled: Path
):
    train_fold(CONFIG, START, make_set(), 0, session)
    steps = {path.name for path in compiled.glob("jit_train_step*-cache")}
    assert len(steps) == 2  # the head alone, and everything
    keras.backend.clear_session()
    train_fold(CONFIG, START, make_set(), 1, session)
    assert {path.name for path in compiled.glob("jit_train_step*-cache")} == steps


@pytest.fixture
def compiled(tmp_path: Path) -> Iterator[Path]:
    """A folder in which JAX keeps all that it compiles while the test runs."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (str(tmp_path / "compiled"), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path / "compiled"
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.either
def test_layer_decay_and_frozen_stages_train_through_a_whole_fold(session: Session):
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, frozen_stages=1, batch_norm="frozen"),
        schedule=replace(CONFIG.schedule, layer_decay=0.5),
        train=replace(CONFIG.train, epochs=1),
    )
    model = train_fold(config, START, make_set(), 0, session).model
    learned = model.get_layer("network").get_layer("backbone")
    fresh = build_model(config, START, 2, 18, seed=0).get_layer("backbone")
    moved = {
        name: bool(np.any(read(learned, name) != read(fresh, name)))
        for name in ("conv1", "conv2", "conv3", "conv4")
    }
    assert moved == {"conv1": False, "conv2": False, "conv3": True, "conv4": True}


def read(network: keras.Model, layer: str) -> np.ndarray:
    return keras.ops.convert_to_numpy(network.get_layer(layer).kernel)


def stop_after(updates: int) -> Callable[[], bool]:
    """Asks a run to end after so many updates."""
    asked = iter([False] * updates)
    return lambda: next(asked, True)


FULL = replace(
    CONFIG,
    head=HeadConfig(dropout=0.5),
    augment=AugmentConfig("flip-crop"),
    optimizer=OptimizerConfig("adamax", weight_decay=1e-3, clip=1.0, ema=0.9, accumulate=2),
    schedule=replace(CONFIG.schedule, name="plateau"),
    train=TrainConfig(
        head_epochs=1, epochs=3, clean_epochs=1, first_size=0.5, label_smoothing=0.1,
        class_weights="balanced",
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    "updates",
    [pytest.param(1, marks=pytest.mark.either), 7],
)
def test_a_fold_that_was_stopped_anywhere_ends_as_one_that_was_not(tmp_path: Path, updates: int):
    whole = train_fold(FULL, START, make_set(), 0, make_session(tmp_path / "whole"))
    folder = tmp_path / "stopped"
    first = train_fold(FULL, START, make_set(), 0, make_session(folder, stop_after(updates)))
    assert not first.complete
    assert not (folder / "fold0" / "model.keras").exists()
    second = train_fold(FULL, START, make_set(), 0, make_session(folder))
    assert second.complete
    pairs = zip(whole.model.get_weights(), second.model.get_weights(), strict=True)
    for expected, weights in pairs:
        np.testing.assert_array_equal(weights, expected)
    rows = [pd.read_csv(one / "fold0" / "history.csv") for one in (tmp_path / "whole", folder)]
    told = ["phase", "epoch", "updates", "valid/loss", "learning_rate", "image_size"]
    pd.testing.assert_frame_equal(rows[0][told], rows[1][told], check_exact=True)
    np.testing.assert_allclose(rows[1]["train/loss"], rows[0]["train/loss"], rtol=1e-5)


@pytest.mark.either
def test_a_fold_that_was_to_end_after_each_epoch_ends_as_one_that_was_not(tmp_path: Path):
    whole = train_fold(FULL, START, make_set(), 0, make_session(tmp_path / "whole"))
    folder, times = tmp_path / "stopped", 0
    asked = [False]

    def ending() -> bool:  # at the second epoch's end of each session
        asked[0] = not asked[0]
        return not asked[0]

    trained = train_fold(FULL, START, make_set(), 0, make_session(folder, ending=ending))
    while not trained.complete:
        times += 1
        trained = train_fold(FULL, START, make_set(), 0, make_session(folder, ending=ending))
    assert times == 2
    for one, other in zip(whole.model.get_weights(), trained.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.either
def test_a_fold_that_came_to_its_end_is_not_trained_again(tmp_path: Path):
    config = replace(CONFIG, train=TrainConfig(head_epochs=0, epochs=1))
    first, second = (
        train_fold(config, START, make_set(), 0, make_session(tmp_path)).model for _ in range(2)
    )
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(pd.read_csv(tmp_path / "fold0" / "history.csv")) == 1


def fail_above(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose memory takes no more than so many images at once."""
    fit = keras.Model.fit

    def fit_if_it_fits(self: keras.Model, batches: Any, **options: Any) -> Any:
        if batches.element_spec[0].shape[0] > images:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return fit(self, batches, **options)

    monkeypatch.setattr(keras.Model, "fit", fit_if_it_fits)


def test_what_does_not_fit_goes_through_in_parts(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
):
    fail_above(4, monkeypatch)
    trained = train_fold(CONFIG, START, make_set(), 0, session)
    assert trained.parts == 4
    assert [text[:34] for text in session.report.warnings[:2]] == [
        "fold 0: 16 images at once are too ", "fold 0: 8 images at once are too m",
    ]  # fmt: skip
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["updates"].tolist() == [2, 4, 6, 8, 10]
    assert history["valid/accuracy"].iloc[-1] == 1.0


@pytest.mark.either
def test_a_device_that_takes_no_image_at_all_is_told(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    fail_above(0, monkeypatch)
    with pytest.raises(OutOfMemoryError, match="1 images at once, of 16 for an update, are too"):
        train_fold(CONFIG, START, make_set(), 0, session)


def spoil(times: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes the loss no number in the third stretch, so many times; returns the rates tried."""
    write, peaks = train_room.set_rates, list[float]()

    def write_spoiled(optimizer: Any, rates: Any) -> None:
        peaks.append(float(rates.max()))
        bad = len(peaks) >= 3 and len(peaks) < 3 + times
        write(optimizer, rates * np.nan if bad else rates)

    monkeypatch.setattr(train_room, "set_rates", write_spoiled)
    return peaks


def test_from_a_loss_that_is_no_number_a_fold_goes_back_and_on_at_half_the_rate(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
):
    config = replace(
        CONFIG,
        schedule=replace(CONFIG.schedule, name="constant", warmup=0.0),
        train=replace(CONFIG.train, checkpoint_minutes=0.0),
    )
    peaks = spoil(1, monkeypatch)
    assert train_fold(config, START, make_set(), 0, session).complete
    assert peaks == pytest.approx([0.01] * 3 + [0.005] * 3)
    (warning,) = [text for text in session.report.warnings if "no number" in text]
    assert warning.startswith("fold 0 epoch 3: the loss is no number any more; back to update 4, ")
    history = pd.read_csv(tmp_path / "fold0" / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert np.isfinite(history["valid/loss"]).all()


@pytest.mark.either
def test_after_two_lower_rates_the_last_good_weights_answer(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
):
    config = replace(CONFIG, train=replace(CONFIG.train, checkpoint_minutes=0.0))
    peaks = spoil(99, monkeypatch)
    trained = train_fold(config, START, make_set(), 0, session)
    assert trained.complete
    assert len(peaks) == 5
    assert "for the third time" in session.report.warnings[-1]
    assert all(np.isfinite(weights).all() for weights in trained.model.get_weights())
    assert len(pd.read_csv(tmp_path / "fold0" / "history.csv")) == 2


@pytest.mark.either
def test_a_disk_that_takes_no_checkpoint_costs_no_more_than_these(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keeper_room, "write_checkpoint", refuse)
    assert train_fold(CONFIG, START, make_set(), 0, session).complete
    (warning,) = [text for text in session.report.warnings if "checkpoint" in text]
    assert "No space left on device" in warning
    assert (tmp_path / "fold0" / "model.keras").is_file()


@pytest.mark.either
def test_the_second_phase_goes_on_where_the_stream_of_the_first_ended(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    starts, make = list[tuple[int, int]](), FoldData.make_batches

    def watch(self: FoldData, host: Any, parts: int, start: int) -> Any:
        starts.append((parts, start))
        return make(self, host, parts, start)

    monkeypatch.setattr(FoldData, "make_batches", watch)
    train_fold(CONFIG, START, make_set(), 0, session)
    assert starts[1:6] == [(1, 0), (1, 2), (1, 4), (1, 6), (1, 8)]  # the first measures the input
