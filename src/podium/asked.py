"""Asked: what the sample submission wants to know of each image

Several columns are classes with their probabilities. What one column holds is told by its cells
beside the training labels; where both readings of a cell are sound, metric or answer must be set.
The metric itself stands in no file: the usual one is taken, with a request to confirm it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from podium.classes import Names, are_lists, is_whole, list_classes, put_positive_last, split_names
from podium.config import DataConfig
from podium.inputs import CompetitionError
from podium.metrics import METRICS
from podium.tables import list_asked
from podium.task import AnswerKind, MetricName, Task, infer_metric

ANSWERS: dict[AnswerKind, str] = {
    "label": "a label",
    "labels": "a list of labels",
    "probability": "one probability",
    "probabilities": "a probability of each class",
    "ranking": "a list of the likeliest labels",
}
RANKS = 5  # in a ranking whose sample does not tell


class Asked(NamedTuple):
    """The task, the classes that each training image shows, and how that was understood."""

    task: Task
    names: list[Names]  # [N]
    notes: list[str]


def read_task(
    sample: pd.DataFrame | None, cells: Sequence[str | Names], config: DataConfig
) -> Asked:
    """Understands what is asked from the sample and the training labels.

    Raises CompetitionError, naming the setting that decides, for what can be read in two ways.
    """
    columns = list_asked(sample)
    answer = read_answer(sample, cells, config)
    names = [split_names(cell, answer, columns) for cell in cells]
    present = {name for one in names for name in one}
    classes = list_classes(present, columns if answer == "probabilities" else [], len(cells))
    if answer == "probability":
        classes = put_positive_last(classes, config)
    elif config.positive_class is not None:
        raise CompetitionError(
            f"data.positive_class is {config.positive_class!r}, but {ANSWERS[answer]} is asked for "
            f"and not the probability of one class"
        )
    exclusive = answer != "labels" and all(len(one) == 1 for one in names)
    metric = infer_metric(answer, exclusive) if config.metric == "auto" else config.metric
    check_metric(metric, answer, classes)
    spaced = [name for name in classes if " " in name]
    if answer == "ranking" and spaced:
        raise CompetitionError(
            f"a list of labels is asked for, with spaces between them, but label {spaced[0]!r} has "
            f"a space itself; see data.label_column and data.answer"
        )
    ranks = min(count_ranks(sample), len(classes)) if answer == "ranking" else RANKS
    task = Task(answer, tuple(classes), exclusive, metric, ranks)
    return Asked(task, names, describe_task(task, config))


def read_answer(
    sample: pd.DataFrame | None, cells: Sequence[str | Names], config: DataConfig
) -> AnswerKind:
    """The kind of answer: of the settings, if the columns allow it, else as the sample tells."""
    columns = list_asked(sample)
    if config.answer != "auto":
        if columns and (config.answer == "probabilities") != (len(columns) > 1):
            raise CompetitionError(
                f"data.answer is {config.answer}, but the sample submission has {len(columns)} "
                f"columns beside the ids ({', '.join(columns[:5])}): probabilities have a column "
                f"for each class, the others have one"
            )
        return config.answer
    if len(columns) > 1:
        return "probabilities"
    labels = {cell for cell in cells if isinstance(cell, str)}
    if sample is None:
        return choose_answer(labels, config)
    return read_one_column(sample.iloc[:, 1].str.strip().tolist(), labels, columns[0], config)


def choose_answer(labels: set[str], config: DataConfig) -> AnswerKind:
    """Without a sample submission: what the metric judges, else the labels themselves.

    There are none as text where each class has a column.
    """
    if not labels:
        return "probabilities"
    if are_lists(labels):
        return "labels"
    judged = [answer for answer in ANSWERS if config.metric in list_judges(answer)]
    if "probability" in judged and len(labels) > 2:
        return "probabilities"
    return judged[0] if judged else "label"


def read_one_column(
    texts: Sequence[str], labels: set[str], column: str, config: DataConfig
) -> AnswerKind:
    """The kind of answer that one column of cells holds, beside the training labels."""
    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
    known = set(texts) <= labels
    if numbers.notna().all() and (numbers % 1 != 0).any() and not known:
        return "probability"
    if are_lists(labels):
        return "labels"
    counts = {len(text.split()) for text in texts}
    if max(counts) > 1 and not known:
        return "ranking" if len(counts) == 1 else "labels"
    if len(labels) == 2 and set(texts) <= {"0", "1", ""}:
        return choose_binary(labels, column, known or set(texts) == {""}, config)
    return "label"


def choose_binary(
    labels: set[str], column: str, could_be_label: bool, config: DataConfig
) -> AnswerKind:
    """Zeros and ones are a class or its probability: the metric decides, or it is refused."""
    if not could_be_label:
        return "probability"
    for answer in ("label", "probability"):
        if config.metric in list_judges(answer):
            return answer
    if not labels <= {"0", "1"}:
        return "label"
    raise CompetitionError(
        f"column {column!r} of the sample submission holds 0 or 1, as the training labels do: it "
        f"may ask for the label, or for the probability of '1'; set data.metric (to one of "
        f"{', '.join(list_judges('label'))} for the label, "
        f"{', '.join(list_judges('probability'))} for the probability), or data.answer to label or "
        f"probability"
    )


def list_judges(answer: AnswerKind) -> list[MetricName]:
    """The metrics that judge such answers."""
    return [name for name, metric in METRICS.items() if answer in metric.fits]


def check_metric(metric: MetricName, answer: AnswerKind, classes: Sequence[str]) -> None:
    """Raises CompetitionError if the metric does not judge such answers."""
    if metric not in list_judges(answer):
        raise CompetitionError(
            f"data.metric is {metric}, but {ANSWERS[answer]} is asked for, which "
            f"{' or '.join(list_judges(answer))} can judge; see also data.answer"
        )
    if metric == "qwk" and not all(map(is_whole, classes)):
        raise CompetitionError(
            f"data.metric is qwk, which needs classes in an order, as whole numbers are, and not "
            f"{', '.join(classes[:5])}…; see data.label_column"
        )


def count_ranks(sample: pd.DataFrame | None) -> int:
    """How many classes a cell of the sample lists, where all list as many; else the usual five."""
    counts = set() if sample is None else {len(text.split()) for text in sample.iloc[:, 1]}
    return max(counts) if len(counts) == 1 and max(counts) > 1 else RANKS


def describe_task(task: Task, config: DataConfig) -> list[str]:
    """What was understood of answers and metric, a line each."""
    notes = []
    if task.answer == "probability":
        first, last = task.classes
        turn = "" if config.positive_class else f"; data.positive_class {first} turns it round"
        notes.append(f"the probability is that of {last!r}, and not of {first!r}{turn}")
    elif task.answer == "ranking":
        notes.append(f"a list has {task.ranks} labels, the likeliest first")
    elif not task.exclusive:
        notes.append("an image may show several classes, or none: each is learned by itself")
    elif task.answer == "probabilities":
        notes.append("an image shows one class: its probabilities sum to one")
    guess = (
        ""
        if config.metric != "auto"
        else (
            ", the usual one; the files cannot tell the metric: confirm it, or set another, with "
            f"data.metric {task.metric}"
        )
    )
    return [*notes, f"metric: {task.metric}{guess}"]
