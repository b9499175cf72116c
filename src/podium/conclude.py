"""Conclusion: how well a fold's network knows what it learned, and with what it answers

Batch norm's statistics, and the size of the squares that answer, are changed after training only
where validation gains by it more than its standard error.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.config import Config
from podium.fixres import choose_size
from podium.fold_data import FoldData
from podium.marks import mark_probs
from podium.model import strip_augmentation
from podium.network import Start
from podium.recalibrate import find_norms
from podium.truth import TRAINING_IMAGES, Examiner, draw_shown, keep_if_better

# Epochs of everything after which clean and recalibrated figures are taken, and every fiftieth.
FOLLOWED = (1, 2, 3, 5, 10, 20, 30)


class Closer(NamedTuple):
    """The competition's metric after an epoch, beside that of training and validation."""

    clean: float  # of training images without augmentation, as the network answers
    recalibrated: float  # of validation, by statistics taken anew on clean training images


def is_followed(epoch: int) -> bool:
    """Is an epoch, counted from 1, one after which one looks closer?"""
    return epoch in FOLLOWED or epoch % 50 == 0


class Observer:
    """Looks at a fold's network as it learns, and concludes; what it compiles it keeps."""

    def __init__(self, config: Config, start: Start) -> None:
        self.config, self.start = config, start
        self.examiner: Examiner | None = None

    def find_examiner(self, model: keras.Model, fold: FoldData) -> Examiner:
        """The examiner of a network, which is another one when it was built anew."""
        if self.examiner is None or self.examiner.model is not model:
            self.examiner = Examiner(model, self.config.pixels.image_size, fold)
        return self.examiner

    def follow(self, model: keras.Model, fold: FoldData) -> Closer:
        """Looks closer at a network, and leaves it as it was."""
        shown = draw_shown(fold)
        clean = mark_probs(fold.predict(model, shown), fold.encode(shown), fold.task)
        anew = self.find_examiner(model, fold).recalibrate()
        after = mark_probs(anew.after, fold.encode(fold.validated), fold.task)
        return Closer(clean.metric, after.metric)

    def conclude(
        self, model: keras.Model, fold: FoldData, augmented: Iterable[tuple[Any, ...]]
    ) -> tuple[keras.Model, dict[str, Any]]:
        """The model that answers, without augmentation, and what truth.json says of it.

        `augmented` are the batches of the training stream. The record is empty where there was
        nothing to find out.
        """
        config, record = self.config, dict[str, Any]()
        if config.predict.recalibrate == "if-better" and find_norms(model):
            examiner = self.find_examiner(model, fold)
            anew = examiner.recalibrate()
            finding = examiner.examine(anew, take_images(augmented, fold.batch_size))
            record = finding._asdict() | keep_if_better(fold, anew)
        if config.predict.test_size == "if-better":
            chosen = choose_size(model, config, self.start, fold)
            return chosen.model, record | {"test_size": chosen.record}
        return strip_augmentation(model, config.pixels.image_size), record


def take_images(batches: Iterable[tuple[Any, ...]], size: int) -> Iterator[NDArray[np.uint8]]:
    """The images of as many batches as the diagnosis needs."""
    for images, *_ in islice(batches, max(1, TRAINING_IMAGES // size)):
        yield np.asarray(images)
