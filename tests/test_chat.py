"""Each payload goes to a receiver that enforces its service's documented limits."""

import io
import json
from pathlib import Path
from typing import Any

import apprise
import numpy as np
import pytest
import requests
from PIL import Image
from receivers import Server, serve
from sample_run import hand_over, make_events
from services import Discord, Ntfy, Slack, Telegram

from podium.address import read_webhook
from podium.chat import cut_utf16, encode_header, escape_slack
from podium.post import Answer, Post, RefusedError, Request
from podium.sinks import CURVES_FILE, CardSink

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
EVENTS = list(make_events())
GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "@everyone <@1> <!channel> *_`|~ [x](y) <img src=x onerror=alert(1)> \u202e" + "🏁" * 9000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a picture of curves."""
    drawn = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(drawn, "PNG")
    (tmp_path / CURVES_FILE).write_bytes(drawn.getvalue())
    return tmp_path


def open_sink(kind: str, server: Server, service: Any, folder: Path) -> CardSink:
    path = {
        "discord": lambda: service.path,
        "slack": lambda: service.path,
        "telegram": lambda: f"{service.path}?chat_id={service.chat}",
        "ntfy": lambda: f"/{service.topic}",
    }[kind]()
    sink = read_webhook(f"{kind}+{server.url}{path}", folder)
    assert isinstance(sink, CardSink)
    return sink


def replay(sink: CardSink, events, memory: dict[str, Any] | None = None) -> dict[str, Any]:
    """Delivers event by event, as a slow run would; returns the sink's memory."""
    memory = {} if memory is None else memory
    for event in events:
        hand_over(sink, [event], memory, Post())
        memory = json.loads(json.dumps(memory))
    return memory


def check_golden(name: str, messages: object) -> None:
    """Compares with tests/golden; to renew a file, delete it, run, and read what was written."""
    path = GOLDEN / f"{name}.json"
    text = json.dumps(messages, indent=1, ensure_ascii=False, default=lambda _: "a picture") + "\n"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path} was missing and is written now; read it and run again")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["discord", "slack", "telegram", "ntfy"])
def test_a_whole_run_is_taken_and_reads_as_it_should(kind: str, folder: Path):
    service: Any = {"discord": Discord, "slack": Slack, "telegram": Telegram, "ntfy": Ntfy}[kind]()
    with serve(service) as server:
        replay(open_sink(kind, server, service, folder), EVENTS)
    shown = {"messages": getattr(service, "shown", service.messages)}
    check_golden(kind, shown | {"photos": getattr(service, "photos", [])})


@pytest.mark.parametrize("kind", ["discord", "slack", "telegram", "ntfy"])
def test_hostile_texts_stay_within_every_limit_and_ring_nobody(kind: str, folder: Path):
    service: Any = {"discord": Discord, "slack": Slack, "telegram": Telegram, "ntfy": Ntfy}[kind]()
    start = EVENTS[0]
    settings = {**start["settings"], "model.backbone": HOSTILE}
    events = [
        {**start, "settings": settings},
        {**EVENTS[1], "text": HOSTILE},
        *EVENTS[2:9],
        {**EVENTS[-1], "event": "run_failed", "error": "E", "reason": "```\n" + HOSTILE},
    ]
    with serve(service) as server:
        replay(open_sink(kind, server, service, folder), events)
    assert service.messages


def test_discord_edits_one_message_and_posts_only_news(folder: Path):
    service = Discord()
    with serve(service) as server:
        replay(open_sink("discord", server, service, folder), EVENTS)
    cards = [one for one in service.messages.values() if one.get("embeds")]
    assert len(cards) == 1
    assert service.edits > 10
    assert cards[0]["files"]["files[0]"].startswith(b"\x89PNG")
    assert cards[0]["embeds"][0]["title"] == "🏁 keras:EfficientNetV2B0, 224 px"


def test_a_card_that_somebody_deleted_is_posted_anew(folder: Path):
    for kind, service in (("discord", Discord()), ("telegram", Telegram())):
        with serve(service) as server:
            sink = open_sink(kind, server, service, folder)
            memory = replay(sink, EVENTS[2:4])
            before = len(service.messages)
            service.messages.clear()
            replay(sink, EVENTS[4:5], memory)
            assert before == len(service.messages) == 1


def test_too_many_edits_of_an_old_discord_message_lead_to_a_new_one(folder: Path):
    service = Discord()
    with serve(service) as server:
        sink = open_sink("discord", server, service, folder)
        memory = replay(sink, EVENTS[2:4])
        body = {"message": "Maximum number of edits", "code": 30046, "retry_after": 65.0}
        service.replies = [(429, {"Retry-After": "65"}, body)]
        with pytest.raises(RefusedError, match="429"):
            hand_over(sink, EVENTS[4:5], memory, Post())
        hand_over(sink, [], memory, Post())
    assert len(service.messages) == 2


def test_an_old_discord_message_is_edited_less_often(folder: Path):
    service = Discord()
    with serve(service) as server:
        sink = open_sink("discord", server, service, folder)
        replay(sink, EVENTS[2:4])
        assert sink.pause == 15
        replay(sink, EVENTS[4:11], {"message": "1000", "posted": EVENTS[2]["time"]})
        assert sink.pause == 60


def test_telegram_takes_an_unchanged_card_for_success(folder: Path):
    service = Telegram()
    with serve(service) as server:
        sink = open_sink("telegram", server, service, folder)
        memory = replay(sink, EVENTS[2:4])
        sink.shown = sink.shown.__class__()  # as after a restart, which cannot know what is shown
        hand_over(sink, [], memory, Post())
    assert len(service.messages) == 1


def test_a_wrong_telegram_token_and_a_wrong_chat_are_refusals(folder: Path):
    service = Telegram()
    with serve(service) as server:
        for path, status in ((f"/bot1:no?chat_id={service.chat}", 401), (service.path, 400)):
            url = f"telegram+{server.url}{path}"
            sink = read_webhook(url if "?" in url else f"{url}?chat_id=7", folder)
            with pytest.raises(RefusedError, match=f"status {status}"):
                hand_over(sink, EVENTS[:1], {}, Post())


def test_ntfy_updates_one_notification_and_authorises(folder: Path):
    service = Ntfy(token="tk_secret")
    with serve(service) as server:
        url = server.url.replace("http://", "http://:tk_secret@")
        sink = read_webhook(f"ntfy+{url}/{service.topic}", folder)
        replay(sink, EVENTS)
        named = {one["sequence_id"] for one in service.messages if one.get("sequence_id")}
        assert len(named) == 1
        sink = read_webhook(f"ntfy+{server.url}/{service.topic}", folder)
        with pytest.raises(RefusedError, match="403"):
            hand_over(sink, EVENTS, {}, Post())


def test_slack_hears_of_five_quick_folds_by_their_start_and_finish_alone(folder: Path):
    service, start = Slack(), EVENTS[0]["time"]
    folds = [
        {**EVENTS[8], "fold": fold, "time": start + 100 * (fold + 1), "event": "fold_ended"}
        for fold in range(5)
    ]
    crash = {**EVENTS[-1], "event": "run_failed", "reason": "E: why"}
    ends = [{**one, "time": start + 510} for one in (EVENTS[1], EVENTS[-1], crash)]
    late = {**folds[0], "time": start + 1500}
    with serve(service) as server:
        replay(open_sink("slack", server, service, folder), [EVENTS[0], *folds, *ends, late])
    words = ("started on", "finished: ", "crashed:", "fold 0 ended")
    assert len(service.messages) == len(words)
    for message, word in zip(service.messages, words, strict=True):
        assert word in message["text"]


def test_slack_leaves_out_a_best_that_comes_soon(folder: Path):
    service = Slack()
    best = {**EVENTS[3], "time": EVENTS[0]["time"] + 1900, "valid/accuracy": 0.99}
    with serve(service) as server:
        sink = open_sink("slack", server, service, folder)
        warned = {**EVENTS[1], "time": best["time"] - 60}
        replay(sink, [EVENTS[0], EVENTS[3], warned, best])
    assert len(service.messages) == 2


def test_a_discord_address_with_a_thread_posts_and_edits_there(folder: Path):
    service = Discord()
    service.thread = "55"
    with serve(service) as server:
        url = f"discord+{server.url}{service.path}?thread_id=55"
        replay(read_webhook(url, folder), EVENTS)
    cards = [one for one in service.messages.values() if one.get("embeds")]
    assert len(cards) == 1
    assert service.edits > 10


def test_a_picture_that_is_refused_costs_no_news_and_no_card(folder: Path):
    discord, telegram = Discord(), Telegram()
    for kind, service in (("discord", discord), ("telegram", telegram)):
        service.takes_files = False
        with serve(service) as server:
            replay(open_sink(kind, server, service, folder), EVENTS)
        told = [one.get("content") or one.get("text") or "" for one in service.messages.values()]
        for words in ("fold 0 ended", "fold 1 ended", "finished: "):
            assert sum(words in one for one in told) == 1, (kind, words)
    cards = [one for one in discord.messages.values() if one.get("embeds")]
    assert [one["embeds"][0]["title"][0] for one in cards] == ["🏁"]


def test_a_telegram_card_that_can_no_longer_be_edited_is_sent_anew(folder: Path):
    service = Telegram()
    with serve(service) as server:
        sink = open_sink("telegram", server, service, folder)
        memory = replay(sink, EVENTS[2:4])
        service.takes_edits = False
        memory = replay(sink, EVENTS[4:5], memory)
        service.takes_edits = True
        replay(sink, EVENTS[5:6], memory)
    cards = [one["text"] for one in service.messages.values() if "images/s" in one["text"]]
    assert ["epoch 2 of" in one for one in cards] == [False, True]


def ask_apprise(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """The address and the JSON that apprise, an outsider, posts for a title and a message."""
    posted = []

    def post(url: str, **options: Any) -> requests.Response:
        posted.append((url, json.loads(options["data"])))
        answer = requests.Response()
        said = b"ok" if "slack" in url else b'{"ok": true, "result": {"message_id": 1}}'
        answer.status_code, answer._content = 200, said
        return answer

    monkeypatch.setattr(requests, "post", post)
    monkeypatch.setattr(requests, "request", lambda method, url, **more: post(url, **more))
    outsider = apprise.Apprise()
    assert outsider.add(url)
    assert outsider.notify(body="a message", title="a title")
    return posted[-1]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # one of apprise's imports
@pytest.mark.parametrize(
    ("theirs", "ours", "fields"),
    [
        (
            "discord://1234567890/tokentokentokentokentoken",
            "https://discord.com/api/webhooks/1234567890/tokentokentokentokentoken",
            {"content"},
        ),
        (
            "tgram://123456789:abcdefghijklmnopqrstuvwxyzabcdefghi/-100200",
            "tgram://123456789:abcdefghijklmnopqrstuvwxyzabcdefghi/-100200",
            {"text", "chat_id"},
        ),
        ("ntfys://ntfy.sh/topic", "https://ntfy.sh/topic", {"topic", "title", "message"}),
        (
            "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
            "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
            set(),  # apprise's texts are attachments, which Slack calls legacy
        ),
    ],
)
def test_an_outsider_posts_the_same_fields_to_the_same_address(
    theirs: str, ours: str, fields: set[str], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    sent = []

    def keep(request: Request) -> Answer:
        sent.append(request)
        return Answer(200, {}, {})

    hand_over(read_webhook(ours, folder), EVENTS[:1], {}, keep)
    url, content = ask_apprise(theirs, monkeypatch)
    assert sent[0].url.partition("?")[0] == url
    assert fields <= set(content) & set(sent[0].json)
    assert [str(content[name]) for name in fields & {"chat_id", "topic"}] == [
        str(sent[0].json[name]) for name in fields & {"chat_id", "topic"}
    ]


def test_text_is_cut_by_utf16_units_and_escaped_for_slack():
    assert len(cut_utf16("🏁" * 5000, 4096).encode("utf-16-le")) // 2 <= 4096
    assert cut_utf16("short", 10) == "short"
    assert escape_slack("<!channel> & co", 3000) == "&lt;!channel&gt; &amp; co"
    assert len(escape_slack("&" * 9999, 2900)) <= 2900
    assert encode_header("ü") == "=?UTF-8?B?w7w=?="
