import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from podium import pixels as pixels_room
from podium.cache import FreshPixels, PixelError
from podium.config import PixelsConfig
from podium.decode import decode_image
from podium.events import Reporter
from podium.pixels import JoinedPixels, read_images


def write_photo(path: Path, width: int = 60, height: int = 40, **options: object) -> Path:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def make_table(paths: list[Path | None]) -> pd.DataFrame:
    ids = [f"i{row}" for row in range(len(paths))]
    texts = [None if path is None else str(path) for path in paths]
    return pd.DataFrame({"id": ids, "path": texts, "label": np.arange(len(paths)) % 2})


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_unreadable_training_images_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: str
):
    good = write_photo(tmp_path / "good.png")
    cut, text = tmp_path / "cut.jpg", tmp_path / "text.jpg"
    cut.write_bytes(write_photo(tmp_path / "whole.jpg").read_bytes()[:-9])
    text.write_text("<html>404 not found</html>")
    report = Reporter(tmp_path)
    table = make_table([good, cut, good, text])
    images = read_images(table, 32, "training", PixelsConfig(cache=cache), report)
    assert images.table["id"].tolist() == ["i0", "i2"]
    assert len(images.pixels) == 2
    expected = np.stack([decode_image(str(good), 32)] * 2)
    np.testing.assert_array_equal(images.pixels[np.array([1, 0])], expected)
    assert images.unreadable == ["i1", "i3"]
    message = "2 training images cannot be read and are left out of training: i1, i3"
    assert report.warnings == [message]
    assert message in capsys.readouterr().out
    assert "image_unreadable" in (tmp_path / "events.jsonl").read_text()


def test_test_images_without_a_file_are_not_decoded(tmp_path: Path):
    good = write_photo(tmp_path / "good.png")
    images = read_images(make_table([None, good]), 16, "test", PixelsConfig(), Reporter(tmp_path))
    assert images.table["id"].tolist() == ["i1"]


def test_a_folder_without_a_readable_image_is_refused(tmp_path: Path):
    with pytest.raises(PixelError, match="none of the 1 training images can be read; see data"):
        read_images(
            make_table([tmp_path / "no.png"]), 16, "training", PixelsConfig(), Reporter(tmp_path)
        )


def test_what_is_kept_where_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good = write_photo(tmp_path / "good.png")
    config = PixelsConfig(cache="disk", cache_share=0.25)
    read_images(make_table([good] * 3), 16, "training", config, Reporter(tmp_path))
    said = capsys.readouterr().out
    assert "training: 3 squares of 16 px, 0.00 GB, kept on disk; auto may take 25% of the" in said


def test_images_that_no_cache_may_hold_are_decoded_for_each_batch(tmp_path: Path):
    paths = [write_photo(tmp_path / f"{width}.png", width) for width in (50, 60, 70)]
    config = PixelsConfig(cache_share=0.0)
    fresh = read_images(make_table(paths), 16, "training", config, Reporter(tmp_path)).pixels
    kept = read_images(make_table(paths), 16, "training", PixelsConfig(), Reporter(tmp_path)).pixels
    assert isinstance(fresh, FreshPixels)
    assert fresh.shape == kept.shape == (3, 16, 16, 3)
    for rows in (np.array([2, 0, 2]), np.array([], np.int64), slice(1, 3)):
        np.testing.assert_array_equal(fresh[rows], kept[rows])


def test_opencv_has_its_threads_back_after_decoding(tmp_path: Path):
    good = write_photo(tmp_path / "good.jpg")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        read_images(make_table([good]), 16, "test", PixelsConfig(), Reporter(tmp_path))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_decoding_takes_no_more_memory_than_the_squares_it_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
):
    good = write_photo(tmp_path / "good.jpg")
    table, size = make_table([good] * 300), 300 * 256 * 256 * 3
    private, shared = [], []

    def watch(path: str, side: int, scratch: np.ndarray) -> np.ndarray:
        status = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/self/status").read_text()))
        private.append(int(status["RssAnon"]) * 1024)
        shared.append(int(status["RssShmem"]) * 1024)
        return decode_image(path, side, scratch)

    monkeypatch.setattr(pixels_room, "decode_image", watch)
    config = PixelsConfig(cache=cache)
    images = read_images(table, 256, "training", config, Reporter(tmp_path))
    assert len(images.pixels) == 300
    assert max(private) - private[0] < size / 4
    assert max(shared) - shared[0] < (1.01 * size if cache == "memory" else size / 4)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_two_stores_are_one_without_a_copy(tmp_path: Path, cache: str):
    paths = [write_photo(tmp_path / f"{width}.png", width) for width in range(60, 67)]
    config, report = PixelsConfig(cache=cache), Reporter(tmp_path)
    whole = read_images(make_table(paths), 32, "training", config, report).pixels
    parts = [
        read_images(make_table(some), 32, "test", config, report).pixels
        for some in (paths[:4], paths[4:])
    ]
    joined = JoinedPixels(*parts)
    assert joined.shape == whole.shape
    assert len(joined) == 7
    for rows in (np.array([6, 0, 3, 4, 4]), slice(2, 6), np.arange(7) % 2 == 0):
        np.testing.assert_array_equal(joined[rows], whole[rows])
    assert joined.first is parts[0]
    assert joined.second is parts[1]
