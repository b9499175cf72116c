from pathlib import Path

import pytest

from podium.address import WebhookError, is_near, list_secrets, read_webhook, split_address
from podium.chat import NtfySink, TelegramSink
from podium.sinks import JsonSink, KerasSink

DISCORD = "https://discord.com/api/webhooks/123/a-token-of-thirty-or-more-letters"
TELEGRAM = "https://api.telegram.org/bot1234:a-token-of-thirty-five-letters?chat_id=-5"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (DISCORD, "discord"),
        (DISCORD.replace("discord.com", "canary.discord.com"), "discord"),
        (DISCORD.replace("discord.com", "DISCORD.com"), "discord"),
        ("https://hooks.slack.com/services/T/B/token", "slack"),
        (TELEGRAM, "telegram"),
        ("tgram://1234:token/-5", "telegram"),
        ("https://ntfy.sh/topic", "ntfy"),
        ("ntfys://own.example/topic", "ntfy"),
        ("ntfy://127.0.0.1:8080/topic", "ntfy"),
        ("http://127.0.0.1:9000/publish/epoch/end/", "keras"),
        ("keras+https://host.example/other", "keras"),
        ("https://receiver.example/ingest#whsec_c2VjcmV0", "json"),
    ],
)
def test_the_kind_follows_from_the_exact_host_or_the_word_before(
    word: str, kind: str, tmp_path: Path
):
    assert split_address(word)[0] == kind
    assert read_webhook(word, tmp_path).name == kind


@pytest.mark.parametrize(
    "word",
    [
        "https://discord.com.evil.example/api/webhooks/1/token",
        "https://evil.example/discord.com/api/webhooks/1/token",
        "https://evil.example/?hooks.slack.com",
        "https://ntfy.sh@evil.example/topic",
    ],
)
def test_a_host_that_only_looks_like_a_service_is_none(word: str):
    assert split_address(word)[0] == "json"


def test_addresses_become_what_their_service_wants(tmp_path: Path):
    telegram = read_webhook("tgram://1234:token/-5/", tmp_path)
    assert isinstance(telegram, TelegramSink)
    assert (telegram.url, telegram.chat) == ("https://api.telegram.org/bot1234:token", "-5")
    ntfy = read_webhook("https://:tk_pass@own.example:8443/topic", tmp_path)
    assert isinstance(ntfy, JsonSink)
    ntfy = read_webhook("ntfy+https://:tk_pass@own.example:8443/topic", tmp_path)
    assert isinstance(ntfy, NtfySink)
    assert (ntfy.url, ntfy.topic) == ("https://own.example:8443", "topic")
    assert ntfy.headers == {"Authorization": "Bearer tk_pass"}
    plain = read_webhook("https://receiver.example/in?x=1#whsec_c2VjcmV0", tmp_path)
    assert isinstance(plain, JsonSink)
    assert (plain.url, plain.secret) == ("https://receiver.example/in?x=1", "whsec_c2VjcmV0")
    form = read_webhook("keras+http://localhost:9000/publish/epoch/end/", tmp_path)
    as_json = read_webhook("keras-json+http://localhost:9000/publish/epoch/end/", tmp_path)
    assert isinstance(form, KerasSink)
    assert isinstance(as_json, KerasSink)
    assert (form.form, as_json.form) == (True, False)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a-secret-word", "it must begin with https:// and a host"),
        ("ftp://host.example/a-secret", "it must begin with https:// and a host"),
        ("https:///a-secret", "it must begin with https:// and a host"),
        ("https://[a-secret", "it is no address"),
        ("http://host.example/a-secret", "over http anybody on the way can read it; write https"),
        ("pager+https://host.example/a-secret", "its kind is none of discord, slack, telegram"),
        ("https://host.example/#whsec_a-secret", "what follows # must be whsec_ and a key"),
        ("https://host.example/#a-secret", "what follows # must be whsec_ and a key"),
        ("tgram://1234:a-secret/", "a Telegram address needs ?chat_id=…, the chat to write to"),
        ("tgram://1234:a-secret", "a Telegram address needs"),
        ("https://api.telegram.org/bot1:a-secret?chat_id=", "a Telegram address needs"),
        ("https://api.telegram.org/bot1:a-secret?my_chat_id=4", "a Telegram address needs"),
        (TELEGRAM.partition("?")[0], "a Telegram address needs ?chat_id="),
        ("https://ntfy.sh/", "an ntfy address needs a topic"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(
    word: str, message: str, tmp_path: Path
):
    with pytest.raises(WebhookError) as error:
        read_webhook(word, tmp_path)
    assert str(error.value).startswith(message)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("192.168.1.7", True),
        ("8.8.8.8", False),
        ("host.example", False),
        ("localhost.evil.example", False),
    ],
)
def test_only_this_machine_and_private_networks_may_be_told_over_http(host: str, near: bool):
    assert is_near(host) == near


def test_the_parts_that_give_an_address_away_are_known():
    assert "a-token-of-thirty-or-more-letters" in list_secrets(DISCORD)
    assert "bot1234:a-token-of-thirty-five-letters" in list_secrets(TELEGRAM)
    assert "whsec_c2VjcmV0c2VjcmV0" in list_secrets("https://h.example/#whsec_c2VjcmV0c2VjcmV0")
    assert list_secrets("https://[") == []
