"""Predictions: class probabilities, keyed by image id

The one type in which stages meet. Rows are found by id, never by position, so blending models or
writing a submission again needs neither retraining nor care about order.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.storage import write_whole


class Predictions(NamedTuple):
    """Class probabilities: `ids` [N] str, `probs` [N, C] float32 whose rows sum to 1.

    Of one model, or of an average, ids are unique.
    """

    ids: NDArray[np.str_]
    probs: NDArray[np.float32]


def average_predictions(members: Sequence[Predictions]) -> Predictions:
    """Averages members' probabilities image by image; all members must hold the same ids.

    Raises ValueError if an id is missing from a member.
    """
    ids = members[0].ids
    probs = np.mean([select_probs(member, ids) for member in members], axis=0, dtype=np.float64)
    return Predictions(ids, probs.astype(np.float32))


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Lays predictions end to end: of different images, or of several models on the same."""
    ids = np.concatenate([part.ids for part in parts])
    return Predictions(ids, np.concatenate([part.probs for part in parts]))


def select_probs(
    predictions: Predictions, ids: Sequence[Any] | NDArray[Any]
) -> NDArray[np.float32]:
    """Returns the probabilities [len(ids), C] of the given ids, in their order.

    Raises ValueError naming ids that have no prediction.
    """
    rows = {image_id: row for row, image_id in enumerate(predictions.ids.tolist())}
    missing = [str(image_id) for image_id in ids if str(image_id) not in rows]
    if missing:
        raise ValueError(f"{len(missing)} ids have no prediction, e.g. {', '.join(missing[:3])}")
    return predictions.probs[[rows[str(image_id)] for image_id in ids]]


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Writes an .npz file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=predictions.ids, probs=predictions.probs)
    write_whole(path, buffer.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Reads what `write_predictions` wrote."""
    # A file of our own: of one that is no archive NumPy would leave its own open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Predictions(arrays["ids"], arrays["probs"])
