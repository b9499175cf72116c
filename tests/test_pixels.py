from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from podium.decode import decode_image
from podium.events import Reporter
from podium.pixels import PixelError, allocate_pixels, read_images


def write_photo(path: Path, width: int = 60, height: int = 40, **options: object) -> Path:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def make_table(paths: list[Path | None]) -> pd.DataFrame:
    ids = [f"i{row}" for row in range(len(paths))]
    texts = [None if path is None else str(path) for path in paths]
    return pd.DataFrame({"id": ids, "path": texts, "label": np.arange(len(paths)) % 2})


def test_unreadable_training_images_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    good = write_photo(tmp_path / "good.png")
    cut, text = tmp_path / "cut.jpg", tmp_path / "text.jpg"
    cut.write_bytes(write_photo(tmp_path / "whole.jpg").read_bytes()[:-9])
    text.write_text("<html>404 not found</html>")
    report = Reporter(tmp_path)
    table = make_table([good, cut, good, text])
    images = read_images(table, 32, "training", report)
    assert images.table["id"].tolist() == ["i0", "i2"]
    np.testing.assert_array_equal(images.pixels, np.stack([decode_image(str(good), 32)] * 2))
    assert images.unreadable == ["i1", "i3"]
    message = "2 training images cannot be read and are left out of training: i1, i3"
    assert report.warnings == [message]
    assert message in capsys.readouterr().out
    assert "image_unreadable" in (tmp_path / "events.jsonl").read_text()


def test_test_images_without_a_file_are_not_decoded(tmp_path: Path):
    good = write_photo(tmp_path / "good.png")
    images = read_images(make_table([None, good]), 16, "test", Reporter(tmp_path))
    assert images.table["id"].tolist() == ["i1"]


def test_a_folder_without_a_readable_image_is_refused(tmp_path: Path):
    with pytest.raises(PixelError, match="none of the 1 training images can be read; see data"):
        read_images(make_table([tmp_path / "no.png"]), 16, "training", Reporter(tmp_path))


def test_pixels_that_the_disk_cannot_hold_are_refused_before_decoding():
    with pytest.raises(PixelError, match=r"need .* GB in .*, which has no room"):
        allocate_pixels(10**9, 1024)
