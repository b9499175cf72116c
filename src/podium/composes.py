"""Composes: chains of albumentations' transforms, by name or of the user's own

albumentations 2.0.8 is meant, which is MIT-licensed; its successor albumentationsx goes by the
same import name under another licence, and is refused. It is loaded when a policy needs it.
Geometry fills what moves in from outside with a mirror image: black edges would tell the network
what was done. Shapes: S side of an image.
"""

import importlib.metadata
import importlib.util
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from podium.override import SettingsError
from podium.runtime import KAGGLE_INPUT

Transform = tuple[str, dict[str, Any]]  # a class of albumentations, and its options

MIRROR = {"border_mode": 4}  # cv2.BORDER_REFLECT_101
# RandAugment(2, 9) of Cubuk et al. 2019, arXiv 1909.13719: two operations at magnitude 9 of 10.
RANDAUGMENT: tuple[Transform, ...] = (
    ("NoOp", {"p": 1.0}),
    ("AutoContrast", {"p": 1.0}),
    ("Equalize", {"p": 1.0}),
    ("Affine", {"rotate": (-27, 27), "p": 1.0, **MIRROR}),
    ("Posterize", {"num_bits": (4, 4), "p": 1.0}),
    ("Solarize", {"threshold_range": (0.1, 1.0), "p": 1.0}),
    ("ToGray", {"p": 1.0}),
    ("RandomBrightnessContrast", {"brightness_limit": 0.0, "contrast_limit": 0.45, "p": 1.0}),
    ("RandomBrightnessContrast", {"brightness_limit": 0.45, "contrast_limit": 0.0, "p": 1.0}),
    ("Sharpen", {"alpha": (0.1, 0.9), "lightness": (1.0, 1.0), "p": 1.0}),
    ("Affine", {"shear": {"x": (-15, 15), "y": (0, 0)}, "p": 1.0, **MIRROR}),
    ("Affine", {"shear": {"x": (0, 0), "y": (-15, 15)}, "p": 1.0, **MIRROR}),
    ("Affine", {"translate_percent": {"x": (-0.3, 0.3), "y": (0, 0)}, "p": 1.0, **MIRROR}),
    ("Affine", {"translate_percent": {"x": (0, 0), "y": (-0.3, 0.3)}, "p": 1.0, **MIRROR}),
)
COMPOSES: dict[str, tuple[Transform, ...]] = {
    "light": (
        ("Affine", {"rotate": (-10, 10), "scale": (0.95, 1.1), "keep_ratio": True, "p": 0.7,
                    **MIRROR}),
        ("RandomBrightnessContrast", {"brightness_limit": 0.1, "contrast_limit": 0.1, "p": 0.7}),
    ),
    "colour": (
        ("ColorJitter", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05,
                         "p": 0.8}),
        ("RandomGamma", {"gamma_limit": (80, 120), "p": 0.3}),
        ("ToGray", {"p": 0.1}),
    ),
    "randaugment": (
        ("SomeOf", {"transforms": RANDAUGMENT, "n": 2, "replace": True, "p": 1.0}),
    ),
    "shift-scale-rotate": (
        ("Affine", {"translate_percent": (-0.0625, 0.0625), "scale": (0.9, 1.1),
                    "keep_ratio": True, "rotate": (-45, 45), "p": 0.9, **MIRROR}),
    ),
    "coarse-dropout": (
        ("RandomBrightnessContrast", {"p": 0.5}),
        ("CoarseDropout", {"num_holes_range": (1, 8), "hole_height_range": (0.05, 0.2),
                           "hole_width_range": (0.05, 0.2), "p": 0.8}),
    ),
    "blur-noise": (
        ("OneOf", {"transforms": (
            ("GaussianBlur", {"sigma_limit": (0.5, 2.0), "p": 1.0}),
            ("MotionBlur", {"blur_limit": (3, 7), "p": 1.0}),
            ("GaussNoise", {"std_range": (0.02, 0.1), "p": 1.0}),
            ("ImageCompression", {"quality_range": (40, 90), "p": 1.0}),
        ), "p": 0.8}),
    ),
    "grid-distort": (
        ("OneOf", {"transforms": (
            ("GridDistortion", {"distort_limit": (-0.3, 0.3), "p": 1.0, **MIRROR}),
            ("OpticalDistortion", {"distort_limit": (-0.3, 0.3), "p": 1.0, **MIRROR}),
        ), "p": 0.8}),
    ),
    "hard": (
        ("Affine", {"translate_percent": (-0.1, 0.1), "scale": (1.0, 1.4),
                    "keep_ratio": True, "rotate": (-20, 20), "p": 0.9, **MIRROR}),
        ("ColorJitter", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05,
                         "p": 0.8}),
        ("OneOf", {"transforms": (
            ("GaussianBlur", {"sigma_limit": (0.5, 1.5), "p": 1.0}),
            ("ImageCompression", {"quality_range": (40, 90), "p": 1.0}),
            ("GridDistortion", {"distort_limit": (-0.2, 0.2), "p": 1.0, **MIRROR}),
        ), "p": 0.3}),
        ("CoarseDropout", {"num_holes_range": (1, 4), "hole_height_range": (0.1, 0.25),
                           "hole_width_range": (0.1, 0.25), "p": 0.5}),
    ),
}  # fmt: skip


def load_albumentations() -> Any:
    """Imports albumentations, which must not ask the network for news of itself.

    Raises SettingsError if it is missing, older than 2, or its successor.
    """
    installed = {one.name.lower() for one in importlib.metadata.distributions()}
    if "albumentationsx" in installed:
        raise SettingsError(
            "augment.policy needs albumentations 2.0.8, but albumentationsx is installed in its "
            "place, whose licence (AGPL) binds what uses it; pip uninstall albumentationsx, then "
            "pip install albumentations==2.0.8, or set augment.policy to flip-crop"
        )
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations
    except ImportError as error:
        raise SettingsError(
            f"augment.policy needs albumentations, which cannot be imported ({error}); "
            f"pip install albumentations==2.0.8, or set augment.policy to flip-crop"
        ) from error
    if not hasattr(albumentations.Compose, "set_random_state"):
        raise SettingsError(
            f"augment.policy needs albumentations 2.0.8, not {albumentations.__version__}; "
            f"pip install albumentations==2.0.8, or set augment.policy to flip-crop"
        )
    return albumentations


def make_compose(name: str) -> Any:
    """A Compose of the table, or the one that `module:function` returns.

    Raises SettingsError if there is none.
    """
    library = load_albumentations()
    if name in COMPOSES:
        compose = library.Compose(build_transforms(library, COMPOSES[name]))
    else:
        compose = call_own_function(name)
        if not isinstance(compose, library.Compose):
            raise SettingsError(
                f"augment.policy is {name}, which must return an albumentations Compose, "
                f"not {type(compose).__name__}"
            )
    return compose


class SeededCompose:
    """A Compose that draws all it does to an image from one seed.

    Compose.set_random_seed would give each transform the same seed, so that their coins fall alike,
    and takes 70 µs an image; here all share one pair of generators, which is set back in 6 µs.
    """

    def __init__(self, name: str) -> None:
        self.compose = make_compose(name)
        self.generator = np.random.Generator(np.random.PCG64(0))
        self.coin = random.Random(0)  # noqa: S311, no secret depends on it
        self.compose.set_random_state(self.generator, self.coin)

    def seed(self, seed: bytes) -> None:
        """Starts both generators from 48 bytes."""
        state, increment, coin = (int.from_bytes(seed[at : at + 16]) for at in (0, 16, 32))
        self.generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment | 1},  # PCG64 takes odd ones
            "has_uint32": 0,
            "uinteger": 0,
        }
        self.coin.seed(coin)

    def augment(self, image: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        """Augments one image [S, S, 3], and brings it back to its size if need be."""
        self.seed(seed)
        made: NDArray[np.uint8] = self.compose(image=image)["image"]
        if made.shape == image.shape:
            return made
        return np.asarray(cv2.resize(made, image.shape[1::-1], interpolation=cv2.INTER_AREA))


def build_transforms(library: Any, chain: Sequence[Transform]) -> list[Any]:
    """Makes the transforms of a chain, and those inside of them."""
    made = []
    for name, options in chain:
        inner = options.get("transforms")
        held = {"transforms": build_transforms(library, inner)} if inner else {}
        made.append(getattr(library, name)(**(options | held)))
    return made


def call_own_function(name: str) -> Any:
    """Calls `module:function`; raises SettingsError if it cannot be found or fails."""
    try:
        return find_own_function(name)()
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"augment.policy is {name}, which fails ({type(error).__name__}: {error})"
        ) from error


def find_own_function(name: str, inputs: Path = KAGGLE_INPUT) -> Callable[[], Any]:
    """Finds `module:function` on Python's path, or in what is attached on Kaggle."""
    module, _, function = name.partition(":")
    attached = sorted(inputs.glob(f"*/{module}.py")) + sorted(inputs.glob(f"*/*/{module}.py"))
    sys.path += [str(one.parent) for one in attached if str(one.parent) not in sys.path]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.loader is None:
        raise SettingsError(
            f"augment.policy is {name}, but there is no {module}.py beside the script, on "
            f"PYTHONPATH, or in a dataset that is attached"
        )
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    found: Callable[[], Any] = getattr(loaded, function)
    return found


def check_compose(name: str, side: int) -> None:
    """Raises SettingsError unless a Compose keeps images what they are: [S, S, 3] uint8.

    Another size is put right; other types are not.
    """
    compose, image = make_compose(name), np.full((side, side, 3), 127, np.uint8)
    try:
        made = compose(image=image)["image"]
    except Exception as error:
        raise SettingsError(
            f"augment.policy is {name}, which fails on an image of {side} px "
            f"({type(error).__name__}: {error})"
        ) from error
    if getattr(made, "dtype", None) != np.uint8 or made.ndim != 3 or made.shape[2] != 3:
        shape = getattr(made, "shape", "no shape")
        raise SettingsError(
            f"augment.policy is {name}, which turns an image into {getattr(made, 'dtype', made)} "
            f"{shape}; it must stay uint8 with 3 channels: take Normalize, ToFloat and ToTensorV2 "
            f"out, as the model normalises by itself"
        )
