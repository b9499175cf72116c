"""The live page: runs as they train, on this machine and on your phone.

make dashboard                         this machine alone
"""

import argparse
import os
import socket
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from workbench.dashboard.door import Gate
from workbench.dashboard.keys import Keys, KeysError, open_keys
from workbench.dashboard.site import Site, make_app
from workbench.dashboard.store import FullError, Store

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "runs" / "dashboard"
PORT = 8008


def main(argv: Sequence[str]) -> int:
    """Serves until it is interrupted; returns 1 where it cannot."""
    options = parse_options(argv)
    os.umask(0o077)  # the folder and all in it are the owner's
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        keys, store = open_keys(options.folder), Store(options.folder)
    except (KeysError, FullError) as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, sqlite3.OperationalError) as error:
        print(f"{options.folder} cannot be written: {error}", file=sys.stderr)
        return 1
    try:
        listening = listen(options.listen, options.port)
    except OSError as error:
        print(
            f"{options.listen}:{options.port} is not to be had: {error.strerror}; "
            f"is a dashboard running already? --port takes another",
            file=sys.stderr,
        )
        return 1
    serve(options, listening, keys, store)
    return 0


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("make dashboard", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1", help="address; 0.0.0.0 lets others in")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--host", action="append", default=[], help="a name it is reached under")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the database and the keys")
    return parser.parse_args(argv)


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=128)


def serve(options: argparse.Namespace, listening: socket.socket, keys: Keys, store: Store) -> None:
    """Says where the page is, and serves it."""
    port = listening.getsockname()[1]
    gate = Gate(store, options.listen, port, options.host)
    app = make_app(Site(store, keys, gate, print))
    print(f"http://127.0.0.1:{port}/")
    print(f'export PODIUM_WEBHOOK="http://127.0.0.1:{port}/ingest#{keys.secret}"')
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none"
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
