"""Leaks: keys, tokens and webhooks, which a public script would give away."""

import ast
import re
from collections.abc import Iterator, Sequence

from workbench.flatten.refusal import Refusal
from workbench.flatten.source import Module

SECRETS = {
    "a Discord webhook": r"discord(app)?\.com/api/(v\d+/)?webhooks/\d+/[\w-]{20,}",
    "a Slack webhook": r"hooks\.slack(-gov)?\.com/(services|workflows|triggers)/[A-Z0-9]{6,}",
    "a Slack token": r"\bxox[a-z]-[\w-]{10,}",
    "a Telegram bot token": r"(?<!\d)\d{8,10}:[\w-]{35}(?![\w-])",
    "an ntfy topic": r"(\bntfys?://[^\s/\"']+|\bntfy\.sh)/[\w-]{12,}",  # shorter ones are guessed
    "an ntfy token": r"\btk_[A-Za-z0-9]{20,}",
    "a webhook's address": r"\b(discord|slack|telegram|ntfy|json)\+https?://[^\s/\"']+/\S{12,}",
    "a Kaggle token": r"\bKGAT_\w{16,}",
    "a Kaggle key": r"""(?i)(key|token)\w*["']?\]?\s*[:=][^"'#]*["'][0-9a-f]{32}["']""",
    "a GitHub token": r"\b(gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{20,})",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a webhook's signing secret": r"\bwhsec_[\w+/=-]{16,}",
}


def find_secrets(text: str) -> Iterator[tuple[int, str]]:
    """Yields the number, from 1, of every line of Python with a secret, and what it looks like."""
    pieces = list_pieces(text)
    for what, pattern in SECRETS.items():
        yield from ((number, what) for number in find_pieces(pieces, re.compile(pattern)))


def find_pieces(pieces: Sequence[tuple[range, str]], pattern: re.Pattern[str]) -> list[int]:
    """The lines in which pieces match, each match once: a line, or the first of a joined text."""
    found = list[int]()
    for lines, piece in pieces:
        if pattern.search(piece) and not any(number in lines for number in found):
            found.append(lines.start)
    return found


def list_pieces(text: str) -> list[tuple[range, str]]:
    """The lines of Python, and then every text that it joins of several, with the lines of each."""
    lines = [(range(number, number + 1), line) for number, line in enumerate(text.split("\n"), 1)]
    joined = [
        (range(node.lineno, (node.end_lineno or node.lineno) + 1), join_text(node))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp)
    ]
    return [*lines, *joined]


def join_text(node: ast.AST) -> str:
    """The text of literals that stand side by side or are added; a blank for what is computed."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(join_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return join_text(node.left) + join_text(node.right)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else " "


def check_leaks(module: Module) -> Iterator[Refusal]:
    """Refuses secrets in code, text and comments, and does not repeat them."""
    for number, what in find_secrets(module.text):
        yield module.refuse(
            number,
            f"holds what looks like {what}, and the script is public; "
            "revoke it and read it from the environment",
        )
