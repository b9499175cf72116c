"""FixRes: larger images answer than were learned

Where training sees a part of an image at a time, objects are larger in it than in the test part;
and a network has more to say of a larger image. So the trained weights answer squares that are
enlarged, with batch norm's statistics taken anew at that size (Touvron et al. 2019, arXiv
1906.06423). It stands only where validation gains by it.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.config import Config
from podium.fold_data import FoldData
from podium.model import add_body, strip_augmentation
from podium.network import Start
from podium.recalibrate import Recalibrator, draw_clean, write_statistics
from podium.truth import measure_gain

RATIOS = (1.14, 1.28)
STEP = 8  # px, that sizes are multiples of


class Chosen(NamedTuple):
    """The model that answers, what it says of the validation images [N, C], and why."""

    model: keras.Model
    probs: NDArray[np.float32]
    record: dict[str, Any]


def list_sizes(image_size: int) -> list[int]:
    """The larger sizes to try, in px."""
    sizes = {STEP * round(ratio * image_size / STEP) for ratio in RATIOS}
    return sorted(size for size in sizes if size > image_size)


def enlarge(
    model: keras.Model, config: Config, start: Start, classes: int, size: int
) -> keras.Model:
    """A model of the same weights that cuts the same centre and answers it at `size` px.

    Takes the same stored squares; of Keras's own layers, as `strip_augmentation`'s is.
    """
    side, seen = model.input_shape[1], config.pixels.image_size
    squares = keras.Input((size, size, 3))
    start = start._replace(weights=None)  # the trained ones follow
    logits = add_body(squares, config, start, classes, config.runtime.seed)
    body = keras.Model(squares, logits, name="network")
    body.set_weights(strip_augmentation(model, seen).get_layer("network").get_weights())
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    centre = keras.layers.CenterCrop(seen, seen, dtype="float32", name="centre")(pixels)
    larger = keras.layers.Resizing(size, size, "bilinear", dtype="float32", name="enlarge")
    return keras.Model(pixels, body(larger(centre)), name="podium")


def choose_size(model: keras.Model, config: Config, start: Start, fold: FoldData) -> Chosen:
    """Tries larger sizes, and gives the model without augmentation that answers best.

    That is the one at image_size, unless another gains more than a standard error, the most of
    those that do. A SavedModel is one piece that cannot be built larger, and stays.
    """
    seen, truth = config.pixels.image_size, fold.encode(fold.validated)
    best = Chosen(strip_augmentation(model, seen), fold.predict(model, fold.validated), {})
    plain, tried, most = best.probs, list[dict[str, Any]](), 0.0
    for size in [] if start.module else list_sizes(seen):
        larger = enlarge(model, config, start, len(fold.task.classes), size)
        batches = draw_clean(fold.data.pixels, fold.training, fold.batch_size, fold.seed)
        write_statistics(Recalibrator(larger).estimate(batches))
        probs = fold.predict(larger, fold.validated)
        gain = measure_gain(fold.task, truth, plain, probs)
        tried.append({"size": size} | gain._asdict())
        if gain.kept and gain.difference > most:
            best, most = Chosen(larger, probs, {"size": size}), gain.difference
    return best._replace(record={"size": seen, **best.record, "tried": tried})
