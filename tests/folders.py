"""Small competitions on disk, with real image files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image


def write_images(folder: Path, names: Sequence[str]) -> None:
    """Writes a tiny image under each name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(path)


def write_csv(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Writes columns as a CSV."""
    rows = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def make_csv_competition(folder: Path, images: int = 20, tests: int = 4) -> Path:
    """train.csv beside train/, test/, and a sample submission that asks for a label."""
    names = [f"{row:03d}.png" for row in range(images)]
    asked = [f"{row:03d}.png" for row in range(500, 500 + tests)]
    write_images(folder / "train", names)
    write_images(folder / "test", asked)
    labels = [("cat", "dog")[row % 2] for row in range(images)]
    write_csv(folder / "train.csv", {"image": names, "kind": labels})
    write_csv(folder / "sample_submission.csv", {"image": asked, "kind": ["cat"] * tests})
    return folder
