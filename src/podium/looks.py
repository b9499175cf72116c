"""Looks: what a fold's model says of the same images, seen in several ways

A look is a view by name, or as many drawn views as each image needs. What a model says of its
own part, by which looks are judged, lies in the fold's views.npz; what it says of the test part
in test-views.npz, and only of looks that are used.

Shapes: V looks, N images, C classes.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.adaptive import Gathered, gather_views
from podium.blends import Blend, apply_blend
from podium.learning import PredictConfig
from podium.pixels import Images
from podium.predict import predict_probs
from podium.predictions import Predictions, select_probs
from podium.storage import write_whole
from podium.task import Task
from podium.views import IDENTITY, VIEWS, Seen, View, draw_view, find_views

ADAPTIVE = "adaptive-"  # the look that takes drawn views, before their largest number


class Looks(NamedTuple):
    """What one model says of each image in each look, what that took, and what it left open."""

    ids: NDArray[np.str_]  # [N]
    names: tuple[str, ...]  # [V]
    probs: NDArray[np.float32]  # [V, N, C]
    seconds: NDArray[np.float64]  # [V], an image
    taken: NDArray[np.float64]  # [V], views an image
    undecided: NDArray[np.bool_]  # [N], after the last view that adaptive may take


def list_looks(config: PredictConfig) -> tuple[str, ...]:
    """The looks that are asked for, the image as it is first; () where there are none.

    Raises SettingsError if predict.views names what is no view.
    """
    names = find_views(config.views)
    if config.most_views == 0:
        return names if len(names) > 1 else ()
    return (*(names or (IDENTITY.name,)), f"{ADAPTIVE}{config.most_views}")


def count_looks(config: PredictConfig) -> float:
    """The forward passes that all looks at an image take beside the first, as far as one knows.

    Of the most views that it may take adaptively an image needs a third on average.
    """
    return max(len(find_views(config.views)) - 1, 0) + config.most_views / 3


class NoTimeError(RuntimeError):
    """There is no time for another view, or the run has been asked to end."""


class Viewer:
    """Has models look at images, as long as there is time, and knows what a look costs.

    `goes_on` says whether so many seconds are left, `now` is a clock; `flip` lets drawn views be
    mirrored, which they may be where training was.
    """

    def __init__(
        self,
        batch_size: int,
        goes_on: Callable[[float], bool],
        now: Callable[[], float],
        *,
        exclusive: bool,
        flip: bool,
    ) -> None:
        self.batch_size, self.goes_on, self.now = batch_size, goes_on, now
        self.exclusive, self.flip = exclusive, flip
        self.pace = 0.0  # seconds that one view of an image took last

    def check(self, images: float) -> None:
        """Raises NoTimeError unless there is time for one view of so many images."""
        if not self.goes_on(self.pace * images):
            raise NoTimeError(
                f"{images:.0f} views take {self.pace * images:.3g} s, which are not left"
            )

    def look(
        self,
        model: keras.Model,
        images: Images,
        chosen: NDArray[np.bool_] | None,
        names: tuple[str, ...],
    ) -> Looks:
        """What a model says of the chosen rows of a table, or of all; raises NoTimeError."""
        rows = np.arange(len(images.table)) if chosen is None else np.flatnonzero(chosen)
        ids, undecided = images.table["id"].to_numpy(str)[rows], np.zeros(len(rows), np.bool_)
        probs, seconds, taken = list[NDArray[np.float32]](), list[float](), list[float]()
        for name in names:
            began = self.now()
            if name.startswith(ADAPTIVE):
                most = int(name[len(ADAPTIVE) :])
                answers, views, undecided = self.look_closer(model, images, rows, most)
                taken.append(float(views.mean()))
            else:
                answers = self.ask(model, images, rows, VIEWS[name])
                taken.append(1.0)
            probs.append(answers)
            seconds.append((self.now() - began) / len(rows))
            self.pace = seconds[-1] / taken[-1]
        figures = np.array(seconds), np.array(taken)
        return Looks(ids, names, np.stack(probs), *figures, undecided)

    def look_closer(
        self, model: keras.Model, images: Images, rows: NDArray[np.int64], most: int
    ) -> Gathered:
        """What drawn views say, of which undecided images take the most; raises NoTimeError."""

        def answer(index: int, some: NDArray[np.int64]) -> NDArray[np.float32]:
            return self.ask(model, images, some, draw_view(index, flip=self.flip))

        return gather_views(answer, rows, most, exclusive=self.exclusive)

    def ask(
        self, model: keras.Model, images: Images, rows: NDArray[np.int64], view: View
    ) -> NDArray[np.float32]:
        """What a model says of one view of some rows; raises NoTimeError."""
        self.check(len(rows))
        seen = Seen(images.pixels, view)
        return predict_probs(model, seen, rows, self.batch_size, exclusive=self.exclusive)


def write_looks(looks: Looks, path: Path) -> None:
    """Writes an .npz file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **looks._asdict())
    write_whole(path, buffer.getvalue())


def read_looks(path: Path, names: tuple[str, ...], ids: NDArray[np.str_]) -> Looks | None:
    """Reads these looks at these images; None if the file does not hold them, or is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            kept = Looks(**arrays)
            told = tuple(arrays["names"].tolist())
    except Exception:  # NumPy and zipfile raise many kinds on what is torn
        return None
    same = told == names and kept.ids.tolist() == ids.tolist()
    return kept._replace(names=names) if same else None


def join_looks(parts: Sequence[Looks]) -> Looks:
    """Lays the same looks at different images end to end; costs are the mean over images."""
    sizes = [len(part.ids) for part in parts]
    seconds, taken = (
        np.average([getattr(part, name) for part in parts], axis=0, weights=sizes)
        for name in ("seconds", "taken")
    )
    ids, undecided = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "undecided")
    )
    probs = np.concatenate([part.probs for part in parts], axis=1)
    return Looks(ids, parts[0].names, probs, seconds, taken, undecided)


class Use(NamedTuple):
    """The looks that a run uses, and how they become one answer."""

    names: tuple[str, ...]
    blend: Blend
    views: float  # of an image, in all looks but that at the image as it is
    flip: bool  # may drawn views be mirrored?

    @property
    def extra(self) -> tuple[str, ...]:
        """The looks beside the image as it is, of which there is an answer anyway."""
        return tuple(name for name in self.names if name != IDENTITY.name)

    def answer(self, plain: Predictions, looks: Looks | None, *, exclusive: bool) -> Predictions:
        """One model's answer out of that to the images as they are and of its other looks."""
        others = iter(looks.probs if looks else ())
        members = [
            select_probs(plain, looks.ids if looks else plain.ids)
            if name == IDENTITY.name
            else next(others)
            for name in self.names
        ]
        probs = apply_blend(self.blend, np.stack(members), exclusive=exclusive)
        return Predictions(looks.ids if looks else plain.ids, probs)


def read_use(summary: Mapping[str, Any], task: Task) -> Use | None:
    """The looks that a run's summary.json says it uses; None without, or of another metric."""
    kept = summary.get("views")
    if not kept or summary.get("metric") != task.metric:
        return None
    blend = Blend(**{**kept["blend"], "weights": tuple(kept["blend"]["weights"])})
    return Use(tuple(kept["names"]), blend, kept["views"], kept["flip"])


def use_fields(use: Use) -> dict[str, Any]:
    """What `read_use` reads, as JSON holds it."""
    return use._asdict() | {"blend": use.blend._asdict()}
