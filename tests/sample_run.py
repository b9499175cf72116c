"""The events of a run, for what watches runs."""

from collections.abc import Iterator, Sequence
from typing import Any

SETTINGS = {
    "model.backbone": "keras:EfficientNetV2B0",
    "pixels.image_size": 224,
    "folds.count": 2,
    "train.head_epochs": 1,
    "train.epochs": 2,
}


def make_events(
    session: str = "5e551014", start: float = 1_764_000_000.0
) -> Iterator[dict[str, Any]]:
    """Two folds of three epochs of 20 minutes, a warning, and the finish."""
    seq, now = 0, start

    def event(name: str, after: float, /, **values: Any) -> dict[str, Any]:
        nonlocal seq, now
        seq, now = seq + 1, now + after
        key = {"run": "4042", "session": session, "seq": seq, "time": now, "event": name}
        return {**key, **values}

    yield event(
        "run_started",
        0,
        accelerator="gpu",
        devices=2,
        deadline=now + 12 * 3600,
        settings=SETTINGS,
        source="0" * 64,
    )
    yield event("warning_raised", 5, text="batch norm's statistics lag <b>&")
    for fold in range(2):
        for epoch in range(1, 4):
            yield event("step_reached", 600, fold=fold, epoch=epoch, step=50, steps=100)
            yield event("epoch_ended", 600, **make_epoch(fold, epoch))
        yield event(
            "fold_ended", 10, fold=fold, metric="accuracy", value=0.91 + fold / 100, log_loss=0.3
        )
    yield event(
        "run_finished",
        60,
        rows=360,
        metric="accuracy",
        value=0.915,
        interval=[0.9, 0.93],
        seconds=7300.0,
    )


def hand_over(sink: Any, events: Sequence[Any], memory: dict[str, Any], send: Any) -> None:
    """Delivers as a Delivery does that finds these events in the record, until one is refused."""
    while events or sink.is_behind:
        chosen = sink.choose(events)
        if chosen.start:
            sink.note(events[: chosen.start])
        picked, events = events[chosen], events[chosen.stop :]
        if picked or sink.is_behind:
            sink.deliver(picked, memory, send)
            sink.note(picked)


def make_epoch(fold: int, epoch: int) -> dict[str, Any]:
    return {
        "fold": fold,
        "epochs": 3,
        "phase": "head" if epoch == 1 else "all",
        "epoch": epoch,
        "train/loss": 1 / epoch,
        "train/accuracy": 0.9,
        "valid/loss": 1.1 / epoch,
        "valid/accuracy": 0.8 + epoch / 100 + fold / 1000,
        "learning_rate": 1e-3,
        "seconds": 1200.0,
        "images_per_second": 913.0,
    }
