"""What an event may be; what is more than that is malformed and is not kept.

Only what holds the shared secret may send, but it runs code and reads names that others wrote.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.dashboard.images import MalformedImageError, name_image, read_image

LONGEST_EVENT = 64_000  # bytes of its JSON, as podium.events writes at most
MOST_KEYS = 200  # of an event, and of each object in it
LONGEST_KEY = 100  # characters; of the names of runs, sessions and events too
DEEPEST = 12  # objects and lists within each other
LARGEST_INTEGER = 2**63 - 1  # what SQLite holds
LATEST = 1e11  # seconds since 1970, the year 5138


class MalformedError(ValueError):
    """What was sent is not what can be kept; the message says why and repeats none of it."""


class SoundEvent(dict[str, Any]):
    """An event within the limits, as `check_event` makes it; its picture lies beside it."""

    picture: bytes = b""  # JPEG, named by the event's "image"


def check_event(event: object) -> SoundEvent:
    """The event, if it is within the limits; raises MalformedError."""
    if isinstance(event, SoundEvent):
        return event
    if not isinstance(event, dict):
        raise MalformedError("an event must be an object")
    check_value(event, 1)
    for key in ("run", "session", "event"):
        check_name(key, event.get(key))
    seq, time = event.get("seq"), event.get("time")
    if type(seq) is not int or seq < 1:
        raise MalformedError("seq must be a whole number from 1 on")
    if not isinstance(time, int | float) or type(time) is bool or not 0 <= time <= LATEST:
        raise MalformedError("time must be seconds since 1970")
    if len(json.dumps(event)) > LONGEST_EVENT:
        raise MalformedError(f"an event may have {LONGEST_EVENT} bytes")
    return take_picture(event)


def check_name(key: str, name: object) -> None:
    """Raises MalformedError unless it can name a run in an address and in a list of runs."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_KEY:
        raise MalformedError(f"{key} must be text of 1 to {LONGEST_KEY} characters")
    if not name.isprintable() or name.startswith(".") or set(name) & set("/\\,"):
        raise MalformedError(f"{key} must be printable, without / \\ , and without a leading dot")


def check_value(value: object, depth: int) -> None:
    """Raises MalformedError if a value is too deep, too wide, or no number of JSON."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MalformedError("NaN and infinity are no JSON; send null")
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise MalformedError("an integer may have 64 bits")
    elif isinstance(value, dict):
        if len(value) > MOST_KEYS:
            raise MalformedError(f"an object may have {MOST_KEYS} keys")
        if max(map(len, value), default=0) > LONGEST_KEY:
            raise MalformedError(f"a key may have {LONGEST_KEY} characters")
        check_values(list(value.values()), depth)
    elif isinstance(value, list):
        check_values(value, depth)


def check_values(values: Sequence[object], depth: int) -> None:
    """The values of an object or a list that lies so deep."""
    if depth > DEEPEST:
        raise MalformedError(f"values may lie {DEEPEST} deep")
    for value in values:
        check_value(value, depth + 1)


def take_picture(event: Mapping[str, Any]) -> SoundEvent:
    """The event with the name of its picture in place of the picture, which is made anew."""
    sound = SoundEvent(event)
    if sound["event"] != "image_shown":
        return sound
    sound.pop("image", None)  # the name is ours to give
    if "jpeg" in sound:
        try:
            sound.picture = read_image(sound.pop("jpeg"))
        except MalformedImageError as error:
            raise MalformedError(str(error)) from None
        sound["image"] = name_image(sound.picture)
    return sound
