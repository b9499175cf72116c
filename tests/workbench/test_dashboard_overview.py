"""What the page is told of all runs, of one, and of two side by side."""

import base64
import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from live_site import get, make_event, serve_site
from PIL import Image
from sample_run import SETTINGS, make_events

from podium.config import Config
from podium.knobs import list_settings
from podium.override import override, parse_command_line
from workbench.dashboard.details import describe_run, write_command
from workbench.dashboard.gather import gather_report
from workbench.dashboard.overview import compare_runs, list_cards, list_health
from workbench.dashboard.store import Store

NOW = 1_764_100_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as opened:
        yield opened


def tell(store: Store, *events: dict[str, Any]) -> None:
    taken = store.take(events, [], "webhook", NOW)
    assert (taken.stored, taken.refused) == (len(events), 0)


def describe(store: Store) -> dict[str, Any]:
    with store.reading() as db:
        return describe_run(db, 1)


def make_picture(shade: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade,) * 3).save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def test_one_run_is_shown_with_what_it_said_the_newest_of_each_kind(store: Store):
    question = {"name": "blend", "asks": "is it better?", "answer": "yes"}
    tell(
        store,
        make_event(1, "run_started", settings=SETTINGS, source="abc"),
        make_event(2, "plan_made", fold=0, shares=[1.0], seconds=1, words="all fit"),
        *(make_event(seq, "line_said", text=f"line {seq}") for seq in range(3, 353)),
        make_event(400, "warning_raised", text="look here"),
        make_event(399, "question_answered", **question | {"answer": "no"}),
        make_event(401, "question_answered", **question),
        make_event(402, "mistakes_counted", wrong=1, of=9, pairs=[], weakest=[]),
        make_event(403, "mistakes_counted", wrong=2, of=9, pairs=[], weakest=[]),
        make_event(404, "files_listed", files=[{"name": "a", "bytes": 1}], submission="5ha"),
        make_event(405, "run_failed", error="ValueError", reason="Traceback\nValueError: no"),
    )
    shown = describe(store)
    assert shown["settings"] == SETTINGS
    assert (shown["source"], shown["plan"]) == ("abc", "all fit")
    assert len(shown["log"]) == 300
    assert (shown["log"][0]["text"], shown["log"][-1]["text"]) == ("line 53", "line 352")
    assert [one["text"] for one in shown["warnings"]] == ["look here"]
    (asked,) = shown["questions"]  # it was decided again
    assert question.items() <= asked.items()
    assert shown["mistakes"]["wrong"] == 2
    assert (shown["files"], shown["submission"]) == ([{"name": "a", "bytes": 1}], "5ha")
    assert shown["traceback"].endswith("ValueError: no")


def test_a_later_session_s_word_is_the_last_even_where_its_seq_is_lower(store: Store):
    later = {"session": "later", "time": make_event(1)["time"] + 50}
    tell(store, make_event(1, "run_started", settings=SETTINGS), make_event(9, text="old"))
    tell(store, make_event(1, "run_started", settings={"folds.count": 9}) | later)
    tell(store, make_event(2, text="new") | later)
    shown = describe(store)
    assert shown["settings"] == {"folds.count": 9}
    assert [line["text"] for line in shown["log"]] == ["old", "new"]
    assert [one["session"] for one in shown["sessions"]] == ["5e551014", "later"]


def test_the_command_line_that_is_shown_makes_the_same_settings_again(store: Store):
    import shlex

    given = {"folds.count": 3, "optimizer.lr": None, "data.folder": "my data; rm -rf /"}
    given = {name: value for name, value in given.items() if name in list_settings(Config())}
    config = override(Config(), given | {"train.head_epochs": 0})
    tell(store, make_event(1, "run_started", settings=list_settings(config)))
    shown = describe(store)
    assert shown["changed"]["folds.count"] == [5, 3]
    assert shown["changed"].keys() == {*given, "train.head_epochs"}
    words = shlex.split(shown["reproduce"])
    assert words[:2] == ["python", "kernel/podium.py"]
    assert override(Config(), parse_command_line(words[2:])) == config
    assert write_command({"a.b": [True, False]}).endswith("--a.b no")


def test_pictures_of_a_new_answer_replace_the_ones_before(store: Store):
    tell(
        store,
        *(make_event(1 + place, "image_shown", place=place, folds=1, id="old",
                     jpeg=make_picture(place)) for place in range(3)),
        *(make_event(4 + place, "image_shown", place=place, folds=2, id=f"new {place}",
                     truth="a", guess="b", prob=0.9, jpeg=make_picture(9 + place))
          for place in range(2)),
    )  # fmt: skip
    images = describe(store)["images"]
    assert [one["id"] for one in images] == ["new 0", "new 1"]
    with store.reading() as db:
        report = gather_report(db, NOW, ["4042", "unknown"])
    (card,) = report["runs"]
    urls = [one["url"] for one in report["details"][card["run"]]["images"]]
    for url in urls:
        kind, code = url.split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(code))) as picture:
            assert picture.size == (8, 8)
    assert len(set(urls)) == 2


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_picture_is_served_as_a_jpeg_under_the_name_of_its_content(tmp_path: Path):
    with serve_site(tmp_path) as site:
        shown = make_event(1, "image_shown", place=0, folds=1, jpeg=make_picture(7))
        site.tell([shown])
        (image,) = site.get("/api/run/4042")["images"]
        answer = get(site.url + image["url"])
        assert answer.content.startswith(b"\xff\xd8\xff")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in answer.headers["cache-control"]


def test_side_by_side_only_what_differs_is_listed_and_each_run_has_its_scores(store: Store):
    tell(store, *make_events())
    other = SETTINGS | {"train.epochs": 9, "runtime.folder": "elsewhere", "new.knob": 1}
    tell(store, make_event(1, "run_started", settings=other) | {"run": "b"})
    with store.reading() as db:
        compared = compare_runs(db, NOW, ["b", "unknown", "4042"])
    assert compared["settings"] == [
        {"name": "train.epochs", "values": [9, 2]},
        {"name": "new.knob", "values": [1, None]},
    ]
    assert [one["run"] for one in compared["scores"]] == ["b", "4042"]
    assert compared["scores"][1]["folds"] == [0.91, 0.92]
    assert compared["scores"][1]["result"]["interval"] == [0.9, 0.93]


def test_health_is_what_the_last_heartbeat_said_and_how_late_news_are(store: Store):
    delivery = {"name": "json", "unsent": 512, "acked": 1.0, "refused": 2, "parked": False}
    tell(store, make_event(1, "heartbeat", memory_free=9, disk_free=9, deliveries=[]))
    tell(store, make_event(2, "heartbeat", memory_free=5, disk_free=6, deliveries=[delivery]))
    tell(store, make_event(1) | {"run": "silent"})
    with store.reading() as db:
        health = list_health(db, NOW)
    senders = {one["run"]: one for one in health["runs"]}
    assert (senders["4042"]["memory_free"], senders["4042"]["deliveries"]) == (5, [delivery])
    assert senders["4042"]["lag"] == NOW - make_event(2)["time"]
    assert (senders["silent"]["memory_free"], senders["silent"]["deliveries"]) == (None, [])
    assert health["store"]["events"] == 3
    assert health["store"]["runs"] == 2
    assert health["store"]["bytes"] > 1000


def test_runs_are_listed_from_the_newest_on(store: Store):
    for late, run in ((0, "a"), (9, "b"), (5, "c")):
        store.take([make_event(1) | {"run": run}], [], "webhook", NOW + late)
    with store.reading() as db:
        assert [card["run"] for card in list_cards(db, NOW)["runs"]] == ["b", "c", "a"]
