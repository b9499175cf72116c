"""Commands: what whoever watches may ask of a run

Nobody can reach a run, so a command comes in the reply to what it sends. It is obeyed if the
webhook's secret has signed it for this run and this session, and if it has not expired.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from podium.events import Reporter
from podium.signing import is_signed

MOST_COMMANDS = 20  # of one reply


class Obey(Protocol):
    """Takes what a reply says, and the secret that signs commands."""

    def __call__(self, reply: Any, secret: str) -> None:  # noqa: D102
        ...


def ignore(reply: Any, secret: str) -> None:
    """Takes no commands."""


class Commands:
    """Reads commands from replies; the one to end the run holds for good.

    A command is {"id", "op": "stop", "run", "session", "expires", "signature"}: seconds since 1970,
    and the signature of "stop", run and session, set apart by blanks, under id and expiry.
    """

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.stop = ""  # the id of the command that asked the run to end after its epoch
        self.refused = False  # one was, which is said once

    def obey(self, reply: Any, secret: str) -> None:
        """Takes the commands of a reply, {"commands": […]}; whatever else it says is nothing."""
        commands = reply.get("commands") if isinstance(reply, Mapping) else None
        for command in commands[:MOST_COMMANDS] if isinstance(commands, list) else []:
            if isinstance(command, Mapping) and self.is_ours(command):
                self.take(command, secret)

    def is_ours(self, command: Mapping[str, Any]) -> bool:
        """Is it a command to this session that has not been taken?"""
        key = (command.get("op"), command.get("run"), command.get("session"))
        return key == ("stop", self.report.run, self.report.session) and not self.stop

    def take(self, command: Mapping[str, Any], secret: str) -> None:
        """Obeys a command, or says why it is not obeyed."""
        name, expires = command.get("id"), command.get("expires")
        if not isinstance(name, str) or not isinstance(expires, int) or isinstance(expires, bool):
            self.refuse("it is not as Podium writes it")
        elif not secret:
            self.refuse("the webhook's address has no #whsec_ secret that could have signed it")
        elif not is_signed(
            str(command.get("signature")),
            secret,
            name,
            expires,
            f"stop {self.report.run} {self.report.session}".encode(),
        ):
            self.refuse("its signature is not that of the webhook's secret")
        elif expires < time.time():
            self.refuse("it has expired")
        else:
            self.stop = name
            self.report.emit("command_taken", command=name, op="stop")
            self.report.say("  asked to stop: the run ends after this epoch, with a submission")

    def refuse(self, reason: str) -> None:
        """Says, once, that a command to stop is not obeyed."""
        if not self.refused:
            self.refused = True
            self.report.warn(f"a command to stop is not obeyed: {reason}")
