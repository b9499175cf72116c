"""A run as a table for a spreadsheet."""

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from live_site import get, make_event, serve_site
from sample_run import make_events

from workbench.dashboard.csv_file import write_csv
from workbench.dashboard.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as opened:
        yield opened


def read_table(store: Store, name: str = "") -> list[list[str]]:
    card: dict[str, Any] = {"run": "4042", "name": name}
    with store.reading() as db:
        return list(csv.reader(io.StringIO("".join(write_csv(db, 1, card)), newline="")))


def test_every_epoch_of_every_fold_is_a_line(store: Store):
    store.take(list(make_events()), [], "webhook", 1.8e9)
    head, *lines = read_table(store, "dry-run")
    assert head[:6] == ["run", "name", "fold", "epoch", "updates", "time"]
    assert [line[:4] for line in lines] == [
        ["4042", "dry-run", str(fold), str(epoch)] for fold in (0, 1) for epoch in (1, 2, 3)
    ]
    assert lines[2][head.index("train/loss")] == str(1 / 3)
    assert lines[2][head.index("updates")] == ""


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_of_a_run_is_a_formula_and_no_number_becomes_text(store: Store, sign: str):
    figures = {f"{sign}HYPERLINK/x": -1.5, 'train/a,b\n"c': 2.0}
    store.take([make_event(1, "epoch_ended", fold=0, epoch=1, **figures)], [], "webhook", 1.8e9)
    head, line = read_table(store, f"{sign}cmd|' /C calc'!A0")
    for cell in (head[6], line[1]):
        assert cell.startswith("'" + sign)
    assert (line[6], head[7]) == ("-1.5", 'train/a,b\n"c')


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_it_is_handed_out_as_a_file_and_never_as_a_page(tmp_path: Path):
    with serve_site(tmp_path) as site:
        site.tell(list(make_events()))
        answer = get(site.url + "/export/4042.csv")
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["content-type"].startswith("text/csv")
        assert len(answer.text.splitlines()) == 7
        for kind in ("csv", "tensorboard.zip", "html"):
            assert get(f"{site.url}/export/other.{kind}").status_code == 404
