import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from podium.competition import Competition
from podium.config import Config
from podium.decide import Decision, fit_nested, plain_rule
from podium.events import Reporter, write_json
from podium.metrics import wilson_interval
from podium.pixels import Images
from podium.predictions import Predictions, join_predictions
from podium.questions import keep_questions, read_questions
from podium.runtime import Runtime
from podium.summary import (
    ask_rule,
    find_targets,
    format_score,
    score_fields,
    score_images,
    score_single_models,
    summarise_run,
    summarise_scores,
)
from podium.task import Task

TABLE = pd.DataFrame({"id": ["a", "b", "c", "d"], "path": ["p"] * 4, "label": [0, 1, 1, 0]})
TASK = Task("label", ("x", "y"))
RULE = plain_rule(TASK)
PIXELS = np.zeros((4, 1, 1, 3), np.uint8)


def predict(ids: str, sure: list[float]) -> Predictions:
    probs = np.array([[1 - share, share] for share in sure], np.float32)
    return Predictions(np.array(list(ids)), probs)


def decide(oof: list[Predictions]) -> Decision:
    """The decision on these folds."""
    whole = join_predictions(oof)
    folds = np.repeat(np.arange(len(oof)), [len(part.ids) for part in oof])
    return fit_nested(TASK, find_targets(TASK, TABLE, whole.ids), whole.probs, folds)


def test_predictions_are_scored_by_id_whatever_their_order():
    score = score_images(TASK, RULE, TABLE, predict("dcb", [0.1, 0.9, 0.2]))
    assert (score.n, score.value) == (3, pytest.approx(2 / 3))


def test_scores_are_summed_up_out_of_fold_by_fold_and_on_a_known_test():
    images = Images(TABLE, PIXELS, ["x"])
    oof = [predict("ab", [0.1, 0.9]), predict("cd", [0.2, 0.3])]
    answers = [predict("abcd", [0.1, 0.9, 0.9, 0.1]), predict("abcd", [0.3, 0.7, 0.7, 0.3])]
    scores = summarise_scores(TASK, images, images, oof, answers, decide(oof))
    assert scores["out_of_fold"]["value"] == 0.75
    assert [fold["value"] for fold in scores["folds"]] == [1.0, 0.5]
    assert scores["test"]["value"] == 1.0
    assert scores["unreadable"] == {"training": ["x"], "test": ["x"]}


def test_single_models_are_scored_one_by_one_and_each_image_counts_once():
    right, half = predict("abcd", [0.1, 0.9, 0.9, 0.1]), predict("dcba", [0.1, 0.1, 0.9, 0.9])
    score = score_single_models(TASK, RULE, TABLE, [right, half])
    assert (score.n, score.value) == (4, 0.75)
    ends = np.mean([wilson_interval(4, 4), wilson_interval(2, 4)], axis=0)
    assert score.interval == pytest.approx(ends.tolist())


def test_a_test_part_without_truth_has_no_score():
    unknown = Images(TABLE.drop(columns="label"), PIXELS, [])
    one = [predict("abcd", [0.1] * 4)]
    scores = summarise_scores(TASK, Images(TABLE, PIXELS, []), unknown, one, one, decide(one))
    assert scores["test"] is None
    assert scores["test_single"] is None


def test_the_run_is_summed_up_with_its_machine_and_warnings(tmp_path: Path):
    sample = pd.DataFrame({"id": ["t"], "label": ["x"]})
    test = pd.DataFrame({"id": ["t"], "path": [None]})
    competition = Competition(TABLE, test, TASK, sample, ())
    runtime = Runtime("cpu", "jax", ("a", "b"), "float32", tmp_path, time.time() - 5, time.time())
    report = Reporter(tmp_path)
    report.warn("look here")
    summary = summarise_run(Config(), runtime, competition, report, "complete")
    assert summary["run"]["devices"] == 2
    assert summary["counts"] == {"train": 4, "test": 1, "classes": 2, "folds": 5}
    assert summary["seconds"]["total"] == pytest.approx(5, abs=2)
    assert summary["warnings"] == ["look here"]


def test_a_score_reads_as_one_line_and_as_json():
    score = score_images(TASK, RULE, TABLE, predict("abcd", [0.1, 0.9, 0.9, 0.1]))
    assert (
        format_score(score_fields(score))
        == "accuracy 1.0000 (95 %: 0.5101 to 1.0000), log loss 0.1054"
    )
    assert json.loads(json.dumps(score_fields(score)))["n"] == 4


def test_json_is_strict(tmp_path: Path):
    write_json(tmp_path / "summary.json", {"loss": float("nan"), "n": np.int64(3)})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"loss": None, "n": 3}


def decide_grades(seed: int, shrunk: float) -> tuple[Task, Decision]:
    """Grades of which a model foretells so much, and the decision between rules for them."""
    dice = np.random.default_rng(seed)
    grades = dice.integers(0, 5, 600)
    seen = grades * shrunk + 2 * (1 - shrunk) + dice.normal(0, 0.4, 600)
    odds = np.exp(-2 * (np.arange(5) - seen[:, None]) ** 2)
    probs = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    task = Task("label", tuple("abcde"), metric="qwk")
    return task, fit_nested(task, np.eye(5, dtype=np.uint8)[grades], probs, np.arange(600) % 5)


def test_a_rule_that_is_adopted_is_a_question_with_its_evidence(tmp_path: Path):
    task, decision = decide_grades(0, 0.5)
    question = ask_rule(task, decision)
    plain, fitted = question.options
    assert question.chosen == fitted.name == "fitted rule"
    assert (plain.score, fitted.score) == (decision.plain, decision.nested)
    assert (plain.gain, fitted.gain) == (None, decision.comparison)
    assert (fitted.fixed, fitted.broken) == decision.flips
    assert f"{decision.plain:.4f} became {decision.nested:.4f}" in question.answer
    assert question.notes == (
        f"In use: cuts ({', '.join(f'{v:.4g}' for v in decision.rule.values)})",
    )
    keep_questions(tmp_path, [question])
    assert read_questions(tmp_path) == [question]


def test_a_rule_that_is_not_shown_to_help_is_said_to_be_so_with_what_would_have_been():
    task, decision = decide_grades(0, 1.0)
    question = ask_rule(task, decision)
    assert question.chosen == question.options[0].name == "plain rule"
    assert len(question.options) == 2
    assert f"where {decision.comparison.detectable:.4f} would be shown" in question.answer
    assert question.notes == ("In use: argmax",)


def test_where_no_rule_answers_otherwise_there_is_one_option():
    question = ask_rule(TASK, decide([predict("ab", [0.1, 0.9]), predict("cd", [0.2, 0.3])]))
    assert [option.name for option in question.options] == [question.chosen] == ["plain rule"]
    assert "none that was fitted to accuracy answers otherwise" in question.answer
