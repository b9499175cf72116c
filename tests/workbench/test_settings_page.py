from pathlib import Path

import pytest

from podium.knobs import list_knobs
from workbench import settings_page


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings_page, "PAGE", tmp_path / "settings.md")
    return tmp_path / "settings.md"


def test_every_setting_is_on_the_page_with_its_limit():
    text = settings_page.format_page()
    for knob in list_knobs():
        assert f"| `{knob.name}` | " in text
        assert knob.meaning in text
        assert knob.limit in text
    assert "| `data.limit` | none | 10 or more, or none (images) | " in text


def test_a_fresh_page_passes_and_a_stale_or_missing_one_fails(
    page: Path, capsys: pytest.CaptureFixture[str]
):
    assert settings_page.main(["--check"]) == 1
    assert settings_page.main([]) == 0
    assert settings_page.main(["--check"]) == 0
    page.write_text(page.read_text().replace("`train.epochs` | 8", "`train.epochs` | 9"))
    assert settings_page.main(["--check"]) == 1
    assert "run make build" in capsys.readouterr().err
