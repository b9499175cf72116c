from typing import get_args

import pandas as pd
import pytest

from podium.asked import ANSWERS, Asked, list_judges, read_task
from podium.config import DataConfig
from podium.inputs import CompetitionError
from podium.task import AnswerKind, MetricName, infer_metric


def ask(cells: list, labels: list, **settings: object) -> Asked:
    """What is asked by a sample with these cells in one column, beside these training labels."""
    sample = pd.DataFrame({"id": list(map(str, range(len(cells)))), " y": cells})
    return read_task(sample, labels, DataConfig(**settings))


def refusal(cells: list, labels: list, **settings: object) -> str:
    with pytest.raises(CompetitionError) as caught:
        ask(cells, labels, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cells", "labels", "answer"),
    [
        (["cat", "cat"], ["cat", "dog"], "label"),
        ([" cat"], ["cat", "dog"], "label"),
        (["Sugar beet"], ["Sugar beet", "Black-grass"], "label"),
        (["0"], ["7", "8", "9"], "label"),  # no class, and yet no probability of two
        ([""], ["cat", "dog"], "label"),
        (["2"], ["0", "1", "2"], "label"),
        (["0.5", "0.5"], ["0", "1"], "probability"),
        (["0.0", "0.25"], ["cat", "dog"], "probability"),
        (["0", "1"], ["cat", "dog"], "probability"),
        (["healthy"], ["scab", "rust", "scab rust"], "labels"),
        (["0 1 2"], ["1 2", "3", "4 5 6"], "labels"),
        (["a b", "c"], ["a", "b", "c"], "labels"),
        (["w_1 w_2 new", "w_1 w_3 new"], ["w_1", "w_2", "w_3", "new"], "ranking"),
    ],
)
def test_cells_and_training_labels_tell_the_kind_of_answer(
    cells: list, labels: list, answer: AnswerKind
):
    asked = ask(cells, labels)
    assert asked.task.answer == answer
    assert asked.task.exclusive == (answer != "labels")
    assert asked.task.metric == infer_metric(answer, exclusive=answer != "labels")


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"metric": "accuracy"}, "label"),
        ({"metric": "macro_f1"}, "label"),
        ({"metric": "auc"}, "probability"),
        ({"metric": "pf1"}, "probability"),
        ({"answer": "label"}, "label"),
        ({"answer": "probability"}, "probability"),
    ],
)
def test_zeros_and_ones_may_be_both_and_metric_or_answer_decides(
    settings: dict[str, str], answer: AnswerKind
):
    task = ask(["0", "0"], ["0", "1", "0"], **settings).task
    assert (task.answer, task.classes) == (answer, ("0", "1"))


def test_zeros_and_ones_are_refused_with_both_readings_where_nothing_decides():
    assert refusal(["0", "1"], ["0", "1"]) == (
        "column 'y' of the sample submission holds 0 or 1, as the training labels do: it may ask "
        "for the label, or for the probability of '1'; set data.metric (to one of accuracy, "
        "balanced_accuracy, macro_f1, micro_f1, qwk for the label, log_loss, auc, pf1 for the "
        "probability), or data.answer to label or probability"
    )


def test_labels_with_spaces_are_names_or_lists_as_the_setting_says():
    labels = ["scab", "rust", "scab rust", "powdery mildew"]
    assert "set data.answer to labels if" in refusal(["scab"], labels)
    assert ask(["scab"], labels, answer="label").task.classes == tuple(sorted(labels))
    lists = ask(["scab"], labels, answer="labels")
    assert lists.task.classes == ("mildew", "powdery", "rust", "scab")
    assert lists.names[2] == ("scab", "rust")


def test_a_ranking_is_as_long_as_in_the_sample_but_not_longer_than_there_are_classes():
    labels = [f"w_{row}" for row in range(4)]
    assert ask(["w_0 w_1 w_2", "w_1 w_2 w_3"], labels).task.ranks == 3
    assert ask(["a b c d e"], labels).task.ranks == 4
    assert ask(["w_0"], labels * 2, answer="ranking").task.ranks == 4
    assert ask(["w_0"], [*labels, "x", "y"], answer="ranking").task.ranks == 5
    assert "but label 'a b' has a space itself" in refusal(
        ["a b c"], ["a b", "c"], answer="ranking"
    )


def test_one_probability_asks_for_the_last_of_two_classes_unless_a_setting_turns_them():
    asked = ask(["0.5"], ["cat", "dog"])
    assert asked.task.classes == ("cat", "dog")
    probability, metric = asked.notes
    assert probability == (
        "the probability is that of 'dog', and not of 'cat'; data.positive_class cat turns it round"
    )
    assert metric == (
        "metric: auc, the usual one; the files cannot tell the metric: confirm it, or set another, "
        "with data.metric auc"
    )
    turned = ask(["0.5"], ["cat", "dog"], positive_class="cat", metric="log_loss")
    assert turned.task.classes == ("dog", "cat")
    assert turned.notes == [
        "the probability is that of 'cat', and not of 'dog'",
        "metric: log_loss",
    ]
    assert refusal(["cat"], ["cat", "dog"], positive_class="cat") == (
        "data.positive_class is 'cat', but a label is asked for and not the probability of one "
        "class"
    )


def read_columns(labels: list, **settings: object) -> Asked:
    sample = pd.DataFrame({"id": ["t"], "b": ["0.5"], " a": ["0.5"]})
    return read_task(sample, labels, DataConfig(**settings))


def test_several_columns_are_classes_which_exclude_each_other_if_no_image_shows_two():
    assert read_columns(["a", "b"]).task.classes == ("b", "a")
    assert read_columns([("a",), ("b",)]).task.exclusive
    for labels in ([("a",), ("a", "b")], [("a",), ("b",), ()], ["a", "a b"]):
        asked = read_columns(labels)
        assert (asked.task.exclusive, asked.task.metric) == (False, "auc")
    assert asked.names == [("a",), ("a", "b")]


def test_an_answer_that_the_columns_do_not_allow_is_refused():
    with pytest.raises(
        CompetitionError, match="data.answer is label, but the sample submission has"
    ):
        read_columns(["a", "b"], answer="label")
    assert "data.answer is probabilities, but" in refusal(["a"], ["a", "b"], answer="probabilities")


def test_a_metric_that_does_not_judge_such_answers_is_refused_with_those_that_do():
    assert refusal(["cat"], ["cat", "dog", "cow"], metric="auc") == (
        "data.metric is auc, but a label is asked for, which accuracy or balanced_accuracy or "
        "macro_f1 or micro_f1 or qwk can judge; see also data.answer"
    )
    assert "data.metric is qwk, which needs classes in an order" in refusal(
        ["mild"], ["mild", "severe"], metric="qwk"
    )
    assert ask(["0"], ["0", "1", "2"], metric="qwk").task.metric == "qwk"


@pytest.mark.parametrize(
    ("labels", "settings", "answer"),
    [
        (["a", "b"], {}, "label"),
        (["a", "b", "a b"], {}, "labels"),
        (["a", "b"], {"metric": "auc"}, "probability"),
        (["a", "b", "c"], {"metric": "log_loss"}, "probabilities"),
        (["a", "b", "c"], {"metric": "map"}, "ranking"),
        (["a", "b", "c"], {"answer": "ranking"}, "ranking"),
    ],
)
def test_without_a_sample_the_labels_or_the_settings_tell_the_kind(
    labels: list, settings: dict[str, str], answer: AnswerKind
):
    assert read_task(None, labels, DataConfig(**settings)).task.answer == answer


def test_settings_and_tables_know_every_metric_and_every_kind_of_answer():
    hints = DataConfig.__annotations__
    assert get_args(hints["metric"]) == ("auto", *get_args(MetricName))
    assert get_args(hints["answer"]) == ("auto", *get_args(AnswerKind))
    assert set(ANSWERS) == set(get_args(AnswerKind))
    judges = {metric for answer in ANSWERS for metric in list_judges(answer)}
    assert judges == set(get_args(MetricName))
