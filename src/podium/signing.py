"""Signing: who may speak, and what may be obeyed

A secret that both ends hold signs what is sent, as Standard Webhooks has it, and with it the
commands that come back.
"""

import base64
import hashlib
import hmac


def sign(secret: str, name: str, moment: int, body: bytes) -> str:
    """The signature of a body, as Standard Webhooks has it (standardwebhooks.com, 2023).

    `secret` is "whsec_" and a key in base64, `name` the message's id, `moment` seconds since 1970.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{name}.{moment}.".encode() + body
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def is_signed(signatures: str, secret: str, name: str, moment: int, body: bytes) -> bool:
    """Is one of the signatures, which are set apart by blanks, the secret's? In constant time."""
    right = sign(secret, name, moment, body).encode()
    return any(hmac.compare_digest(one.encode(), right) for one in signatures.split(" "))
