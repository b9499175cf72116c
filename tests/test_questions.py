import json
from pathlib import Path

import numpy as np
import pytest

from podium.evidence import Comparison
from podium.questions import Option, Question, keep_questions, read_questions

GAIN = Comparison(100, 0.02, 0.01, 0.03, 0.004, adopted=True, detectable=0.02)
OPTIONS = (Option("one view", 0.9), Option("all views", 0.92, GAIN, cost=0.01, fixed=3, broken=1))
TTA = Question(
    "tta", "Is TTA worth it?", "Yes.", "accuracy", "all views", OPTIONS, "s/image", ("five views",)
)


def test_questions_are_read_as_they_were_kept(tmp_path: Path):
    other = TTA._replace(name="head", options=OPTIONS[:1], notes=())
    keep_questions(tmp_path, [TTA, other])
    assert read_questions(tmp_path) == [TTA, other]


def test_a_question_asked_again_takes_the_place_of_its_old_answer_and_others_stay(tmp_path: Path):
    keep_questions(tmp_path, [TTA, TTA._replace(name="head")])
    keep_questions(tmp_path, [TTA._replace(answer="No.")])
    assert [(one.name, one.answer) for one in read_questions(tmp_path)] == [
        ("tta", "No."),
        ("head", "Yes."),
    ]


def test_a_figure_that_is_not_known_is_null_in_the_file_and_no_number_again_when_read(
    tmp_path: Path,
):
    gain = GAIN._replace(low=np.nan)
    keep_questions(tmp_path, [TTA._replace(options=(Option("one", np.nan, gain),))])
    assert "NaN" not in (tmp_path / "decisions.json").read_text()
    (option,) = read_questions(tmp_path)[0].options
    assert option.gain is not None
    assert np.isnan([option.score, option.gain.low]).all()


def test_a_run_without_the_file_has_asked_nothing(tmp_path: Path):
    assert read_questions(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"questions": [{"name": "tta"}]}', '{"questions": 3}']
)
def test_a_file_that_is_not_podiums_is_named(content: str, tmp_path: Path):
    (tmp_path / "decisions.json").write_text(content)
    with pytest.raises(ValueError, match=r"decisions\.json does not hold questions"):
        read_questions(tmp_path)


def test_the_file_is_for_people_and_programs_too(tmp_path: Path):
    keep_questions(tmp_path, [TTA])
    (question,) = json.loads((tmp_path / "decisions.json").read_text())["questions"]
    assert question["chosen"] == "all views"
    assert question["options"][1]["gain"]["low"] == GAIN.low
