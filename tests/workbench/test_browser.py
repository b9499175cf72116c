import shutil

import pytest

from workbench.browser import CHROMIUMS, FLAGS, find_chromium


@pytest.mark.parametrize("name", CHROMIUMS)
def test_a_chromium_is_found_under_any_of_its_names(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda one: f"/bin/{one}" if one == name else None)
    assert find_chromium() == f"/bin/{name}"


def test_without_a_chromium_none_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert find_chromium() is None


def test_the_browser_is_told_to_ask_nobody_anything():
    quiet = {"--disable-background-networking", "--disable-component-update", "--disable-sync"}
    assert quiet < set(FLAGS)
