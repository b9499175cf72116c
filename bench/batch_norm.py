"""What batch norm's statistics cost validation, on networks with a known fault.

    python bench/batch_norm.py          --seeds 3, --json for programs

For each augmentation and momentum, the small net of rehearsals learns 768 of scikit-learn's digits,
twelve steps an epoch; at some epochs validation is answered by the statistics as trained (e), anew
of augmented images (a) and anew of clean ones (c), and clean training images by the latter (t).
Training itself does not depend on the momentum: t, a and c of one epoch are nearly the same in its
rows. The ratios are c / e: how much one pass over clean images makes of validation accuracy.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "tests")]

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import numpy as np
from planted import DATA, LIGHT, SIDE, STRONG, Strength, draw_augmented, make_data, train_net

from podium.truth import Examiner

PLANNED = 30  # epochs that the learning rate's cosine is over
# augmentation, momentum, epochs
ROWS = [
    ("none", 0.9, 10),
    ("none", 0.99, 5),
    ("none", 0.99, 10),
    ("none", 0.99, 20),
    ("none", 0.99, 30),
    ("none", 0.999, 30),
    ("light", 0.9, 30),
    ("strong", 0.9, 30),
    ("strong", 0.99, 30),
    ("strong", 0.999, 30),
]
STRENGTHS = {"none": Strength(), "light": LIGHT, "strong": STRONG}


def measure(name: str, momentum: float, epochs: int, seed: int) -> tuple[list[float], str]:
    """The four accuracies of one network, and the verdict on it."""
    fold = make_data(seed, DATA)
    model = train_net(fold, momentum, STRENGTHS[name], epochs, PLANNED)
    examiner = Examiner(model, SIDE, fold)
    augmented = [images for images, _ in draw_augmented(fold, STRENGTHS[name], 1)]
    finding = examiner.examine(examiner.recalibrate(), augmented)
    return [finding.t, finding.e, finding.a, finding.c], finding.verdict


def main() -> None:
    """Trains all networks and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results, ratios = [], {}
    if not options.json:
        print("| augmentation | momentum | epoch | t | e ± deviation | a | c | verdicts |")
        print("|---|---|---|---|---|---|---|---|")
    for name, momentum, epochs in ROWS:
        runs = [measure(name, momentum, epochs, seed) for seed in range(options.seeds)]
        values, verdicts = np.array([run[0] for run in runs]), [run[1] for run in runs]
        t, e, a, c = (round(float(one), 4) for one in values.mean(axis=0))
        spread = float(values[:, 1].std())
        row = {"augmentation": name, "momentum": momentum, "epoch": epochs}
        results.append(row | {"t": t, "e": e, "a": a, "c": c, "verdicts": verdicts})
        ratios[f"{name} {momentum:g} {epochs}"] = c / e
        if not options.json:
            places = f"{t:.3f} | {e:.3f} ± {spread:.3f} | {a:.3f} | {c:.3f}"
            print(f"| {name} | {momentum:g} | {epochs} | {places} | {' '.join(verdicts)} |")
            sys.stdout.flush()
    if options.json:
        print(json.dumps({"results": results, "ratios": ratios}))


if __name__ == "__main__":
    main()
