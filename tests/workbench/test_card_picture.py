import json
from pathlib import Path

import pytest
from sample_run import make_events

from workbench.card_picture import ADDRESSES, catch_requests, draw_column, read_message


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = [json.dumps(event) + "\n" for event in make_events()]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    (tmp_path / "curves.png").write_bytes(b"png")
    return tmp_path


@pytest.mark.parametrize("name", list(ADDRESSES))
def test_each_service_shows_its_last_card_and_news(name: str, run: Path):
    shown = draw_column(name, ADDRESSES[name], run)
    assert f"<h2>{name}</h2>" in shown
    assert "out-of-fold accuracy 0.9150" in shown
    assert ("message card" in shown) == (name != "Slack")
    assert ("data:image/png" in shown) == (name != "Slack")


def test_what_a_run_says_is_no_html(run: Path):
    texts = [read_message(request)[0] for request in catch_requests(ADDRESSES["ntfy"], run)]
    assert any("lag &lt;b&gt;&amp;" in text for text in texts)
    assert not any("<b>&" in text for text in texts)
