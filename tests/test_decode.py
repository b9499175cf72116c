import contextlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from podium.decode import (
    BROKEN_IMAGE,
    decode_image,
    decode_with_pillow,
    fit_square,
    read_jpeg_header,
)


def write_ramp(path: Path, width: int = 60, height: int = 40, **options: object) -> Path:
    """A grey ramp from the left to the right."""
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def make_photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Coloured patches [H, W, 3] uint8, as much contrast at each size as photographs have."""
    rng = np.random.default_rng(seed)
    photo = np.full((height, width, 3), 128, np.float32)
    for octave in range(1, max(width, height).bit_length()):
        patches = rng.normal(0, 18, (2**octave, 2**octave, 3)).astype(np.float32)
        photo += cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(photo, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_every_common_format_becomes_a_square_of_uint8(tmp_path: Path, suffix: str):
    image = decode_image(str(write_ramp(tmp_path / f"a.{suffix}")), 20)
    assert image.shape == (20, 20, 3)
    assert image.dtype == np.uint8


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40)),
    st.sampled_from([("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "YCbCr")])
    | st.sampled_from([("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")])
    | st.sampled_from([("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")])
    | st.sampled_from([("TIFF", mode) for mode in ("I", "I;16", "LAB")])
    | st.sampled_from([("WEBP", "RGB"), ("WEBP", "RGBA"), ("GIF", "P"), ("GIF", "L")]),
    st.integers(0, 8),
)
def test_any_size_mode_and_orientation_becomes_a_square_of_uint8(
    tmp_path_factory: pytest.TempPathFactory, sizes, kind, orientation: int
):
    (width, height, side), (form, mode) = sizes, kind
    path = tmp_path_factory.mktemp("any") / "a"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new(mode, (width, height)).save(path, form, exif=exif)
    image = decode_image(str(path), side)
    assert image.shape == (side, side, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_centre_is_kept_and_not_squashed(tmp_path: Path, suffix: str):
    image = decode_image(str(write_ramp(tmp_path / f"a.{suffix}", 300, 100)), 100)
    assert image[50, 0, 0] == pytest.approx(255 / 3, abs=3)
    assert image[50, -1, 0] == pytest.approx(2 * 255 / 3, abs=3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "cmyk.jpg"])
def test_red_stays_red(tmp_path: Path, name: str):
    mode, red = ("CMYK", (0, 255, 255, 0)) if "cmyk" in name else ("RGB", (255, 0, 0))
    Image.new(mode, (30, 30), red).save(tmp_path / name, quality=95)
    np.testing.assert_allclose(decode_image(str(tmp_path / name), 16)[8, 8], [255, 0, 0], atol=3)


def test_a_palette_with_transparency_shows_its_colours(tmp_path: Path):
    palette = Image.new("P", (30, 30), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    shown = decode_image(str(tmp_path / "a.png"), 8)
    np.testing.assert_array_equal(shown, np.full((8, 8, 3), [10, 200, 30]))


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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_taken_with_a_turned_camera_is_upright(
    tmp_path: Path, suffix: str, orientation: int
):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(make_photo(64, 64)).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), int)
    others = [np.rot90(upright, quarter) for quarter in (1, 2, 3)] + [upright[::-1]]
    shown = decode_image(str(path), 64)
    assert np.abs(shown - upright).mean() < 2
    assert all(np.abs(shown - other).mean() > 10 for other in others)


def test_an_orientation_told_by_xmp_alone_counts(tmp_path: Path):
    photo = Image.fromarray(make_photo(40, 40))
    photo.save(tmp_path / "plain.jpg")
    photo.save(tmp_path / "a.jpg", xmp=b'<rdf:Description tiff:Orientation="3"/>')
    plain = decode_image(str(tmp_path / "plain.jpg"), 40)
    np.testing.assert_array_equal(decode_image(str(tmp_path / "a.jpg"), 40), plain[::-1, ::-1])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_tags_that_cannot_be_read_do_not_cost_the_image(tmp_path: Path, suffix: str):
    photo = Image.fromarray(make_photo(40, 40))
    photo.save(tmp_path / f"plain.{suffix}")
    photo.save(tmp_path / f"a.{suffix}", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff\x01")
    plain = decode_image(str(tmp_path / f"plain.{suffix}"), 16)
    np.testing.assert_array_equal(decode_image(str(tmp_path / f"a.{suffix}"), 16), plain)


@pytest.mark.parametrize("sides", [(800, 64), (800, 100), (801, 101), (790, 250), (330, 300)])
def test_a_jpeg_decoded_at_a_smaller_scale_looks_the_same(tmp_path: Path, sides):
    size, side = sides
    path = write_ramp(tmp_path / "a.jpg", size, size, quality=95)
    with Image.open(path) as image:
        full = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
    difference = np.abs(decode_image(str(path), side).astype(int) - full.astype(int))
    assert difference.max() <= 4


@pytest.mark.parametrize(("side", "reduced"), [(101, 1), (100, 2), (51, 2), (50, 4), (25, 8)])
def test_the_dct_scale_is_the_smallest_that_covers_the_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, reduced: int
):
    path = write_ramp(tmp_path / "a.jpg", 300, 201)
    seen = []
    resize = cv2.resize

    def watch(pixels: np.ndarray, *args: object, **options: object) -> np.ndarray:
        seen.append(min(pixels.shape[:2]))
        return resize(pixels, *args, **options)

    monkeypatch.setattr(cv2, "resize", watch)
    decode_image(str(path), side)
    assert seen[0] == -(-201 // reduced)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_both_decoders_see_the_same_jpeg(tmp_path: Path, options: dict[str, object]):
    path = tmp_path / "a.jpg"
    Image.fromarray(make_photo(120, 90)).save(path, **options)
    assert read_jpeg_header(path.read_bytes()) is not None
    other = decode_with_pillow(path.read_bytes(), 64).astype(int)
    assert np.abs(decode_image(str(path), 64) - other).max() <= 4


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_resizing_keeps_a_plain_colour(width: int, height: int, side: int, grey: int):
    plain = np.full((height, width, 3), grey, np.uint8)
    np.testing.assert_array_equal(fit_square(plain, side), np.full((side, side, 3), grey))


def test_fine_stripes_do_not_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    shown = fit_square(stripes, 130).astype(int)
    assert np.abs(shown - 128).max() < 50


def broken_files(folder: Path) -> dict[str, Path]:
    """One file for each way in which an image is broken in practice."""
    whole = write_ramp(folder / "whole.jpg", 200, 200).read_bytes()
    thumbnail = write_ramp(folder / "thumbnail.jpg", 20, 20).read_bytes()
    tagged = struct.pack(">2sBBH", b"\xff\xd8", 0xFF, 0xE1, 2 + len(thumbnail)) + thumbnail
    png = write_ramp(folder / "whole.png", 200, 200).read_bytes()
    contents = {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated-behind-a-thumbnail.jpg": (tagged + whole[2:])[: -len(whole) // 2],
        "header-only.jpg": whole[:200],
        "zeros.jpg": whole[:200] + bytes(len(whole) - 200),
        "truncated.png": png[: len(png) // 2],
        "flipped.png": png[:60] + bytes(40) + png[100:],
        "empty.jpg": b"",
        "two-bytes.jpg": whole[:2],
        "text.jpg": b"<html>404 not found</html>",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents} | {"missing": folder / "missing.jpg"}


BROKEN = [
    "truncated.jpg",
    "truncated-behind-a-thumbnail.jpg",
    "header-only.jpg",
    "zeros.jpg",
    "truncated.png",
    "flipped.png",
    "empty.jpg",
    "two-bytes.jpg",
    "text.jpg",
    "missing",
]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_from_an_image(tmp_path: Path, name: str):
    with pytest.raises(BROKEN_IMAGE):
        decode_image(str(broken_files(tmp_path)[name]), 32)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@given(share=st.floats(0, 0.999))
def test_a_jpeg_that_is_cut_off_anywhere_is_broken(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, object], share: float
):
    path = tmp_path_factory.mktemp("cut") / "a.jpg"
    Image.fromarray(make_photo(70, 50)).save(path, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BROKEN_IMAGE):
        decode_image(str(path), 16)


def test_what_follows_the_end_of_a_jpeg_does_not_matter(tmp_path: Path):
    path = write_ramp(tmp_path / "a.jpg", 200, 200)
    plain = decode_image(str(path), 32)
    path.write_bytes(path.read_bytes() + bytes(1000))
    np.testing.assert_array_equal(decode_image(str(path), 32), plain)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    path = write_ramp(tmp_path / f"a.{suffix}", 100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4999)
    with pytest.raises(BROKEN_IMAGE, match="decompression bomb"):
        decode_image(str(path), 32)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@given(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "GIF"]), st.data())
def test_hostile_bytes_give_an_image_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject
):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(make_photo(24, 24)).save(file, form, exif=exif)
    content = bytearray(file.getvalue())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=8)
    ):
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("hostile") / "a"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(BROKEN_IMAGE):
        assert decode_image(str(path), 16).shape == (16, 16, 3)


@pytest.mark.parametrize("size", [66, 70, 80, 96, 110, 126])
def test_a_small_reduction_is_nearer_to_the_exact_image_than_an_area_mean(size: int):
    photo = make_photo(size, size)
    exact = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.LANCZOS), int)
    mean = cv2.resize(photo, (64, 64), interpolation=cv2.INTER_AREA)
    assert ((fit_square(photo, 64) - exact) ** 2).mean() < ((mean - exact) ** 2).mean()


@pytest.mark.parametrize("size", [128, 150, 300])
def test_a_large_reduction_is_an_area_mean(size: int):
    photo = make_photo(size, size)
    mean = cv2.resize(photo, (64, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(fit_square(photo, 64), mean)


def test_an_image_of_the_right_size_is_kept_as_it_is():
    photo = make_photo(64, 64)
    np.testing.assert_array_equal(fit_square(photo, 64), photo)


@pytest.mark.parametrize("size", [40, 64, 80, 200])
def test_scratch_memory_does_not_show(tmp_path: Path, size: int):
    path, scratch = tmp_path / "a.jpg", np.empty((128, 128, 3), np.uint8)
    Image.fromarray(make_photo(size, size)).save(path)
    expected = decode_image(str(path), 64)
    first = decode_image(str(path), 64, scratch)
    scratch[:] = 0
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(decode_image(str(path), 64, scratch), expected)
