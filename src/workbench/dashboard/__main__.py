"""The live page of runs, as they train: on this machine, and with --listen on your phone.

python -m workbench.dashboard                      serves until Ctrl-C
python -m workbench.dashboard import FOLDER ...    takes run folders in
python -m workbench.dashboard export --run X ...   writes one run as a file for others
"""

import argparse
import contextlib
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import uvicorn

from podium.address import WebhookError, read_webhook
from workbench.dashboard import uplot
from workbench.dashboard.csv_file import write_csv
from workbench.dashboard.door import Gate
from workbench.dashboard.gather import gather_report
from workbench.dashboard.greeting import list_lines, list_link
from workbench.dashboard.keys import Keys, KeysError, open_keys
from workbench.dashboard.overview import list_cards
from workbench.dashboard.pick_up import NoRecordError, pick_up
from workbench.dashboard.relay_reader import RelayReader
from workbench.dashboard.site import Site, make_app, read_files
from workbench.dashboard.static_report import render
from workbench.dashboard.store import FOLDER, FullError, Store
from workbench.dashboard.tensorboard_files import write_tensorboard

PORT, LAST_PORT = 8008, 65_535


class StartError(Exception):
    """What was asked for cannot be done; the message says what to do."""


def main(argv: Sequence[str]) -> int:
    """Does what is asked; what is expected to go wrong is one line and the code 1."""
    verb = VERBS.get(argv[0], serve) if argv else serve
    try:
        verb(argv[1:] if verb is not serve else argv)
    except (StartError, KeysError, FullError, NoRecordError, uplot.UplotError) as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 1
    except (OSError, sqlite3.OperationalError) as error:
        print(f"Refused: {error}; --folder names another place", file=sys.stderr)
        return 1
    return 0


def make_parser(name: str) -> argparse.ArgumentParser:
    """A command line with the folder that each takes."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=form)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="of the database and the keys; runs/dashboard"
    )
    return parser


def open_store(folder: Path) -> Store:
    """The store of a folder, which is made if it is new; raises StartError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Store(folder)
    except (OSError, sqlite3.OperationalError) as error:
        raise StartError(f"{folder} cannot be written: {error}; --folder names another") from error


def serve(argv: Sequence[str]) -> None:
    """Serves the page until it is interrupted."""
    parser = make_parser("make dashboard")
    parser.add_argument("--listen", default="127.0.0.1", help="address; 0.0.0.0 lets others in")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument(
        "--host", action="append", default=[], help="another name that it is reached under"
    )
    parser.add_argument("--relay", help="an ntfy server that runs tell it through: https://ntfy.sh")
    options = parser.parse_args(argv)
    with (
        closing(open_store(options.folder)) as store,
        closing(listen(options.listen, options.port)) as listening,
    ):
        keys = open_keys(options.folder)
        relay = name_relay(options.relay, keys) if options.relay else ""
        gate = Gate(store, options.listen, listening.getsockname()[1], options.host)
        files = read_files(find_library())
        listener = partial(open_relay, relay, keys, store) if relay else None
        site = Site(store, keys, gate, files, partial(say_link, gate), listener)
        print(*list_lines(gate, keys, relay), sep="\n", flush=True)
        run_site(site, listening)


def say_link(gate: Gate) -> None:
    """Shows the link for one more browser, once another has used the last."""
    print(*list_link(gate), sep="\n", flush=True)


def run_site(site: Site, listening: socket.socket) -> None:
    """Answers until it is interrupted."""
    config = uvicorn.Config(
        make_app(site),
        log_level="warning",
        access_log=False,  # an address may hold a key
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def name_relay(server: str, keys: Keys) -> str:
    """The topic's address on an ntfy server; raises StartError if runs could not use it."""
    url = f"{server.rstrip('/')}/{keys.topic}"
    try:
        read_webhook(f"relay+{url}#{keys.secret}", Path())
    except WebhookError as error:
        raise StartError(f"--relay {server} cannot be used: {error}") from None
    return url


def open_relay(url: str, keys: Keys, store: Store) -> RelayReader:
    """Begins to listen to what runs tell through a relay."""
    reader = RelayReader(url, keys.secret, store)
    reader.start()
    return reader


def find_library() -> dict[str, Path]:
    """The library that draws the charts; without it the page shows all but them."""
    try:
        return uplot.find()
    except uplot.UplotError as error:
        print(f"! there will be no charts: {error}", file=sys.stderr)
        return {}


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens; raises StartError."""
    if not 0 <= port <= LAST_PORT:
        raise StartError(f"--port must be 0 to {LAST_PORT}, and 0 takes any that is free")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except OSError as error:
        raise StartError(
            f"{address} port {port} cannot be listened on: {error}; if a dashboard runs already, "
            f"open that one, else --port takes another"
        ) from error


def take_in(argv: Sequence[str]) -> None:
    """Imports run folders, one after the other."""
    parser = make_parser("make dashboard-import")
    parser.add_argument("runs", type=Path, nargs="+", metavar="FOLDER", help="with events.jsonl")
    options = parser.parse_args(argv)
    with closing(open_store(options.folder)) as store:
        for folder in options.runs:
            found = pick_up(store, folder)
            print(f"{folder}: {found.stored} of {found.events} events are new")


def export(argv: Sequence[str]) -> None:
    """Writes one run for a spreadsheet, for TensorBoard, or as a page of its own."""
    parser = make_parser("export")
    parser.add_argument("--run", required=True, help="its id or its name")
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--csv", type=Path, metavar="FILE")
    kinds.add_argument("--tensorboard", type=Path, metavar="DIR")
    kinds.add_argument("--html", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    with closing(open_store(options.folder)) as store, store.reading() as db:
        cards = list_cards(db, time.time())["runs"]
        found = [card for card in cards if options.run in (card["run"], card["name"])]
        if len(found) != 1:
            known = ", ".join(f"{card['run']} ({card['name']})" for card in cards[:20]) or "none"
            raise StartError(f"--run must name one of the runs: {known}")
        (card,) = found
        (number,) = db.execute("SELECT id FROM runs WHERE run = ?", (card["run"],)).fetchone()
        if options.csv:
            with options.csv.open("w", newline="", encoding="utf-8") as file:
                file.writelines(write_csv(db, number, card))
        elif options.html:
            page = render(gather_report(db, time.time(), [card["run"]]))
            options.html.write_text(page, encoding="utf-8")
        else:
            write_tensorboard(db, number, card, options.tensorboard)
        print(options.csv or options.html or options.tensorboard)


VERBS = {"import": take_in, "export": export}

if __name__ == "__main__":
    os.umask(0o077)  # the folder and all in it are the owner's
    sys.exit(main(sys.argv[1:]))
