"""The real kaggle client, asked through Python: its command line reports refusals as success.

Works with kaggle 2.0.2, the version on Kaggle's own image, and with later ones. Whatever goes wrong
becomes one line that says what to do.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from podium.attempt import call_in_time, describe_error

ANSWER_SECONDS = 120.0
TRANSFER_SECONDS = 1800.0
CREDENTIALS_HELP = (
    "create a token on kaggle.com/settings, save it as ~/.kaggle/access_token and chmod 600 it, "
    "or set KAGGLE_API_TOKEN"
)
# What an HTTP status of Kaggle's means here, and the remedy.
STATUSES = {
    400: "Kaggle refuses the request as it is",
    401: f"Kaggle does not know these credentials; {CREDENTIALS_HELP}",
    403: "Kaggle forbids it: accept the competition's rules in the browser, check that the kernel "
    "is yours, and that the token may do this",
    404: "Kaggle knows no such kernel or competition; check its address, owner/slug",
    409: "the title or slug is taken by another kernel of yours; choose another name in the "
    "competition's file, or delete the other kernel",
    413: "Kaggle takes sources of less than 1 MB",
    429: "too many requests; wait a minute and try again",
}
# Words in Kaggle's soft refusals, which come with status 200, and the remedy.
SOFT_REFUSALS = {
    "session count": "wait until one of your running sessions ends, or cancel it in the browser",
    "notebook not found": "check the kernel's address; a slug that was renamed keeps its old id",
    "kernel not found": "check the kernel's address, owner/slug",
    "already in use": "choose another name in the competition's file",
    "1 megabytes": "the source must be smaller; move data to a dataset",
    "quota": "the week's quota is used up; `make quota` tells when it is renewed",
}
# A connection that was lost on the way, or never made.
LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class KaggleRefusalError(Exception):
    """Kaggle, or the client, refused; the message is one line with the remedy."""


class KaggleLostError(KaggleRefusalError):
    """The connection was lost, or no answer came in time: what Kaggle did is not known."""


def check_credentials(home: Path | None = None) -> None:
    """Raises KaggleRefusalError if there are none, or if others on this machine can read them."""
    home = home or Path.home()
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR", home / ".kaggle"))
    files = [config / "kaggle.json", home / ".config" / "kaggle" / "kaggle.json"]
    files += [home / ".kaggle" / name for name in ("access_token", "access_token.txt")]
    files += [home / ".kaggle" / "credentials.json"]
    found = [path for path in files if path.is_file()]
    for path in found:
        if path.stat().st_mode & 0o077:
            raise KaggleRefusalError(f"others on this machine can read {path}; chmod 600 {path}")
    given = os.environ.get("KAGGLE_API_TOKEN") or os.environ.get("KAGGLE_KEY")
    if not found and not given:
        raise KaggleRefusalError(f"there are no Kaggle credentials; {CREDENTIALS_HELP}")


def open_client() -> Any:
    """The authenticated client; raises KaggleRefusalError."""
    check_credentials()

    def authenticate() -> Any:
        # 2.0.2 authenticates when it is imported, prints, and exits if it cannot.
        from kaggle.api.kaggle_api_extended import KaggleApi

        client = KaggleApi()
        client.authenticate()
        return client

    return ask(authenticate)


def ask(call: Callable[[], Any], seconds: float = ANSWER_SECONDS) -> Any:
    """What a call of the client returns; raises KaggleRefusalError for whatever goes wrong.

    What the client prints on the way is kept from the terminal, unless the call fails.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            return call_in_time(call, seconds)
    except KaggleRefusalError:
        raise
    except requests.HTTPError as error:
        raise KaggleRefusalError(explain_status(error)) from None
    except TimeoutError:
        raise KaggleLostError(f"no answer from Kaggle within {seconds:g} s") from None
    except LOST as error:
        name = type(error).__name__
        raise KaggleLostError(f"Kaggle cannot be reached ({name}); check the network") from None
    except SystemExit:
        raise KaggleRefusalError(
            f"the kaggle client gave up: {first_line(printed.getvalue())}; {CREDENTIALS_HELP}"
        ) from None
    except Exception as error:  # the client raises ValueError, KeyError and its own kinds
        if isinstance(error.__context__, requests.HTTPError):  # it rewords 401 and 403 at times
            raise KaggleRefusalError(explain_status(error.__context__)) from None
        raise KaggleRefusalError(f"the kaggle client refuses: {describe_error(error)}") from None


def list_output(client: Any, address: str) -> Iterator[Any]:
    """The pages of a kernel's output, each with its `files` and the session's `log`.

    The client's own call fetches one page in 2.0.2, and writes error pages down as files.
    """
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    request = ApiListKernelSessionOutputRequest()
    request.user_name, request.kernel_slug = address.split("/")

    def list_page() -> Any:
        with client.build_kaggle_client() as kaggle:
            return kaggle.kernels.kernels_api_client.list_kernel_session_output(request)

    more = True
    while more:
        page = ask(list_page)
        yield page
        if more := bool(page.next_page_token):
            request.page_token = page.next_page_token


def download(url: str, path: Path) -> None:
    """Fetches a file of a kernel's output; raises KaggleRefusalError if its link has expired."""
    with requests.get(url, stream=True, timeout=ANSWER_SECONDS) as answer:
        if not answer.ok:
            raise KaggleRefusalError(
                f"{path.name} cannot be fetched (status {answer.status_code}); links expire: "
                f"make pull again"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in answer.iter_content(1 << 20):
                file.write(piece)


def explain_status(error: requests.HTTPError) -> str:
    """One line for an HTTP refusal: Kaggle's own words, if it has any, and the remedy."""
    if error.response is None:
        return f"Kaggle refuses: {first_line(str(error))}"
    status = error.response.status_code
    meaning = STATUSES.get(status, f"Kaggle answers with status {status}")
    if status >= 500:
        meaning = f"Kaggle has trouble of its own (status {status}); try again later"
    words = read_words(error.response)
    return f"{meaning} (Kaggle says: {add_remedy(words)})" if words else meaning


def read_words(response: requests.Response) -> str:
    """Kaggle's own words: an error's body is {"error": {"message": …}} or {"message": …}."""
    try:
        body = response.json()
    except ValueError:
        return ""
    for place in (body, body.get("error")) if isinstance(body, dict) else ():
        if isinstance(place, dict) and place.get("message"):
            return str(place["message"])
    return ""


def explain_refusal(words: str) -> str:
    """One line for a refusal that came as a success."""
    return f"Kaggle refuses: {add_remedy(words)}"


def add_remedy(words: str) -> str:
    """The first line of Kaggle's words, and what to do where they are known."""
    remedies = [remedy for sign, remedy in SOFT_REFUSALS.items() if sign in words.lower()]
    return "; ".join([first_line(words), *remedies[:1]])


def first_line(text: str) -> str:
    """The first line that is not empty, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200] if lines else "without a word"
