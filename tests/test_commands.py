"""Commands to a run: its own are obeyed, and nobody else's."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podium.commands import Commands
from podium.events import Reporter, read_record
from podium.signing import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FORGER = "whsec_Zm9yZ2VyIG9mIHNpZ25hdHVyZXM="


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(Reporter(tmp_path))


def write(commands: Commands, secret: str = SECRET, **other: Any) -> dict[str, Any]:
    """A command to a run; fields that are given are changed before it is signed."""
    run, session = commands.report.run, commands.report.session
    content = {"id": "5709", "op": "stop", "run": run, "session": session}
    content = {**content, "expires": int(time.time()) + 900, **other}
    body = "{op} {run} {session}".format(**content).encode()
    return {**content, "signature": sign(secret, content["id"], content["expires"], body)}


def told(commands: Commands) -> list[str]:
    return [event["event"] for event, _ in read_record(commands.report.path)]


def test_a_signed_command_ends_the_run_and_is_told_once(commands: Commands):
    reply = {"stored": 3, "commands": [write(commands)]}
    for _ in range(3):
        commands.obey(reply, SECRET)
    assert commands.stop == "5709"
    assert told(commands).count("command_taken") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret": FORGER}, "signature"),
        ({"expires": int(time.time()) - 1}, "expired"),
        ({"run": "another"}, ""),
        ({"session": "an earlier one"}, ""),
        ({"op": "delete"}, ""),
    ],
)
def test_a_command_that_is_forged_old_or_for_another_is_not_obeyed(
    commands: Commands, changes: dict[str, Any], words: str
):
    command = write(commands, **changes)
    for _ in range(2):
        commands.obey({"commands": [command]}, SECRET)
    assert commands.stop == ""
    warnings = commands.report.warnings
    assert len(warnings) == (words != "")
    assert all(words in warning for warning in warnings)


@pytest.mark.parametrize("field", ["id", "expires", "run", "session"])
def test_a_signature_holds_for_the_very_command_it_was_made_for(commands: Commands, field: str):
    command = write(commands)
    command[field] = command[field] + 1 if field == "expires" else command[field] + "x"
    commands.obey({"commands": [command]}, SECRET)
    assert commands.stop == ""


def test_without_a_secret_nothing_is_obeyed(commands: Commands):
    commands.obey({"commands": [write(commands)]}, "")
    assert commands.stop == ""
    assert "#whsec_" in commands.report.warnings[0]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_JSON, st.sampled_from(["id", "op", "run", "session", "expires", "signature", ""]))
def test_whatever_a_reply_says_it_ends_no_run_and_raises_nothing(
    commands: Commands, anything: Any, field: str
):
    odd = write(commands, FORGER) | ({field: anything} if field else {})
    for reply in (anything, {"commands": anything}, {"commands": [odd, anything]}):
        commands.obey(json.loads(json.dumps(reply)), SECRET)
    assert commands.stop == ""
