"""Annotations: the JSON of COCO as a table

Such a file lists images, and annotations that give an image a category. The table has a row for
each image, with the image's own fields, and so the rest of Podium sees no difference to a CSV.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from podium.inputs import CompetitionError


def read_annotations(folder: Path) -> list[tuple[Path, pd.DataFrame]]:
    """The tables of all JSON files below a folder that annotate images as COCO does."""
    tables = [(path, read_coco(path)) for path in sorted(folder.rglob("*.json"))]
    return [(path, table) for path, table in tables if table is not None]


def read_coco(path: Path) -> pd.DataFrame | None:
    """A row for each image: its fields, and category_id; None if the file is about something else.

    All cells are text. Several categories of one image stand side by side, with spaces between.
    Raises CompetitionError if the file is no JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CompetitionError(f"{path} cannot be read as JSON: {error}") from error
    if not is_coco(content):
        return None
    categories = defaultdict[Any, set[Any]](set)
    for annotation in content["annotations"]:
        categories[annotation["image_id"]].add(annotation["category_id"])
    rows = [
        {key: str(value) for key, value in image.items() if isinstance(value, str | int | float)}
        | {"category_id": " ".join(map(str, sorted(categories[image["id"]])))}
        for image in content["images"]
    ]
    return pd.DataFrame(rows).fillna("")


def is_coco(content: Any) -> bool:
    """Does a JSON file list images, and annotations with a category?"""
    if not isinstance(content, dict):
        return False
    needed = {"images": {"id", "file_name"}, "annotations": {"image_id", "category_id"}}
    parts = {name: content.get(name) for name in needed}
    return all(
        isinstance(rows, list)
        and rows
        and isinstance(rows[0], dict)
        and needed[name] <= set(rows[0])
        for name, rows in parts.items()
    )
