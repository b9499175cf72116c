"""How far a run is: what its card on the live page shows, folded from its events.

What podium.card knows of a run for the phone is taken from there; this adds what a page has room
for: the best epoch of all folds, the plan's verdict, and whether the machine still has room.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any, NamedTuple

from podium.budget import format_hours
from podium.card import Card, clean_text, update_card

LOWER_IS_BETTER = ("log_loss", "loss")  # of podium.metrics.METRICS, and of a run without a metric
FIGURES = ("valid/metric", "valid/accuracy", "valid/loss", "train/accuracy", "train/loss")
NUMBERS = (*FIGURES, "images_per_second", "seconds")
PULSE = ("memory_free", "disk_free", "deliveries")  # of a heartbeat, what is kept
SPARKS = 60  # values of the small curve on a card
OVER = ("finished", "failed", "stopped")  # states in which nothing more is to come


class Place(NamedTuple):
    """How far the events of a run are folded: the row of the session, and the seq in it."""

    session: int = 0
    seq: int = 0


class Best(NamedTuple):
    """The most extreme value of all epochs, and where it was."""

    value: float
    epoch: int
    fold: int


@dataclass(frozen=True)
class Progress:
    """What is known of a run from its events so far."""

    place: Place = field(default_factory=Place)
    card: Card = field(default_factory=Card)
    name: str = ""  # of the run folder
    metric: str = ""  # the competition's, once it is told
    figure: str = ""  # the column that "value" is read from
    value: float | None = None
    highest: Best | None = None
    lowest: Best | None = None
    sparks: tuple[float, ...] = ()
    stride: int = 1  # epochs of which one is kept in sparks
    passed: int = 0  # epochs with a value since one was kept
    epochs: dict[str, float] = field(default_factory=dict)  # fold → share of its epochs, 0 to 1
    scores: dict[str, float | None] = field(default_factory=dict)  # fold → its score
    result: dict[str, Any] | None = None
    started: float = 0.0  # of the first session
    told: float = 0.0
    eta: float | None = None  # when what is planned will be trained
    verdict: str = ""
    words: str = ""  # of the verdict
    plan: str = ""  # in the run's own words
    pulse: dict[str, Any] = field(default_factory=dict)  # the last heartbeat


def advance(progress: Progress, event: Mapping[str, Any]) -> Progress:
    """The progress after an event; what cannot be read of one is passed over, as on the card."""
    readers = {
        "run_started": read_start,
        "epoch_ended": read_epoch,
        "fold_ended": read_fold,
        "plan_made": read_plan,
        "heartbeat": read_pulse,
        "run_finished": read_finish,
    }
    if event["event"] == "epoch_ended":  # the card compares figures, and these may be anything
        event = {**event, **{name: read_number(event.get(name)) for name in NUMBERS}}
    card, _ = update_card(progress.card, event)
    told = max(progress.told, float(event["time"]))
    read, changes = readers.get(event["event"]), dict[str, Any]()
    try:
        changes = read(progress, event) if read else {}
    except Exception:  # a later version may write anything; the events after it are shown
        changes = {}
    return replace(progress, card=card, told=told, started=progress.started or told, **changes)


def read_start(progress: Progress, event: Mapping[str, Any]) -> dict[str, Any]:
    """A session: what an earlier one had trained is still there."""
    settings = event.get("settings") or {}
    name = str(event.get("folder") or "") or progress.name
    told = str(settings.get("data.metric") or "auto")
    metric = progress.metric if told == "auto" else told
    return {"name": name, "metric": metric, "eta": None, "verdict": "", "words": ""}


def read_epoch(progress: Progress, event: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's figures: the value, whether it is the best, and the small curve."""
    fold, epoch = int(event["fold"]), int(event["epoch"])
    changes: dict[str, Any] = {"metric": told_metric(progress, event)}
    if total := progress.card.epochs or int(event.get("epochs") or 0):
        changes["epochs"] = progress.epochs | {str(fold): min(1.0, epoch / total)}
    figure = choose_figure(progress.figure, event)
    if figure != progress.figure:  # what came before was another figure
        changes["figure"] = figure
        progress = replace(progress, highest=None, lowest=None, sparks=())
    value = read_number(event.get(figure))
    return changes if value is None else changes | note_value(progress, Best(value, epoch, fold))


def told_metric(progress: Progress, event: Mapping[str, Any]) -> str:
    """The competition's metric, as the event names it or as it was known before."""
    return str(event.get("metric") or "") or progress.metric


def choose_figure(before: str, event: Mapping[str, Any]) -> str:
    """The column that "value" is read from: never one that says less than the one before."""
    for figure in FIGURES:
        if figure == before or read_number(event.get(figure)) is not None:
            return figure
    return ""


def note_value(progress: Progress, new: Best) -> dict[str, Any]:
    """What the value of one more epoch changes; of a long curve each second one is dropped."""
    high, low = progress.highest, progress.lowest
    sparks, stride, passed = progress.sparks, progress.stride, progress.passed + 1
    if passed >= stride or not sparks:
        sparks, passed = (*sparks, new.value), 0
    if len(sparks) > SPARKS:
        sparks, stride = sparks[::2], 2 * stride
    return {
        "value": new.value,
        "highest": new if high is None or new.value > high.value else high,
        "lowest": new if low is None or new.value < low.value else low,
        "sparks": sparks,
        "stride": stride,
        "passed": passed,
    }


def read_fold(progress: Progress, event: Mapping[str, Any]) -> dict[str, Any]:
    """A fold's score; a session that goes on may tell it again."""
    fold = str(int(event["fold"]))
    return {
        "metric": told_metric(progress, event),
        "scores": progress.scores | {fold: read_number(event.get("value"))},
        "epochs": progress.epochs | {fold: 1.0},
    }


def read_plan(_: Progress, event: Mapping[str, Any]) -> dict[str, Any]:
    """What fits of the folds that are left, the first of them `fold`."""
    shares, first = [float(share) for share in event["shares"]], int(event["fold"])
    left_out = shares.count(0.0)
    short = [first + place for place, share in enumerate(shares) if 0 < share < 1]
    verdict, words = "green", "all folds fit"
    if left_out:
        verdict, words = "red", f"{left_out} of {first + len(shares)} folds will not fit"
    elif short:
        share = shares[short[0] - first]
        verdict, words = "amber", f"fold {short[0]} gets {share:.0%} of its updates"
    eta = float(event["time"]) + float(event["seconds"])
    plan = str(event.get("words") or "")
    return {"eta": eta, "verdict": verdict, "words": words, "plan": plan}


def read_pulse(_: Progress, event: Mapping[str, Any]) -> dict[str, Any]:
    """A sign of life, with what the machine has left and what is still to be delivered."""
    return {"pulse": {name: event.get(name) for name in PULSE}}


def read_finish(progress: Progress, event: Mapping[str, Any]) -> dict[str, Any]:
    """The result, if the run trained."""
    changes: dict[str, Any] = {"eta": None, "verdict": "", "words": ""}
    if "value" in event:
        result = {name: event.get(name) for name in ("metric", "value", "interval")}
        changes |= {"result": result, "metric": told_metric(progress, event)}
    return changes


def read_number(value: object) -> float | None:
    """A finite number, or None for anything else that an event may hold."""
    return float(value) if isinstance(value, int | float) and type(value) is not bool else None


def show_card(progress: Progress) -> dict[str, Any]:
    """The card as the page gets it, but for what the database knows better."""
    card = progress.card
    scores = list(progress.scores.values())
    known = [score for score in scores if score is not None]
    metric, higher = name_value(progress)
    best = progress.highest if higher else progress.lowest
    eta, verdict, words = judge(progress)
    return {
        "title": clean_text(card.title, 200),
        "name": clean_text(progress.name, 200),
        "state": card.state,
        "machine": clean_text(card.machine, 100),
        **{name: getattr(card, name) for name in ("folds", "epochs", "fold", "epoch", "step")},
        **{name: read_number(getattr(card, name)) for name in ("rate", "loss", "valid_loss")},
        "metric": metric,
        "higher": higher,
        "value": progress.value,
        "best": best and best.value,
        "best_epoch": best.epoch if best else 0,
        "best_fold": best.fold if best else 0,
        "scores": scores,
        "mean": fmean(known) if known else None,
        "sd": stdev(known) if len(known) > 1 else None,
        "result": progress.result,
        "started": progress.started,
        "told": progress.told,
        "deadline": read_number(card.deadline),
        "eta": eta,
        "verdict": verdict,
        "verdict_words": words,
        "done": share_done(progress),
        "spark": list_sparks(progress),
        "note": clean_text(card.note, 1000),
    }


def name_value(progress: Progress) -> tuple[str, bool]:
    """What "value" is, in the competition's word where there is one; and is higher better?"""
    part, _, kind = progress.figure.partition("/")
    metric = (progress.metric or "metric") if kind == "metric" else kind
    shown = progress.figure if part == "train" else metric
    return clean_text(shown, 40), metric not in LOWER_IS_BETTER


def list_sparks(progress: Progress) -> list[float]:
    """The small curve; it ends where the run is."""
    if progress.value is None or not progress.passed:
        return list(progress.sparks)
    return [*progress.sparks, progress.value][-SPARKS:]


def share_done(progress: Progress) -> float:
    """The share of all epochs of all folds, 0 to 1."""
    folds = progress.card.folds
    if not folds:  # it has none to train
        return float(progress.card.state == "finished")
    return min(1.0, sum(progress.epochs.values()) / folds)


def judge(progress: Progress) -> tuple[float | None, str, str]:
    """When training will be through, and whether that is in time, in one word and in words.

    Without a plan of the run's own it is reckoned from the seconds of the epochs so far.
    """
    card = progress.card
    if card.state in OVER:
        return None, "", ""
    if progress.verdict:
        return progress.eta, progress.verdict, progress.words
    share, deadline = share_done(progress), read_number(card.deadline)
    if not share or not card.done or not card.spent:
        return None, "", ""
    whole = card.folds * card.epochs
    eta = progress.told + card.spent / card.done * whole * (1 - share)
    if deadline is None:
        return eta, "", ""
    if eta <= deadline:
        return eta, "green", "all folds fit"
    return eta, "red", f"training needs {format_hours(eta - deadline)} more than is left"


def write_progress(progress: Progress) -> dict[str, Any]:
    """The progress as JSON holds it."""
    return asdict(progress)


def read_progress(kept: Mapping[str, Any]) -> Progress:
    """Reads what `write_progress` gave."""
    card = Card(**kept["card"] | {"scores": tuple(kept["card"]["scores"])})
    high, low = (kept[name] and Best(*kept[name]) for name in ("highest", "lowest"))
    changed = {"card": card, "highest": high, "lowest": low, "place": Place(*kept["place"])}
    return Progress(**{**kept, **changed, "sparks": tuple(kept["sparks"])})
