"""Bodies of requests, read within limits, signed, and as events."""

import asyncio
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request

from podium.signing import is_signed
from workbench.dashboard.limits import MalformedError, SoundEvent, check_event
from workbench.dashboard.store import Delivery, Span

LARGEST_BODY = 1_000_000  # bytes as they are sent
LARGEST_CONTENT = 8_000_000  # bytes once they are unpacked
LARGEST_READ = 32_000_000  # bytes that are read of a body, kept or not
BODY_SECONDS = 30.0
TOLERANCE = 300  # seconds between a sender's clock and ours
MOST_EVENTS = 1000  # of a body


async def read_body(request: Request) -> bytes:
    """The body as it was sent, counted while it comes; raises HTTPException 408 or 413.

    A body that is too large is read to its end all the same: a sender that is cut off takes it for
    a bad network and sends it again, and one that hears 413 sends less.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= LARGEST_BODY:
                    body += part
                elif size > LARGEST_READ:
                    break
    except TimeoutError:
        raise HTTPException(408, f"the body was not here in {BODY_SECONDS:.0f} s") from None
    if size > LARGEST_BODY:
        raise HTTPException(413, f"a body may have {LARGEST_BODY} bytes")
    return bytes(body)


def check_signature(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> Delivery:
    """What names the request, if it is signed with the secret; raises HTTPException 401.

    The signature is of the body as it was sent, so that nothing is unpacked for a stranger.
    """
    name, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (name and moment.isascii() and moment.isdigit() and len(moment) <= 12):
        raise HTTPException(401, "webhook-id and webhook-timestamp are missing")
    if abs(now - int(moment)) > TOLERANCE:
        raise HTTPException(401, f"the clocks are more than {TOLERANCE} s apart")
    if not is_signed(headers.get("webhook-signature", ""), secret, name, int(moment), body):
        raise HTTPException(401, "the signature is not of our secret")
    return Delivery(name, int(moment))


def unpack_body(body: bytes, encoding: str) -> bytes:
    """The content of a body that may be packed; raises HTTPException 413, or MalformedError."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise HTTPException(415, "a body may be packed with gzip, and with nothing else")
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = unpacking.decompress(body, LARGEST_CONTENT + 1)
    except zlib.error:
        raise MalformedError("the body is no gzip") from None
    if len(content) > LARGEST_CONTENT:
        raise HTTPException(413, f"a body may unpack to {LARGEST_CONTENT} bytes")
    if not unpacking.eof:
        raise MalformedError("the body's gzip ends too soon")
    return content


def read_json(content: bytes) -> Any:
    """Strict JSON in UTF-8; raises MalformedError."""
    try:
        return json.loads(content.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedError("the body is no JSON, or holds NaN, which is none") from None


def refuse_constant(_: str) -> NoReturn:
    """NaN and infinity, which Python's JSON knows, are not in the standard."""
    raise ValueError


def read_events(content: bytes) -> list[SoundEvent]:
    """The events of {"events": [...]}; raises MalformedError if one of them is none."""
    body = read_json(content)
    events = body.get("events") if isinstance(body, dict) else None
    if not isinstance(events, list):
        raise MalformedError('the body must be {"events": [...]}')
    if len(events) > MOST_EVENTS:
        raise MalformedError(f"a body may have {MOST_EVENTS} events")
    return [check_event(event) for event in events]


def list_spans(events: Sequence[Mapping[str, Any]]) -> list[Span]:
    """What a batch covers of each session: all from its first event to its last."""
    seqs = dict[tuple[str, str], list[int]]()
    for event in events:
        seqs.setdefault((event["run"], event["session"]), []).append(event["seq"])
    return [Span(*key, min(found), max(found)) for key, found in seqs.items()]
