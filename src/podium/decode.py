"""Decode: one image file to an upright square of uint8

JPEGs, nearly all of what competitions hold, are decoded by OpenCV at the smallest DCT scale that
still covers the square; all else by Pillow, which knows far more formats and has the last word
on what is broken. One resize serves both, so that an image does not depend on who decoded it.

Shapes: S side of the square.
"""

import io
import struct
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# What Pillow raises on broken files: no such file or truncated, broken PNG chunk, absurd header,
# broken AVIF.
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)

# The DCT scales that OpenCV decodes at: one in 8, 4, 2 and 1.
REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}

# EXIF orientation: whether to swap rows and columns, then the steps along rows and columns.
# fmt: off
TURNS = {
    2: (False, 1, -1), 3: (False, -1, -1), 4: (False, -1, 1),
    5: (True, 1, 1), 6: (True, 1, -1), 7: (True, -1, -1), 8: (True, -1, 1),
}
# fmt: on
ORIENTATION = 0x0112  # the EXIF tag

JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
JPEG_SCAN, JPEG_TAGS = 0xDA, 0xE1
JPEG_START = b"\xff\xd8"


class JpegHeader(NamedTuple):
    """What of a JPEG decides how it is decoded."""

    width: int
    height: int
    tagged: bool  # EXIF or XMP, which may turn it


def decode_image(
    path: str, side: int, scratch: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Decodes one file upright into a centred square [S, S, 3] uint8, aspect ratio kept.

    `scratch` [2 S, 2 S, 3], which is overwritten, saves the time to touch new memory. Raises one
    of BROKEN_IMAGE if the file is missing, truncated or no image.
    """
    with Path(path).open("rb", buffering=0) as file:
        data = file.read()
    header = read_jpeg_header(data)
    square = None if header is None else decode_jpeg(data, header, side, scratch)
    return decode_with_pillow(data, side) if square is None else square


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG of no more pixels than Pillow takes; None for all else."""
    if data[:2] != JPEG_START:
        return None
    place, size, tagged = 2, (0, 0), False
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            size = width, height
        elif marker == JPEG_SCAN:
            fits = 0 < size[0] * size[1] <= (Image.MAX_IMAGE_PIXELS or 0)
            return JpegHeader(*size, tagged) if fits else None
        tagged |= marker == JPEG_TAGS
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def decode_jpeg(
    data: bytes, header: JpegHeader, side: int, scratch: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8] | None:
    """The square [S, S, 3] uint8 of a JPEG; None if OpenCV refuses it, as it does what is cut off.

    In memory, that is: of a truncated file, cv2.imread makes up the rest.
    """
    shorter = min(header.width, header.height)
    scale = next(scale for scale in REDUCED if shorter // scale >= side or scale == 1)
    flags = REDUCED[scale] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        blue_first = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if blue_first is None:
        return None
    orientation = 1
    if header.tagged:
        with Image.open(io.BytesIO(data)) as image:  # reads no more than the tags
            orientation = read_orientation(image)
    square = cv2.cvtColor(fit_square(blue_first, side, scratch), cv2.COLOR_BGR2RGB)
    return turn_upright(np.asarray(square, np.uint8), orientation)


def decode_with_pillow(data: bytes, side: int) -> NDArray[np.uint8]:
    """The square [S, S, 3] uint8 of an image in any format that Pillow reads.

    Raises one of BROKEN_IMAGE.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side, side))
        pixels = np.asarray(convert_to_rgb(image))
        return turn_upright(fit_square(pixels, side), read_orientation(image))


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8 bits a channel; Pillow alone would clip 16 bits to white.

    Of 16 bits the upper 8 are kept, whatever range an image uses, so that images compare. Raises
    ValueError for floating-point pixels, whose range nothing tells.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; convert them to 8 or 16 bits")
    if image.mode.startswith("I"):
        upper = np.clip(np.asarray(image, np.int64) >> 8, 0, 255)
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # a palette may have transparency, which Pillow converts by way of RGBA
        image = image.convert("RGBA")
    return image.convert("RGB")


def fit_square(
    pixels: NDArray[np.uint8], side: int, scratch: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Cuts the centre square out of [H, W, 3] and resizes it to [S, S, 3], without aliasing.

    OpenCV's area mean blurs where it shrinks by less than half, and is slow. There, which is where
    a DCT scale leaves off, cubic interpolation at twice the side and the mean of each 2 × 2 is as
    near to the exact resize or nearer, in half the time (bench/decoders.py).
    """
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    square = pixels[top : top + shorter, left : left + shorter]
    if shorter <= side:
        return resize_square(square, side, cv2.INTER_CUBIC)
    if shorter < 2 * side:
        square = resize_square(square, 2 * side, cv2.INTER_CUBIC, scratch)
    return resize_square(square, side, cv2.INTER_AREA)


def resize_square(
    square: NDArray[np.uint8], side: int, method: int, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """OpenCV's resize of a square to [S, S, 3], which `into` may be."""
    return np.asarray(cv2.resize(square, (side, side), dst=into, interpolation=method), np.uint8)


def read_orientation(image: Image.Image) -> int:
    """The orientation that an image's tags tell, 1 to 8; tags that cannot be read tell none."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever is wrong with its tags, the image itself was read
        return 1


def turn_upright(square: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns a square [S, S, 3] as its EXIF orientation says; it stays as it is for an unknown one.

    Source: EXIF 2.3, tag 274.
    """
    swapped, down, right = TURNS.get(orientation, (False, 1, 1))
    return (square.swapaxes(0, 1) if swapped else square)[::down, ::right]
