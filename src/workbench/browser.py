"""Browser: the system's Chromium, alone and offline, to look at a page as a reader does."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Where a Chromium is installed, if one is."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


@contextmanager
def open_browser(**options: Any) -> Iterator[Any]:
    """A browser context of Playwright in a profile of its own; options are those of a context."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=find_chromium(), args=FLAGS, **options
        )
        try:
            yield context
        finally:
            context.close()
