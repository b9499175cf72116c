"""Leaks: keys, tokens and webhooks, which a public script would give away."""

import re
from collections.abc import Iterable, Iterator

from workbench.flatten.refusal import Refusal
from workbench.flatten.source import Module

SECRETS = {
    "a Discord webhook": r"discord(app)?\.com/api/(v\d+/)?webhooks/\d+/[\w-]{20,}",
    "a Slack webhook": r"hooks\.slack\.com/(services|workflows|triggers)/[A-Z0-9]{6,}",
    "a Telegram bot token": r"(?<!\d)\d{8,10}:[\w-]{35}(?![\w-])",
    "a Kaggle token": r"\bKGAT_\w{16,}",
    "a Kaggle key": r"""(?i)(key|token)\w*["']?\]?\s*[:=][^"'#]*["'][0-9a-f]{32}["']""",
    "a GitHub token": r"\b(gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{20,})",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a webhook's signing secret": r"\bwhsec_[\w+/=-]{16,}",
}


def find_secrets(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yields the number, from 1, of every line with a secret, and what it looks like."""
    for number, line in enumerate(lines, 1):
        for what, pattern in SECRETS.items():
            if re.search(pattern, line):
                yield number, what


def check_leaks(module: Module) -> Iterator[Refusal]:
    """Refuses secrets in code, text and comments, and does not repeat them."""
    for number, what in find_secrets(module.lines):
        yield module.refuse(
            number,
            f"holds what looks like {what}, and the script is public; "
            "revoke it and read it from the environment",
        )
