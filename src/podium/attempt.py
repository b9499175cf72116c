"""Attempts: an answer within a time limit, or none

A library that asks the network may wait for ever: for a name server that is silent, for a server
that drips. Its own time limits do not cover that, so it is asked in a thread that can be left.
"""

import re
import threading
from collections.abc import Callable
from typing import Any


def call_in_time(call: Callable[[], Any], seconds: float) -> Any:
    """Returns what a call returns, or raises what it raises, or TimeoutError after the limit.

    The call goes on in a daemon thread, which does not keep the program from ending.
    """
    outcome = dict[str, Any]()

    def run() -> None:
        try:
            outcome["value"] = call()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return outcome["value"]


def describe_error(error: BaseException) -> str:
    """An error's type and the first line of its words, which hold no address."""
    words = re.sub(r"\S*://\S*", "…", str(error).strip().partition("\n")[0])[:160]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
