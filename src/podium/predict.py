"""Prediction: from a trained model to class probabilities"""

import keras
import numpy as np
from numpy.typing import NDArray

from podium.batches import Labelled, make_eval_batches
from podium.cache import Pixels
from podium.members import squash
from podium.pixels import Images
from podium.predictions import Predictions
from podium.sharing import answer_everywhere


def predict_probs(
    model: keras.Model,
    pixels: Pixels,
    rows: NDArray[np.int64],
    batch_size: int,
    *,
    exclusive: bool = True,
) -> NDArray[np.float32]:
    """Predicts the given rows of pixels [N, S, S, 3] uint8: probabilities [len(rows), C].

    They sum to one where classes exclude each other, and else each stands for itself.
    """
    unlabelled = Labelled(pixels, np.zeros(len(pixels), np.int64), 1)
    batches = make_eval_batches(unlabelled, rows, batch_size)
    answer_everywhere(model)
    logits = model.predict(batches, verbose=0)[: len(rows)]
    # A model that diverged answers NaN, which would spread to the other folds' average; it knows
    # nothing, so it says that all classes are equally likely.
    known = np.isfinite(logits).all(axis=1, keepdims=True)
    logits = np.where(known, logits, np.float32(0))
    return take_probs(logits, exclusive=exclusive)


def predict_images(
    model: keras.Model,
    images: Images,
    chosen: NDArray[np.bool_] | None,
    batch_size: int,
    *,
    exclusive: bool = True,
) -> Predictions:
    """Predicts the chosen rows of a table, or all."""
    rows = np.arange(len(images.table)) if chosen is None else np.flatnonzero(chosen)
    ids = images.table["id"].to_numpy(str)[rows]
    probs = predict_probs(model, images.pixels, rows, batch_size, exclusive=exclusive)
    return Predictions(ids, probs)


def take_probs(logits: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.float32]:
    """Turns logits [N, C] into probabilities, in double precision so that rows sum to one.

    Where classes do not exclude each other, each logit makes a probability of its own.
    """
    return np.asarray(squash(logits.astype(np.float64), exclusive), np.float32)
