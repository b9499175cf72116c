"""Preview: what a policy makes of one image, with the parameters drawn and the time it takes."""

import hashlib
import math
import time
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from podium.composes import SeededCompose
from podium.config import AugmentConfig
from podium.mixing import mix_batch
from podium.policies import find_policy

Image = NDArray[np.uint8]  # [S, S, 3]


# Parameters that say nothing about what is seen, and those whose number is said.
SILENT = ("interpolation", "fill", "fill_mask")
COUNTED = ("holes",)


class Preview(NamedTuple):
    """One augmented image."""

    image: Image  # [side, side, 3]
    parameters: str  # what was drawn, in words
    seconds: float  # what the host's part takes; what the device does is not counted


def preview(
    policy_name: str, image: Image, seed: int, side: int, partner: Image | None = None
) -> Preview:
    """Augments one square image as a run does whose network sees `side` pixels.

    A mixing policy needs a partner. Raises SettingsError if there is no such policy.
    """
    policy, generator = find_policy(policy_name), np.random.default_rng(seed)
    margin = math.ceil(AugmentConfig().margin * side) if policy.crop else 0
    stored, words, seconds = fit_side(image, side + margin), list[str](), 0.0
    if policy.compose:
        stored, words, seconds = run_compose(policy.compose, stored, seed)
    if policy.mix and partner is not None:
        pair = np.stack([stored, fit_side(partner, side + margin)])
        started = time.perf_counter()
        stored, share = mix_pair(policy.mix, pair, margin, generator)
        seconds += time.perf_counter() - started
        words.append(f"{policy.mix} {share:.0%}")
    top, left = generator.integers(0, margin + 1, 2)
    stored = stored[top : top + side, left : left + side]
    if policy.crop:
        words.append(f"cut {left}, {top} of {margin} px")
    if policy.flip and generator.random() < 0.5:
        stored = stored[:, ::-1]
        words.append("mirrored")
    return Preview(np.ascontiguousarray(stored), "; ".join(words) or "as it is", seconds)


def fit_side(image: Image, side: int) -> Image:
    """The image at another side."""
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def run_compose(name: str, image: Image, seed: int) -> tuple[Image, list[str], float]:
    """Augments twice from one seed: what was drawn in words, and the second call's seconds."""
    seeded = SeededCompose(name)
    digest = hashlib.blake2b(str(seed).encode(), digest_size=48).digest()
    seeded.compose.save_applied_params = True
    seeded.seed(digest)
    drawn = seeded.compose(image=image).get("applied_transforms", [])
    seeded.compose.save_applied_params = False
    started = time.perf_counter()
    made = seeded.augment(image, digest)
    seconds = time.perf_counter() - started
    return made, [describe_transform(*one) for one in drawn], seconds


def describe_transform(name: str, drawn: dict[str, Any]) -> str:
    """A transform and its numbers: "Affine rotate 4.01, scale 1.06"."""
    numbers = list[str]()
    for key, value in drawn.items():
        one = value.get("x") if isinstance(value, dict) else value
        if key not in SILENT and isinstance(one, int | float):
            numbers.append(f"{key} {one:.3g}")
        elif key in COUNTED:
            numbers.append(f"{len(value)} {key}")
    return f"{name} {', '.join(numbers)}".strip()


def mix_pair(
    kind: Literal["mixup", "cutmix"], pair: Image, margin: int, generator: np.random.Generator
) -> tuple[Image, float]:
    """Mixes the first of two images with the second; returns it and the share that is its own."""
    share = 1.0
    while share == 1.0:  # of two images, one is often its own partner
        mixed, shares = mix_batch(kind, pair, np.eye(2, dtype=np.float32), margin, generator)
        share = float(shares[0, 0])
    return mixed[0], share
