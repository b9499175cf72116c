"""Chat: the card on Discord, Slack, Telegram and ntfy, within their limits

The limits are those of each service's documents: Discord, "Webhook Resource" and "Message";
Slack, "Incoming webhooks" and "Block Kit"; Telegram, "Bot API"; ntfy, "Publishing".
"""

import base64
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from podium.card import Card, News, clean_text, list_lines
from podium.post import Answer, GoneError, RefusedError, Request
from podium.sinks import CURVES_FILE, CardSink, Memory, Send, send_with_picture

COLOURS = {"running": 0x0072B2, "warned": 0xE69F00, "finished": 0x009E73}
FAILED_COLOUR = 0xD55E00
UNKNOWN_MESSAGE = 10008  # Discord: somebody deleted it
TOO_MANY_EDITS = 30046  # Discord: of a message older than an hour
SLOW_PAUSE = 60.0  # seconds between edits of such a message
SLACK_EVERY = 900.0


class DiscordSink(CardSink):
    """One message whose embed is edited in place, the curves attached; news as messages."""

    name = "discord"

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        super().__init__(parts._replace(path=parts.path.rstrip("/"), query="").geturl(), folder)
        self.query = dict(parse_qsl(parts.query))  # of a thread, perhaps

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A message, with the curves if there are new ones."""
        text = clean_text(news.text, 1900)
        if news.kind == "failed":
            text = f"```\n{text.replace('`', 'ʼ')}\n```"
        content = {"content": f"**{clean_text(card.title, 80)}** {text}"}
        picture = self.read_curves() if news.shows_curves else None
        send_with_picture(partial(self.write, content, ""), picture, send)

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Edits the message, or posts one if there is none or it was deleted."""
        if "message" in memory:
            self.pause = SLOW_PAUSE if card.now - memory["posted"] > 3600 else CardSink.pause
            try:
                draw = partial(self.draw, card, memory["message"])
                send_with_picture(draw, self.read_curves(), send)
            except RefusedError as refusal:
                if refusal.code not in (UNKNOWN_MESSAGE, TOO_MANY_EDITS):
                    raise
                memory.pop("message")
                if refusal.code == TOO_MANY_EDITS:
                    raise  # with the wait it asks for; the next card is a new message
            else:
                return
        answer = send_with_picture(partial(self.draw, card, ""), self.read_curves(), send)
        if isinstance(answer.body, dict) and "id" in answer.body:
            memory.update(message=str(answer.body["id"]), posted=card.now)

    def draw(self, card: Card, message: str, picture: bytes | None) -> Request:
        """The embed, with the picture: an edit drops files that do not come with it again."""
        embed: dict[str, Any] = {
            "title": clean_text(card.headline, 256),
            "description": clean_text("\n".join(list_lines(card)), 4096),
            "color": COLOURS.get(card.state, FAILED_COLOUR),
        }
        if picture is not None:
            embed["image"] = {"url": f"attachment://{CURVES_FILE}"}
        return self.write({"embeds": [embed]}, message, picture)

    def write(self, content: dict[str, Any], message: str, picture: bytes | None) -> Request:
        """A new message or an edit, perhaps with the picture, by which nobody is mentioned."""
        method, path = ("PATCH", f"/messages/{message}") if message else ("POST", "")
        # Discord tells a new message's id only to who waits for it.
        query = urlencode(self.query if message else {**self.query, "wait": "true"})
        url = f"{self.url}{path}?{query}".rstrip("?")
        content = {**content, "allowed_mentions": {"parse": []}}
        if picture is None:
            return Request(method, url, json=content)
        content["attachments"] = [
            {"id": 0, "filename": CURVES_FILE, "description": "Learning curves of all folds"}
        ]
        files = {
            "payload_json": ("", json.dumps(content).encode(), "application/json"),
            "files[0]": (CURVES_FILE, picture, "image/png"),
        }
        return Request(method, url, files=files)


class SlackSink(CardSink):
    """Milestones only: a Slack webhook cannot edit what it posted."""

    name, pause = "slack", 2.0

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A message with the card's lines below; what may wait and comes soon is left out."""
        soon = card.now - float(memory.get("spoke", 0)) < SLACK_EVERY
        if soon and news.kind in ("alert", "best", "fold"):
            return
        title = escape_slack(f"{card.headline}: {news.text}", 2900)
        lines = escape_slack("\n".join(list_lines(card)), 2900)
        blocks = [
            {"type": "section", "text": {"type": "mrkdwn", "text": title}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": lines}]},
        ]
        send(Request("POST", self.url, json={"text": title, "blocks": blocks}))
        memory["spoke"] = card.now

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Nothing: there is no card to edit."""


def escape_slack(text: str, most: int) -> str:
    """Text for Slack's mrkdwn, where three characters are control characters."""
    shown = clean_text(text, most // 5)  # an & becomes five characters
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class TelegramSink(CardSink):
    """One message that is edited; news as messages, with the curves as a photo."""

    name, pause = "telegram", 20.0

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        super().__init__(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", folder)
        self.chat = parse_qs(parts.query)["chat_id"][0]

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A message, or a photo with a caption; without markup nothing needs escaping."""
        text, picture = f"{card.title}\n{news.text}", None
        if news.shows_curves:
            picture = self.read_curves()

        def write(picture: bytes | None) -> Request:
            if picture is None:
                return self.write("sendMessage", {"text": cut_utf16(text, 4096)})
            form = {"chat_id": self.chat, "caption": cut_utf16(text, 1024)}
            photo = {"photo": (CURVES_FILE, picture, "image/png")}
            return Request("POST", f"{self.url}/sendPhoto", data=form, files=photo)

        send_with_picture(write, picture, lambda request: self.ask(request, send))

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Edits the message; that it is as it was is no failure.

        One that cannot be edited, since it was deleted or is too old, is sent anew.
        """
        text = cut_utf16("\n".join([card.headline, *list_lines(card)]), 4096)
        if "message" in memory:
            try:
                edit = {"message_id": memory["message"], "text": text}
                self.ask(self.write("editMessageText", edit), send)
            except RefusedError as refusal:
                if "message is not modified" in refusal.words:
                    return
                if not refusal.is_of_content:
                    raise
                memory.pop("message")
            else:
                return
        quiet = {"text": text, "disable_notification": True}
        answer = self.ask(self.write("sendMessage", quiet), send).body
        if isinstance(answer, dict) and "result" in answer:
            memory["message"] = answer["result"]["message_id"]

    def write(self, method: str, content: dict[str, Any]) -> Request:
        """The call of a method of the bot for our chat."""
        return Request("POST", f"{self.url}/{method}", json={"chat_id": self.chat, **content})

    def ask(self, request: Request, send: Send) -> Answer:
        """Sends; a chat that is not there, or not for this bot, is a 400 like any odd message."""
        try:
            return send(request)
        except RefusedError as refusal:
            if refusal.answer.status == 400 and "chat" in refusal.words:
                raise GoneError(refusal.answer) from None
            raise


def cut_utf16(text: str, most: int) -> str:
    """Cleaned text of at most so many UTF-16 units, as Telegram counts; the end is kept."""
    text = clean_text(text, most)
    while len(text.encode("utf-16-le")) // 2 > most:
        text = f"…{text[max(2, len(text) // 50) :]}"
    return text


class NtfySink(CardSink):
    """A notification that is updated in place (server 2.16 or newer), and louder ones for news.

    A public server allows 250 messages a day, so the card changes each five minutes at most.
    """

    name = "ntfy"
    pause = 300.0

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        super().__init__(f"{parts.scheme}://{host}", folder)
        self.topic = parts.path.strip("/")
        self.headers = {"Authorization": f"Bearer {parts.password}"} if parts.password else None

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A notification of its own, urgent if the run failed; then the curves, tried once.

        The text is remembered before, and so not sent again for the sake of the picture.
        """
        sent = [card.now, news.kind]
        if memory.get("sent") == sent:
            return
        loud = {"failed": 5, "alert": 4, "finished": 4}.get(news.kind, 3)
        self.publish(card, news.text, {"priority": loud}, send)
        memory["sent"] = sent
        picture = self.read_curves() if news.shows_curves else None
        if picture is not None:
            self.attach(picture, card, send)

    def attach(self, picture: bytes, card: Card, send: Send) -> None:
        """The curves, which are dropped if they are not taken; only a wait is passed on."""
        headers = {"Filename": CURVES_FILE, "Title": encode_header(card.title), "Priority": "2"}
        headers |= self.headers or {}
        try:
            send(Request("PUT", f"{self.url}/{self.topic}", data=picture, headers=headers))
        except RefusedError as refusal:
            if refusal.answer.status == 429:
                raise

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """The card, quietly, under one sequence id."""
        name = hashlib.sha256(f"{card.title}{card.started}".encode()).hexdigest()[:16]
        quiet = {"priority": 2, "sequence_id": memory.setdefault("message", name)}
        self.publish(card, "\n".join(list_lines(card)), quiet, send)

    def publish(self, card: Card, text: str, more: dict[str, Any], send: Send) -> None:
        """Publishes as JSON, which takes any letters."""
        title, text = clean_text(card.headline, 200), clean_text(text, 1000)
        content = {"topic": self.topic, "title": title, "message": text, **more}
        send(Request("POST", self.url, json=content, headers=self.headers))


def encode_header(text: str) -> str:
    """Any text as an HTTP header (RFC 2047)."""
    return f"=?UTF-8?B?{base64.b64encode(clean_text(text, 200).encode()).decode()}?="
