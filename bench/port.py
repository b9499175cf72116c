"""How far Podium's port of a Hub module answers from the module itself, on real photographs.

    KERAS_BACKEND=tensorflow python bench/port.py --module folder --photos folder
                                                                        or jax; --json for programs

`--module` is a reusable SavedModel of an EfficientNetV2, as TF-Hub and Kaggle Models publish them;
several may be named. The pooled features (of a classification module: the logits) of photographs
that the port never saw are compared, float32, on the CPU: the largest absolute and the largest
relative difference, the latter in units of the largest feature.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import keras
import numpy as np

from podium.normalise import scale_pixels
from podium.pixels import decode_image
from podium.port import ask_module, classify, port_module, read_module


def main() -> None:
    """Ports each module and prints the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder with JPEG files")
    parser.add_argument("--count", type=int, default=16, help="photographs")
    parser.add_argument("--side", type=int, default=128, help="px")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = sorted(options.photos.rglob("*.jpg"))
    chosen = np.random.default_rng(0).choice(len(paths), options.count, replace=False)
    pixels = np.stack([decode_image(str(paths[row]), options.side) for row in chosen])
    rows = {str(folder): measure(folder, pixels.astype(np.float32)) for folder in options.module}
    if options.json:
        print(json.dumps({"backend": os.environ["KERAS_BACKEND"], "modules": rows}))
        return
    for folder, row in rows.items():
        print(
            f"{Path(folder).name:<16} {row['architecture']:<18} input {row['scaling']:<10} "
            f"absolute {row['absolute']:.1e}, relative {row['relative']:.1e}"
        )


def measure(folder: Path, pixels: np.ndarray) -> dict:
    """The differences of one module and its port."""
    module = read_module(folder)
    port = port_module(module)
    scaled = scale_pixels(keras.ops.convert_to_tensor(pixels), port.scaling)
    features = keras.ops.convert_to_numpy(port.network(scaled, training=False))
    ours, theirs = classify(module, features), ask_module(module, pixels / 255.0)
    gap = float(np.abs(ours - theirs).max())
    return {
        "architecture": port.figures["architecture"],
        "scaling": port.scaling,
        "absolute": gap,
        "relative": gap / float(np.abs(theirs).max()),
    }


if __name__ == "__main__":
    main()
