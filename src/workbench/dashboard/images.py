"""Pictures that a run shows, made anew: what is kept was written by Pillow and by nobody else."""

import base64
import hashlib
import io

from PIL import Image

SIDE = 256  # px, the longest
MOST_PIXELS = 4_000_000  # of a picture before it is decoded
LONGEST_CODE = 100_000  # characters of base64
KINDS = ("JPEG", "PNG")


class MalformedImageError(ValueError):
    """What was sent is no small picture."""


def read_image(code: object) -> bytes:
    """A JPEG of at most 256 px a side, from base64; raises MalformedImageError."""
    if not isinstance(code, str) or len(code) > LONGEST_CODE:
        raise MalformedImageError(f"a picture is base64 of at most {LONGEST_CODE} characters")
    try:
        content = base64.b64decode(code, validate=True)
        with Image.open(io.BytesIO(content), formats=KINDS) as picture:
            if picture.width * picture.height > MOST_PIXELS:  # nothing is decoded yet
                raise MalformedImageError(f"a picture may have {MOST_PIXELS} pixels")
            return write_jpeg(picture)
    except MalformedImageError:
        raise
    except Exception as error:  # a decoder may raise anything on bytes made to break it
        raise MalformedImageError(f"no picture: {type(error).__name__}") from None


def write_jpeg(picture: Image.Image) -> bytes:
    """The picture's colours as a JPEG, without the comments and profiles that came along."""
    picture.thumbnail((SIDE, SIDE))
    bare, file = Image.new("RGB", picture.size), io.BytesIO()
    bare.paste(picture.convert("RGB"))
    bare.save(file, "JPEG", quality=85)
    return file.getvalue()


def name_image(content: bytes) -> str:
    """The name that a picture is served under."""
    return hashlib.sha256(content).hexdigest()
