"""Preview: what a policy makes of one image, with what was drawn in words and the time it takes."""

import hashlib
import time
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from podium.augment import crop_margin
from podium.composes import SeededCompose
from podium.config import AugmentConfig
from podium.mixing import mix_batch
from podium.policies import find_policy
from workbench.words import describe_transform, say_share

Image = NDArray[np.uint8]  # [S, S, 3]


class Preview(NamedTuple):
    """One augmented image."""

    image: Image  # [side, side, 3]
    steps: tuple[str, ...]  # what was done, in words, in this order
    share: float  # of the targets that is the image's own; the rest is its partner's
    seconds: float  # what the host's part takes; what the device does is not counted


def preview(
    config: AugmentConfig, image: Image, seed: int, side: int, partner: Image | None = None
) -> Preview:
    """Augments one square image as a run does whose network sees `side` pixels.

    augment.flip must be settled, or is as the policy says. A mixing policy needs a partner. Raises
    SettingsError if there is no such policy.
    """
    policy, generator = find_policy(config.policy), np.random.default_rng(seed)
    margin = crop_margin(config, side)
    stored, steps, seconds, share = fit_side(image, side + margin), list[str](), 0.0, 1.0
    if policy.compose:
        stored, steps, seconds = run_compose(policy.compose, stored, seed)
    if policy.mix and partner is not None:
        pair = np.stack([stored, fit_side(partner, side + margin)])
        stored, share, mixing = mix_pair(policy.mix, pair, margin, generator)
        seconds += mixing
        steps.append(f"{policy.mix}: {say_share(share)} its own")
    left, top = generator.integers(0, margin + 1, 2)
    stored = stored[top : top + side, left : left + side]
    if margin:
        steps.append(f"cut off {left} px left, {top} px above")
    mirrors = policy.flip if config.flip == "auto" else config.flip == "yes"
    if mirrors and generator.random() < 0.5:
        stored = stored[:, ::-1]
        steps.append("mirrored")
    return Preview(np.ascontiguousarray(stored), tuple(steps), share, seconds)


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


def mix_pair(
    kind: Literal["mixup", "cutmix"], pair: Image, margin: int, generator: np.random.Generator
) -> tuple[Image, float, float]:
    """Mixes the first of two images with the second: it, the share that is its own, and seconds."""
    share, seconds = 1.0, 0.0
    while share == 1.0:  # of two images, one is often its own partner
        started = time.perf_counter()
        mixed, shares = mix_batch(kind, pair, np.eye(2, dtype=np.float32), margin, generator)
        seconds = (time.perf_counter() - started) / len(pair)
        share = float(shares[0, 0])
    return mixed[0], share, seconds
