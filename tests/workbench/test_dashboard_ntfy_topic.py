"""A topic is read within limits, whatever its server does."""

import pytest
from ntfy_server import serve_ntfy
from receivers import serve

from podium.post import NoAnswerError, RefusedError
from workbench.dashboard import ntfy_topic as topic_room
from workbench.dashboard.ntfy_topic import Topic, read_lines

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def test_a_topics_messages_are_read_from_a_time_on():
    with serve_ntfy() as server:
        topic = Topic(f"{server.url}/one")
        for number in range(3):
            server.ahead = 60.0 * number
            topic.publish(f"{number}".encode(), "")
            topic.publish(b"of another topic", "-ctl")
        moment = server.messages[2]["time"]
        read = [list(topic.read(since, polls=True)) for since in ("all", str(moment), "1h")]
    texts = [[one["message"] for one in part] for part in read]
    assert texts == [["0", "1", "2"], ["1", "2"], ["0", "1", "2"]]
    assert {one["priority"] for one in server.messages} == {1}


def test_a_redirect_is_not_followed():
    with serve() as other, serve(lambda _: (302, {"location": other.url}, {})) as server:
        topic = Topic(f"{server.url}/one")
        with pytest.raises(RefusedError, match="status 302"):
            list(topic.read("all", polls=True))
        assert topic.read_text({"id": "x", "attachment": {}}) is None
        assert other.received == []


def test_a_file_too_long_for_an_event_is_not_read(monkeypatch):
    with serve_ntfy() as server:
        topic = Topic(f"{server.url}/one")
        for size in (4095, 4096, 5000, 5001):
            topic.publish(b"x" * size, "")
        monkeypatch.setattr(topic_room, "LONGEST_FILE", 5000)
        texts = [topic.read_text(one) for one in server.messages]
    assert [text and len(text) for text in texts] == [4095, 4096, 5000, None]


def test_a_line_that_does_not_end_is_not_read_for_ever(monkeypatch):
    class Endless:
        def read1(self, most: int, decode_content: bool) -> bytes:
            return b"x" * 10_000

    with pytest.raises(NoAnswerError):
        list(read_lines(Endless()))
    clock = iter(range(0, 100_000, 40))
    monkeypatch.setattr(topic_room.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(Endless, "read1", lambda *_, **__: b"x")
    with pytest.raises(NoAnswerError):
        list(read_lines(Endless()))
    monkeypatch.setattr(
        Endless, "read1", lambda *_, parts=[b"a\nb", b"c\n", b""], **__: parts.pop(0)
    )
    assert list(read_lines(Endless())) == [b"a", b"bc"]
