"""The chart library from a registry, good and bad."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from receivers import Reply, serve

from workbench.dashboard import uplot

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
FILES = {member: f"of {name}".encode() for name, member in uplot.MEMBERS.items()}


def pack(files: dict[str, bytes]) -> bytes:
    """A tarball as npm makes them, with more in it than is wanted."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in {**files, "package/README.md": b"#", "../outside": b"!"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def trust(monkeypatch: pytest.MonkeyPatch, tarball: bytes, url: str) -> None:
    """This tarball is the right one, and this the registry."""
    digest = hashlib.sha512(tarball).digest()
    monkeypatch.setattr(uplot, "SHA512", base64.b64encode(digest).decode())
    monkeypatch.setenv("npm_config_registry", url)


def test_it_is_fetched_once_and_only_what_is_used_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tarball, place = pack(FILES), tmp_path / "venv" / "uplot"
    with serve(lambda _: (200, {}, tarball)) as server:
        trust(monkeypatch, tarball, f"{server.url}/npm/")
        found = uplot.find(place)
        assert uplot.find(place) == found
    assert [one.path for one in server.received] == ["/npm/uplot/-/uplot-1.6.32.tgz"]
    assert {name: path.read_bytes() for name, path in found.items()} == {
        "uPlot.iife.min.js": b"of uPlot.iife.min.js",
        "uPlot.min.css": b"of uPlot.min.css",
    }
    assert sorted(one.name for one in place.iterdir()) == sorted(uplot.MEMBERS)
    assert list(place.parent.iterdir()) == [place]
    assert not (tmp_path / "outside").exists()


def test_what_lacks_a_file_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tarball, place = pack(FILES), tmp_path / "uplot"
    place.mkdir()
    (place / uplot.SCRIPT).write_text("half")
    with serve(lambda _: (200, {}, tarball)) as server:
        trust(monkeypatch, tarball, server.url)
        assert uplot.find(place)[uplot.SCRIPT].read_text() == "of uPlot.iife.min.js"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((200, {}, b"another"), "7 bytes with sha512 "),
        ((404, {}, b""), "the answer is 404; go online once, or set npm_config_registry"),
    ],
)
def test_another_answer_than_the_tarball_is_refused(
    reply: Reply, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serve(lambda _: reply) as server:
        monkeypatch.setenv("npm_config_registry", server.url)
        with pytest.raises(uplot.UplotError, match=reason) as caught:
            uplot.find(tmp_path / "uplot")
    assert f"{server.url}/uplot/-/uplot-1.6.32.tgz" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_tarball_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tarball = pack({name: text for name, text in FILES.items() if not name.endswith("css")})
    with serve(lambda _: (200, {}, tarball)) as server:
        trust(monkeypatch, tarball, server.url)
        with pytest.raises(uplot.UplotError, match=r"holds no package/dist/uPlot\.min\.css"):
            uplot.find(tmp_path / "uplot")


def test_without_a_network_the_command_says_what_to_do_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    with serve() as server:
        gone = server.url.replace("//", "//me:secret@")
    monkeypatch.setenv("npm_config_registry", gone)
    monkeypatch.setattr(uplot.find, "__defaults__", (tmp_path / "uplot",))
    assert uplot.main() == 1
    said = capsys.readouterr().err
    assert "nobody answers (ConnectionError); go online once" in said
    assert "secret" not in said
