"""Prediction: from a trained model to class probabilities"""

import keras
import numpy as np
from numpy.typing import NDArray

from podium.pixels import Images, make_eval_batches
from podium.predictions import Predictions


def predict_probs(
    model: keras.Model, pixels: NDArray[np.uint8], rows: NDArray[np.int64], batch_size: int
) -> NDArray[np.float32]:
    """Predicts the given rows of pixels [N, S, S, 3] uint8: probabilities [len(rows), C]."""
    batches = make_eval_batches(pixels, None, rows, batch_size)
    logits = model.predict(batches, verbose=0)[: len(rows)]
    # A model that diverged answers NaN, which would spread to the other folds' average; it knows
    # nothing, so it says that all classes are equally likely.
    known = np.isfinite(logits).all(axis=1, keepdims=True)
    return softmax(np.where(known, logits, np.float32(0)))


def predict_images(
    model: keras.Model, images: Images, chosen: NDArray[np.bool_] | None, batch_size: int
) -> Predictions:
    """Predicts the chosen rows of a table, or all."""
    rows = np.arange(len(images.table)) if chosen is None else np.flatnonzero(chosen)
    ids = images.table["id"].to_numpy(str)[rows]
    return Predictions(ids, predict_probs(model, images.pixels, rows, batch_size))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turns logits [N, C] into probabilities, in double precision so that rows sum to one."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)
