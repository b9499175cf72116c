"""Real competitions' layouts in miniature: understood, answered, and graded as they would be."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import REPLICAS, Parts, write_breasts

from podium import archives as archives_room
from podium.competition import Competition, read_competition
from podium.config import DataConfig
from podium.inputs import CompetitionError
from podium.predictions import Predictions
from podium.submit import make_submission, write_submission
from podium.validate import check_submission

Read = Callable[[str], tuple[Path, Parts, Competition]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Writes and reads a replica once; with no setting but the metric."""
    known, root = {}, tmp_path_factory.mktemp("layouts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives_room.tempfile, "tempdir", str(tmp_path_factory.mktemp("unpacked")))

        def read_replica(name: str) -> tuple[Path, Parts, Competition]:
            if name not in known:
                folder = root / name
                folder.mkdir()
                parts = REPLICAS[name].write(folder)
                config = DataConfig(folder=str(folder), metric=REPLICAS[name].metric)
                known[name] = folder, parts, read_competition(config, seed=0)
            return known[name]

        yield read_replica


def show_names(table: pd.DataFrame, competition: Competition) -> dict[str, tuple[str, ...]]:
    """What each image of a table shows, by name; a set, as lists have no order here."""
    labels = [label if isinstance(label, tuple) else (label,) for label in table["label"]]
    names = [frozenset(competition.classes[one] for one in label) for label in labels]
    return dict(zip(table["id"], names, strict=True))


def find_stem(name: str) -> str:
    """What a path, a name and an id have in common."""
    return re.sub(r"\.(jpg|png|tif)$", "", name.rpartition("/")[2])


def answer_with_truth(competition: Competition, parts: Parts) -> pd.DataFrame:
    truth = [[name in names for name in competition.classes] for names in parts.test.values()]
    ids = np.array(list(parts.test), np.str_)
    truth = np.array(truth, np.float32).reshape(len(ids), len(competition.classes))
    return make_submission(competition, Predictions(ids, truth))


@pytest.mark.parametrize("name", REPLICAS)
def test_a_real_layout_is_understood_without_a_setting_but_the_metric(name: str, read: Read):
    replica, (_, parts, competition) = REPLICAS[name], read(name)
    task = competition.task
    assert (task.answer, task.exclusive, task.metric, task.ranks) == (
        *(replica.answer, replica.exclusive, replica.metric),
        5,
    )
    assert task.classes == tuple(replica.classes)
    shown = {find_stem(one): frozenset(names) for one, names in parts.train.items()}
    found = show_names(competition.train, competition)
    assert {find_stem(one): names for one, names in found.items()} == shown
    assert competition.test["id"].tolist() == list(parts.test)
    assert competition.test["path"].notna().all()


@pytest.mark.parametrize("name", REPLICAS)
def test_groups_and_what_is_left_alone_stand_in_the_card(name: str, read: Read):
    replica, (_, _, competition) = REPLICAS[name], read(name)
    card = "\n".join(competition.notes)
    assert ("group" in competition.train) == (replica.groups is not None)
    if replica.groups:
        assert f"groups: column {replica.groups!r} of train.csv, for its name: " in card
    for line in replica.card:
        assert line in card


@pytest.mark.parametrize("name", REPLICAS)
def test_the_truth_makes_a_valid_submission_with_a_perfect_score(
    name: str, read: Read, tmp_path: Path
):
    replica, (folder, parts, competition) = REPLICAS[name], read(name)
    submission = answer_with_truth(competition, parts)
    check_submission(submission, competition)
    write_submission(submission, tmp_path / "submission.csv")
    written = pd.read_csv(tmp_path / "submission.csv")
    header = (folder / "sample_submission.csv").read_text().splitlines()[0]
    assert (tmp_path / "submission.csv").read_text().splitlines()[0] == header
    assert [str(one) for one in written.iloc[:, 0]] == list(parts.test)
    perfect = 0 if replica.metric == "log_loss" else 1
    assert replica.grade(written, parts.test) == pytest.approx(perfect, abs=1e-6)

    nothing = Predictions(
        np.array([], np.str_), np.zeros((0, len(competition.classes)), np.float32)
    )
    prior = make_submission(competition, nothing)
    write_submission(prior, tmp_path / "prior.csv")
    assert replica.grade(pd.read_csv(tmp_path / "prior.csv"), parts.test) < perfect - 0.01


@pytest.mark.parametrize("name", REPLICAS)
def test_a_solution_in_the_form_of_the_submission_is_read_as_the_truth(
    name: str, read: Read, tmp_path: Path
):
    folder, parts, competition = read(name)
    write_submission(answer_with_truth(competition, parts), tmp_path / "solution.csv")
    settings = {"metric": REPLICAS[name].metric, "solution": str(tmp_path / "solution.csv")}
    solved = read_competition(DataConfig(folder=str(folder), **settings), seed=0)
    shown = {one: frozenset(names) for one, names in parts.test.items()}
    assert show_names(solved.test, solved) == shown


LABEL_COLUMNS = {"siim-isic-melanoma-classification": "target", "hotel-id-2021-fgvc8": "hotel_id"}


@pytest.mark.parametrize("name", REPLICAS)
def test_a_part_of_the_images_rehearses_every_kind_of_answer(
    name: str, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replica, (folder, _, competition) = REPLICAS[name], read(name)
    settings = {"folder": str(folder), "metric": replica.metric}
    small = read_competition(DataConfig(**settings, limit=12, test_limit=2), seed=0)
    assert (len(small.train), small.test["path"].notna().sum()) == (12, 2)
    assert small.task == competition.task
    check_submission(answer_with_truth(small, Parts({}, {})), small)

    monkeypatch.setattr(archives_room.tempfile, "tempdir", str(tmp_path / "unpacked"))
    (tmp_path / "unpacked").mkdir()
    replica.write(tmp_path / "data")
    (tmp_path / "data" / "sample_submission.csv").unlink()
    settings |= {"folder": str(tmp_path / "data"), "answer": replica.answer, "holdout": 0.3}
    config = DataConfig(**settings, label_column=LABEL_COLUMNS.get(name))
    held = read_competition(config, seed=0)
    assert (held.task.answer, held.task.exclusive) == (replica.answer, replica.exclusive)
    assert sorted(held.classes) == sorted(competition.classes)
    assert len(held.train) + len(held.test) == 20
    truth = show_names(held.test, held)
    solved = answer_with_truth(held, Parts({}, truth))
    check_submission(solved, held)
    assert solved.iloc[:, 1:].duplicated().sum() == len(held.test) - len(set(truth.values()))


UNSURE = ("siim-isic-melanoma-classification", "histopathologic-cancer-detection")


@pytest.mark.parametrize("name", sorted(set(REPLICAS) - set(UNSURE)))
def test_without_a_metric_the_usual_one_is_taken_and_is_to_be_confirmed(name: str, read: Read):
    folder, _, competition = read(name)
    unsure = read_competition(DataConfig(folder=str(folder)), seed=0)
    assert unsure.task._replace(metric=competition.task.metric) == competition.task
    assert "the files cannot tell the metric: confirm it" in "\n".join(unsure.notes)


@pytest.mark.parametrize("name", UNSURE)
def test_zeros_for_zeros_and_ones_are_refused_without_a_metric(name: str, read: Read):
    folder, _, _ = read(name)
    with pytest.raises(CompetitionError, match="for the label, or for the probability of '1'; set"):
        read_competition(DataConfig(folder=str(folder)), seed=0)


def test_answers_for_each_breast_are_refused_as_answers_for_groups(tmp_path: Path):
    write_breasts(tmp_path)
    with pytest.raises(CompetitionError) as caught:
        read_competition(DataConfig(folder=str(tmp_path), metric="pf1"), seed=0)
    assert str(caught.value) == (
        "the sample submission asks for one answer for each prediction_id, such as '10006_L', "
        "which is no image but a patient_id and laterality of test.csv, which has 20 images of 10 "
        "such; to predict groups of images is out of Podium's scope (there are 40 .dcm files too)"
    )


def test_there_are_replicas_of_all_seventeen_layouts():
    # Two of the seventeen kinds have two competitions each; the last one is refused, above.
    assert len(REPLICAS) + 1 == 17 + 2
