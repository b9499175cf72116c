"""Summary: the run in figures

summary.json is for programs: what was found, what was reached, how long it took and with what.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.competition import Competition
from podium.config import Config
from podium.decide import Decision, fit_nested
from podium.events import Reporter
from podium.metrics import METRICS, Score, score_predictions
from podium.pixels import Images
from podium.predictions import Predictions, average_predictions, join_predictions
from podium.questions import Option, Question
from podium.rules import Rule, apply_rule
from podium.runtime import Runtime, read_versions
from podium.settings import SOURCE
from podium.task import Task, encode_targets

VALUES_SHOWN = 12  # of a rule


def find_targets(task: Task, table: pd.DataFrame, ids: NDArray[np.str_]) -> NDArray[np.uint8]:
    """The truth of some ids of a labelled table: [len(ids), C]."""
    labels = table.set_index("id")["label"].loc[ids.tolist()]
    return encode_targets(labels.to_numpy(), len(task.classes))


def score_images(task: Task, rule: Rule, table: pd.DataFrame, predictions: Predictions) -> Score:
    """Scores predictions, decided by a rule, against the labels of a table that holds their ids."""
    targets = find_targets(task, table, predictions.ids)
    answers = apply_rule(rule, predictions.probs)
    return score_predictions(task, targets, answers, predictions.probs)


def score_single_models(
    task: Task, rule: Rule, table: pd.DataFrame, answers: Sequence[Predictions]
) -> Score:
    """The mean score of each member by itself on one table: what out-of-fold figures foretell.

    The interval is the mean of the members' own: they answer the same images, which are no more
    for being answered several times.
    """
    scores = [score_images(task, rule, table, member) for member in answers]
    low, high = np.mean([score.interval for score in scores], axis=0).tolist()
    value = float(np.mean([score.value for score in scores]))
    loss = float(np.mean([score.log_loss for score in scores]))
    return scores[0]._replace(value=value, interval=(low, high), log_loss=loss)


def score_fields(score: Score) -> dict[str, Any]:
    """A score as JSON holds it."""
    return {**score._asdict(), "interval": list(score.interval)}


def format_score(score: Mapping[str, Any]) -> str:
    """A score's fields as a line of the log shows them."""
    low, high = score["interval"]
    sure = f"{score['value']:.4f} (95 %: {low:.4f} to {high:.4f})"
    also = "" if score["metric"] == "log_loss" else f", log loss {score['log_loss']:.4f}"
    return f"{METRICS[score['metric']].title} {sure}{also}"


def summarise_run(
    config: Config, runtime: Runtime, competition: Competition, report: Reporter, state: str
) -> dict[str, Any]:
    """What summary.json says of the run itself; its state is "running" or "complete"."""
    return {
        "run": {
            "state": state,
            "backend": runtime.backend,
            "accelerator": runtime.accelerator,
            "devices": len(runtime.devices),
            "source": SOURCE,
            "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(runtime.started)),
            "versions": read_versions(),
        },
        "metric": competition.task.metric,
        "answer": competition.task.answer,
        "classes": list(competition.classes),
        "counts": {
            "train": len(competition.train),
            "test": len(competition.test),
            "classes": len(competition.classes),
            "folds": config.folds.count,
        },
        "seconds": {"total": round(time.time() - runtime.started, 1)},
        "warnings": report.warnings,
    }


def decide_answers(task: Task, table: pd.DataFrame, oof: Sequence[Predictions]) -> Decision:
    """Decides the folds so far, laid end to end, each by a rule that was fitted without it."""
    whole = join_predictions(oof)
    folds = np.repeat(np.arange(len(oof)), [len(part.ids) for part in oof])
    return fit_nested(task, find_targets(task, table, whole.ids), whole.probs, folds)


def describe_decision(task: Task, decision: Decision) -> str:
    """What the evidence says of a fitted rule, in words."""
    evidence = decision.comparison
    return (
        f"{METRICS[task.metric].title} {decision.plain:.4f} by the plain rule, "
        f"{decision.nested:.4f} by rules fitted on the other folds: gain "
        f"{evidence.difference:+.4f}, one-sided 95 % bound {evidence.low:+.4f}, p "
        f"{evidence.p:.3g}; the {'fitted' if evidence.adopted else 'plain'} rule is used"
    )


def ask_rule(task: Task, decision: Decision) -> Question:
    """The decision as a question; it has one option where fitted rules answer as the plain one."""
    gain, rule = decision.comparison, decision.rule
    options = [Option("plain rule", decision.plain)]
    if gain.detectable > 0:
        options += [Option("fitted rule", decision.nested, gain, None, *decision.flips)]
    values = ", ".join(f"{value:.4g}" for value in rule.values[:VALUES_SHOWN])
    return Question(
        "answers",
        "How do probabilities become answers?",
        answer_rule(METRICS[task.metric].title, decision),
        task.metric,
        options[gain.adopted].name,
        tuple(options),
        notes=(f"In use: {rule.kind}" + (f" ({values})" if values else ""),),
    )


def answer_rule(metric: str, decision: Decision) -> str:
    """What the evidence says of a fitted rule, to a person."""
    gain = decision.comparison
    if gain.adopted:
        return (
            f"By a rule that was fitted to {metric}: on folds that it had not seen, "
            f"{decision.plain:.4f} became {decision.nested:.4f}."
        )
    if not gain.detectable > 0:
        return f"By the plain rule: none that was fitted to {metric} answers otherwise."
    return (
        f"By the plain rule: fitted ones are not shown to gain {metric} on folds that they had not "
        f"seen, where {gain.detectable:.4f} would be shown four times in five."
    )


def decision_fields(task: Task, decision: Decision) -> dict[str, Any]:
    """A decision as JSON holds it, without its answers."""
    words = describe_decision(task, decision)
    scores = {"words": words, "plain": decision.plain, "nested": decision.nested}
    return {"rule": decision.rule._asdict(), **scores, **decision.comparison._asdict()}


def summarise_scores(
    task: Task,
    train: Images,
    test: Images,
    oof: Sequence[Predictions],
    answers: Sequence[Predictions],
    decision: Decision,
) -> dict[str, Any]:
    """What summary.json says of the metric, out of fold and, where the truth is known, on test.

    Out of fold, an image is decided by a rule that was fitted without its fold. "test" is the
    average of all folds' models, which is submitted; "test_single" their mean score.
    """
    known, rule = "label" in test.table, decision.rule
    blended = average_predictions(answers)
    ends = np.cumsum([0, *(len(part.ids) for part in oof)])
    folds = [
        score_predictions(
            task,
            find_targets(task, train.table, part.ids),
            decision.answers[start:end],
            part.probs,
        )
        for part, start, end in zip(oof, ends, ends[1:], strict=False)
    ]
    whole = join_predictions(oof)
    targets = find_targets(task, train.table, whole.ids)
    score = score_predictions(task, targets, decision.answers, whole.probs)
    single = score_single_models(task, rule, test.table, answers) if known else None
    return {
        "out_of_fold": score_fields(score),
        "decision": decision_fields(task, decision),
        "test": score_fields(score_images(task, rule, test.table, blended)) if known else None,
        "test_single": score_fields(single) if single else None,
        "folds": [{"fold": fold, **score_fields(score)} for fold, score in enumerate(folds)],
        "unreadable": {"training": train.unreadable, "test": test.unreadable},
    }
