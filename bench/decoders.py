"""What the way to decode does to pixels, logits and accuracy.

    python bench/decoders.py --data trashnet --solution solution.csv --weights mobilenet_v2.h5

Pixels: root mean square difference from the exact square, the full decode resized by Lanczos's
filter, over a range of reductions: why decode.fit_square resizes as it does, and why a DCT scale
need cover the square but not exceed it. Logits: a frozen MobileNetV2 and a logistic
regression, fitted on Podium's squares of the training part, answer to the test part as each decoder
shows it.
"""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from podium.decode import REDUCED, decode_image, fit_square, resize_square

METHODS = {
    "Podium": fit_square,
    "area": partial(resize_square, method=cv2.INTER_AREA),
    "cubic": partial(resize_square, method=cv2.INTER_CUBIC),
    "linear": partial(resize_square, method=cv2.INTER_LINEAR),
}
RATIOS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.9)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="as TrashNet lies there")
    parser.add_argument("--solution", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="of MobileNetV2 without top")
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 160, 224])
    parser.add_argument("--train", type=int, default=1000, help="images fitted on")
    parser.add_argument("--test", type=int, default=505)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    train, test = read_tables(options)
    result = {
        "pixels": measure_pixels(test["path"].tolist()[:50]),
        "logits": {side: measure_logits(train, test, side, options) for side in options.sides},
    }
    print(json.dumps(result) if options.json else describe(result))


def read_tables(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paths and labels of both parts."""
    train = pd.read_csv(options.data / "train.csv").rename(columns=str.lower)
    test = pd.read_csv(options.solution).rename(columns=str.lower)
    found = {path.stem: str(path) for path in options.data.rglob("*.jpg")}
    for table in (train, test):
        table["path"] = table["id"].astype(str).str.removesuffix(".jpg").map(found)
    train = train.sample(min(options.train, len(train)), random_state=0)
    return train, test.sample(min(options.test, len(test)), random_state=0)


# --- pixels ------------------------------------------------------------------------------------


def measure_pixels(paths: list[str]) -> dict[str, dict[str, float]]:
    """Mean difference of each way to resize from Lanczos's, for each scale and reduction."""
    table = {}
    for scale in (1, 2, 4):
        for ratio in RATIOS:
            values: dict[str, list[float]] = {name: [] for name in METHODS}
            for path in paths:
                full = cut_square(cv2.imread(path))
                scaled = cut_square(cv2.imread(path, REDUCED[scale]))
                side = int(len(scaled) / ratio)
                exact = resize_pillow(full, side, Image.Resampling.LANCZOS)
                for name, resize in METHODS.items():
                    values[name].append(root_mean_square(resize(scaled, side), exact))
            key = f"1/{scale} × {ratio:g}"
            table[key] = {name: float(np.mean(value)) for name, value in values.items()}
    return table


def cut_square(image: np.ndarray) -> np.ndarray:
    """The centre square."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def resize_pillow(image: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
    """Pillow's resize, which never aliases."""
    return np.asarray(Image.fromarray(image).resize((side, side), method))


def root_mean_square(one: np.ndarray, other: np.ndarray) -> float:
    """In levels of 255."""
    return float(np.sqrt(((one.astype(float) - other.astype(float)) ** 2).mean()))


# --- logits ------------------------------------------------------------------------------------


def decode_opencv(path: str, side: int) -> np.ndarray:
    """At full size, the same resize."""
    return fit_square(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB), side)


def decode_pillow(path: str, side: int) -> np.ndarray:
    """At full size, the same resize."""
    with Image.open(path) as image:
        return fit_square(np.asarray(image.convert("RGB")), side)


def decode_bicubic(path: str, side: int) -> np.ndarray:
    """At full size, Pillow's antialiased bicubic resize."""
    with Image.open(path) as image:
        square = cut_square(np.asarray(image.convert("RGB")))
    return resize_pillow(square, side, Image.Resampling.BICUBIC)


def decode_tensorflow(path: str, side: int) -> np.ndarray:
    """TensorFlow's exact decode, as of TFRecords, the same resize."""
    data = tf.io.read_file(path)
    return fit_square(tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE").numpy(), side)


def decode_aliased(path: str, side: int) -> np.ndarray:
    """TensorFlow's own default for both: a fast, less exact IDCT, and a resize that aliases."""
    image = cut_square(tf.io.decode_jpeg(tf.io.read_file(path), 3).numpy())
    return tf.image.resize(image, (side, side)).numpy().round().clip(0, 255).astype(np.uint8)


DECODERS = {
    "Podium": decode_image,
    "OpenCV, full": decode_opencv,
    "Pillow, full": decode_pillow,
    "TensorFlow, full": decode_tensorflow,
    "Pillow, full, bicubic": decode_bicubic,
    "TensorFlow's defaults": decode_aliased,
}


def measure_logits(
    train: pd.DataFrame, test: pd.DataFrame, side: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """How far each decoder's pixels and logits are from Podium's, and how accurate they are.

    Logits in standard deviations of Podium's own.
    """
    body = keras.applications.MobileNetV2(
        input_shape=(side, side, 3), include_top=False, weights=str(options.weights), pooling="avg"
    )
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))

    def extract(squares: np.ndarray) -> np.ndarray:
        return body.predict(squares.astype(np.float32) / 127.5 - 1, batch_size=32, verbose=0)

    def show(table: pd.DataFrame, decode) -> np.ndarray:
        return np.stack([decode(path, side) for path in table["path"]])

    head.fit(extract(show(train, decode_image)), train["category"])
    rows: dict[str, dict[str, float]] = {}
    for name, decode in DECODERS.items():
        squares = show(test, decode)
        logits = head.decision_function(extract(squares))
        if not rows:
            first, reference = squares, logits
        classes = head.classes_[logits.argmax(axis=1)]
        change = np.abs(logits - reference) / reference.std()
        rows[name] = {
            "pixels": root_mean_square(squares, first),
            "logits_median": float(np.median(change)),
            "logits_most": float(change.max()),
            "other_class": int((logits.argmax(1) != reference.argmax(1)).sum()),
            "accuracy": float((classes == test["category"]).mean()),
        }
    return rows


def describe(result: dict) -> str:
    """Both tables in Markdown."""
    lines = [f"| scale × reduction | {' | '.join(METHODS)} |", "|---|---|---|---|---|"]
    for key, row in result["pixels"].items():
        lines.append(f"| {key} | {' | '.join(f'{row[name]:.2f}' for name in METHODS)} |")
    lines += ["", "| px | decoder | pixels | logits, median | most | other class | accuracy |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for side, rows in result["logits"].items():
        for name, row in rows.items():
            shown = f"{row['pixels']:.2f} | {row['logits_median']:.4f} | {row['logits_most']:.3f}"
            lines.append(
                f"| {side} | {name} | {shown} | {row['other_class']} | {row['accuracy']:.3f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
