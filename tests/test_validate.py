import numpy as np
import pandas as pd
import pytest
from tasks import make_competition, make_predictions

from podium.competition import Competition
from podium.predictions import Predictions
from podium.submit import make_submission
from podium.validate import SubmissionError, check_submission, warn_of_shift


def make_good(kind: str, exclusive: bool = True) -> tuple[Competition, pd.DataFrame]:
    """A competition of two test images, and a valid submission."""
    competition = make_competition(["x", "y"], kind, exclusive)
    predictions = make_predictions(["x", "y"], len(competition.classes))
    return competition, make_submission(competition, predictions)


def refusal(submission: pd.DataFrame, competition: Competition) -> str:
    with pytest.raises(SubmissionError) as caught:
        check_submission(submission, competition)
    return str(caught.value)


def test_what_does_not_fit_the_sample_is_refused_by_column_row_and_id():
    competition, good = make_good("label")
    assert check_submission(good, competition) == []
    renamed = good.rename(columns={"label": "Label"})
    assert refusal(renamed, competition) == (
        "the columns are id, Label, but the sample's are id, label"
    )
    assert refusal(good[:1], competition) == "there are 1 rows, but 2 in the sample"
    swapped = good.assign(id=["y", "x"])
    assert refusal(swapped, competition) == "row 0 has id 'y', but 'x' in the sample"
    unknown = good.assign(label=["2", "cow"])
    assert refusal(unknown, competition) == "id 'y' has label 'cow', which is no training label"


@pytest.mark.parametrize("kind", ["probability", "probabilities"])
@pytest.mark.parametrize("cell", ["nan", "", "-0.1", "1.5", "inf", "much"])
def test_what_is_no_probability_is_refused(cell: str, kind: str):
    competition, submission = make_good(kind)
    name = submission.columns[1]
    submission.loc[1, name] = cell
    assert refusal(submission, competition) == f"id 'y' has {cell!r} in {name!r}: no probability"


def test_probabilities_that_do_not_sum_to_one_are_refused_where_classes_exclude_each_other():
    submission = make_competition(["x", "y"], "probabilities").sample.assign(**{"2": "0.9"})
    message = "the probabilities of id 'x' sum to 0.9000"
    assert refusal(submission, make_competition(["x", "y"], "probabilities")) == message
    check_submission(submission, make_competition(["x", "y"], "probabilities", exclusive=False))


@pytest.mark.parametrize(
    ("kind", "cell", "reason"),
    [
        ("labels", "2 cow", "id 'y' has label 'cow', which is no training label"),
        ("labels", "2 2", "id 'y' has a label twice: '2 2'"),
        ("labels", "", "id 'y' has 0 labels and not at least 1"),
        ("label", "", "id 'y' has label '', which is no training label"),
        ("ranking", "2 NA 10", "id 'y' has 3 labels and not 2"),
        ("ranking", "2", "id 'y' has 1 labels and not 2"),
        ("ranking", "2 2", "id 'y' has a label twice: '2 2'"),
    ],
)
def test_a_cell_that_is_no_answer_of_the_kind_that_is_asked_for_is_refused(
    kind: str, cell: str, reason: str
):
    competition, submission = make_good(kind)
    submission.loc[1, "label"] = cell
    assert refusal(submission, competition) == reason


def make_constant(kind: str, rows: int, answer: list[float]) -> list[str]:
    """The warnings of a submission that answers every image alike."""
    competition = make_competition([str(row) for row in range(rows)], kind)
    ids = np.array(competition.sample["id"].tolist())
    answers = np.tile(np.array(answer, np.float32), (rows, 1))
    submission = make_submission(competition, Predictions(ids, answers))
    return check_submission(submission, competition)


@pytest.mark.parametrize("kind", ["label", "labels", "ranking", "probabilities"])
def test_the_same_answer_for_all_images_is_warned_of(kind: str):
    assert make_constant(kind, 30, [0.7, 0.2, 0.1]) == [
        "all 30 predicted answers are the same, '10' first: look at the curves"
    ]


def test_the_same_answer_for_all_images_may_be_chance():
    # The most frequent class is that of half the images: as many as 10 show it once in 1024 times.
    assert make_constant("label", 9, [0, 0, 1]) == []
    assert make_constant("label", 10, [0, 0, 1]) != []
    assert make_constant("probability", 20, [0.9, 0.1]) == []  # three quarters are of one class


def test_images_that_get_the_prior_are_no_reason_for_a_warning():
    competition = make_competition([str(row) for row in range(30)], "label")
    competition.test["path"] = None
    nothing = Predictions(np.array([], np.str_), np.zeros((0, 3), np.float32))
    assert check_submission(make_submission(competition, nothing), competition) == []


def shifted(counts: list[int], expected: list[int], kind: str = "label") -> list[str]:
    """The warnings for answers of which so many are each class, against those out of fold."""
    given, out_of_fold = (
        np.eye(3, dtype=np.float32)[np.repeat(range(3), part)] for part in (counts, expected)
    )
    return warn_of_shift(given, out_of_fold, make_competition(["x"], kind).task)


def test_predicted_classes_that_differ_from_those_out_of_fold_are_warned_of():
    assert shifted([20, 40, 40], [300, 350, 350]) == []  # a tenth apart, as chance may make it
    assert shifted([2900, 3500, 3600], [3300, 3350, 3350]) == []  # sure, and yet no tenth
    (warning,) = shifted([100, 450, 450], [330, 335, 335])
    assert warning.startswith(
        "the predicted classes of test and out-of-fold images differ: their shares are 23% apart "
        "(chi-square, p = "
    )


def test_the_shift_of_several_labels_counts_each_of_them():
    wide = np.tile(np.array([[0.9, 0.8, 0.1]], np.float32), (200, 1))
    narrow = np.tile(np.array([[0.9, 0.1, 0.1]], np.float32), (200, 1))
    task = make_competition(["x"], "labels").task
    assert len(warn_of_shift(narrow, wide, task)) == 1
    assert warn_of_shift(wide, wide, task) == []


@pytest.mark.parametrize("kind", ["label", "labels", "probability", "probabilities", "ranking"])
def test_answers_are_read_back_from_the_submission_for_the_shift(kind: str):
    ids = [str(row) for row in range(200)]
    competition = make_competition(ids, kind)
    classes = len(competition.classes)
    answers = np.eye(classes, dtype=np.float32)[np.arange(200) % classes]
    submission = make_submission(competition, Predictions(np.array(ids), answers))
    assert check_submission(submission, competition, answers) == []
    turned = np.eye(classes, dtype=np.float32)[np.full(200, classes - 1)]
    assert "differ: their shares are" in check_submission(submission, competition, turned)[0]
