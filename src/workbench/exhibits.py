"""Exhibits: images drawn from a competition, and what each policy makes of them."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from podium.competition import read_competition
from podium.config import AugmentConfig, Config
from podium.decode import decode_image
from podium.events import Reporter
from podium.override import SettingsError
from podium.policies import Policy, find_policy, settle_augmentation
from workbench.preview import Image, Preview, fit_side, preview

VERSIONS = 5  # of an image: with the original, rows of six or three
PAGE_LIMIT = 4_000_000  # bytes
PAGE_TEXT = 0.3  # of them for all that is no picture
LEAST_PICTURE = 800  # bytes in which a picture can still be judged

Targets = tuple[tuple[str, float], ...]  # classes and their shares, largest first


class Original(NamedTuple):
    """One training image as the network sees it without augmentation."""

    name: str  # its id
    classes: tuple[str, ...]  # one, or what is seen of several
    stored: Image  # larger by what a policy may cut off
    pixels: Image  # [S, S, 3]


class Version(NamedTuple):
    """An augmented image, and what the network is to answer to it."""

    made: Preview
    targets: Targets


class Shown(NamedTuple):
    """A policy on all images."""

    name: str
    policy: Policy
    flip: bool  # whether this run would mirror
    asymmetric: bool  # whether the policy mirrors and the classes should not be
    cost: float  # ms an image on one core of the host, the median
    rows: list[list[Version]]  # [images][VERSIONS]


class Gallery(NamedTuple):
    """All that the page shows."""

    side: int  # px that the network sees
    seed: int
    classes: int
    unreadable: list[str]  # ids that were drawn and passed over
    originals: list[Original]
    policies: list[Shown]


def make_gallery(config: Config, names: Sequence[str], count: int) -> Gallery:
    """Draws images and runs every policy on them.

    Raises SettingsError for an unknown policy, or if so many pictures would not fit on the page.
    """
    pictures = len(names) * count * (VERSIONS + 1)
    if picture_budget(pictures) < LEAST_PICTURE:
        raise SettingsError(
            f"{len(names)} policies × {count} images are {pictures} pictures, too many for a page "
            f"of {PAGE_LIMIT / 1e6:.0f} MB; name fewer in POLICIES, or lower IMAGES"
        )
    augments = [replace(config.augment, policy=name) for name in names]
    for one in augments:
        find_policy(one.policy)  # a wrong name is said before the folder is read
    competition = read_competition(config.data, config.runtime.seed)
    side, seed = config.pixels.image_size, config.runtime.seed
    originals, unreadable = draw_originals(
        competition.train, competition.classes, count, side, seed
    )
    shown = [show_policy(one, originals, competition.classes, side, seed) for one in augments]
    return Gallery(side, seed, len(competition.classes), unreadable, originals, shown)


def picture_budget(pictures: int) -> float:
    """Bytes that each picture may have before it is written as text, which takes a third more."""
    return PAGE_LIMIT * (1 - PAGE_TEXT) * 3 / 4 / pictures


def draw_originals(
    train: pd.DataFrame, classes: Sequence[str], count: int, side: int, seed: int
) -> tuple[list[Original], list[str]]:
    """Decodes that many images, class by class in turn; names those that cannot be read.

    Raises SettingsError if none can.
    """
    found, unreadable = list[Original](), list[str]()
    for row in order_images(train, seed):
        if len(found) == count:
            break
        image_id, path, label = (train[key].iloc[row] for key in ("id", "path", "label"))
        held = label if isinstance(label, tuple) else (label,)
        try:
            stored = decode_image(path, side + side // 2)
        except Exception:  # a broken file may raise anything, and one image must not cost the page
            unreadable.append(str(image_id))
            continue
        names = tuple(classes[one] for one in held)
        found.append(Original(str(image_id), names, stored, fit_side(stored, side)))
    if not found:
        raise SettingsError(f"none of {len(train)} training images can be read; see data.folder")
    return found, unreadable


def order_images(train: pd.DataFrame, seed: int) -> list[int]:
    """Rows in the order of drawing: one of each class, then a second of each, and so on."""
    generator = np.random.default_rng(seed)
    by_id = train["id"].astype(str).argsort(kind="stable").to_numpy()
    shuffled = by_id[generator.permutation(len(train))]
    labels = train["label"].iloc[shuffled].map(str)
    return [int(row) for row in shuffled[labels.groupby(labels).cumcount().argsort(kind="stable")]]


def show_policy(
    config: AugmentConfig, originals: list[Original], classes: Sequence[str], side: int, seed: int
) -> Shown:
    """Runs one policy on all images, and takes the median of its cost."""
    policy = find_policy(config.policy)
    auto = settle_quietly(replace(config, flip="auto"), classes, side)
    settled = settle_quietly(config, classes, side)
    versions = range(1 if policy == Policy() else VERSIONS)  # all would be the same
    rows = [
        [augment(settled, originals, place, number, side, seed) for number in versions]
        for place in range(len(originals))
    ]
    cost = statistics.median(one.made.seconds for row in rows for one in row) * 1000
    asymmetric = policy.flip and auto.flip == "no"
    return Shown(config.policy, policy, settled.flip == "yes", asymmetric, cost, rows)


def settle_quietly(config: AugmentConfig, classes: Sequence[str], side: int) -> AugmentConfig:
    """Settles augment.flip as a run does; the page says what the run would print."""
    return settle_augmentation(config, classes, side, Reporter(Path(), leader=False))


def augment(
    config: AugmentConfig, originals: list[Original], place: int, number: int, side: int, seed: int
) -> Version:
    """One version of one image; a mixing policy mixes it with another that is shown."""
    own = originals[place]
    others = max(1, len(originals) - 1)
    partner = originals[(place + 1 + number % others) % len(originals)]
    drawn = int(np.random.SeedSequence((seed, place, number)).generate_state(1)[0])
    made = preview(config, own.stored, drawn, side, partner.stored)
    return Version(made, mix_targets(own.classes, partner.classes, made.share))


def mix_targets(own: Sequence[str], partner: Sequence[str], share: float) -> Targets:
    """The classes of two images in their shares, the largest first."""
    shares: dict[str, float] = dict.fromkeys(own, share)
    for name in partner:
        shares[name] = shares.get(name, 0.0) + 1 - share
    held = [(name, one) for name, one in shares.items() if one > 0]
    return tuple(sorted(held, key=lambda item: -item[1]))
