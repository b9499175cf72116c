import sys
import threading
from pathlib import Path

import pytest
import requests

from workbench.kaggle_client import (
    KaggleLostError,
    KaggleRefusalError,
    ask,
    check_credentials,
    explain_refusal,
    explain_status,
    first_line,
)


def fail(status: int, body: bytes) -> requests.HTTPError:
    response = requests.Response()
    response.status_code, response._content = status, body
    return requests.HTTPError(response=response)


def test_a_client_that_does_not_answer_is_left_in_time():
    hanging = threading.Event()
    with pytest.raises(KaggleRefusalError, match=r"no answer from Kaggle within 0.05 s"):
        ask(hanging.wait, 0.05)
    hanging.set()


def test_a_client_that_exits_is_a_refusal_with_its_words(capsys: pytest.CaptureFixture[str]):
    def give_up() -> None:
        print("You must authenticate before you can call the Kaggle API.")
        sys.exit(1)

    with pytest.raises(KaggleRefusalError, match="gave up: You must authenticate before"):
        ask(give_up)
    assert capsys.readouterr().out == ""


def test_any_other_error_is_one_line_without_an_address():
    def fail_oddly() -> None:
        raise ValueError("Invalid folder https://api.example/secret\nmore")

    with pytest.raises(
        KaggleRefusalError, match="^the kaggle client refuses: ValueError: Inv"
    ) as e:
        ask(fail_oddly)
    assert "secret" not in str(e.value)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"message": "no"}', "Kaggle knows no such kernel or competition"),
        (418, b"no json", "Kaggle answers with status 418"),
        (503, b"", "trouble of its own (status 503)"),
        (400, b'{"message": "first\\nsecond"}', "(Kaggle says: first)"),
        (400, b"[]", "refuses the request as it is"),
        (400, b'{"error": {"code": 400, "message": "bad slug\\nmore"}}', "(Kaggle says: bad slug)"),
        (
            400,
            b'{"error": {"message": "The kernel source must be less than 1 megabytes in size."}}',
            "less than 1 megabytes in size.; the source must be smaller; move data to a dataset)",
        ),
        (500, b'{"error": "odd"}', "trouble of its own (status 500); try again later"),
    ],
)
def test_a_status_is_explained_in_one_line(status: int, body: bytes, words: str):
    line = explain_status(fail(status, body))
    assert words in line
    assert "\n" not in line


def test_a_refusal_without_a_response_has_the_errors_own_words():
    assert explain_status(requests.HTTPError("no more\nwords")) == "Kaggle refuses: no more"


def test_a_status_that_the_client_rewords_is_explained_as_any_other():
    def reword() -> None:
        try:
            raise fail(401, b"")
        except requests.HTTPError as error:
            raise ValueError("Cannot access kernel: the likely cause is a wrong slug") from error

    with pytest.raises(KaggleRefusalError, match="does not know these credentials"):
        ask(reword)


@pytest.mark.parametrize(
    "error", [requests.ConnectionError(), requests.exceptions.ChunkedEncodingError()]
)
def test_a_connection_that_breaks_is_told_from_a_refusal(error: requests.RequestException):
    def break_off() -> None:
        raise error

    with pytest.raises(KaggleLostError, match=f"cannot be reached .{type(error).__name__}"):
        ask(break_off)


def test_a_soft_refusal_has_its_remedy_and_an_unknown_one_its_words():
    assert explain_refusal("Weekly GPU quota exceeded").endswith("when it is renewed")
    assert explain_refusal("Something new") == "Kaggle refuses: Something new"
    assert first_line("\n  \n word \n") == "word"
    assert first_line("") == "without a word"


def test_credentials_that_others_can_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KaggleRefusalError, match="there are no Kaggle credentials"):
        check_credentials(tmp_path)
    token = tmp_path / ".kaggle" / "access_token"
    token.parent.mkdir()
    token.write_text("x")
    token.chmod(0o640)
    with pytest.raises(KaggleRefusalError, match="others on this machine can read .*; chmod 600"):
        check_credentials(tmp_path)
    token.chmod(0o600)
    check_credentials(tmp_path)
