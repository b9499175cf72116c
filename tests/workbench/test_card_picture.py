import io
import json
from pathlib import Path

import pytest
from PIL import Image
from sample_run import make_events

from podium.card import LIGHTS
from workbench.card_picture import (
    ADDRESSES,
    catch_requests,
    choose_states,
    crop_picture,
    draw_cell,
    draw_states,
    read_message,
    show_text,
)

EVENTS = list(make_events())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with its record and the history of its folds."""
    folder = tmp_path / "run"
    for fold in range(2):
        (folder / f"fold{fold}").mkdir(parents=True)
        columns = "epoch,train/loss,valid/loss,train/accuracy,valid/accuracy"
        (folder / f"fold{fold}" / "history.csv").write_text(f"{columns}\n1,1,1,0.5,0.5\n")
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in EVENTS))
    (folder / "curves.png").write_bytes(b"png")
    return folder


def test_a_running_a_finished_and_a_crashed_run_are_shown_for_each_service(
    run: Path, tmp_path: Path
):
    page = draw_states(run, tmp_path)
    for title in ("Running", "Finished", "Crashed"):
        assert page.count(f"<h1>{title}</h1>") == 1
    for name in ADDRESSES:
        assert page.count(f"<h2>{name}</h2>") == 3
    assert page.count("finished: out-of-fold accuracy 0.9150") >= 4
    assert page.count("crashed:") == 4
    (_, half), (_, whole), (_, crashed) = choose_states(EVENTS)
    assert list(whole) == EVENTS
    assert crashed[:-1] == half
    assert half[-1]["event"] == "epoch_ended"


@pytest.mark.parametrize("name", list(ADDRESSES))
def test_each_service_shows_its_last_card_and_news(name: str, run: Path):
    shown = draw_cell(name, ADDRESSES[name], EVENTS, run)
    assert f"<h2>{name}</h2>" in shown
    assert "out-of-fold accuracy 0.9150" in shown
    assert ("message card" in shown) == (name != "Slack")
    assert ("data:image/png" in shown) == (name != "Slack")


def test_what_a_run_says_is_no_html(run: Path):
    requests = catch_requests(ADDRESSES["ntfy"], EVENTS, run)
    texts = [read_message(request)[0] for request in requests]
    assert any("lag &lt;b&gt;&amp;" in text for text in texts)
    assert not any("<b>&" in text for text in texts)


def test_bold_code_and_lights_are_shown_and_not_spelt():
    assert show_text("**tiny** went <on>") == "<b>tiny</b> went &lt;on&gt;"
    assert show_text("```\na\nb\n```") == "<pre>a\nb</pre>"
    shown = show_text("".join(LIGHTS.values()))
    assert shown.count('class="light"') == len(LIGHTS)
    assert shown.isascii()


def test_the_empty_part_below_is_cut_off(tmp_path: Path):
    drawn = Image.new("RGB", (50, 300), "white")
    drawn.paste((0, 0, 0), (10, 10, 20, 100))
    drawn.save(tmp_path / "page.png")
    crop_picture(tmp_path / "page.png")
    with Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())) as cropped:
        assert cropped.size == (50, 120)
