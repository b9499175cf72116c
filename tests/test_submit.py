import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.competition import Competition
from podium.predictions import Predictions
from podium.submit import (
    SubmissionError,
    check_submission,
    class_prior,
    make_submission,
    write_submission,
)

CLASSES = ("10", "2", "NA")


def make_competition(ids: list[str], kind: str) -> Competition:
    columns = ["label"] if kind == "label" else list(CLASSES)
    sample = pd.DataFrame({"id": ids} | dict.fromkeys(columns, "0"))
    train = pd.DataFrame({"id": list("abcd"), "path": list("abcd"), "label": [2, 2, 0, 1]})
    test = pd.DataFrame({"id": ids, "path": ids})
    return Competition(train, test, CLASSES, sample, kind, ())


def make_predictions(ids: list[str], seed: int = 0) -> Predictions:
    probs = np.random.default_rng(seed).dirichlet(np.ones(3), len(ids)).astype(np.float32)
    return Predictions(np.array(ids, np.str_), probs)


def test_the_prior_is_each_classs_share_of_the_training_images():
    np.testing.assert_allclose(class_prior(make_competition(["x"], "label")), [0.25, 0.25, 0.5])


def test_labels_are_written_as_the_train_table_has_them():
    competition = make_competition(["007", "x", "y"], "label")
    probs = np.eye(3, dtype=np.float32)
    submission = make_submission(competition, Predictions(np.array(["007", "x", "y"]), probs))
    assert submission.to_dict("list") == {"id": ["007", "x", "y"], "label": list(CLASSES)}


def test_an_image_without_a_prediction_gets_the_prior():
    labels = make_submission(make_competition(["x", "y"], "label"), make_predictions(["x"]))
    assert labels["label"][1] == "NA"
    probs = make_submission(make_competition(["x", "y"], "probabilities"), make_predictions(["x"]))
    assert probs.iloc[1].tolist() == ["y", "0.25000000", "0.25000000", "0.50000000"]


@given(
    st.lists(st.text("abc0.", min_size=1), min_size=1, unique=True),
    st.sampled_from(["label", "probabilities"]),
    st.randoms(),
)
def test_rows_follow_the_sample_whatever_the_order_of_predictions(ids, kind, random):
    competition, predictions = make_competition(ids, kind), make_predictions(ids)
    order = list(range(len(ids)))
    random.shuffle(order)
    turned = Predictions(predictions.ids[order], predictions.probs[order])
    submission = make_submission(competition, predictions)
    pd.testing.assert_frame_equal(submission, make_submission(competition, turned))
    assert submission["id"].tolist() == ids
    check_submission(submission, competition)


def refusal(submission: pd.DataFrame, kind: str) -> str:
    with pytest.raises(SubmissionError) as caught:
        check_submission(submission, make_competition(["x", "y"], kind))
    return str(caught.value)


def test_what_does_not_fit_the_sample_is_refused_by_column_row_and_id():
    good = make_submission(make_competition(["x", "y"], "label"), make_predictions(["x", "y"]))
    check_submission(good, make_competition(["x", "y"], "label"))
    renamed = good.rename(columns={"label": "Label"})
    assert refusal(renamed, "label") == "the columns are id, Label, but the sample's are id, label"
    assert refusal(good[:1], "label") == "there are 1 rows, but 2 in the sample"
    swapped = good.assign(id=["y", "x"])
    assert refusal(swapped, "label") == "row 0 has id 'y', but 'x' in the sample"
    unknown = good.assign(label=["2", "cow"])
    assert refusal(unknown, "label") == "id 'y' has label 'cow', which is no training label"


@pytest.mark.parametrize("cell", ["nan", "", "-0.1", "1.5", "inf", "much"])
def test_what_is_no_probability_is_refused(cell: str):
    competition = make_competition(["x", "y"], "probabilities")
    submission = make_submission(competition, make_predictions(["x", "y"]))
    submission.loc[1, "2"] = cell
    assert refusal(submission, "probabilities") == f"id 'y' has {cell!r} in '2': no probability"


def test_probabilities_that_do_not_sum_to_one_are_refused():
    submission = make_competition(["x", "y"], "probabilities").sample.assign(**{"2": "0.9"})
    message = "the probabilities of id 'x' sum to 0.9000"
    assert refusal(submission, "probabilities") == message


def test_the_file_is_what_kaggle_reads(tmp_path: Path):
    competition = make_competition(["007", "x"], "label")
    submission = make_submission(competition, make_predictions(["007", "x"]))
    write_submission(submission, tmp_path / "submission.csv")
    read = pd.read_csv(tmp_path / "submission.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(read, submission)


def test_a_full_disk_leaves_the_earlier_submission_and_says_so(tmp_path: Path):
    path = tmp_path / "submission.csv"
    competition = make_competition(["x"], "label")
    submission = make_submission(competition, make_predictions(["x"]))
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
