"""How many views adaptive test-time augmentation takes, and whether it answers as all of them do.

    python bench/views.py                                   digits, --json for programs
    python bench/views.py --data trashnet --solution solution.csv --weights mobilenet_v2….h5

Digits: the small net of rehearsals learns scikit-learn's digits, which are turned, zoomed, moved
and made noisy so that it errs on one in four; those that it has not learned are answered, each
several times over. Photographs: a logistic regression on features of a pretrained MobileNetV2,
frozen; the test part is answered. All drawn views of each image, up to the cap, are answered once,
and rules of different doubt then take of them what they need. The ratios are forward passes of all
views over those taken.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "tests")]

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import keras
import numpy as np
from planted import CONFIG, SIDE, Strength, change_images, make_data, train_net
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from podium.adaptive import gather_views
from podium.competition import read_competition
from podium.config import DataConfig, PixelsConfig
from podium.events import Reporter
from podium.model import strip_augmentation
from podium.pixels import read_images
from podium.predict import predict_probs
from podium.views import Seen, draw_view

CAP = 48
DOUBTS = (0.05, 0.01, 0.001)
HARD = Strength(25, 0.25, 0.1, 0.3, 60)  # of the digits
SHOWN = 4  # times that a digit is answered, changed anew each time


def answer_digits(seed: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """What a small net says of digits in all views, [CAP, N, C], and their truth [N]."""
    fold = make_data(seed, HARD)
    net = strip_augmentation(train_net(fold, 0.9, Strength(5, 0.05, 0.03), epochs), SIDE)
    plain, dice = make_data(seed, Strength()), np.random.default_rng(seed + 1)
    rows = np.repeat(plain.validated, SHOWN)
    pixels = change_images(plain.pixels[rows], HARD, dice)
    everything, size = np.arange(len(rows)), 4 * CONFIG.pixels.batch_size
    views = [Seen(pixels, draw_view(view, flip=False)) for view in range(CAP)]
    probs = [predict_probs(net, seen, everything, size) for seen in views]
    return np.stack(probs), plain.data.labels[rows]


def answer_photographs(
    data: Path, solution: Path, weights: Path, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a regression on frozen features says of test photographs in all views, and the truth."""
    with TemporaryDirectory() as folder:
        report = Reporter(Path(folder), leader=False)
        found = read_competition(DataConfig(folder=str(data), solution=str(solution)), 0)
        stored = side + side // 8
        train, test = (
            read_images(table, stored, part, PixelsConfig(), report)
            for table, part in ((found.train, "training"), (found.test, "test"))
        )
    body = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg"
    )
    body.load_weights(weights)
    squares = keras.Input((stored, stored, 3), dtype="uint8")
    centre = keras.layers.CenterCrop(side, side, dtype="float32")(squares)
    network = keras.Model(squares, body(keras.layers.Rescaling(1 / 127.5, -1)(centre)))
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    head.fit(network.predict(train.pixels[:], verbose=0), train.table["label"].to_numpy())
    probs, every = [], np.arange(len(test.table))
    for view in range(CAP):
        seen = Seen(test.pixels, draw_view(view, flip=True))[every]
        probs.append(head.predict_proba(network.predict(seen, verbose=0)))
    return np.stack(probs).astype(np.float32), test.table["label"].to_numpy()


def measure(probs: np.ndarray, labels: np.ndarray, doubt: float) -> dict:
    """What one rule takes of the views, and how it answers: accuracies beside one and all views."""
    images = np.arange(len(labels))
    found = gather_views(
        lambda view, rows: probs[view, rows], images, CAP, exclusive=True, unsure=doubt
    )
    full, chosen = probs.mean(axis=0).argmax(axis=1), found.probs.argmax(axis=1)
    return {
        "doubt": doubt,
        "images": len(labels),
        "views": float(found.taken.mean()),
        "median": float(np.median(found.taken)),
        "undecided": float(found.undecided.mean()),
        "agreement": float((full == chosen).mean()),
        "one": float((probs[0].argmax(axis=1) == labels).mean()),
        "adaptive": float((chosen == labels).mean()),
        "all": float((full == labels).mean()),
    }


def format_row(task: str, row: dict) -> str:
    """One line of the table."""
    return (
        f"| {task} | {row['doubt']:g} | {row['views']:.1f} ({row['median']:.0f}) | "
        f"{CAP / row['views']:.1f} | {row['undecided']:.1%} | {row['agreement']:.2%} | "
        f"{row['one']:.4f} | {row['adaptive']:.4f} | {row['all']:.4f} |"
    )


def main() -> None:
    """Answers all views of the tasks asked for, and prints what each rule takes of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30, help="of the small net")
    parser.add_argument("--data", type=Path, help="a competition of photographs")
    parser.add_argument("--solution", type=Path, help="labels of its test part")
    parser.add_argument("--weights", type=Path, help="MobileNetV2's, without top")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tasks = {"digits": lambda: answer_digits(options.seed, options.epochs)}
    if options.data:
        given = (options.data, options.solution, options.weights, options.side)
        tasks["photographs"] = lambda: answer_photographs(*given)
    results, ratios = [], {}
    if not options.json:
        print("| task | doubt | views (median) | fewer | at cap | agreement | 1 | adaptive | all |")
        print("|---|---|---|---|---|---|---|---|---|")
    for task, answer in tasks.items():
        began = time.time()
        probs, labels = answer()
        for doubt in DOUBTS:
            row = {"task": task, **measure(probs, labels, doubt)}
            row["seconds"] = round(time.time() - began, 1)
            results.append(row)
            ratios[f"{task} {doubt:g}"] = CAP / row["views"]
            if not options.json:
                print(format_row(task, row), flush=True)
    if options.json:
        print(json.dumps({"cap": CAP, "results": results, "ratios": ratios}))


if __name__ == "__main__":
    main()
