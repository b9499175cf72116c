"""Storage: a file is there whole, or as it was before

A session can end, or a disk be full, in the middle of a write. So every result is written beside
its place under another name and moved there in one step.
"""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, or raises OSError and leaves an earlier one untouched."""
    half = path.with_name(f"{path.name}.half")
    try:
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise
