"""What the start says: where the page is, and what senders need to find it."""

import io
import socket
from collections.abc import Iterator
from urllib.parse import quote

import segno

from workbench.dashboard.door import Gate
from workbench.dashboard.keys import Keys


def list_lines(gate: Gate, keys: Keys, relay: str = "") -> Iterator[str]:
    """The lines to copy from; they hold the keys, and nothing else ever shows them."""
    base = find_base(gate)
    if gate.needs_login:
        yield from list_link(gate)
    else:
        yield f"the live page    {base}/"
    yield f'a run finds it   export PODIUM_WEBHOOK="{base}/ingest#{keys.secret}"'
    if relay:
        yield f'or by relay      export PODIUM_WEBHOOK="relay+{relay}#{keys.secret}"'
    root = f"{base}/keras/{keys.write}/my-run"
    yield f'Keras finds it   keras.callbacks.RemoteMonitor(root="{root}")'
    yield f"it is kept in    {gate.store.path}"


def list_link(gate: Gate) -> Iterator[str]:
    """The link that lets one browser in, and the same for a phone's camera."""
    link = f"{find_base(gate)}/enter?code={quote(gate.code)}"
    yield f"the live page    {link}"
    yield "                 good for one browser, which then stays in for 30 days"
    if not gate.near:
        picture = io.StringIO()
        segno.make(link, error="l").terminal(picture, compact=True)
        yield picture.getvalue()


def find_base(gate: Gate) -> str:
    """The address that others find the server under; a name is that of a tunnel, or of a proxy."""
    if gate.near and gate.hosts:
        return f"https://{min(gate.hosts)}"
    if gate.near or gate.listen not in ("0.0.0.0", "::"):  # noqa: S104
        name = "127.0.0.1" if gate.listen == "localhost" else gate.listen
    else:
        name = find_own_address()
    return f"http://[{name}]:{gate.port}" if ":" in name else f"http://{name}:{gate.port}"


def find_own_address() -> str:
    """The address of this machine in its network; the loopback one without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing; the address is nobody's (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(asking.getsockname()[0])
