import logging
import threading
import time
from email.utils import formatdate

import pytest
import requests
from receivers import babble, drip, hang, serve, serve_socket, swallow, wait_until

from podium import post as post_room
from podium.post import (
    LONGEST_WAIT,
    Answer,
    NoAnswerError,
    Post,
    RefusedError,
    Request,
    read_seconds,
    read_wait,
)

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
SECRET = "a-secret-of-this-webhook"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time limit."""
    monkeypatch.setattr(post_room, "ATTEMPT_SECONDS", 0.3)


def test_json_forms_bytes_and_files_arrive_and_the_answer_is_read():
    with serve(lambda request: (200, {"x-id": "7"}, {"ok": True})) as server:
        post = Post()
        answer = post(Request("POST", f"{server.url}/json", json={"a": 1}))
        post(Request("POST", server.url, data={"data": "x y"}))
        post(Request("PUT", server.url, data=b"bytes", headers={"Title": "t"}))
        post(Request("PATCH", server.url, files={"files[0]": ("c.png", b"png", "image/png")}))
    assert (answer.status, answer.headers["X-Id"], answer.body) == (200, "7", {"ok": True})
    json, form, content, files = server.received
    assert (json.path, json.json) == ("/json", {"a": 1})
    assert form.form == {"data": "x y"}
    assert (content.method, content.body, content.headers["title"]) == ("PUT", b"bytes", "t")
    assert files.parts == {"files[0]": b"png"}


@pytest.mark.parametrize("status", [301, 302, 400, 404, 429, 500])
def test_what_is_no_success_is_a_refusal_and_no_redirect_is_followed(status: int):
    with serve() as other, serve(lambda _: (status, {"location": other.url}, {"code": 5})) as one:
        with pytest.raises(RefusedError, match=f"status {status}") as refusal:
            Post()(Request("POST", f"{one.url}/{SECRET}", json={}))
        assert refusal.value.answer.status == status
        assert refusal.value.code == (5 if status >= 400 else 0)
        assert not other.received


def test_an_answer_that_is_no_json_has_no_body():
    with serve(lambda _: (200, {}, b"ok")) as server:
        assert Post()(Request("POST", server.url, json={})).body is None


@pytest.mark.parametrize("handle", [hang, drip])
def test_a_server_that_hangs_or_drips_is_left_in_time(quick: None, handle):
    started = time.monotonic()
    with serve_socket(handle) as url, pytest.raises(NoAnswerError, match="^TimeoutError$"):
        Post()(Request("POST", f"{url}/{SECRET}", json={}))
    assert time.monotonic() - started < 3


def test_a_host_that_swallows_every_packet_is_left_in_time(quick: None):
    started = time.monotonic()
    with swallow() as url, pytest.raises(NoAnswerError, match="^TimeoutError$"):
        Post()(Request("POST", url, json={}))
    assert time.monotonic() - started < 3


def test_garbage_and_a_closed_port_are_no_answer_and_give_no_address_away():
    with serve_socket(babble) as url:
        with pytest.raises(NoAnswerError) as error:
            Post()(Request("POST", f"{url}/{SECRET}", json={}))
        assert SECRET not in str(error.value)
    with pytest.raises(NoAnswerError, match="^ConnectionError$") as error:
        Post()(Request("POST", f"{url}/{SECRET}", json={}))
    assert error.value.__cause__ is None


def test_a_server_that_talks_garbage_in_place_of_tls_is_no_answer():
    with serve_socket(babble) as url, pytest.raises(NoAnswerError, match="^SSLError$") as error:
        Post()(Request("POST", f"{url.replace('http', 'https')}/{SECRET}", json={}))
    assert error.value.__cause__ is None


def test_a_silent_name_server_is_left_in_time(quick: None, monkeypatch: pytest.MonkeyPatch):
    """getaddrinfo has no time limit of its own that requests could set."""
    silent = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: silent.wait(60))
    started = time.monotonic()
    with pytest.raises(NoAnswerError, match="^TimeoutError$"):
        Post()(Request("POST", "http://example.org", json={}))
    assert time.monotonic() - started < 3
    silent.set()


def test_no_more_than_two_requests_are_left_hanging(quick: None):
    release = threading.Event()
    post = Post()

    def wait(request):
        release.wait(30)
        return 200, {}, {}

    with serve(wait) as server:
        for _ in range(2):
            with pytest.raises(NoAnswerError, match="TimeoutError"):
                post(Request("POST", server.url, json={}))
        with pytest.raises(NoAnswerError, match="earlier requests still hang"):
            post(Request("POST", server.url, json={}))
        release.set()

        def goes_through() -> bool:
            try:
                return post(Request("POST", server.url, json={})).status == 200
            except NoAnswerError:
                return False

        assert wait_until(goes_through)


def test_a_thread_that_cannot_start_holds_no_place(monkeypatch: pytest.MonkeyPatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    post = Post()
    with serve() as server:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(5):
                with pytest.raises(NoAnswerError, match="^RuntimeError$"):
                    post(Request("POST", server.url, json={}))
        assert post(Request("POST", server.url, json={})).status == 200


def test_no_log_shows_the_path_of_a_request(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with serve() as server:
        requests.get(f"{server.url}/shown", timeout=5)
        assert "/shown" in caplog.text or caplog.text == ""  # hidden once there was a Post
        caplog.clear()
        Post()(Request("POST", f"{server.url}/{SECRET}", json={}))
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, None, 7),
        ({"Retry-After": "99999"}, None, LONGEST_WAIT),
        ({"Retry-After": "-5"}, None, 0),
        ({"Retry-After": "nan"}, None, 0),
        ({"Retry-After": "inf"}, None, LONGEST_WAIT),
        ({"Retry-After": "soon"}, None, 0),
        ({}, {"retry_after": 0.35, "code": 30046}, 0.35),
        ({"Retry-After": "1"}, {"retry_after": 65.5}, 65.5),
        ({}, {"parameters": {"retry_after": 18}}, 18),
        ({}, {"parameters": "odd"}, 0),
        ({}, ["odd"], 0),
    ],
)
def test_the_wait_that_a_server_asks_for_is_read_and_capped(headers, body, seconds: float):
    assert read_wait(Answer(429, headers, body)) == seconds


def test_a_wait_may_be_a_date():
    assert 50 < read_seconds(formatdate(time.time() + 60, usegmt=True)) <= 60
