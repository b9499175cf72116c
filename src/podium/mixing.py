"""Mixing: two images and their targets in one

mixup adds two images in shares (Zhang et al. 2018, arXiv 1710.09412); cutmix sets a part of one
into the other (Yun et al. 2019, arXiv 1905.04899). Both mix each image of a batch with another of
the batch, in a share of its own, and the targets in the same share. Pixels stay uint8.

Shapes: B batch, S side of the stored square, C classes.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0  # of the Beta distribution that shares are drawn from

PixelBatch = NDArray[np.uint8]  # [B, S, S, 3]
TargetBatch = NDArray[np.float32]  # [B, C]


def mix_batch(
    kind: Literal["mixup", "cutmix"],
    images: PixelBatch,
    targets: TargetBatch,
    margin: int,
    generator: np.random.Generator,
) -> tuple[PixelBatch, TargetBatch]:
    """Mixes a batch, into new arrays; `margin` is what the device will cut off, in pixels."""
    partners = generator.permutation(len(images))
    if kind == "mixup":
        shares = generator.beta(MIXUP_ALPHA, MIXUP_ALPHA, len(images)).astype(np.float32)
        mixed = blend_images(images, partners, shares)
    else:
        boxes = draw_boxes(len(images), images.shape[1], margin, generator)
        mixed = paste_boxes(images, partners, boxes)
        areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        shares = np.asarray(1 - areas / (images.shape[1] - margin) ** 2, np.float32)
    own = shares[:, None]
    return mixed, own * targets + (1 - own) * targets[partners]


def blend_images(
    images: PixelBatch, partners: NDArray[np.int64], shares: NDArray[np.float32]
) -> PixelBatch:
    """Adds each image and its partner, in the shares [B] of the former, rounded."""
    mixed = np.empty_like(images)
    for row, (partner, share) in enumerate(zip(partners, shares.tolist(), strict=True)):
        cv2.addWeighted(images[row], share, images[partner], 1 - share, 0, dst=mixed[row])
    return mixed


def draw_boxes(
    count: int, side: int, margin: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draws what is set in: top, bottom, left and right of each box, [B, 4].

    A box lies where the device shows it wherever it cuts, so that its area is its share exactly.
    """
    seen = side - margin  # the side of what the device shows
    half = seen * np.sqrt(1 - generator.beta(CUTMIX_ALPHA, CUTMIX_ALPHA, count)) / 2
    centres = generator.uniform(margin, seen, (2, count))
    top, left = np.clip(np.rint(centres - half), margin, seen).astype(np.int64)
    bottom, right = np.clip(np.rint(centres + half), margin, seen).astype(np.int64)
    return np.stack([top, bottom, left, right], axis=1)


def paste_boxes(
    images: PixelBatch, partners: NDArray[np.int64], boxes: NDArray[np.int64]
) -> PixelBatch:
    """Sets a part of its partner into each image, at the same place."""
    mixed = images.copy()
    for row, (partner, (top, bottom, left, right)) in enumerate(
        zip(partners, boxes.tolist(), strict=True)
    ):
        mixed[row, top:bottom, left:right] = images[partner, top:bottom, left:right]
    return mixed
