import threading
import time

import pytest

from podium.attempt import call_in_time, describe_error


def test_a_call_that_hangs_is_given_up_after_the_limit():
    hanging, started = threading.Event(), time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0.05 s"):
        call_in_time(hanging.wait, 0.05)
    assert time.monotonic() - started < 5
    hanging.set()


def test_what_a_call_returns_or_raises_comes_through():
    assert call_in_time(lambda: 7, 5) == 7
    with pytest.raises(KeyError, match="gone"):
        call_in_time(lambda: {}["gone"], 5)


def test_an_error_is_described_without_its_addresses():
    error = OSError("cannot reach https://secret.example/token?x=1 now\nsecond line")
    assert describe_error(error) == "OSError: cannot reach … now"
    assert describe_error(TimeoutError()) == "TimeoutError"
