"""A press on Stop, on its way to the run."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from live_site import LiveSite, make_event, post, serve_site

from podium.signing import is_signed
from workbench.dashboard import stops as stops_room

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def stop(site: LiveSite, run: str = "4042") -> requests.Response:
    return post(site.url + "/api/stop", json={"run": run})


def show(site: LiveSite) -> dict[str, Any]:
    (card,) = site.get("/api/runs")["runs"]
    return card["stop"]


def test_a_command_is_signed_is_for_one_session_and_comes_with_answers_until_it_is_taken(
    tmp_path: Path,
):
    with serve_site(tmp_path) as site:
        site.tell([make_event(1, "run_started", settings={})])
        version = site.get("/api/runs")["version"]
        asked = stop(site).json()
        assert stop(site).json() == asked  # asked twice, it is one command
        assert asked["state"] == "asked"
        assert asked["expires"] == pytest.approx(time.time() + 900, abs=5)
        (card,) = site.get(f"/api/runs?after={version}")["runs"]  # the page hears of it
        assert card["stop"] == asked
        (command,) = site.tell([make_event(2)])["commands"]
        assert (command["id"], command["expires"]) == (asked["id"], asked["expires"])
        assert (command["op"], command["run"], command["session"]) == ("stop", "4042", "5e551014")
        content = b"stop 4042 5e551014"
        key = (site.keys.secret, command["id"], command["expires"], content)
        assert is_signed(command["signature"], *key)
        assert site.tell([make_event(3)])["commands"] == [command]  # its answer may be lost
        other = make_event(1) | {"session": "another"}
        assert site.tell([other])["commands"] == []
        taken = make_event(4, "command_taken", command=command["id"], op="stop")
        assert site.tell([taken])["commands"] == []
        assert show(site)["state"] == "taken"


def test_a_run_that_stopped_by_a_command_has_taken_it(tmp_path: Path):
    with serve_site(tmp_path) as site:
        site.tell([make_event(1)])
        asked = stop(site).json()
        site.tell([make_event(2, "run_stopped", command="another")])
        assert show(site)["state"] == "asked"
        site.tell([make_event(3, "run_stopped", command=asked["id"])])
        assert show(site)["state"] == "taken"


def test_a_command_that_nobody_took_expires_and_may_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serve_site(tmp_path) as site:
        site.tell([make_event(1)])
        monkeypatch.setattr(stops_room, "COMMAND_SECONDS", -1)
        first = stop(site).json()
        assert (first["state"], show(site)["state"]) == ("expired", "expired")
        assert site.tell([make_event(2)])["commands"] == []
        monkeypatch.setattr(stops_room, "COMMAND_SECONDS", 900)
        assert stop(site).json()["id"] != first["id"]
        assert show(site)["state"] == "asked"


def test_only_a_run_that_goes_on_and_listens_is_stopped(tmp_path: Path):
    with serve_site(tmp_path) as site:
        assert stop(site).status_code == 404
        assert stop(site, "a/b").status_code == 400
        assert post(site.url + "/api/stop", json={"run": 7}).status_code == 400
        assert post(site.url + "/api/stop", json=[]).status_code == 400
        for name in ("run_finished", "run_failed", "run_stopped"):
            site.tell([make_event(1, name) | {"run": name}])
            answer = stop(site, name)
            assert (answer.status_code, answer.text) == (409, f"it is {name[4:]} already")
        post(site.url + "/publish/epoch/end/", json={"epoch": 0})
        answer = stop(site, "keras")
        assert answer.text == "it came by keras, on which nothing goes back"
        site.store.take([make_event(1)], [], "import", time.time())
        assert stop(site).status_code == 409


class Relay:
    """What a relay's reader offers the site."""

    def __init__(self) -> None:
        self.told, self.closed = list[Any](), False

    def health(self) -> dict[str, Any]:
        return {"connected": True}

    def tell(self, command: Any) -> None:
        self.told.append(command)

    def close(self) -> None:
        self.closed = True


def test_a_relay_is_told_and_shown_and_closed_with_the_site(tmp_path: Path):
    relay = Relay()
    with serve_site(tmp_path, relay=lambda: relay) as site:
        site.store.take([make_event(1)], [], "relay", time.time())
        asked = stop(site).json()
        assert [command["id"] for command in relay.told] == [asked["id"]]
        json.dumps(relay.told)
        for path in ("/api/runs", "/api/health"):
            assert site.get(path)["relay"] == {"connected": True}
        assert not relay.closed
    assert relay.closed
