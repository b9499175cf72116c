import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from podium.storage import write_whole


def test_a_file_is_written_and_nothing_else_is_left(tmp_path: Path):
    write_whole(tmp_path / "a.csv", b"one")
    write_whole(tmp_path / "a.csv", b"two")
    assert (tmp_path / "a.csv").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_full_disk_leaves_the_earlier_file_and_no_half(tmp_path: Path):
    write_whole(tmp_path / "a.csv", b"one")
    (tmp_path / "a.csv.half").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "a.csv", b"two")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "a.csv").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a.csv"]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from podium.storage import write_whole
for turn in range(10**9):
    write_whole(Path(sys.argv[1]), bytes([turn % 256]) * 3_000_000)
    print(turn, flush=True)
"""


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_writer_killed_in_the_middle_leaves_a_whole_file(tmp_path: Path, turns: int):
    target, source = tmp_path / "oof.npz", Path(__file__).resolve().parents[1] / "src"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), str(source)], stdout=subprocess.PIPE
    )
    for _ in range(turns):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    content = target.read_bytes()
    assert len(content) == 3_000_000
    assert len(set(content)) == 1
