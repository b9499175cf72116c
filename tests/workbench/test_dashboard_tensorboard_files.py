"""TensorBoard itself reads what was written, and TensorFlow is not needed for it."""

import io
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from live_site import get, make_event, serve_site
from sample_run import make_events

from workbench.dashboard.store import Store
from workbench.dashboard.tensorboard_files import write_tensorboard

READER = """
import sys
sys.modules["tensorflow"] = None  # TensorBoard's stand-in reads
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
reader = EventAccumulator(sys.argv[1])
reader.Reload()
for tag in sorted(reader.Tags()["scalars"]):
    print(tag, [(one.step, round(one.value, 4), one.wall_time) for one in reader.Scalars(tag)])
"""


def read(folder: Path) -> list[str]:
    program = [sys.executable, "-c", READER, str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_tensorboard_reads_each_figure_at_its_epoch_and_time(tmp_path: Path):
    with closing(Store(tmp_path)) as store:
        store.take(list(make_events()), [], "webhook", 1.8e9)
        card = {"run": "4042", "name": "dry run/../.."}
        with store.reading() as db:
            for _ in range(2):  # written again, it is there once
                folder = write_tensorboard(db, 1, card, tmp_path / "boards")
    assert folder.parent == tmp_path / "boards"
    assert len(list((folder / "fold0").iterdir())) == 1
    start = 1_764_000_000.0
    times = [start + 1205, start + 2405, start + 3605]
    lines = read(folder / "fold0")
    assert f"train/loss {list(zip((1, 2, 3), (1.0, 0.5, 0.3333), times, strict=True))}" in lines
    assert len(lines) == 6


def test_what_is_no_number_is_left_out(tmp_path: Path):
    figures = {"train/loss": None, "valid/loss": 0.5}
    with closing(Store(tmp_path)) as store:
        event = make_event(1, "epoch_ended", fold=3, epoch=1, **figures)
        store.take([event], [], "webhook", 1.8e9)
        with store.reading() as db:
            write_tensorboard(db, 1, {"run": "4042", "name": ""}, tmp_path)
    assert read(tmp_path / "4042" / "fold3") == [f"valid/loss [(1, 0.5, {event['time']})]"]


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_the_page_hands_out_a_zip_even_of_a_run_without_epochs(tmp_path: Path):
    with serve_site(tmp_path) as site:
        site.tell(list(make_events()))
        site.tell([make_event(1) | {"run": "empty"}])
        for run, count in (("4042", 2), ("empty", 0)):
            answer = get(f"{site.url}/export/{run}.tensorboard.zip")
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                names = [name for name in archive.namelist() if "tfevents" in name]
            assert len(names) == count
            assert all(name.startswith(f"{run}/fold") for name in names)
