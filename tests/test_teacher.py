"""A run teaches another one what it knows: dark from bright."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from small_fold import CONFIG, TASK, make_set

from podium import teacher as teacher_room
from podium.competition import Competition
from podium.duplicates import Pairs
from podium.events import Reporter
from podium.fold_data import TrainingSet
from podium.folds import write_folds
from podium.inputs import CompetitionError
from podium.learning import PseudoConfig
from podium.pixels import Images
from podium.predict import predict_probs
from podium.pseudo import Poll, PseudoError
from podium.teacher import Lesson, check_teacher, find_teacher, label_test_part, poll_fold
from podium.views import Seen, draw_view

IMAGES, VIEWS, REAL_VIEWS = 120, 3, teacher_room.VIEWS_POLLED
EASY = PseudoConfig(precision=0.8, ratio=10.0)
pytestmark = [
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:Even though the .*eagerly` option is set:UserWarning"),
]


def make_test_part(images: int = 40) -> Images:
    part = make_set(images).images
    return part._replace(table=part.table.assign(id=[f"t{row}" for row in range(images)]))


def make_model(scale: float) -> keras.Model:
    """Tells bright images from dark ones, the more surely the larger its scale."""
    pixels = keras.Input((18, 18, 3), dtype="uint8")
    light = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    head = keras.layers.Dense(2)
    model = keras.Model(pixels, head(light))
    weights = np.tile(np.array([-scale, scale], np.float32), (3, 1))
    head.set_weights([weights, -weights.sum(axis=0) * 110 / 255])
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that knows dark from bright."""
    folder, data = tmp_path_factory.mktemp("teacher"), make_set(IMAGES)
    for fold in (0, 1):
        (folder / f"fold{fold}").mkdir()
        make_model(10.0 + fold).save(folder / f"fold{fold}" / "model.keras")
    write_folds(data.images.table, data.folds, folder / "folds.csv")
    (folder / "summary.json").write_text(json.dumps({"classes": TASK.classes}))
    return folder


@pytest.fixture(autouse=True)
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_room, "VIEWS_POLLED", VIEWS)


def make_lesson(
    run: Path, folder: Path, data: TrainingSet | None = None, pairs: Pairs | None = None, **settings
) -> Lesson:
    data, test = data or make_set(IMAGES), make_test_part()
    config = replace(CONFIG, pseudo=replace(EASY, run=str(run), **settings))
    runtime: Any = SimpleNamespace(folder=folder, precision="float32", devices=("cpu",))
    sample = pd.DataFrame({"id": test.table["id"], "label": "dark"})
    competition = Competition(data.images.table, test.table, data.task, sample, ())
    return Lesson(config, runtime, competition, data, test, pairs)


def test_a_teacher_is_polled_through_enough_views_to_tell_nearly_all_from_most():
    assert REAL_VIEWS >= 12


def test_each_fold_is_polled_by_the_model_that_never_saw_it_through_the_same_views(
    trained: Path, tmp_path: Path
):
    lesson, report = make_lesson(trained, tmp_path), Reporter(tmp_path)
    for fold in (0, 1):
        found = poll_fold(lesson, fold, report)
        model = keras.models.load_model(trained / f"fold{fold}" / "model.keras")
        rows = np.flatnonzero(lesson.data.folds == fold)
        np.testing.assert_array_equal(found.truth, lesson.data.images.table["label"][rows])
        for poll, images, chosen in (
            (found.own, lesson.data.images, rows),
            (found.test, lesson.test, np.arange(40)),
        ):
            views = [Seen(images.pixels, draw_view(at, flip=False)) for at in range(VIEWS)]
            votes = np.stack([predict_probs(model, view, chosen, 16) for view in views])
            labels = votes.mean(axis=0).argmax(axis=1)
            np.testing.assert_array_equal(poll.labels, labels)
            np.testing.assert_allclose(poll.agreement, (votes.argmax(axis=2) == labels).mean(0))
            np.testing.assert_allclose(poll.confidence, votes.mean(axis=0).max(axis=1), rtol=1e-5)


def test_a_pupil_learns_the_labels_of_test_images_and_of_the_risk(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = Reporter(tmp_path)
    lesson = make_lesson(trained, tmp_path)
    data = label_test_part(lesson, report)
    labels = data.pseudo.labels
    assert labels.shape == (2, 40)
    assert (labels >= 0).mean() > 0.5
    assert ((labels < 0) | (labels == np.arange(40) % 2)).all()
    np.testing.assert_array_equal(data.folds, lesson.data.folds)
    assert any("forbid labels made by models" in warning for warning in report.warnings)
    assert "test images are labelled (dark " in capsys.readouterr().out


def test_a_run_that_goes_on_trains_on_the_labels_that_it_began_with(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lesson, report = make_lesson(trained, tmp_path), Reporter(tmp_path)
    labels = label_test_part(lesson, report).pseudo.labels
    monkeypatch.setattr(teacher_room, "poll_fold", lambda *_: 1 / 0)
    np.testing.assert_array_equal(label_test_part(lesson, report).pseudo.labels, labels)


def test_copies_and_groups_of_what_validates_a_fold_are_left_out_of_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sure = Poll(np.arange(40) % 2, np.ones(40), np.full(40, 0.99))
    polled = poll_fold(make_lesson(trained, tmp_path), 0, Reporter(tmp_path))._replace(test=sure)
    monkeypatch.setattr(teacher_room, "poll_fold", lambda *_: polled)
    pairs = Pairs(np.array([0, 2]), np.array([IMAGES + 3, IMAGES + 4]), np.ones(2, np.float32))
    data, report = make_set(IMAGES), Reporter(tmp_path)
    first, second = (int(data.folds[row]) for row in (0, 2))
    assert first != second
    given = make_lesson(trained, tmp_path / "copies", pairs=pairs)
    labels = label_test_part(given, report).pseudo.labels
    assert [labels[first, 3], labels[second, 4]] == [-1, -1]
    assert [labels[second, 3], labels[first, 4]] == [1, 0]
    assert (labels >= 0).sum() == 78

    names = np.array([f"patient {row // 4}" for row in range(IMAGES)])  # 0 and 1, 2 and 3 together
    table = data.images.table.assign(group=names)
    grouped = data._replace(
        images=data.images._replace(table=table), folds=np.arange(IMAGES) // 4 % 2
    )
    others = (
        pd.DataFrame({"patient": names}, index=table["id"].tolist()),
        pd.DataFrame(
            {"patient": ["patient 1", "patient 2"] + ["eve"] * 38},
            index=given.test.table["id"].tolist(),
        ),
    )
    lesson = make_lesson(trained, tmp_path / "groups", grouped)
    lesson = lesson._replace(competition=replace(lesson.competition, others=others))
    monkeypatch.setattr(teacher_room, "check_teacher", lambda *_: None)
    labels = label_test_part(lesson, report).pseudo.labels
    assert np.argwhere(labels < 0).tolist() == [[0, 1], [1, 0]]


def test_a_teacher_that_has_seen_what_validates_is_refused(trained: Path, tmp_path: Path):
    data = make_set(IMAGES)
    moved = data._replace(folds=np.where(np.arange(IMAGES) == 0, 1, data.folds))
    with pytest.raises(PseudoError, match=r"folds.csv deals 120 images otherwise .* its 120"):
        check_teacher(make_lesson(trained, tmp_path, moved))
    with pytest.raises(PseudoError, match=r"deals 120 images otherwise .* its 100"):
        check_teacher(make_lesson(trained, tmp_path, make_set(100)))
    check_teacher(make_lesson(trained, tmp_path))


def test_a_teacher_that_is_not_finished_is_refused(trained: Path, tmp_path: Path):
    half = shutil.copytree(trained, tmp_path / "half")
    (half / "fold1" / "model.keras").unlink()
    with pytest.raises(PseudoError, match=r"no model of fold 1; .*\(runtime.resume\)"):
        check_teacher(make_lesson(half, tmp_path))


def test_images_of_several_labels_are_refused_by_the_settings_name(trained: Path, tmp_path: Path):
    data = make_set(IMAGES)
    several = data._replace(task=data.task._replace(answer="labels", exclusive=False))
    with pytest.raises(PseudoError, match="pseudo.run is set, but .* several labels"):
        check_teacher(make_lesson(trained, tmp_path, several))


def test_the_folds_are_the_teachers(trained: Path):
    config = find_teacher(replace(CONFIG, pseudo=PseudoConfig(run=str(trained))))
    assert config.folds.file == str(trained)
    assert find_teacher(CONFIG) is CONFIG
    with pytest.raises(CompetitionError, match="pseudo.run is /no/such/run: looked under"):
        find_teacher(replace(CONFIG, pseudo=PseudoConfig(run="/no/such/run")))
