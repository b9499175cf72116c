"""Webhook: finds where the run is to be told, and tells it there

The addresses are a secret. They come from the environment (PODIUM_WEBHOOK), else from the private
dataset that `make webhook-setup` writes, else from a Kaggle Secret of that name. Several are set
apart by blanks.
"""

import contextlib
import os
import signal
import threading
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path

from podium.address import WebhookError, list_secrets, read_webhook
from podium.attempt import call_in_time
from podium.card import ENDINGS
from podium.commands import Commands
from podium.delivery import Delivery
from podium.events import Reporter
from podium.pulse import Pulse
from podium.runtime import KAGGLE_INPUT

SECRET_NAME = "PODIUM_WEBHOOK"  # noqa: S105
SECRET_FILE = "podium-webhook.txt"  # noqa: S105
SECRET_SECONDS = 2.0  # for Kaggle's service of secrets, which is out of reach without internet
CLOSING_SECONDS = 10.0


class Watch:
    """Who is told of a run, and what SIGTERM does to it, from here to `close`."""

    def __init__(self, report: Reporter, on_stop: Callable[[], None] = lambda: None) -> None:
        self.report, self.on_stop, self.process = report, on_stop, os.getpid()
        self.deliveries: list[Delivery] = []
        self.commands = Commands(report)
        self.pulse = Pulse(report, self.deliveries)
        self.opened = False
        self.patient = False  # SIGTERM only asks to end, once
        self.asked = 0  # the signal that did
        self.farewell = threading.Thread(target=lambda: None, daemon=True)
        if threading.current_thread() is threading.main_thread():
            self.on_sigterm = signal.signal(signal.SIGTERM, self.stop)

    def open(self, environ: Mapping[str, str] = os.environ) -> None:
        """Finds the run's webhooks, says which, and tells them all from the first event on.

        None, or addresses that cannot be used, is no error: nothing of a webhook stops a run.
        After this no line of the reporter can hold an address.
        """
        self.opened = True
        if not self.report.leader:
            return
        self.pulse.start()
        try:
            source, text = find_secret(environ)
            self.report.hidden += [
                part for one in text.split() for part in (one, *list_secrets(one))
            ]
            for place, word in enumerate(text.split()):
                self.open_one(word, place, source)
        except Exception as error:  # its words may hold an address
            self.report.warn(
                f"no webhook is used: its address cannot be read ({type(error).__name__})"
            )
            return
        names = ", ".join(one.sink.name for one in self.deliveries)
        shown = f"{names}, from {source}" if names else f"none; {SECRET_NAME} would name one"
        self.report.print(f"  webhook     {shown}")

    def open_one(self, word: str, place: int, source: str) -> None:
        """Opens the delivery to one address, or says why there is none."""
        try:
            sink = read_webhook(word, self.report.folder, self.commands.obey)
            memory = self.report.folder / f"webhook-{sink.name}{place or ''}.json"
            delivery = Delivery(sink, self.report, memory)
            delivery.start()
        except Exception as error:
            reason = str(error) if isinstance(error, WebhookError) else type(error).__name__
            self.report.warn(f"webhook {place + 1} of {source} is not used: {reason}")
        else:
            self.deliveries.append(delivery)

    def close(self) -> None:
        """Delivers the rest; SIGTERM then does what it did before."""
        if signal.getsignal(signal.SIGTERM) == self.stop:
            signal.signal(signal.SIGTERM, self.on_sigterm or signal.SIG_DFL)
        self.pulse.close()
        self.deliver_rest()

    def deliver_rest(self) -> None:
        """Delivers the rest, for ten seconds at most; in a forked process there is nobody to."""
        end = time.monotonic() + CLOSING_SECONDS
        deliveries = self.deliveries if os.getpid() == self.process else []
        for delivery in deliveries:
            delivery.end_by(end)
        for delivery in deliveries:
            delivery.join(max(0.0, end - time.monotonic()))

    def say_stopped(self, number: int) -> None:
        """The run's last status and event, and their delivery."""
        self.on_stop()
        self.report.emit("run_stopped", signal=signal.Signals(number).name, command=None)
        if not self.opened:
            self.open()
        self.deliver_rest()

    def is_asked(self) -> bool:
        """Has the session been ended from outside? What the run does until then is its affair."""
        return self.asked != 0

    def is_ending(self) -> bool:
        """Is the run to end after its epoch at the latest, as a command or the session has it?"""
        return self.is_asked() or self.commands.stop != ""

    def stop(self, number: int, frame: types.FrameType | None) -> None:
        """Says that the session was ended, unless it had, then does what SIGTERM did before.

        A run that can end by itself is only asked to, and what there is to say is said meanwhile; a
        second SIGTERM ends it at once.
        """
        if self.patient and not self.asked and os.getpid() == self.process:
            self.asked = number
            self.farewell = threading.Thread(target=self.say_quietly, args=[number], daemon=True)
            self.farewell.start()
            return
        self.end(number, frame)

    def say_quietly(self, number: int) -> None:
        """Says that the session was ended; whatever goes wrong."""
        with contextlib.suppress(Exception):
            self.say_stopped(number)

    def leave(self) -> None:
        """Ends a run that was asked to end, and has done what it could."""
        self.farewell.join(CLOSING_SECONDS + 2)
        self.on_stop()
        self.end(self.asked, None)

    def end(self, number: int, frame: types.FrameType | None) -> None:
        """The last words, and the end."""
        if os.getpid() == self.process and self.report.last not in ENDINGS:
            # In a thread of its own, with a limit: the signal may have come while the main thread
            # held a lock that is needed for it.
            with contextlib.suppress(Exception):
                call_in_time(lambda: self.say_stopped(number), CLOSING_SECONDS + 2)
        signal.signal(number, self.on_sigterm or signal.SIG_DFL)
        if callable(self.on_sigterm):
            self.on_sigterm(number, frame)
        elif self.on_sigterm != signal.SIG_IGN:
            os.kill(os.getpid(), number)


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
