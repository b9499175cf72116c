import pytest
from receivers import serve
from services import Discord, Telegram

from podium import webhook as webhook_room
from workbench import try_webhook as try_room
from workbench.kernel import VerbError, run_verb
from workbench.try_webhook import try_webhook

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(try_room, "PAUSE", 0.01)
    monkeypatch.setattr(webhook_room, "CLOSING_SECONDS", 1.0)


def test_a_sample_run_shows_what_a_phone_will_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    service = Discord()
    with serve(service) as server:
        monkeypatch.setenv("PODIUM_WEBHOOK", f"discord+{server.url}{service.path}")
        try_webhook([])
    assert capsys.readouterr().out.endswith("delivered: discord\n")
    told = " ".join(one.get("content", "") for one in service.messages.values())
    for words in ("started on 2 × gpu", "fold 0 ended", "finished: out-of-fold accuracy 0.9000"):
        assert words in told
    (card,) = [one for one in service.messages.values() if one.get("embeds")]
    assert card["files"]["files[0]"].startswith(b"\x89PNG")


def test_without_an_address_or_with_a_wrong_one_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("PODIUM_WEBHOOK", raising=False)
    with pytest.raises(VerbError, match="export PODIUM_WEBHOOK"):
        try_webhook([])
    monkeypatch.setenv("PODIUM_WEBHOOK", "ftp://host.example/secret-word")
    assert run_verb(try_webhook, []) == 1
    with serve(lambda _: (404, {}, {"code": 10015})) as server:
        monkeypatch.setenv("PODIUM_WEBHOOK", f"discord+{server.url}/api/webhooks/1/secret-word")
        assert run_verb(try_webhook, []) == 1
    said = capsys.readouterr().out
    assert "Refused: no address can be used; see above" in said
    assert "Refused: not delivered: discord (status 404); the address may be wrong, or" in said
    assert "secret-word" not in said


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((400, {}, {"message": "secret-word"}), "discord (status 400)"),
        ((429, {"Retry-After": "60"}, {}), "discord (status 429)"),
        (None, "discord (ConnectionError)"),
    ],
)
def test_what_a_service_does_not_take_is_not_called_delivered(
    reply, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with serve(lambda _: reply) as server:
        url = server.url if reply else "http://127.0.0.1:9"
        monkeypatch.setenv("PODIUM_WEBHOOK", f"discord+{url}/api/webhooks/1/secret-word")
        assert run_verb(try_webhook, []) == 1
    said = capsys.readouterr().out
    assert f"Refused: not delivered: {words}; " in said
    assert "secret-word" not in said
    assert "delivered: discord\n" not in said


def test_a_telegram_chat_that_is_not_there_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    service = Telegram()
    with serve(service) as server:
        monkeypatch.setenv("PODIUM_WEBHOOK", f"telegram+{server.url}{service.path}?chat_id=7")
        assert run_verb(try_webhook, []) == 1
    said = capsys.readouterr().out
    assert "! the telegram webhook refuses with status 400; its address may be wrong" in said
    assert "Refused: not delivered: telegram (status 400); " in said
