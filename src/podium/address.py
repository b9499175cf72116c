"""Address: which sink an address stands for

The kind follows from the exact host, or from a word before the scheme:

    https://discord.com/api/webhooks/1/token         also ptb. and canary.
    https://hooks.slack.com/services/T/B/token
    https://api.telegram.org/bot1:token?chat_id=2    or tgram://1:token/2
    https://ntfy.sh/topic                            or ntfys://host/topic, ntfy:// for http
    keras+http://host:9000/publish/epoch/end/        keras-json+ for JSON in place of a form
    relay+https://ntfy.sh/topic#whsec_secret         sealed, for a dashboard that reads the topic
    https://host/path#whsec_secret                   any other: JSON, signed with the secret
"""

import base64
import ipaddress
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from podium.chat import DiscordSink, NtfySink, SlackSink, TelegramSink
from podium.commands import Obey, ignore
from podium.relay import LONGEST_TOPIC, RelaySink
from podium.sinks import CardSink, JsonSink, KerasSink, Sink

KERAS_PATH = "/publish/epoch/end/"
SINK_HOSTS = {
    "discord.com": "discord",
    "discordapp.com": "discord",
    "ptb.discord.com": "discord",
    "canary.discord.com": "discord",
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "api.telegram.org": "telegram",
    "ntfy.sh": "ntfy",
}
SINK_KINDS = ("discord", "slack", "telegram", "ntfy", "keras", "keras-json", "relay", "json")
SHORTEST_TOPIC = 16  # letters of a relay's: it is all that keeps others from writing there
SHORTEST_KEY = 24  # bytes, as Standard Webhooks asks; what a relay seals is there for all to try


class WebhookError(ValueError):
    """An address that cannot be used; the message does not repeat it."""


def split_address(word: str) -> tuple[str, SplitResult]:
    """An address's kind and its parts; raises WebhookError if it has no known kind."""
    scheme, _, rest = word.partition("://")
    kind, _, inner = scheme.rpartition("+")
    if scheme in ("ntfy", "ntfys"):
        kind, inner = "ntfy", "http" + scheme.removeprefix("ntfy")
    elif scheme == "tgram":
        token, _, chat = rest.rstrip("/").partition("/")
        kind, inner, rest = "telegram", "https", f"api.telegram.org/bot{token}?chat_id={chat}"
    try:
        parts = urlsplit(f"{inner}://{rest}")
        host = parts.hostname or ""
    except ValueError:
        raise WebhookError("it is no address") from None
    if not kind and parts.path.endswith(KERAS_PATH):
        kind = "keras"
    return kind or SINK_HOSTS.get(host, "json"), parts


def read_webhook(word: str, folder: Path, obey: Obey = ignore) -> Sink:
    """The sink that an address stands for, whose replies may command; raises WebhookError."""
    kind, parts = split_address(word)
    if kind not in SINK_KINDS:
        raise WebhookError(f"its kind is none of {', '.join(SINK_KINDS)}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebhookError("it must begin with https:// and a host")
    if parts.scheme == "http" and not is_near(parts.hostname):
        raise WebhookError("over http anybody on the way can read it; write https://")
    if kind == "telegram" and "chat_id" not in parse_qs(parts.query):
        raise WebhookError("a Telegram address needs ?chat_id=…, the chat to write to")
    if kind == "ntfy" and not parts.path.strip("/"):
        raise WebhookError("an ntfy address needs a topic: https://ntfy.sh/topic")
    if kind == "relay":
        check_relay(parts)
    return make_sink(kind, parts, folder, obey)


def check_relay(parts: SplitResult) -> None:
    """Raises WebhookError if an address lacks what a relay needs."""
    letters = f"[-_A-Za-z0-9]{{{SHORTEST_TOPIC},{LONGEST_TOPIC}}}"
    if parts.query or not re.fullmatch(f"/{letters}", parts.path):
        raise WebhookError(
            f"a relay's address needs a topic of {SHORTEST_TOPIC} to {LONGEST_TOPIC} letters, "
            "digits, - or _: relay+https://ntfy.sh/topic#whsec_…"
        )
    if not is_secret(parts.fragment, SHORTEST_KEY):
        raise WebhookError(
            f"a relay's address needs # and whsec_ and a key of {SHORTEST_KEY} bytes or more in "
            "base64, by which its messages are sealed"
        )


def make_sink(kind: str, parts: SplitResult, folder: Path, obey: Obey) -> Sink:
    """The sink of a kind."""
    url = parts._replace(fragment="").geturl()
    people: dict[str, type[CardSink]] = {"discord": DiscordSink, "slack": SlackSink}
    people |= {"telegram": TelegramSink, "ntfy": NtfySink}
    if kind in people:
        return people[kind](url, folder)
    if kind.startswith("keras"):
        return KerasSink(url, form=kind == "keras")
    if kind == "relay":
        try:
            return RelaySink(url, parts.fragment, obey)
        except ImportError:
            raise WebhookError(
                "a relay's messages are sealed by the package cryptography, which is not installed"
            ) from None
    if parts.fragment and not is_secret(parts.fragment):
        raise WebhookError("what follows # must be whsec_ and a key in base64")
    return JsonSink(url, parts.fragment, obey)


def is_secret(text: str, least: int = 1) -> bool:
    """Is this a signing secret as Standard Webhooks writes it, of so many bytes at least?"""
    try:
        return text.startswith("whsec_") and len(base64.b64decode(text[6:], validate=True)) >= least
    except ValueError:
        return False


def is_near(host: str) -> bool:
    """Is the host this machine, or one of a private network?"""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def list_secrets(word: str) -> list[str]:
    """The parts of an address that give it away: what follows the host."""
    try:
        parts = split_address(word)[1]
    except WebhookError:
        return []
    found = [parts.path.strip("/"), parts.query, parts.fragment, parts.password or ""]
    found.append(parts.fragment.removeprefix("whsec_"))
    pieces = [piece for part in found for piece in (part, *part.split("/"))]
    return [piece for piece in pieces if len(piece) >= 16]
