"""Card: the run at a glance, as a phone shows it

A card is folded from the events, one after the other, so it can be made again from the record at
any time. Few events are news that should ring: the start, a warning, a better best, a fold's end,
the finish, a crash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from podium.budget import format_hours

LIGHTS = {"running": "🟢", "warned": "🟡", "finished": "🏁", "failed": "🔴", "stopped": "🟠"}
BAR_WIDTH = 12
BEST_EVERY = 1800.0  # seconds between two news of a better best
TRACE_LINES = 12
ENDINGS = ("run_finished", "run_failed", "run_stopped")


@dataclass(frozen=True)
class Card:
    """What is known of a run from its events so far."""

    state: str = "running"  # a key of LIGHTS
    title: str = "Podium"
    machine: str = ""
    folds: int = 0
    epochs: int = 0  # of one fold
    fold: int = 0
    epoch: int = 0
    step: str = ""  # inside a long epoch
    accuracy: float | None = None
    best: float | None = None  # of this fold
    best_epoch: int = 0
    best_told: float = 0.0  # when a better best was last news, seconds since 1970
    loss: float | None = None
    valid_loss: float | None = None
    rate: float | None = None  # images per second
    done: int = 0  # epochs, over all folds
    spent: float = 0.0  # seconds in them
    scores: tuple[float | None, ...] = ()  # of the folds that ended
    started: float = 0.0
    deadline: float | None = None
    now: float = 0.0  # of the last event
    note: str = ""  # the last warning, the result, or what stopped the run

    @property
    def headline(self) -> str:
        """The title, with a light for the state."""
        return f"{LIGHTS[self.state]} {self.title}"


class News(NamedTuple):
    """A message of its own, which rings."""

    kind: str  # "started", "alert", "best", "fold", "finished", "failed"
    text: str

    @property
    def shows_curves(self) -> bool:
        """Is there a new picture to go with it?"""
        return self.kind in ("fold", "finished")


def update_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """The card after an event, and the news if it is some; one that cannot be read is passed over.

    So an event that was too long, or that a later version wrote, costs only itself.
    """
    readers = {
        "run_started": start_card,
        "step_reached": read_step,
        "epoch_ended": read_epoch,
        "fold_ended": read_fold,
        "warning_raised": read_warning,
        "run_finished": finish_card,
        "run_failed": fail_card,
        "run_stopped": stop_card,
    }
    read = readers.get(str(event["event"]))
    try:
        card = replace(card, now=float(event["time"]))
        return read(card, event) if read else (card, None)
    except Exception:  # whatever is wrong with it, the events after it are shown
        return card, None


def start_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """A run, or a session that goes on with one."""
    settings = event.get("settings") or {}
    card = Card(
        title=f"{settings.get('model.backbone', 'Podium')}, "
        f"{settings.get('pixels.image_size', '?')} px",
        machine=f"{event.get('devices', '?')} × {event.get('accelerator', '?')}",
        folds=int(settings.get("folds.count") or 0),
        epochs=int(settings.get("train.head_epochs") or 0) + int(settings.get("train.epochs") or 0),
        started=card.now,
        deadline=event.get("deadline"),
        now=card.now,
    )
    plan = f"{card.folds} folds of {card.epochs} epochs"
    if settings.get("predict.run"):
        card, plan = replace(card, folds=0), "the models of an earlier run answer"
    return card, News("started", f"started on {card.machine}: {plan}")


def read_step(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """A sign of life inside a long epoch."""
    step = f"step {event['step']} of {event['steps']}"
    return replace(enter_fold(card, int(event["fold"])), epoch=int(event["epoch"]), step=step), None


def enter_fold(card: Card, fold: int) -> Card:
    """The card in a fold; in another than before, nothing is the best yet."""
    return card if fold == card.fold else replace(card, fold=fold, best=None, best_epoch=0)


def read_epoch(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """An epoch's figures; news if they are the best of the fold and none was told for long."""
    fold, epoch = int(event["fold"]), int(event["epoch"])
    accuracy = event.get("valid/accuracy")
    card = replace(
        enter_fold(card, fold),
        epoch=epoch,
        step="",
        accuracy=accuracy,
        loss=event.get("train/loss"),
        valid_loss=event.get("valid/loss"),
        rate=event.get("images_per_second"),
        done=card.done + 1,
        spent=card.spent + float(event.get("seconds") or 0),
    )
    if accuracy is None or (card.best is not None and accuracy <= card.best):
        return card, None
    first = card.best is None
    card = replace(card, best=accuracy, best_epoch=epoch)
    if first or card.now - max(card.best_told, card.started) < BEST_EVERY:
        return card, None
    text = f"new best: accuracy {accuracy:.4f} in fold {fold}, epoch {epoch}"
    return replace(card, best_told=card.now), News("best", text)


def read_fold(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """A fold's score."""
    score = event.get("value")
    card = replace(card, scores=(*card.scores, score))
    text = f"fold {event.get('fold', '?')} ended: {name_metric(event)} {format_accuracy(score)}"
    return card, News("fold", text)


def read_warning(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """Something that a person should look at."""
    text = clean_text(event["text"], 300)
    return replace(card, state="warned", note=text), News("alert", text)


def finish_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """The result."""
    text = f"submission.csv has {event.get('rows', '?')} rows"
    if "value" in event:  # an inference has none
        low, high = map(format_accuracy, event.get("interval") or (None, None))
        score = f"{name_metric(event)} {format_accuracy(event['value'])} (95 %: {low} to {high})"
        text = f"out-of-fold {score}; {text}"
    return replace(card, state="finished", note=text), News("finished", f"finished: {text}")


def fail_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """What the run died of: the last lines of its traceback."""
    reason = event.get("reason") or event.get("error") or "for a reason too long to tell"
    lines = clean_text(reason, 4000).strip().splitlines()
    note = lines[-1] if lines else "?"
    text = "\n".join(["crashed:", *lines[-TRACE_LINES:]])
    return replace(card, state="failed", note=note), News("failed", text)


def stop_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """The session was ended from outside, or the run by a command."""
    cause = "as asked" if event.get("command") else f"by {event.get('signal', '?')}"
    text = f"stopped {cause}; what was finished before is in the run folder"
    return replace(card, state="stopped", note=text), News("failed", text)


def list_lines(card: Card) -> list[str]:
    """The card's lines below its title."""
    total = card.folds * card.epochs
    share = min(1.0, card.done / total) if total else 0.0
    filled = round(share * BAR_WIDTH)
    bar = "█" * filled + "░" * (BAR_WIDTH - filled)
    done = f"{bar} {share:.0%}, {len(card.scores)} of {card.folds} folds done"
    lines = [done] if card.folds else []
    if card.epoch:
        step = f", {card.step}" if card.step else ""
        lines.append(f"fold {card.fold}, epoch {card.epoch} of {card.epochs}{step}")
    if card.accuracy is not None and card.best is not None:
        best = f"best {card.best:.4f} in epoch {card.best_epoch}"
        lines.append(f"accuracy {card.accuracy:.4f} ({best})")
    if card.epoch:
        losses = f"{format_loss(card.loss)} → {format_loss(card.valid_loss)}"
        lines.append(f"loss {losses}, {card.rate or 0:.0f} images/s")
    if card.scores:
        lines.append("folds " + " ".join(map(format_accuracy, card.scores)))
    lines += [describe_time(card, total)] if card.started else []
    return lines + ([card.note] if card.note else [])


def describe_time(card: Card, total: int) -> str:
    """What is left of the session, and what the epochs to come will need of it."""
    if card.deadline is None or card.state in ("finished", "failed", "stopped"):
        return f"took {format_hours(card.now - card.started)}"
    left = card.deadline - card.now
    text = f"left {format_hours(left)} of {format_hours(card.deadline - card.started)}"
    if not card.done or card.done >= total:
        return text
    need = (total - card.done) * card.spent / card.done
    return f"{text}, training needs {format_hours(need)}" + ("" if need < left else ": TOO LONG")


def format_loss(loss: float | None) -> str:
    """A loss, or what stands for one that is no number."""
    return "not a number" if loss is None else f"{loss:.3f}"


def name_metric(event: Mapping[str, Any]) -> str:
    """The metric of a score, in words."""
    return clean_text(event.get("metric") or "score", 40).replace("_", " ")


def format_accuracy(figure: float | None) -> str:
    """A score, or what stands for one that is no number."""
    return "?" if figure is None else f"{figure:.4f}"


def clean_text(text: object, most: int) -> str:
    """Text without control and direction marks, its end kept where it is too long."""
    shown = "".join(one for one in str(text) if one.isprintable() or one == "\n")
    return shown if len(shown) <= most else f"…{shown[1 - most :]}"
