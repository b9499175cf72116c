"""Who may write: the secrets of one dashboard, in a file that only its owner reads."""

import base64
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from podium.address import is_secret


@dataclass(frozen=True)
class Keys:
    """What senders hold. None of it is shown but in the lines that the start prints."""

    secret: str = field(repr=False)  # signs events and commands, and seals what a relay passes on
    write: str = field(repr=False)  # in the address of a RemoteMonitor, which cannot sign
    topic: str = field(repr=False)  # of the relay


class KeysError(ValueError):
    """The file of keys cannot be used; the message says what to do."""


def open_keys(folder: Path) -> Keys:
    """Reads the keys of a folder, made when it had none; raises KeysError if they are broken."""
    path = folder / "keys.json"
    if not path.exists():
        write_keys(path)
    try:
        keys = Keys(**json.loads(path.read_text(encoding="utf-8")))
        whole = is_secret(keys.secret) and len(keys.write) >= 24 and len(keys.topic) >= 24
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise KeysError(f"{path} holds no whole keys; remove it, and new ones are made")
    path.chmod(0o600)
    return keys


def write_keys(path: Path) -> None:
    """Makes new keys; nobody but the owner can ever open the file."""
    keys = Keys(
        "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        secrets.token_urlsafe(24),
        "podium-" + secrets.token_urlsafe(18),
    )
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(asdict(keys), file)


def is_same(given: str, right: str) -> bool:
    """Are two tokens the same? In constant time."""
    return hmac.compare_digest(given.encode(), right.encode())
