"""Near-duplicates: recall on planted copies, false pairs, time, and what a leak is worth.

    python bench/duplicates.py --images trashnet/train [--count 100000] [--json]

`--images` is a folder with a folder for each class. Copies of 500 photographs are made from their
files (JPEG at quality 50, resized, cropped, …) and stored as the photographs are, at 224 px. A pair
of photographs of different classes is surely false; what else is found must be looked at: --sheet
draws it. `--count` asks for the time and memory of that many images, blends of two photographs,
which are more alike than photographs are.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from podium.config import FoldsConfig
from podium.decode import decode_image
from podium.duplicates import (
    FINE,
    SAME,
    Pairs,
    cluster_images,
    find_duplicates,
    make_thumbnails,
    merge_groups,
)
from podium.folds import make_folds

SIDE, SOURCES = 224, 500


def crop(image: Image.Image) -> Image.Image:
    """95 % of each side, at a place of its own."""
    width, height = image.size
    draw = np.random.default_rng(width * height + sum(image.getpixel((9, 9))))
    left, top = int(draw.integers(0, width // 20 + 1)), int(draw.integers(0, height // 20 + 1))
    return image.crop((left, top, left + width * 95 // 100, top + height * 95 // 100))


def shrink(image: Image.Image) -> Image.Image:
    """60 % of each side."""
    size = (image.width * 6 // 10, image.height * 6 // 10)
    return image.resize(size, Image.Resampling.BILINEAR)


COPIES = {  # what is done, and the quality of the JPEG that is made of it
    "JPEG, quality 50": (lambda image: image, 50),
    "resized to 60 %": (shrink, 90),
    "cropped by 5 %": (crop, 90),
    "brighter by 25 %": (lambda image: ImageEnhance.Brightness(image).enhance(1.25), 90),
    "mirrored": (ImageOps.mirror, 90),
    "cropped, resized, darker by 20 %, quality 50": (
        lambda image: ImageEnhance.Brightness(shrink(crop(image))).enhance(0.8),
        50,
    ),
}


def copy_image(path: str, change, quality: int) -> np.ndarray:
    """The stored square of a changed copy of a file."""
    with Image.open(path) as image:
        changed = change(image.convert("RGB"))
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        changed.save(file.name, quality=quality)
        return decode_image(file.name, SIDE)


def measure_recall(paths: list[str], pixels: np.ndarray) -> dict[str, dict[str, float]]:
    """The share of copies that are found, and that pass for the same, of each kind."""
    rows = np.random.default_rng(0).choice(len(paths), min(SOURCES, len(paths)), replace=False)
    recall = {}
    for name, (change, quality) in COPIES.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = pool.map(lambda row: copy_image(paths[row], change, quality), rows)  # noqa: B023
            pairs = find_duplicates(pixels, np.stack(list(made)))
        own = pairs.second >= len(pixels)
        first, second, cosine = pairs.select(own)
        right = rows[second - len(pixels)] == first
        recall[name] = {
            "found": float(right.sum() / len(rows)),
            "same": float((cosine[right] >= SAME).sum() / len(rows)),
        }
    return recall


def measure_scale(count: int, pixels: np.ndarray) -> dict[str, float]:
    """Seconds and extra memory for that many blends of two photographs, at 56 px."""
    draw, small = np.random.default_rng(0), pixels[:, ::4, ::4]
    blends = np.empty((count, *small.shape[1:]), np.uint8)
    for start in range(0, count, 4096):
        part = blends[start : start + 4096]
        one, other = draw.integers(0, len(small), (2, len(part)))
        share = draw.uniform(0.3, 0.7, (len(part), 1, 1, 1))
        part[:] = small[one] * share + small[other][:, :, ::-1] * (1 - share)
    started, worked = time.perf_counter(), time.process_time()
    pairs = find_duplicates(blends)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    tracemalloc.start()  # beyond the pixels, which are there already; tracing takes time
    find_duplicates(blends[: count // 5])
    kilobytes = tracemalloc.get_traced_memory()[1] / (count // 5) / 1e3
    tracemalloc.stop()
    return {
        "images": count,
        "seconds": seconds,
        "cpu_seconds": work,
        "kb_per_image": kilobytes,
        "pairs": len(pairs.first),
    }


def compare_splits(pixels: np.ndarray, labels: np.ndarray, pairs: Pairs) -> dict[str, list[float]]:
    """Accuracy out of fold of the nearest neighbour, and of logistic regression, of thumbnails.

    First without, then with near-duplicates together: of all images, and of those that have one.
    """
    clusters = cluster_images(pairs, len(labels), 5).numbers
    table = pd.DataFrame({"id": [f"{row:06d}" for row in range(len(labels))], "label": labels})
    together = table.assign(group=merge_groups(None, clusters))
    features = make_thumbnails(pixels, FINE).reshape(len(labels), -1)
    models = {
        "nearest neighbour": KNeighborsClassifier(1),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=1e-3)),
    }
    has_copy = np.bincount(clusters)[clusters] > 1
    scores = {}
    for name, model in models.items():
        for split, images in (("by image", table), ("together", together)):
            folds = make_folds(images, FoldsConfig(5), 0)
            right = np.zeros(len(labels), bool)
            for fold in range(5):
                known = folds != fold
                model.fit(features[known], labels[known])
                right[~known] = model.predict(features[~known]) == labels[~known]
            scores[f"{name}, {split}"] = [right.mean(), right[has_copy].mean()]
    return {name: [float(one) for one in pair] for name, pair in scores.items()}


def draw_sheet(pixels: np.ndarray, pairs: Pairs, path: Path) -> None:
    """The pairs side by side, the least alike first."""
    order = np.argsort(pairs.cosine)[:60]
    sheet = Image.new("RGB", (6 * 300, -(-len(order) // 6) * 165))
    for place, row in enumerate(order):
        left, top = place % 6 * 300, place // 6 * 165
        for side, image in enumerate((pairs.first[row], pairs.second[row])):
            sheet.paste(Image.fromarray(pixels[image]).resize((146, 146)), (left + side * 148, top))
        ImageDraw.Draw(sheet).text((left, top + 148), f"{pairs.cosine[row]:.3f}", "white")
    sheet.save(path)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, help="images of the measurement of time")
    parser.add_argument("--sheet", type=Path, help="a picture of the pairs found")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = sorted(str(path) for path in options.images.rglob("*.jpg"))
    labels = pd.factorize(np.array([Path(path).parent.name for path in paths]))[0]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = np.stack(list(pool.map(lambda path: decode_image(path, SIDE), paths)))
    pairs = find_duplicates(pixels)
    sizes = np.bincount(cluster_images(pairs, len(pixels), 5).numbers)
    every = len(labels) * (len(labels) - 1) // 2
    across = every - int((np.bincount(labels) * (np.bincount(labels) - 1) // 2).sum())
    figures = {
        "images": len(paths),
        "pairs": len(pairs.first),
        "rate": len(pairs.first) / every,
        "across_classes": int((labels[pairs.first] != labels[pairs.second]).sum()),
        "all_across_classes": across,
        "images_with_a_copy": int(sizes[sizes > 1].sum()),
        "largest_cluster": int(sizes.max()),
        "recall": measure_recall(paths, pixels),
        "splits": compare_splits(pixels, labels, pairs),
        "scale": measure_scale(options.count, pixels) if options.count else None,
    }
    if options.sheet:
        draw_sheet(pixels, pairs, options.sheet)
    print(json.dumps(figures, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
