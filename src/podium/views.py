"""Views: the same images, seen another way

A view changes a little that should not matter: mirrored, moved, cut, turned, lighter. It is made
on the host, of squares as they are stored, so the network gets what it always gets: one static
shape, the same pixels on every backend. A square is larger than what the model cuts out of its
centre, by augmentation's margin, so what moves into sight was there; else edges are repeated.

Shapes: N images, S side of the stored square.
"""

import difflib
import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from podium.cache import Pixels
from podium.normalise import LUMA
from podium.override import SettingsError

SHARE_MOVED = 1 / 18  # of the stored side: what augment.margin's default leaves on each side
CUT = 8 / 7  # a crop shows seven eighths of the side
TURN, ZOOM = 8.0, 1.1  # degrees; as far as networks are used to


class View(NamedTuple):
    """What becomes of an image: it is mirrored, zoomed and turned about its centre, then moved."""

    name: str
    flip: bool = False
    zoom: float = 1.0  # above 1 the middle fills the square
    turn: float = 0.0  # degrees, against the clock
    right: float = 0.0  # how far what is seen moves, a share of the stored side, in whole pixels
    down: float = 0.0
    light: float = 1.0  # factor of all values
    grey: bool = False


IDENTITY = View("identity")
VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        IDENTITY,
        View("flip", flip=True),
        View("shift-left", right=-SHARE_MOVED),
        View("shift-right", right=SHARE_MOVED),
        View("shift-up", down=-SHARE_MOVED),
        View("shift-down", down=SHARE_MOVED),
        View("crop-top-left", zoom=CUT, right=SHARE_MOVED, down=SHARE_MOVED),
        View("crop-top-right", zoom=CUT, right=-SHARE_MOVED, down=SHARE_MOVED),
        View("crop-bottom-left", zoom=CUT, right=SHARE_MOVED, down=-SHARE_MOVED),
        View("crop-bottom-right", zoom=CUT, right=-SHARE_MOVED, down=-SHARE_MOVED),
        View("zoom-in", zoom=ZOOM),
        View("zoom-out", zoom=1 / ZOOM),
        View("turn-left", turn=TURN),
        View("turn-right", turn=-TURN),
        View("brighter", light=1.2),
        View("darker", light=0.8),
        View("grey", grey=True),
    )
}


def find_views(names: str) -> tuple[str, ...]:
    """The views that predict.views names, the image as it is before them; () where it is none.

    Raises SettingsError with the names there are.
    """
    asked = dict.fromkeys(names.split())
    if list(asked) == ["none"]:
        return ()
    unknown = [name for name in asked if name not in VIEWS]
    if unknown or not asked:
        close = difflib.get_close_matches(unknown[0], VIEWS, n=1) if unknown else []
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise SettingsError(
            f"predict.views must be none, or names apart by spaces, of {', '.join(VIEWS)}, "
            f"not {names!r}{guess}"
        )
    return tuple(dict.fromkeys((IDENTITY.name, *asked)))


def draw_view(index: int, *, flip: bool) -> View:
    """The view of that number: the image as it is, then any number of small changes.

    The same number is always the same view; every second one is mirrored where `flip` allows it.
    """
    if index == 0:
        return IDENTITY
    moves = np.random.default_rng((42, index)).uniform(-1, 1, 4)
    right, down, turn, zoom = moves * (SHARE_MOVED, SHARE_MOVED, TURN, math.log(ZOOM))
    mirrored = flip and index % 2 == 1
    return View(f"drawn-{index}", mirrored, math.exp(zoom), turn, right, down)


def find_matrix(view: View, side: int) -> NDArray[np.float64]:
    """Where in a stored square each pixel of the view is found: [2, 3], of (x, y, 1)."""
    sine, cosine = (part(math.radians(view.turn)) / view.zoom for part in (math.sin, math.cos))
    back = np.array([[cosine, -sine], [sine, cosine]])
    if view.flip:
        back[0] *= -1
    centre = np.full(2, (side - 1) / 2)
    moved = np.rint(np.array([view.right, view.down]) * side)
    return np.column_stack([back, centre - back @ (centre + moved)])


class Seen:
    """Pixels [N, S, S, 3] uint8 as a view shows them, made whenever they are asked for."""

    def __init__(self, pixels: Pixels, view: View) -> None:
        self.pixels, self.view, self.shape = pixels, view, pixels.shape
        self.matrix = find_matrix(view, pixels.shape[1])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        stored = np.asarray(self.pixels[rows])
        squares = stored.reshape(-1, *self.shape[1:])
        if not np.array_equal(self.matrix, np.eye(2, 3)):
            stay, squares = squares, np.empty_like(squares)
            for row, square in enumerate(stay):
                squares[row] = self.move(square)
        return self.colour(squares).reshape(stored.shape)

    def move(self, square: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One square mirrored, zoomed, turned and moved."""
        moved: NDArray[np.uint8] = cv2.warpAffine(
            square,
            self.matrix,
            (self.shape[2], self.shape[1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return moved

    def colour(self, squares: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Squares in another light, or without colour."""
        if self.view.grey:
            squares = np.repeat(np.rint(squares @ LUMA)[..., None], 3, axis=-1).astype(np.uint8)
        if self.view.light == 1:
            return squares
        levels = np.clip(np.rint(np.arange(256) * self.view.light), 0, 255)
        return np.asarray(levels.astype(np.uint8)[squares])
