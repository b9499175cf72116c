"""Who may come in, and from where."""

import re
import socket
from contextlib import closing
from pathlib import Path

import pytest
import requests
from live_site import EVERYWHERE, LiveSite, get, make_event, post, serve_site

from workbench.dashboard import door as door_room
from workbench.dashboard.door import HEADERS

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
PATHS = ["/", "/page/app.js", "/api/runs", "/api/series?runs=a", "/api/run/4042", "/api/health"]
PATHS += ["/api/compare?runs=a", "/export/4042.csv", "/export/4042.tensorboard.zip", "/nothing"]
PATHS += ["/image/" + "0" * 64 + ".jpg"]


def ask(site: LiveSite, request: str, host: str = "") -> str:
    """What a raw request is answered."""
    with closing(socket.create_connection(("127.0.0.1", site.port))) as raw:
        head = f"{request} HTTP/1.1\r\nhost: {host or f'127.0.0.1:{site.port}'}\r\n"
        raw.sendall(head.encode() + b"connection: close\r\n\r\n")
        return b"".join(iter(lambda: raw.recv(65_536), b"")).decode()


def test_at_this_machine_one_reads_without_a_login_but_under_its_own_names_alone(tmp_path: Path):
    with serve_site(tmp_path) as site:
        for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
            answer = get(site.url, headers={"host": f"{name}:{site.port}"})
            assert answer.status_code == 200, name
        port = site.port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
            assert ask(site, "GET /api/runs", host).startswith("HTTP/1.1 421"), host
        for host in (f"127.0.0.1:{port}@evil.example", f"192.0.2.1:{port}", "[::1", "127.0.0.1:x"):
            assert ask(site, "GET /api/runs", host).startswith("HTTP/1.1 421"), host


@pytest.mark.parametrize("given", [{"listen": EVERYWHERE}, {"hosts": ["Tunnel.example"]}])
def test_from_elsewhere_nothing_is_read_without_the_link_which_is_good_once(tmp_path: Path, given):
    with serve_site(tmp_path, **given) as site:
        site.tell([make_event(1, "run_started", settings={})])
        for path in PATHS:
            assert get(site.url + path).status_code == 401, path
        assert post(site.url + "/api/stop", json={"run": "4042"}).status_code == 401
        assert post(site.url + "/publish/epoch/end/", json={"epoch": 0}).status_code == 401
        code = site.gate.code
        assert get(f"{site.url}/enter?code={code[:-1]}").status_code == 401
        browser = requests.Session()
        entered = browser.get(f"{site.url}/enter?code={code}")
        assert entered.status_code == 200  # a redirect would lose a strict cookie
        flags = entered.headers["set-cookie"].lower()
        for flag in ("httponly", "samesite=strict", "max-age=2592000", "path=/"):
            assert flag in flags
        assert browser.get(site.url + "/api/runs").json()["runs"][0]["run"] == "4042"
        assert get(f"{site.url}/enter?code={code}").status_code == 401
        assert site.links == [site.gate.code] != [code]  # the terminal shows a new one
        assert code not in site.store.path.read_bytes().decode("latin-1")


def test_a_cookie_ends_and_one_that_nobody_gave_out_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serve_site(tmp_path, EVERYWHERE) as site:
        for cookie in ("", "guess", "0" * 43):
            answer = get(site.url + "/api/runs", cookies={"podium": cookie})
            assert answer.status_code == 401
        monkeypatch.setattr(door_room, "COOKIE_SECONDS", -1)
        browser = requests.Session()
        browser.get(f"{site.url}/enter?code={site.gate.code}")
        assert browser.cookies
        assert browser.get(site.url + "/api/runs").status_code == 401


def test_a_login_holds_for_another_start_of_the_same_dashboard(tmp_path: Path):
    with serve_site(tmp_path, EVERYWHERE) as site:
        browser = requests.Session()
        browser.get(f"{site.url}/enter?code={site.gate.code}")
    with serve_site(tmp_path, EVERYWHERE) as site:
        assert browser.get(site.url + "/api/runs").status_code == 200


def test_a_name_is_known_only_if_it_was_allowed_and_digits_once_others_may_come(tmp_path: Path):
    with serve_site(tmp_path, EVERYWHERE, ["tunnel.example"]) as site:
        known = ("tunnel.example", "TUNNEL.example:443", f"192.0.2.7:{site.port}")
        for host in known:
            assert "HTTP/1.1 401" in ask(site, "GET /api/runs", host), host
        for host in ("evil.example", "tunnel.example.evil.example", "192.0.2.7"):
            assert "HTTP/1.1 421" in ask(site, "GET /api/runs", host), host


@pytest.mark.parametrize("path", ["/api/stop", "/publish/epoch/end/", "/ingest"])
def test_a_page_of_another_site_can_send_nothing(tmp_path: Path, path: str):
    with serve_site(tmp_path) as site:
        own = f"http://127.0.0.1:{site.port}"
        for origin in (
            "https://evil.example",
            "null",
            own + "0",
            "file://",
            "http://[",
            "//" + own,
        ):
            answer = post(site.url + path, json={"epoch": 0}, headers={"origin": origin})
            assert answer.status_code == 403, origin
        answer = post(site.url + path, json={"epoch": 0}, headers={"origin": own})
        assert answer.status_code != 403
        form = post(site.url + "/api/stop", data='{"run": "4042"}')
        assert form.status_code == 415  # what a form of another site could send
        assert site.count() <= (path == "/publish/epoch/end/")


def test_every_answer_says_what_a_browser_may_do_with_it(tmp_path: Path):
    with serve_site(tmp_path) as site:
        answers = [get(site.url + path) for path in PATHS]
        answers += [post(site.url + "/ingest"), requests.delete(site.url + "/api/runs", timeout=30)]
        answers.append(get(site.url, headers={"host": "evil.example"}))
        for answer in answers:
            assert HEADERS.items() <= dict(answer.headers).items(), answer.url
            assert answer.headers["cache-control"] == "no-store", answer.url
            assert "access-control-allow-origin" not in answer.headers
        assert {answer.status_code for answer in answers} >= {200, 401, 404, 405, 421}
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/page/../site.py",
        "/page/..%2fsite.py",
        "/page/%2e%2e/%2e%2e/keys.json",
        "/../keys.json",
        "/page//etc/passwd",
        "//etc/passwd",
        "/image/..%2f..%2fkeys.json.jpg",
        "/export/..%2fkeys.csv",
        "/api/run/..%2f..",
        "/page/app.js%00.html",
    ],
)
def test_no_path_leads_out_of_the_page(tmp_path: Path, path: str):
    with serve_site(tmp_path) as site:
        assert re.match("HTTP/1.1 404", ask(site, f"GET {path}")), path
