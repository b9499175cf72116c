from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from podium.events import Reporter
from podium.pixels import (
    BROKEN_IMAGE,
    PixelError,
    allocate_pixels,
    decode_image,
    read_images,
)

RNG = np.random.default_rng(0)


def write_photo(path: Path, width: int = 60, height: int = 40, **options: object) -> Path:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def make_table(paths: list[Path | None]) -> pd.DataFrame:
    ids = [f"i{row}" for row in range(len(paths))]
    texts = [None if path is None else str(path) for path in paths]
    return pd.DataFrame({"id": ids, "path": texts, "label": np.arange(len(paths)) % 2})


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_every_common_format_becomes_a_square_of_uint8(tmp_path: Path, suffix: str):
    image = decode_image(str(write_photo(tmp_path / f"a.{suffix}")), 20)
    assert image.shape == (20, 20, 3)
    assert image.dtype == np.uint8


def test_the_centre_is_kept_and_not_squashed(tmp_path: Path):
    image = decode_image(str(write_photo(tmp_path / "a.png", 300, 100)), 100)
    assert image[50, 0, 0] == pytest.approx(255 / 3, abs=3)
    assert image[50, -1, 0] == pytest.approx(2 * 255 / 3, abs=3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (30, 30)).save(path)
    assert decode_image(str(path), 16).shape == (16, 16, 3)


def test_of_16_bits_the_upper_8_are_kept(tmp_path: Path):
    ramp = np.linspace(0, 65535, 32 * 32, dtype=np.uint16).reshape(32, 32)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        shown = decode_image(str(tmp_path / name), 32)
        np.testing.assert_array_equal(shown[..., 0], ramp >> 8)
        np.testing.assert_array_equal(shown[..., 0], shown[..., 2])


def test_floating_point_pixels_are_no_image_of_a_known_range(tmp_path: Path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BROKEN_IMAGE, match="convert them to 8 or 16 bits"):
        decode_image(str(tmp_path / "a.tif"), 8)


def test_a_photo_taken_with_a_turned_camera_is_upright(tmp_path: Path):
    half = np.zeros((40, 40, 3), np.uint8)
    half[:, :20] = 255  # the left half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter clockwise to show
    Image.fromarray(half).save(tmp_path / "a.jpg", exif=exif, quality=95)
    shown = decode_image(str(tmp_path / "a.jpg"), 40)
    assert shown[5].mean() > 200
    assert shown[-5].mean() < 50


def test_a_jpeg_decoded_at_a_smaller_scale_looks_the_same(tmp_path: Path):
    path = write_photo(tmp_path / "a.jpg", 800, 800, quality=95)
    with Image.open(path) as image:
        full = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC))
    difference = np.abs(decode_image(str(path), 64).astype(int) - full.astype(int))
    assert difference.max() <= 4


def broken_files(folder: Path) -> dict[str, Path]:
    """One file for each way in which an image is broken in practice."""
    whole = write_photo(folder / "whole.jpg", 200, 200).read_bytes()
    png = write_photo(folder / "whole.png", 200, 200).read_bytes()
    contents = {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": png[: len(png) // 2],
        "flipped.png": png[:60] + bytes(40) + png[100:],
        "empty.jpg": b"",
        "text.jpg": b"<html>404 not found</html>",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents} | {"missing": folder / "missing.jpg"}


@pytest.mark.parametrize(
    "name", ["truncated.jpg", "truncated.png", "flipped.png", "empty.jpg", "text.jpg", "missing"]
)
def test_a_broken_file_is_told_from_an_image(tmp_path: Path, name: str):
    with pytest.raises(BROKEN_IMAGE):
        decode_image(str(broken_files(tmp_path)[name]), 32)


def test_unreadable_training_images_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = broken_files(tmp_path)
    good = write_photo(tmp_path / "good.png")
    report = Reporter(tmp_path)
    table = make_table([good, broken["truncated.jpg"], good, broken["text.jpg"]])
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
