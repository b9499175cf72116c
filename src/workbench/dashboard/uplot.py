"""uPlot, which draws the page's charts: fetched once, checked, and kept beside the packages.

It is not committed. What comes is the npm registry's tarball of one version, and it is used only if
it has that version's sha512; the registry may be another one, named by npm_config_registry.
"""

import base64
import hashlib
import io
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

import requests

VERSION = "1.6.32"
SHA512 = "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
REGISTRY = "https://registry.npmjs.org"
SCRIPT, STYLE, LICENCE = "uPlot.iife.min.js", "uPlot.min.css", "LICENSE"
MEMBERS = {
    SCRIPT: f"package/dist/{SCRIPT}",
    STYLE: f"package/dist/{STYLE}",
    LICENCE: f"package/{LICENCE}",
}
PLACE = Path(__file__).resolve().parents[3] / ".venv" / f"uplot-{VERSION}"
PATIENCE = (10, 60)  # seconds to connect, and between two parts of the answer


class UplotError(Exception):
    """The library is not here and could not be fetched; the text says what to do."""


def find(place: Path = PLACE) -> dict[str, Path]:
    """The script and the style sheet by name, fetched if they are not there; raises UplotError."""
    if not all((place / name).is_file() for name in MEMBERS):
        keep(unpack(fetch()), place)
    return {name: place / name for name in (SCRIPT, STYLE)}


def fetch() -> bytes:
    """The tarball from the registry, with the right hash; raises UplotError."""
    registry = os.environ.get("npm_config_registry") or REGISTRY  # noqa: SIM112
    path = f"/uplot/-/uplot-{VERSION}.tgz"
    address = re.sub("//[^/@]*@", "//", registry.rstrip("/") + path)  # as it may be shown
    try:
        answer = requests.get(registry.rstrip("/") + path, timeout=PATIENCE)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise UplotError(
            f"uPlot {VERSION} could not be fetched from {address}: {describe(error)}; go online "
            f"once, or set npm_config_registry to a registry that answers"
        ) from error
    found = base64.b64encode(hashlib.sha512(answer.content).digest()).decode()
    if found != SHA512:
        raise UplotError(
            f"{address} answers {len(answer.content)} bytes with sha512 {found}, and uPlot "
            f"{VERSION} has {SHA512}; set npm_config_registry to a registry that has the original"
        )
    return answer.content


def describe(error: requests.RequestException) -> str:
    """What went wrong in few words, without an address, which may hold a password."""
    if error.response is not None:
        return f"the answer is {error.response.status_code}"
    return f"nobody answers ({type(error).__name__})"


def unpack(tarball: bytes) -> dict[str, bytes]:
    """The files that are used, by name; raises UplotError where one is missing."""
    files = dict[str, bytes]()
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        for name, member in MEMBERS.items():
            try:
                held = archive.extractfile(member)
            except KeyError:
                held = None
            if held is None:
                raise UplotError(f"the tarball of uPlot {VERSION} holds no {member}")
            files[name] = held.read()
    return files


def keep(files: dict[str, bytes], place: Path) -> None:
    """Writes the files, all or none of them: who finds one finds the others."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="uplot-") as half:
        made = Path(half) / "made"
        made.mkdir()
        for name, content in files.items():
            (made / name).write_bytes(content)
        if place.exists():  # of a broken earlier time
            place.rename(Path(half) / "old")
        made.rename(place)


def main() -> int:
    """Fetches the library if it is not there, and says where it is."""
    try:
        print(find()[SCRIPT].parent)
    except UplotError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
