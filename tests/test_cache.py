import gc
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from podium import cache as cache_room
from podium.cache import (
    FreshPixels,
    PixelError,
    Room,
    allocate_pixels,
    choose_cache,
    describe_cache,
    make_writer,
    measure_memory,
    measure_room,
    share_path,
)
from podium.config import PixelsConfig

MEMINFO = "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n"
LINUX = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


def write_system(folder: Path, files: dict[str, str]) -> Path:
    """Files of /proc and /sys as a machine would show them."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_without_a_limit_memory_is_what_the_machine_has_to_give(tmp_path: Path):
    assert measure_memory(write_system(tmp_path, {})) == 4000 * 1024


def test_without_linux_to_ask_no_memory_is_known_to_be_free(tmp_path: Path):
    assert measure_memory(tmp_path) == 0


@pytest.mark.parametrize("group", ["/", "/inner", "/inner/most"])
def test_a_container_has_what_its_limit_leaves_and_cached_files_are_given_up(
    tmp_path: Path, group: str
):
    inner = "sys/fs/cgroup/inner"
    files = {
        "proc/self/cgroup": f"0::{group}\n",
        "sys/fs/cgroup/memory.max": "3000000\n",
        "sys/fs/cgroup/memory.current": "1500000\n",
        "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 500000\n",
        f"{inner}/memory.max": "max\n",
        f"{inner}/memory.current": "2000\n",
        f"{inner}/memory.stat": "anon 1\n",
        f"{inner}/most/memory.max": "700000\n",
        f"{inner}/most/memory.current": "0\n",
        f"{inner}/most/memory.stat": "anon 1\n",
    }
    expected = 700_000 if group == "/inner/most" else 2_000_000
    assert measure_memory(write_system(tmp_path, files)) == expected


def test_the_older_control_groups_count_too(tmp_path: Path):
    memory = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n",
        f"{memory}/memory.limit_in_bytes": "3000000\n",
        f"{memory}/memory.usage_in_bytes": "2900000\n",
        f"{memory}/memory.stat": "cache 7\ntotal_inactive_file 40000\n",
    }
    assert measure_memory(write_system(tmp_path, files)) == 140_000


def test_a_group_above_its_limit_has_nothing_free(tmp_path: Path):
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "100\n",
        "sys/fs/cgroup/memory.current": "200\n",
        "sys/fs/cgroup/memory.stat": "\n",
    }
    assert measure_memory(write_system(tmp_path, files)) == 0


def test_this_machine_has_memory_and_disk():
    room = measure_room()
    assert room.disk > 1e6
    assert room.memory > 1e6 or not Path("/proc/meminfo").exists()


def test_the_quota_of_the_results_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert measure_room().disk > 0
    monkeypatch.setattr(cache_room, "KAGGLE_WORKING", tmp_path)
    assert measure_room().disk == 0


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.floats(0, 1))
def test_auto_takes_memory_then_disk_and_never_more_than_its_share(size, memory, disk, share):
    room = Room(memory, disk)
    kind = choose_cache(size, room, PixelsConfig(cache_share=share))
    in_memory, on_disk = size <= share * memory, size <= share * disk
    assert kind == ("memory" if in_memory else "disk" if on_disk else "none")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_that_is_asked_for_is_had_or_refused(kind: str):
    config = PixelsConfig(cache=kind, cache_share=0.0)
    room = Room(0, 0)._replace(**{kind: 10**9})
    assert choose_cache(10**9, room, config) == kind
    with pytest.raises(PixelError) as caught:
        choose_cache(2 * 10**9, room, config)
    assert str(caught.value) == (
        f"pixels.cache is {kind}, and the images need 2.0 GB where 1.0 GB are free; lower "
        f"pixels.image_size or data.limit, or set pixels.cache to auto"
    )


def test_decoding_for_each_batch_can_be_asked_for():
    assert choose_cache(1, Room(10**9, 10**9), PixelsConfig(cache="none")) == "none"


def test_what_is_kept_where_is_one_line():
    line = describe_cache((1000, 256), "memory", Room(2 * 10**10, 7 * 10**10), 0.5)
    assert line == (
        "1000 squares of 256 px, 0.20 GB, kept in memory; auto may take 50% of the free 20.0 GB "
        f"of memory or 70.0 GB in {tempfile.gettempdir()}"
    )


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_squares_are_kept_and_start_black(kind: str):
    pixels = allocate_pixels(5, 16, kind)
    assert pixels.shape == (5, 16, 16, 3)
    assert pixels.dtype == np.uint8
    assert not pixels.any()
    pixels[3] = 7
    assert pixels[np.array([3, 0])].sum() == 7 * 16 * 16 * 3


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_no_images_need_no_room(kind: str):
    assert allocate_pixels(0, 16, kind).shape == (0, 16, 16, 3)


def test_pixels_that_the_disk_cannot_hold_are_refused_before_decoding():
    with pytest.raises(PixelError, match=r"need .* GB in .*, which has no room"):
        allocate_pixels(10**9, 1024, "disk")


@LINUX
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_another_process_maps_the_same_pixels(kind: str):
    pixels = allocate_pixels(4, 16, kind)
    pixels[2] = 9
    kept = pixels[:3]
    code = (
        "import sys, numpy as np; a = np.memmap(sys.argv[1], np.uint8, 'r+', shape=(3, 16, 16, 3));"
        "print(a[2].max(), a[0].max()); a[1] = 5"
    )
    command = [sys.executable, "-c", code, share_path(kept)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["9", "0"]
    assert pixels[1].min() == 5


@LINUX
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_the_room_is_given_back_with_the_last_view(kind: str):
    pixels = allocate_pixels(4, 16, kind)
    path, kept = Path(share_path(pixels)), pixels[:2]
    target = path.readlink()
    del pixels
    gc.collect()
    assert path.readlink() == target
    del kept
    gc.collect()
    assert not path.exists() or path.readlink() != target


@LINUX
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_killed_process_leaves_nothing_behind(tmp_path: Path, kind: str):
    code = (
        f"import os, tempfile; tempfile.tempdir = {str(tmp_path)!r}; "
        f"from podium.cache import allocate_pixels; pixels = allocate_pixels(9, 64, {kind!r}); "
        "pixels[:] = 1; print(len(os.listdir(tempfile.tempdir)), flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    folder = Path(__file__).resolve().parents[1] / "src"
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=-1, check=False)
    assert (done.stdout, done.returncode) == (b"0\n", -signal.SIGKILL)
    assert os.listdir(tmp_path) == []


def test_what_no_other_process_can_map_has_no_path():
    pixels = allocate_pixels(4, 16, "memory")
    assert share_path(pixels[1:]) is None
    assert share_path(pixels[:, ::2]) is None
    assert share_path(np.zeros((4, 16, 16, 3), np.uint8)) is None
    assert share_path(pixels[np.array([0, 1])]) is None
    assert share_path(FreshPixels([], 16)) is None


def test_an_image_that_cannot_be_read_any_more_is_named(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    pixels = FreshPixels([str(path)] * 2, 16)
    assert pixels[np.array([1])].shape == (1, 16, 16, 3)
    path.unlink()
    with pytest.raises(PixelError, match=r"a\.png could be read at first, and now cannot"):
        pixels[np.array([1])]


@pytest.mark.parametrize(
    "allocate", [allocate_pixels, lambda n, s, _: np.zeros((n, s, s, 3), "u1")]
)
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_square_is_written_to_its_row_and_no_other(allocate, kind: str):
    pixels = allocate(4, 16, kind)
    square = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    write = make_writer(pixels)
    write(1, square)
    write(3, square[::-1])
    np.testing.assert_array_equal(pixels[1], square)
    np.testing.assert_array_equal(pixels[3], square[::-1])
    assert not pixels[[0, 2]].any()
