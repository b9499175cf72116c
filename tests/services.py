"""Receivers that enforce the documented limits of Discord, Slack, Telegram and ntfy.

Sources: Discord, "Webhook Resource", "Message", "Rate Limits"; Slack, "Sending messages using
incoming webhooks", "Block Kit"; Telegram, "Bot API"; ntfy, "Publishing" and its error codes.
Refusals have the status and the body that the service's documents show.
"""

import json
from email.header import decode_header
from typing import Any
from urllib.parse import parse_qs, urlsplit

from receivers import Received, Reply


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Discord:
    """One channel with a webhook; messages by id."""

    def __init__(self, path: str = "/api/webhooks/1/discord-token-of-thirty-letters") -> None:
        self.path = path
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: list[Reply] = []  # what it answers next, in place of the usual
        self.edits, self.takes_files = 0, True
        self.thread: str | None = None  # where messages must go

    def __call__(self, request: Received) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        path = urlsplit(request.path).path
        query = {name: one[0] for name, one in parse_qs(urlsplit(request.path).query).items()}
        if not path.startswith(self.path):
            return 404, {}, {"message": "Unknown Webhook", "code": 10015}
        if query.get("thread_id") != self.thread:
            return 400, {}, {"message": "Unknown Channel", "code": 10003}
        content, files = self.read(request)
        if files and not self.takes_files:
            return 413, {}, {"message": "Request entity too large", "code": 40005}
        if problem := self.check(content, files):
            return 400, {}, {"code": 50035, "message": "Invalid Form Body", "errors": problem}
        message = path.removeprefix(self.path).removeprefix("/messages/")
        if request.method == "POST":
            message = str(1000 + len(self.messages))
        elif message not in self.messages:
            return 404, {}, {"message": "Unknown Message", "code": 10008}
        self.edits += request.method == "PATCH"
        self.messages[message] = {**content, "files": files}
        if request.method == "POST" and query.get("wait") != "true":
            return 204, {}, b""  # an id only for who waits for it
        return 200, {}, {"id": message, **content}

    def read(self, request: Received) -> tuple[dict[str, Any], dict[str, bytes]]:
        if request.headers["content-type"].startswith("multipart/form-data"):
            parts = request.parts
            return json.loads(parts.pop("payload_json")), parts
        assert request.headers["content-type"] == "application/json"
        return request.json, {}

    def check(self, content: dict[str, Any], files: dict[str, bytes]) -> str:
        """What of the documented limits is broken."""
        if set(content) - {"content", "embeds", "attachments", "allowed_mentions"}:
            return "unknown field"
        if not content.get("content") and not content.get("embeds"):
            return "Cannot send an empty message"
        if len(content.get("content", "")) > 2000:
            return "Must be 2000 or fewer in length."
        if content["allowed_mentions"] != {"parse": []}:
            return "somebody could be mentioned"
        embeds = content.get("embeds", [])
        if len(embeds) > 10 or any(len(one["title"]) > 256 for one in embeds):
            return "too many embeds, or too long a title"
        if any(len(one["description"]) > 4096 for one in embeds):
            return "too long a description"
        if sum(len(one["title"]) + len(one["description"]) for one in embeds) > 6000:
            return "more than 6000 characters"
        if any(not 0 <= one["color"] <= 0xFFFFFF for one in embeds):
            return "no colour"
        names = {f"files[{one['id']}]" for one in content.get("attachments", [])}
        if names != set(files) or sum(map(len, files.values())) > 10 * 2**20:
            return "files and attachments differ, or are too large"
        return ""


class Slack:
    """An incoming webhook, which cannot edit and answers in plain text."""

    def __init__(self, path: str = "/services/T0/B0/slack-token-of-some-length") -> None:
        self.path, self.messages, self.replies = path, list[dict[str, Any]](), list[Reply]()

    def __call__(self, request: Received) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        if request.path != self.path:
            return 404, {}, b"no_service"
        content = request.json
        if not content.get("text"):
            return 400, {}, b"no_text"
        texts = [block["text"]["text"] for block in content["blocks"] if "text" in block]
        texts += [one["text"] for block in content["blocks"] for one in block.get("elements", [])]
        if len(content["blocks"]) > 50 or any(not 0 < len(text) <= 3000 for text in texts):
            return 400, {}, b"invalid_blocks"
        for text in [content["text"], *texts]:
            bare = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
            if set("&<>") & set(bare):
                return 400, {}, b"invalid_payload"
        self.messages.append(content)
        return 200, {}, b"ok"


class Telegram:
    """A bot in one chat."""

    def __init__(self, token: str = "12345678:telegram-token-of-thirty-five-letters") -> None:
        self.path, self.chat = f"/bot{token}", "-100200"
        self.messages: dict[int, dict[str, Any]] = {}
        self.photos: list[dict[str, Any]] = []
        self.takes_files = self.takes_edits = True
        self.replies: list[Reply] = []

    def refuse(self, status: int, description: str, **parameters: Any) -> Reply:
        body = {"ok": False, "error_code": status, "description": description}
        return status, {}, body | ({"parameters": parameters} if parameters else {})

    def __call__(self, request: Received) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        if not request.path.startswith(f"{self.path}/"):
            return self.refuse(401, "Unauthorized")
        method = request.path.removeprefix(f"{self.path}/")
        if method == "sendPhoto":
            return self.take_photo(request)
        content = request.json
        if content["chat_id"] != self.chat:
            return self.refuse(400, "Bad Request: chat not found")
        if not 0 < utf16(content["text"]) <= 4096:
            return self.refuse(400, "Bad Request: message is too long")
        if method == "editMessageText":
            number = content["message_id"]
            if problem := self.check_edit(number, content["text"]):
                return self.refuse(400, f"Bad Request: {problem}")
        elif method == "sendMessage":
            number = len(self.messages) + 1
        else:
            return self.refuse(404, "Not Found: method not found")
        self.messages[number] = content
        return 200, {}, {"ok": True, "result": {"message_id": number}}

    def check_edit(self, number: int, text: str) -> str:
        if number not in self.messages:
            return "message to edit not found"
        if not self.takes_edits:
            return "message can't be edited"
        same = self.messages[number]["text"] == text
        return "message is not modified: specified new message content ..." if same else ""

    def take_photo(self, request: Received) -> Reply:
        parts = request.parts
        caption = parts["caption"].decode()
        if parts["chat_id"].decode() != self.chat:
            return self.refuse(400, "Bad Request: chat not found")
        if utf16(caption) > 1024:
            return self.refuse(400, "Bad Request: message caption is too long")
        fits = parts["photo"].startswith(b"\x89PNG") and len(parts["photo"]) <= 10 * 2**20
        if not fits or not self.takes_files:
            return self.refuse(400, "Bad Request: IMAGE_PROCESS_FAILED")
        self.photos.append({"caption": caption, "photo": parts["photo"]})
        return 200, {}, {"ok": True, "result": {"message_id": 10_000 + len(self.photos)}}


class Ntfy:
    """A server of version 2.16 or newer with one topic."""

    def __init__(self, topic: str = "podium-topic-of-many-letters", token: str = "") -> None:
        self.topic, self.token = topic, token
        self.messages: list[dict[str, Any]] = []
        self.replies: list[Reply] = []
        self.files_reply: Reply | None = None  # what it answers to an attachment

    def __call__(self, request: Received) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return 403, {}, {"code": 40301, "http": 403, "error": "forbidden"}
        if request.method == "PUT":
            if self.files_reply:
                return self.files_reply
            ((title, charset),) = decode_header(request.headers["title"])
            if len(title if charset else title.encode()) > 1024:
                return 400, {}, {"code": 40000, "http": 400, "error": "invalid request: title"}
            if len(request.body) > 2 * 2**20:
                return 413, {}, {"code": 41301, "http": 413, "error": "attachment too large"}
            headers = {name: request.headers[name] for name in ("filename", "title", "priority")}
            self.messages.append({"topic": request.path.strip("/"), **headers})
            return 200, {}, {"id": "x"}
        content = request.json
        known = {"topic", "title", "message", "priority", "sequence_id"}
        if request.path != "/" or set(content) - known or content["topic"] != self.topic:
            return 400, {}, {"code": 40024, "http": 400, "error": "invalid request: JSON body"}
        too_long = len(content["message"].encode()) > 4096 or len(content["title"].encode()) > 1024
        if too_long or content["priority"] not in range(1, 6):
            return 400, {}, {"code": 40007, "http": 400, "error": "invalid request"}
        self.messages.append(content)
        return 200, {}, {"id": "x", "sequence_id": content.get("sequence_id", "")}

    @property
    def shown(self) -> dict[str, dict[str, Any]]:
        """What a phone shows: of each sequence the last message."""
        named = enumerate(self.messages)
        return {str(one.get("sequence_id") or place): one for place, one in named}
