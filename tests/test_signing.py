"""Signatures, against the specification's own example and against forgers."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from podium.signing import is_signed, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_standard_webhooks():
    """The example of the specification's own reference libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(0, 2**40))
def test_only_the_secret_and_what_was_signed_pass(body: bytes, other: bytes, moment: int):
    signature = sign(SECRET, "id", moment, body)
    assert is_signed(signature, SECRET, "id", moment, body)
    assert is_signed(f"v1,old {signature}", SECRET, "id", moment, body)
    assert is_signed(signature, SECRET, "id", moment, other) == (body == other)
    assert not is_signed(signature, SECRET, "id", moment + 1, body)
    assert not is_signed(signature, SECRET, "other", moment, body)
    forger = "whsec_" + base64.b64encode(b"another key of some length").decode()
    assert not is_signed(signature, forger, "id", moment, body)


def test_what_is_no_signature_passes_for_none():
    for text in ("", " ", "v1,", "v1,é", "v2," + "A" * 44):
        assert not is_signed(text, SECRET, "id", 1, b"body")
