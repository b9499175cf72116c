"""Draws what each chat service is sent for a run, so that a person can judge it.

    PYTHONPATH=src .venv/bin/python -m workbench.card_picture runs/dry-run docs/images/card.png

The run's events are replayed to the sinks, whose requests are caught and laid out on one page, of
which a headless Chromium takes the picture. The services' own looks differ.
"""

import argparse
import base64
import html
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podium.address import read_webhook
from podium.events import read_record
from podium.post import Answer, Request
from podium.sinks import CURVES_FILE

ADDRESSES = {
    "Discord": "https://discord.com/api/webhooks/1/token",
    "Telegram": "tgram://1:token/2",
    "ntfy": "https://ntfy.sh/topic",
    "Slack": "https://hooks.slack.com/services/T/B/token",
}
NEWS_SHOWN = 1
PAGE = """<!doctype html><meta charset="utf-8"><style>
body{margin:0;padding:20px;background:#e8ebf0;font:14px/1.4 system-ui,"DejaVu Sans",sans-serif;
display:grid;grid-template-columns:repeat(4,330px);gap:16px;align-items:start}
h2{font-size:15px;margin:0 0 8px}.message{background:#fff;border-radius:10px;padding:10px 12px;
margin-bottom:8px;white-space:pre-wrap;overflow-wrap:anywhere}.card{border-left:5px solid #0072b2}
b{display:block;margin-bottom:4px}img{width:100%;margin-top:8px;border-radius:6px}
</style>"""


def main(argv: Sequence[str]) -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser("card_picture", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder with events.jsonl and curves.png")
    parser.add_argument("picture", type=Path)
    options = parser.parse_args(argv)
    columns = [draw_column(name, address, options.run) for name, address in ADDRESSES.items()]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE + "".join(columns), encoding="utf-8")
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        words += ["--disable-background-networking", f"--user-data-dir={folder}/profile"]
        words += ["--window-size=1408,640", f"--screenshot={options.picture.resolve()}"]
        done = subprocess.run(["chromium", *words, page.as_uri()], capture_output=True, check=False)
    print(options.picture if done.returncode == 0 else done.stderr.decode()[-500:])
    return done.returncode


def draw_column(name: str, address: str, run: Path) -> str:
    """The last card and the last news of one service."""
    cards, news = list[str](), list[str]()
    for request in catch_requests(address, run):
        text, is_card = read_message(request)
        (cards if is_card else news).append(text)
    messages = [f'<div class="message card">{text}</div>' for text in cards[-1:]]
    messages += [f'<div class="message">{text}</div>' for text in news[-NEWS_SHOWN:]]
    return f"<div><h2>{name}</h2>{''.join(messages)}</div>"


def catch_requests(address: str, run: Path) -> list[Request]:
    """What a sink sends for the run's events, one by one."""
    sent, memory = list[Request](), dict[str, Any]()
    sink = read_webhook(address, run)

    def catch(request: Request) -> Answer:
        sent.append(request)
        return Answer(200, {}, {"id": "1", "result": {"message_id": 1}})

    for event, _ in read_record(run / "events.jsonl"):
        sink.deliver([event], memory, catch)
    return sent


def read_message(request: Request) -> tuple[str, bool]:
    """A request as HTML, and whether it is the card."""
    files = request.files or {}
    content: Any = request.json or request.data or {}
    if "payload_json" in files:
        content = json.loads(files["payload_json"][1])
    if isinstance(content, bytes):  # ntfy's picture
        return show_picture(content), False
    embed = (content.get("embeds") or [{}])[0]
    title = embed.get("title") or content.get("title") or ""
    text = embed.get("description") or content.get("content") or content.get("message") or ""
    text = text or content.get("text") or content.get("caption") or ""
    if "blocks" in content:
        text = "\n".join([text, content["blocks"][1]["elements"][0]["text"]])
    pictures = [file[1] for name, file in files.items() if name != "payload_json"]
    shown = (f"<b>{html.escape(title)}</b>" if title else "") + html.escape(html.unescape(text))
    is_card = bool(embed) or "sequence_id" in content or "disable_notification" in content
    is_card = is_card or "message_id" in content
    return shown + "".join(show_picture(one) for one in pictures), is_card


def show_picture(content: bytes) -> str:
    """A picture inside the page."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{CURVES_FILE}" src="data:image/png;base64,{data}">'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
