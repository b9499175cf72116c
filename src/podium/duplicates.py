"""Duplicates: images that are nearly the same

A photograph may be there twice: saved anew, resized, cropped a little, brightened, mirrored. In
two folds, such a pair lets the network recognise what it should learn to tell. All pairs are
compared, first by a short description of each image, then closely; what is found stays together.

Shapes: N training images, T test images, P pairs, S side of the stored square.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from podium.cache import Pixels

LOW = 8  # frequencies that describe an image, in each direction
COARSE, FINE = 16, 32  # sides of thumbnails, px
# Cosines, measured by bench/duplicates.py: of descriptions, from which a pair is looked at; of
# coarse thumbnails, from which it is looked at closely; of details, from which it is nearly the
# same and, among images that all look alike, the same.
SIMILAR, ALIKE, NEAR, SAME = 0.85, 0.965, 0.82, 0.98
FLAT = 1.0  # grey levels; an image of a smaller deviation shows nothing to recognise
TILE = 2048  # images that are compared with as many others at a time
CHUNK = 128  # images that are shrunk, and pairs that are looked at closely, at a time


class Pairs(NamedTuple):
    """Images that are nearly the same, each pair once, sorted by rows."""

    first: NDArray[np.int64]  # [P] rows of the training part
    second: NDArray[np.int64]  # [P] rows after the first; N and more are rows of the test part
    cosine: NDArray[np.float32]  # [P] of their details, NEAR to 1

    def select(self, kept: NDArray[Any] | slice) -> "Pairs":
        """Some of the pairs: a mask [P], places, or a range."""
        return Pairs(self.first[kept], self.second[kept], self.cosine[kept])


class Clusters(NamedTuple):
    """Which training images belong together, and what is odd about it."""

    numbers: NDArray[np.int64]  # [N] equal where images are nearly the same, by way of others too
    note: str = ""
    serious: bool = False


def find_duplicates(train: Pixels, test: Pixels | None = None) -> Pairs:
    """Finds the pairs of nearly the same images, within the training part and across to the test.

    Pixels are [N, S, S, 3] and [T, S, S, 3]. Flat images are in no pair. Takes 6 kB of memory an
    image, and time with the square of their number: see docs/benchmarks.md.
    """
    size = len(train) + (0 if test is None else len(test))
    chunks = [np.arange(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    tiles = [slice(start, min(start + TILE, size)) for start in range(0, size, TILE)]
    turns = [
        (slice(one.start, min(one.stop, len(train))), other)
        for number, one in enumerate(tiles)
        for other in tiles[number:]
        if one.start < len(train)
    ]

    take = partial(take_squares, train, test)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shrunk = pool.map(lambda rows: make_thumbnails(take(rows), COARSE), chunks)
        thumbnails = np.concatenate(list(shrunk))
        described = describe_thumbnails(thumbnails)
        alike = pool.map(lambda turn: compare_tiles(thumbnails, described, *turn), turns)
        near = pool.map(lambda pairs: compare_details(pairs, take), itertools.chain(*alike))
        return sort_pairs(list(near))


def take_squares(train: Pixels, test: Pixels | None, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The squares of ascending rows, those of the test part counted on from N."""
    inside = rows < len(train)
    if test is None or inside.all():
        return np.asarray(train[rows])
    return np.concatenate([train[rows[inside]], test[rows[~inside] - len(train)]])


def sort_pairs(found: Sequence[Pairs]) -> Pairs:
    """Each pair once, at its best: an image may be like another and like its mirror too."""
    first, second, cosine = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-cosine, second, first))
    pairs = Pairs(first, second, cosine).select(order)
    new = (np.diff(pairs.first, prepend=-1) != 0) | (np.diff(pairs.second, prepend=-1) != 0)
    return pairs.select(new)


def make_thumbnails(images: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Small and blurred, so that a small shift is a small change: [N, side, side, 3] float32.

    Their mean is 0 and their length 1, which leaves neither brightness nor contrast; flat ones
    are 0. The fine ones hold details alone, without shades that images of one place share.
    """
    thumbnails = np.empty((len(images), side, side, 3), np.float32)
    for image, thumbnail in zip(images, thumbnails, strict=True):
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        shade = cv2.GaussianBlur(small, (0, 0), 3) if side == FINE else 0
        thumbnail[:] = cv2.GaussianBlur(small, (0, 0), 1) - shade
    thumbnails -= thumbnails.mean((1, 2, 3), keepdims=True)
    length = np.sqrt(np.einsum("nijk,nijk->n", thumbnails, thumbnails))
    least = FLAT * np.sqrt(3) * side if side == COARSE else 1e-6
    flat = length < least
    thumbnails /= np.where(flat, np.inf, length)[:, None, None, None]
    return thumbnails


def describe_thumbnails(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """The low frequencies of grey thumbnails, of length 1: [N, LOW, LOW] float32.

    They are those of which a perceptual hash keeps the signs (Zauner 2010, Implementation and
    benchmarking of perceptual image hash functions). Their values tell more, and a matrix product
    compares them as fast. Each is weighted by its frequency, as low ones are large in any image.
    """
    grey = thumbnails @ np.array([0.299, 0.587, 0.114], np.float32)
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :LOW, :LOW]
    low *= np.hypot(*np.mgrid[:LOW, :LOW]).astype(np.float32)
    length = np.sqrt(np.einsum("nij,nij->n", low, low))
    return np.asarray(low / np.maximum(length, 1e-9)[:, None, None], np.float32)


def compare_tiles(
    thumbnails: NDArray[np.float32], described: NDArray[np.float32], one: slice, other: slice
) -> list[tuple[Pairs, bool]]:
    """Compares two ranges of images; returns the pairs that are alike, and those mirrored."""
    alike = []
    flat = described.reshape(len(described), -1)
    mirror = np.where(np.arange(LOW) % 2, -1, 1).astype(np.float32)  # odd frequencies change sign
    for mirrored in (False, True):
        others = (described[other] * mirror if mirrored else described[other]).reshape(-1, LOW**2)
        found = np.flatnonzero(flat[one] @ others.T >= SIMILAR)  # far faster than nonzero
        rows, columns = np.divmod(found, len(others))
        first, second = rows + one.start, columns + other.start
        first, second = first[first < second], second[first < second]
        cosine = np.zeros(len(first), np.float32)
        for start in range(0, len(first), CHUNK):
            part = slice(start, start + CHUNK)
            moved, fixed = thumbnails[first[part]], thumbnails[second[part]]
            cosine[part] = fit_either(moved, fixed[:, :, ::-1] if mirrored else fixed, ALIKE)
        alike.append((Pairs(first, second, cosine).select(cosine >= ALIKE), mirrored))
    return alike


def compare_details(
    alike: tuple[Pairs, bool], take: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
) -> Pairs:
    """The pairs whose details fit too; `take` has the pixels of rows."""
    pairs, mirrored = alike
    found = []
    for start in range(0, len(pairs.first), CHUNK):
        part = pairs.select(slice(start, start + CHUNK))
        rows, places = np.unique([part.first, part.second], return_inverse=True)
        details = make_thumbnails(take(rows), FINE)[places.reshape(2, -1)]
        fixed = details[1][:, :, ::-1] if mirrored else details[1]
        part = part._replace(cosine=fit_either(details[0], fixed, NEAR))
        found.append(part.select(part.cosine >= NEAR))
    return Pairs(*map(np.concatenate, zip(*found, strict=True))) if found else pairs


def fit_either(
    one: NDArray[np.float32], other: NDArray[np.float32], least: float
) -> NDArray[np.float32]:
    """How well thumbnails fit, whichever of the two is moved, or 0 below `least`: cosines [P].

    The worse of the two counts: from a plain image, any other's shades could be made.
    """
    cosine = fit_moved(one, other)
    close = np.flatnonzero(cosine >= least)
    cosine[close] = np.minimum(cosine[close], fit_moved(other[close], one[close]))
    return cosine


def fit_moved(moved: NDArray[np.float32], fixed: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well a thumbnail, moved a little, fits another: cosines [P].

    An image that is shifted or stretched by little is about itself and a sum of its derivatives:
    their span is fitted by least squares (Simard, LeCun and Denker 1993, Efficient pattern
    recognition using a new transformation distance).
    """
    ramp = np.linspace(-1, 1, moved.shape[1], dtype=np.float32)
    down, right = np.gradient(moved, axis=(1, 2))
    moves = [moved, down, right, down * ramp[:, None, None], right * ramp[:, None]]
    span = np.stack(moves, 1).reshape(len(moved), len(moves), 3 * len(ramp) ** 2)
    span -= span.mean(2, keepdims=True)
    gram = span @ span.transpose(0, 2, 1)
    gram += 1e-6 * np.eye(len(moves), dtype=np.float32)  # stripes have no derivative along them
    along = span @ fixed.reshape(len(fixed), 3 * len(ramp) ** 2, 1)
    fitted = (along * np.linalg.solve(gram, along)).sum((1, 2))
    return np.asarray(np.sqrt(np.clip(fitted, 0, 1)), np.float32)


def cluster_images(pairs: Pairs, count: int, folds: int) -> Clusters:
    """Joins the pairs among `count` training images to clusters, for that many folds.

    A cluster of more than half a fold cannot be kept together without harm: such images look alike
    by nature, as digits and X-rays do, and of all images only those that are the same are joined.
    """
    pairs, most = pairs.select(pairs.second < count), count / folds / 2
    near, same = (
        Clusters(link_rows(kept, count)) for kept in (pairs, pairs.select(pairs.cosine >= SAME))
    )
    large, copies = (int(np.bincount(one.numbers, minlength=1).max()) for one in (near, same))
    if large <= max(most, 2):
        return near
    note = (
        f"{large} training images look alike, by way of one another, which is more than half a "
        f"fold: only those that are the same are kept together; if they show one object, name "
        f"its column with data.group_column"
    )
    if copies > most:
        note = (
            f"{copies} training images are the same and stay in one fold, of which they are more "
            f"than half; remove the copies, or set folds.near_duplicates to ignore"
        )
    return same._replace(note=note, serious=copies > most)


def link_rows(pairs: Pairs, count: int) -> NDArray[np.int64]:
    """Numbers the connected parts of `count` rows: [count] int64."""
    links = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), (count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def merge_groups(groups: Sequence[str] | None, clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers what must stay together: images of one group or one cluster, by way of others too.

    An image whose group is empty text belongs to no group. Returns [N] int64.
    """
    if groups is None:
        return clusters
    count = len(clusters)
    named = np.array([name != "" for name in groups], np.bool_)
    nodes = np.where(named, pd.factorize(np.asarray(groups, np.object_))[0], -1)
    rows = np.concatenate([np.arange(count), np.flatnonzero(named)])
    # Images are linked to a node for each cluster, and to one for each group behind those.
    columns = np.concatenate([clusters, clusters.max(initial=-1) + 1 + nodes[named]]) + count
    size = int(columns.max(initial=count)) + 1
    links = coo_array((np.ones(len(rows)), (rows, columns)), (size, size))
    return np.asarray(connected_components(links, directed=False)[1][:count], np.int64)
