"""Questions: what a run was asked to show, and what the evidence said

Is TTA worth it, and which weights, which augmentation? Each question holds its options, what each
of them scores, gains and costs, and which one is used; decisions.json keeps them, and the report
shows them. The first option is the plain one, which stays unless another is shown to be better.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from podium.events import write_json
from podium.evidence import Comparison
from podium.task import MetricName

QUESTIONS_FILE = "decisions.json"


class Option(NamedTuple):
    """One way to do it: its score, and its gain over the question's first option.

    `cost` is in the question's unit, None where it costs nothing or nobody measured it. `fixed` and
    `broken` count images that only this option, or only the first, gets right.
    """

    name: str
    score: float  # the metric, on images that the option was not fitted to
    gain: Comparison | None = None  # of the first option, which has none, and of what is not tested
    cost: float | None = None
    fixed: int | None = None
    broken: int | None = None


class Question(NamedTuple):
    """One decision and its evidence, as a person would ask it."""

    name: str  # one word, under which the file keeps it
    asks: str  # "Is test-time augmentation worth it?"
    answer: str  # in words, with the figures that decide
    metric: MetricName
    chosen: str  # the name of an option
    options: tuple[Option, ...]
    unit: str = "s"  # of the costs
    notes: tuple[str, ...] = ()  # what else there is to know


def keep_questions(folder: Path, questions: Sequence[Question]) -> None:
    """Adds questions to decisions.json, or puts them in the place of those of the same name."""
    kept = {question.name: question for question in read_questions(folder)}
    kept |= {question.name: question for question in questions}
    fields = [question_fields(question) for question in kept.values()]
    write_json(folder / QUESTIONS_FILE, {"questions": fields})


def read_questions(folder: Path) -> list[Question]:
    """The questions of a run's folder; none where it has no decisions.json.

    Raises ValueError, naming the file, if it is not as `keep_questions` writes it.
    """
    path = folder / QUESTIONS_FILE
    if not path.is_file():
        return []
    try:
        held = json.loads(path.read_text(encoding="utf-8"))["questions"]
        return [read_question(fields) for fields in held]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold questions as Podium writes them: {error}"
        ) from error


def question_fields(question: Question) -> dict[str, Any]:
    """A question as JSON holds it."""
    options = [
        option._asdict() | {"gain": option.gain._asdict() if option.gain else None}
        for option in question.options
    ]
    return question._asdict() | {"options": options}


def read_question(fields: Mapping[str, Any]) -> Question:
    """A question from what JSON made of its fields."""
    options = tuple(read_option(one) for one in fields["options"])
    return Question(**{**fields, "options": options, "notes": tuple(fields["notes"])})


def read_option(fields: Mapping[str, Any]) -> Option:
    """An option from what JSON made of its fields; a figure that JSON does not know is NaN."""
    gain: Any = fields["gain"]
    if gain is not None:
        gain = Comparison(**{name: know(figure) for name, figure in gain.items()})
    return Option(**{**fields, "score": know(fields["score"]), "gain": gain})


def know(figure: Any) -> Any:
    """A figure as it was before JSON, which has no word for what is no number."""
    return np.nan if figure is None else figure
