"""Webhook: finds where the run is to be told, and tells it there

The addresses are a secret. They come from the environment (PODIUM_WEBHOOK), else from the private
dataset that `make webhook-setup` writes, else from a Kaggle Secret of that name. Several are set
apart by blanks.
"""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from podium.address import WebhookError, list_secrets, read_webhook
from podium.attempt import call_in_time
from podium.delivery import Delivery
from podium.events import Reporter
from podium.runtime import KAGGLE_INPUT
from podium.sinks import Sink

SECRET_NAME = "PODIUM_WEBHOOK"  # noqa: S105
SECRET_FILE = "podium-webhook.txt"  # noqa: S105
SECRET_SECONDS = 5.0  # for Kaggle's service of secrets, which may be out of reach
CLOSING_SECONDS = 10.0


class Watch:
    """The deliveries of a run: open until `close` or SIGTERM."""

    def __init__(self, report: Reporter, sinks: Sequence[Sink]) -> None:
        self.report = report
        names = [f"{sink.name}{place or ''}" for place, sink in enumerate(sinks)]
        self.deliveries = [
            Delivery(sink, report, report.folder / f"webhook-{name}.json")
            for name, sink in zip(names, sinks, strict=True)
        ]
        for delivery in self.deliveries:
            delivery.start()
        if self.deliveries and threading.current_thread() is threading.main_thread():
            self.on_sigterm = signal.signal(signal.SIGTERM, self.stop)

    def close(self) -> None:
        """Delivers the rest, for ten seconds at most over all sinks."""
        for delivery in self.deliveries:
            delivery.closing.set()
            delivery.woken.set()
        for delivery in self.deliveries:
            delivery.close(CLOSING_SECONDS / len(self.deliveries))
        self.deliveries = []

    def say_stopped(self, number: int) -> None:
        """The run's last event, and its delivery."""
        self.report.emit("run_stopped", signal=signal.Signals(number).name)
        self.close()

    def stop(self, number: int, frame: types.FrameType | None) -> None:
        """Says that the session was ended, then does what SIGTERM did before."""
        # In a thread of its own, with a limit: the signal may have come while the main thread held
        # a lock that is needed for it.
        with contextlib.suppress(TimeoutError):
            call_in_time(lambda: self.say_stopped(number), CLOSING_SECONDS + 2)
        signal.signal(number, self.on_sigterm or signal.SIG_DFL)
        if callable(self.on_sigterm):
            self.on_sigterm(number, frame)
        elif self.on_sigterm != signal.SIG_IGN:
            os.kill(os.getpid(), number)


def watch_run(report: Reporter, environ: Mapping[str, str] = os.environ) -> Watch:
    """Opens the run's webhooks and says which; none, or addresses that cannot be used, is no error.

    After this no line of the reporter can hold an address.
    """
    if not report.leader:
        return Watch(report, [])
    source, text = find_secret(environ)
    report.hidden += [part for word in text.split() for part in (word, *list_secrets(word))]
    sinks = list[Sink]()
    for place, word in enumerate(text.split(), start=1):
        try:
            sinks.append(read_webhook(word, report.folder))
        except WebhookError as error:
            report.warn(f"webhook {place} of {source} is not used: {error}")
    names = ", ".join(sink.name for sink in sinks)
    shown = f"{names}, from {source}" if names else f"none; {SECRET_NAME} would name one"
    report.say(f"  webhook     {shown}")
    return Watch(report, sinks)


def find_secret(
    environ: Mapping[str, str] = os.environ, inputs: Path = KAGGLE_INPUT
) -> tuple[str, str]:
    """Where the addresses were found, in words, and the addresses; "" and "" if nowhere."""
    if environ.get(SECRET_NAME):
        return "the environment", environ[SECRET_NAME]
    for pattern in (f"*/{SECRET_FILE}", f"datasets/*/*/{SECRET_FILE}"):
        for path in sorted(inputs.glob(pattern)):
            return "the private dataset", path.read_text(encoding="utf-8")
    if environ.get("KAGGLE_USER_SECRETS_TOKEN"):
        try:
            return "Kaggle Secrets", str(call_in_time(ask_kaggle, SECRET_SECONDS))
        except Exception:  # not attached, no network, or not in time: there is no webhook then
            return "", ""
    return "", ""


def ask_kaggle() -> str:
    """Asks Kaggle's service of secrets."""
    from kaggle_secrets import UserSecretsClient

    return str(UserSecretsClient().get_secret(SECRET_NAME))
