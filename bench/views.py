"""How many views adaptive test-time augmentation takes, and whether it answers as all of them do.

    python bench/views.py                                   digits, --json for programs
    python bench/views.py --data trashnet --solution solution.csv --weights mobilenet_v2….h5

Digits: the small net of rehearsals learns scikit-learn's digits, which are turned, zoomed, moved
and made noisy so that it errs on one in four; those that it has not learned are answered, each
several times over. Photographs: a logistic regression on features of a pretrained MobileNetV2,
frozen; the test part is answered. All drawn views of each image, up to the cap, are answered once,
and rules of different doubt then take of them what they need. The ratios are forward passes of all
views over those taken. The second table judges sets of named views as a run does.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

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
from podium.looks import Looks
from podium.model import strip_augmentation
from podium.pixels import read_images
from podium.predict import predict_probs
from podium.task import Task as AskedTask
from podium.task import encode_targets
from podium.tta import judge_looks
from podium.views import VIEWS, Seen, View, draw_view

CAP = 48
DOUBTS = (0.05, 0.01, 0.001)
HARD = Strength(25, 0.25, 0.1, 0.3, 60)  # of the digits
SETS = {
    "flip": ("flip",),
    "shifts": ("shift-left", "shift-right", "shift-up", "shift-down"),
    "zooms": ("zoom-in", "zoom-out"),
    "turns": ("turn-left", "turn-right"),
    "flip, shifts": ("flip", "shift-left", "shift-right", "shift-up", "shift-down"),
}
SHOWN = 4  # times that a digit is answered, changed anew each time


Ask = Callable[[View], np.ndarray]  # what is said of a view of all images: probs [N, C]


class Task(NamedTuple):
    """What answers views, the images' truth [N], and folds to judge it by [N]."""

    ask: Ask
    labels: np.ndarray
    folds: np.ndarray
    classes: tuple[str, ...]
    flip: bool  # may drawn views be mirrored?


def learn_digits(seed: int, epochs: int) -> Task:
    """A small net, and digits that it has not learned, each changed anew several times."""
    fold = make_data(seed, HARD)
    net = strip_augmentation(train_net(fold, 0.9, Strength(5, 0.05, 0.03), epochs), SIDE)
    plain, dice = make_data(seed, Strength()), np.random.default_rng(seed + 1)
    rows = np.repeat(plain.validated, SHOWN)
    pixels = change_images(plain.pixels[rows], HARD, dice)
    every, size = np.arange(len(rows)), 4 * CONFIG.pixels.batch_size
    labels, folds = plain.data.labels[rows], every // SHOWN % 5

    def ask(view: View) -> np.ndarray:
        return predict_probs(net, Seen(pixels, view), every, size)

    return Task(ask, labels, folds, tuple("0123456789"), flip=False)


def learn_photographs(data: Path, solution: Path, weights: Path, side: int) -> Task:
    """A regression on frozen features, and the photographs of the test part."""
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
    every = np.arange(len(test.table))

    def ask(view: View) -> np.ndarray:
        features = network.predict(Seen(test.pixels, view)[every], verbose=0)
        return np.float32(head.predict_proba(features))

    return Task(ask, test.table["label"].to_numpy(), every % 5, found.classes, flip=True)


def judge(task: Task, metric: str) -> dict[str, dict]:
    """What the evidence says of each set of named views, by the metric."""
    targets = encode_targets(task.labels, len(task.classes))
    asked = AskedTask("label", task.classes, metric=metric)
    probs = {name: task.ask(VIEWS[name]) for name in {"identity", *sum(SETS.values(), ())}}
    rows, ids = {}, np.arange(len(targets)).astype(str)
    for name, views in SETS.items():
        names = ("identity", *views)
        ones = np.ones(len(names))
        every = np.stack([probs[one] for one in names])
        looks = Looks(ids, names, every, ones, ones, np.zeros(len(ids), bool))
        judged = judge_looks(asked, targets, looks, task.folds)
        tta, single = judged.questions
        options = {option.name: option for option in tta.options}
        rows[name] = {
            "one": options["one view"].score,
            "plain": tta.options[0].score,
            "alone": [option.score for option in single.options[1 : len(names)]],
            **{mean: options[mean].score for mean in ("mean", "geometric mean", "greedy")},
            "fixed": options["mean"].fixed,
            "broken": options["mean"].broken,
            "p": options["mean"].gain.p,
            "used": tta.chosen,
            "notes": single.notes,
        }
    return rows


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


def format_verdict(name: str, row: dict) -> str:
    """One line of the table of named views."""
    low, high = min(row["alone"]), max(row["alone"])
    alone = f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"
    return (
        f"| {name} | {row['one']:.4f} | {row['plain']:.4f} | {alone} | {row['mean']:.4f} | "
        f"{row['fixed']} / {row['broken']} | {row['p']:.2g} | {row['used']} |"
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
    tasks = {"digits": learn_digits(options.seed, options.epochs)}
    if options.data:
        given = (options.data, options.solution, options.weights, options.side)
        tasks["photographs"] = learn_photographs(*given)
    results = show_adaptive(tasks, quiet=options.json)
    judged = show_judged(tasks, quiet=options.json)
    if options.json:
        ratios = {f"{row['task']} {row['doubt']:g}": CAP / row["views"] for row in results}
        print(json.dumps({"cap": CAP, "results": results, "judged": judged, "ratios": ratios}))


def show_adaptive(tasks: dict[str, Task], *, quiet: bool) -> list[dict]:
    """Prints what each rule takes of the drawn views of each task."""
    say, results = (lambda _: None) if quiet else partial(print, flush=True), []
    say("| task | doubt | views (median) | fewer | at cap | agreement | 1 | adaptive | all |")
    say("|---|---|---|---|---|---|---|---|---|")
    for name, task in tasks.items():
        probs = np.stack([task.ask(draw_view(view, flip=task.flip)) for view in range(CAP)])
        for doubt in DOUBTS:
            results.append({"task": name, **measure(probs, task.labels, doubt)})
            say(format_row(name, results[-1]))
    return results


def show_judged(tasks: dict[str, Task], *, quiet: bool) -> dict[str, dict]:
    """Prints what the evidence says of sets of named views, of each task and by two metrics."""
    say, judged = (lambda _: None) if quiet else partial(print, flush=True), {}
    say("\n| task | metric | views | 1 | 1, warm | alone | mean | fixed / broken | p | in use |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    for name, task in tasks.items():
        for metric in ("accuracy", "log_loss"):
            judged[f"{name} {metric}"] = judge(task, metric)
            for views, row in judged[f"{name} {metric}"].items():
                say(format_verdict(f"{name} | {metric} | {views}", row))
    return judged


if __name__ == "__main__":
    main()
