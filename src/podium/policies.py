"""Policies: what training images go through, by name

A policy says what the device does (cut and mirror), what the host does (a Compose), and whether
images are mixed. Nothing happens outside training. Geometry but for cut and mirror stays on the
host: a rotation is a gather, which stalls a TPU. A mirrored digit is no digit: whether a policy
helps is for validation to say.
"""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from podium.composes import check_compose
from podium.config import AugmentConfig
from podium.events import Reporter
from podium.override import SettingsError

FEW_CLASSES = 10  # of fewer, names of one character may be grades, or yes and no


class Policy(NamedTuple):
    """What one policy does, and where."""

    crop: bool = False  # on the device: a random square of a larger image
    flip: bool = False  # on the device: half of the images mirrored, left and right
    compose: str = ""  # on the host: a name in COMPOSES, or module:function
    mix: Literal["", "mixup", "cutmix"] = ""  # on the host: two images and their targets


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flip-crop": Policy(crop=True, flip=True),
    "light": Policy(crop=True, flip=True, compose="light"),
    "colour": Policy(crop=True, flip=True, compose="colour"),
    "randaugment": Policy(crop=True, flip=True, compose="randaugment"),
    "mixup": Policy(crop=True, flip=True, mix="mixup"),
    "cutmix": Policy(crop=True, flip=True, mix="cutmix"),
    "albumentations:shift-scale-rotate": Policy(flip=True, compose="shift-scale-rotate"),
    "albumentations:coarse-dropout": Policy(flip=True, compose="coarse-dropout"),
    "albumentations:blur-noise": Policy(flip=True, compose="blur-noise"),
    "albumentations:grid-distort": Policy(flip=True, compose="grid-distort"),
    "albumentations:hard": Policy(flip=True, compose="hard"),
}


def find_policy(name: str) -> Policy:
    """The policy of that name; `module:function` is a Compose of the user's own, and nothing else.

    Raises SettingsError with the names there are.
    """
    if name in POLICIES:
        return POLICIES[name]
    module, colon, function = name.partition(":")
    if colon and module != "albumentations" and module and function.isidentifier():
        return Policy(compose=name)
    close = difflib.get_close_matches(name, POLICIES, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise SettingsError(
        f"augment.policy must be {', '.join(POLICIES)}, or module:function of your own, "
        f"not {name!r}{guess}"
    )


def settle_augmentation(
    config: AugmentConfig, classes: Sequence[str], image_size: int, report: Reporter
) -> AugmentConfig:
    """Checks the policy, and decides what augment.flip leaves open: the same section, settled.

    Where each class is a character, a mirrored image is another class or none, and nothing is
    mirrored. Raises SettingsError if the policy cannot be used.
    """
    policy = find_policy(config.policy)
    if policy.compose:
        check_compose(policy.compose, image_size)
    if config.flip != "auto":
        return config
    characters = len(classes) >= FEW_CLASSES and all(len(name) == 1 for name in classes)
    if policy.flip and characters:
        report.say(
            f"  augment.flip is off: the classes {', '.join(classes[:4])}, … look like characters, "
            f"which a mirror makes others of; if they are not, set it to yes"
        )
    return replace(config, flip="yes" if policy.flip and not characters else "no")
