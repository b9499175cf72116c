"""What becomes of pictures that a run shows."""

import base64
import io
import struct
import zlib

import pytest
from live_site import make_event
from PIL import Image

from workbench.dashboard.images import MalformedImageError, name_image, read_image
from workbench.dashboard.limits import check_event


def encode(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> str:
    file = io.BytesIO()
    Image.new(mode, size, 99).save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def make_bomb() -> str:
    """A PNG that says it has 50,000 × 50,000 pixels, in few bytes."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, part in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(name + part))
        content += struct.pack(">I", len(part)) + name + part + crc
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "I;16")])
def test_a_picture_is_made_anew_and_small(kind: str, mode: str):
    content = read_image(encode(kind, (600, 300), mode))
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (256, 128), "RGB")


def test_nothing_that_came_along_with_a_picture_is_kept():
    exif = Image.Exif()
    exif[0x010E] = "secret"
    code = encode("JPEG", (8, 8), comment=b"<script>alert(1)</script>", exif=exif)
    assert b"script" in base64.b64decode(code)
    assert b"secret" in base64.b64decode(code)
    content = read_image(code)
    assert b"script" not in content
    assert b"secret" not in content


@pytest.mark.parametrize(
    "code",
    [
        base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg"/>').decode(),
        base64.b64encode(b"<html>").decode(),
        encode("GIF", (8, 8), "L"),
        encode("JPEG", (300, 300))[:400],
        make_bomb(),
        encode("PNG", (2001, 2000), "1"),
        "no base64",
        "A" * 200_000,
        None,
        7,
        [],
    ],
)
def test_what_is_no_small_picture_is_refused(code: object):
    with pytest.raises(MalformedImageError) as refusal:
        read_image(code)
    assert len(str(refusal.value)) < 100


def test_an_event_names_its_picture_by_its_content_and_by_nothing_else():
    event = make_event(1, "image_shown", jpeg=encode("PNG", (8, 8)), image="../../keys")
    sound = check_event(event)
    assert sound["image"] == name_image(sound.picture)
    assert "jpeg" not in sound
    assert "image" not in check_event(make_event(1, "image_shown", image="../../keys"))
