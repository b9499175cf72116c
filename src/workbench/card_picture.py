"""Draws what each chat service is sent for a run, so that a person can judge it.

    PYTHONPATH=src .venv/bin/python -m workbench.card_picture runs/dry-run docs/images/card.png

The run's events are replayed to the sinks three times: half of them, all of them, and half of them
with a crash. The requests are caught and laid out on one page, of which a headless Chromium takes
the picture. The services' own looks differ; lights are drawn as dots, which need no emoji font.
"""

import argparse
import base64
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from podium.address import read_webhook
from podium.card import LIGHTS
from podium.curves import write_curves
from podium.events import read_record
from podium.post import Answer, Request
from podium.sinks import CURVES_FILE, CardSink, Event

ADDRESSES = {
    "Discord": "https://discord.com/api/webhooks/1/token",
    "Telegram": "tgram://1:token/2",
    "ntfy": "https://ntfy.sh/topic",
    "Slack": "https://hooks.slack.com/services/T/B/token",
}
COLOURS = {"running": "#2fa84f", "warned": "#e6b400", "finished": "#111", "failed": "#d33"}
CARD_FIELDS = ("sequence_id", "disable_notification", "message_id")  # of no other message
CRASH = """Traceback (most recent call last):
  File "podium.py", line 4242, in train_fold
    model.fit(data, callbacks=callbacks)
ResourceExhaustedError: out of memory while allocating 4.21 GiB on GPU:0"""
WIDTH, TALLEST = 1408, 3000  # pixels
PAGE = """<!doctype html><meta charset="utf-8"><style>
body{margin:0;padding:20px;background:#e8ebf0;font:14px/1.4 system-ui,"DejaVu Sans",sans-serif;
display:grid;grid-template-columns:repeat(4,330px);gap:6px 16px;align-items:start}
h1{grid-column:1/-1;font-size:17px;margin:12px 0 0}h2{font-size:14px;margin:0 0 6px;color:#555}
.message{background:#fff;border-radius:10px;padding:10px 12px;margin-bottom:8px;
white-space:pre-wrap;overflow-wrap:anywhere}.card{border-left:5px solid #0072b2}
pre{margin:4px 0 0;padding:6px;background:#f2f3f5;font-size:12px;white-space:pre-wrap}
.light{display:inline-block;width:12px;height:12px;border-radius:6px;vertical-align:-1px}
img{width:100%;margin-top:8px;border-radius:6px;display:block}
</style>"""


def main(argv: Sequence[str]) -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser("card_picture", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder with events.jsonl and fold*/")
    parser.add_argument("picture", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE + draw_states(options.run, Path(folder)), encoding="utf-8")
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        words += ["--disable-background-networking", f"--user-data-dir={folder}/profile"]
        words += [f"--window-size={WIDTH},{TALLEST}", f"--screenshot={options.picture.resolve()}"]
        done = subprocess.run(["chromium", *words, page.as_uri()], capture_output=True, check=False)
    if done.returncode == 0:
        crop_picture(options.picture)
    print(options.picture if done.returncode == 0 else done.stderr.decode()[-500:])
    return done.returncode


def draw_states(run: Path, folder: Path) -> str:
    """A row for each way a run can stand, a column for each service."""
    rows = list[str]()
    for title, events in choose_states([event for event, _ in read_record(run / "events.jsonl")]):
        place = folder / title
        place.mkdir()
        draw_curves_so_far(run, events, place)
        rows.append(f"<h1>{title}</h1>")
        rows += [draw_cell(name, address, events, place) for name, address in ADDRESSES.items()]
    return "".join(rows)


def choose_states(events: Sequence[Event]) -> list[tuple[str, Sequence[Event]]]:
    """The events of a running, a finished and a crashed run, made from those of one that ended."""
    epochs = [place for place, one in enumerate(events) if one["event"] == "epoch_ended"]
    half = list(events[: epochs[len(epochs) // 2] + 1])
    crash = {**half[-1], "event": "run_failed", "error": "ResourceExhaustedError", "reason": CRASH}
    return [("Running", half), ("Finished", events), ("Crashed", [*half, crash])]


def draw_curves_so_far(run: Path, events: Sequence[Event], folder: Path) -> None:
    """The picture as it was then: of the folds that had ended."""
    for fold in [event["fold"] for event in events if event["event"] == "fold_ended"]:
        (folder / f"fold{fold}").mkdir()
        shutil.copy(run / f"fold{fold}" / "history.csv", folder / f"fold{fold}")
    write_curves(folder)


def draw_cell(name: str, address: str, events: Sequence[Event], folder: Path) -> str:
    """The last card and the last news of one service."""
    cards, news = list[str](), list[str]()
    for request in catch_requests(address, events, folder):
        text, is_card = read_message(request)
        if request.method == "PUT":  # ntfy's picture follows the text it belongs to
            news[-1] += text
        else:
            (cards if is_card else news).append(text)
    messages = [f'<div class="message card">{text}</div>' for text in cards[-1:]]
    messages += [f'<div class="message">{text}</div>' for text in news[-1:]]
    return f"<div><h2>{name}</h2>{''.join(messages)}</div>"


def catch_requests(address: str, events: Sequence[Event], folder: Path) -> list[Request]:
    """What a sink for people sends for events, one by one."""
    sent, memory = list[Request](), dict[str, Any]()
    sink = read_webhook(address, folder)
    assert isinstance(sink, CardSink)  # noqa: S101

    def catch(request: Request) -> Answer:
        sent.append(request)
        return Answer(200, {}, {"id": "1", "result": {"message_id": 1}})

    for event in events:
        sink.deliver([event], memory, catch)
        sink.note([event])
        sink.deliver([], memory, catch)
        sink.note([])
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
    shown = (f"<b>{show_text(title)}</b>\n" if title else "") + show_text(text)
    is_card = bool(embed) or any(one in content for one in CARD_FIELDS)
    return shown + "".join(show_picture(one) for one in pictures), is_card


def show_text(text: str) -> str:
    """A text as HTML: Discord's bold and code as it shows them, lights as dots."""
    shown = html.escape(html.unescape(text))
    shown = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", shown)
    shown = re.sub(r"```\n(.*?)\n```", r"<pre>\1</pre>", shown, flags=re.DOTALL)
    for state, light in LIGHTS.items():
        colour = COLOURS.get(state, "#e67e00")
        shown = shown.replace(light, f'<span class="light" style="background:{colour}"></span>')
    return shown


def show_picture(content: bytes) -> str:
    """A picture inside the page."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{CURVES_FILE}" src="data:image/png;base64,{data}">'


def crop_picture(path: Path) -> None:
    """Takes away what is empty below, and colours that nobody sees."""
    with Image.open(path) as picture:
        drawn = picture.convert("RGB")
    empty = Image.new("RGB", drawn.size, drawn.getpixel((0, drawn.height - 1)))
    _, _, _, bottom = ImageChops.difference(drawn, empty).getbbox()
    cropped = drawn.crop((0, 0, drawn.width, min(drawn.height, bottom + 20)))
    cropped.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
