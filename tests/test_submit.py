import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks import CLASSES, make_competition, make_predictions

from podium.competition import Competition
from podium.predictions import Predictions
from podium.submit import make_submission, write_submission
from podium.task import AnswerKind
from podium.validate import SubmissionError, check_submission, class_prior

KINDS = get_args(AnswerKind)


def submit(competition: Competition, answers: list[list[float]]) -> list[str]:
    """What stands in the second column for answers to all ids of the sample."""
    ids = np.array(competition.sample.iloc[:, 0].tolist())
    predictions = Predictions(ids, np.array(answers, np.float32))
    return make_submission(competition, predictions).iloc[:, 1].tolist()


def test_the_prior_is_each_classs_share_of_the_training_images():
    np.testing.assert_allclose(class_prior(make_competition(["x"], "label")), [0.25, 0.25, 0.5])
    # Images a and b show 10; c shows 10 and NA; d shows nothing.
    np.testing.assert_allclose(class_prior(make_competition(["x"], "labels")), [0.75, 0, 0.25])


def test_labels_are_written_as_the_train_table_has_them():
    competition = make_competition(["007", "x", "y"], "label")
    assert submit(competition, np.eye(3).tolist()) == list(CLASSES)
    tied = [[0.5, 0, 0.5], [0, 0, 0], [0.4, 0.4, 0.2]]  # NA is the most frequent
    assert submit(competition, tied) == ["NA", "NA", "10"]


def test_of_several_labels_those_of_at_least_a_half_are_given_and_never_none():
    competition = make_competition(["x", "y", "z"], "labels")
    answers = [[0.1, 0.5, 0.9], [0.2, 0.1, 0.4], [0, 0, 0]]
    assert submit(competition, answers) == ["2 NA", "NA", "10"]  # decided: none; 10 is usual


def test_a_ranking_has_as_many_labels_as_are_asked_for_from_the_likeliest():
    competition = make_competition(["x", "y"], "ranking")
    assert submit(competition, [[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]) == ["2 NA", "10 2"]


def test_one_probability_is_that_of_the_last_class():
    competition = make_competition(["x"], "probability")
    assert submit(competition, [[0.25, 0.75]]) == ["0.75000000"]


@pytest.mark.parametrize(("exclusive", "cell"), [(True, "0.25000000"), (False, "0.20000000")])
def test_probabilities_sum_to_one_only_where_classes_exclude_each_other(exclusive: bool, cell: str):
    competition = make_competition(["x"], "probabilities", exclusive)
    assert submit(competition, [[0.2, 0.2, 0.4]]) == [cell]


def test_an_image_without_a_prediction_gets_the_prior():
    labels = make_submission(make_competition(["x", "y"], "label"), make_predictions(["x"], 3))
    assert labels["label"][1] == "NA"
    competition = make_competition(["x", "y"], "probabilities")
    probs = make_submission(competition, make_predictions(["x"], 3))
    assert probs.iloc[1].tolist() == ["y", "0.25000000", "0.25000000", "0.50000000"]


@given(
    st.lists(st.text("abc0.", min_size=1), min_size=1, unique=True),
    st.sampled_from(KINDS),
    st.booleans(),
    st.randoms(),
)
def test_random_probabilities_make_a_valid_submission_whatever_their_order(
    ids, kind, exclusive, random
):
    competition = make_competition(ids, kind, exclusive)
    predictions = make_predictions(ids, len(competition.classes), random.randrange(99))
    order = list(range(len(ids)))
    random.shuffle(order)
    turned = Predictions(predictions.ids[order], predictions.probs[order])
    submission = make_submission(competition, predictions)
    pd.testing.assert_frame_equal(submission, make_submission(competition, turned))
    assert submission.iloc[:, 0].tolist() == ids
    check_submission(submission, competition)


def test_the_file_is_what_kaggle_reads(tmp_path: Path):
    competition = make_competition(["007", "x"], "label")
    submission = make_submission(competition, make_predictions(["007", "x"], 3))
    write_submission(submission, tmp_path / "submission.csv")
    read = pd.read_csv(tmp_path / "submission.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(read, submission)


def test_a_full_disk_leaves_the_earlier_submission_and_says_so(tmp_path: Path):
    path = tmp_path / "submission.csv"
    competition = make_competition(["x"], "label")
    submission = make_submission(competition, make_predictions(["x"], 3))
    (tmp_path / "submission.csv.half").symlink_to("/dev/full")
    with pytest.raises(SubmissionError, match="No space left on device; there is none yet, and"):
        write_submission(submission, path)
    write_submission(submission, path)
    before = path.read_bytes()
    (tmp_path / "submission.csv.half").symlink_to("/dev/full")
    with pytest.raises(SubmissionError) as caught:
        write_submission(submission, path)
    assert re.fullmatch(
        rf"{path} \(\d+ bytes\) could not be written: No space left on device; the earlier one is "
        r"untouched, .* set runtime.folder to a larger disk",
        str(caught.value),
    )
    assert path.read_bytes() == before


def test_a_folder_that_is_none_is_an_error(tmp_path: Path):
    (tmp_path / "file").touch()
    submission = make_competition(["x"], "label").sample
    with pytest.raises(SubmissionError, match="could not be written: Not a directory"):
        write_submission(submission, tmp_path / "file" / "submission.csv")
