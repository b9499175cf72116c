"""Words: what albumentations drew for an image, said so that it can be read beside the image."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Drawn = Mapping[str, Any]  # what a transform drew, as albumentations names it


def describe_transform(name: str, drawn: Drawn) -> str:
    """A transform and its numbers; one that is not known by its name and its plain numbers."""
    if name in WORDS:
        return WORDS[name](drawn)
    plain = {k: v for k, v in drawn.items() if isinstance(v, int | float) and k not in SILENT}
    numbers = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in plain.items())
    return f"{split_name(name)} {numbers}".strip()


def split_name(name: str) -> str:
    """The words of a class name: "horizontal flip"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def describe_affine(drawn: Drawn) -> str:
    """The parts of an affine matrix; albumentations itself does not tell shear and shift."""
    matrix, (height, width) = np.asarray(drawn["matrix"], float), drawn["shape"][:2]
    angle, scale = float(drawn["rotate"]), float(drawn["scale"]["x"])
    turn = np.deg2rad(angle)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    sheared = np.rad2deg(np.arctan(turned @ matrix[:2, :2] / scale))
    centre = np.array([(width - 1) / 2, (height - 1) / 2, 1])
    shift = (matrix @ centre - centre)[:2] / (width, height)
    moves = say_changes({"moved across": shift[0], "moved down": shift[1]})
    parts = [
        f"turned {abs(angle):.0f}° {'left' if angle > 0 else 'right'}" * (abs(angle) >= 0.5),
        f"scaled to {say_share(scale)}" * (abs(scale - 1) >= 0.005),
        f"sheared {abs(sheared[0, 1]):.0f}° sideways" * bool(abs(sheared[0, 1]) >= 0.5),
        f"sheared {abs(sheared[1, 0]):.0f}° upwards" * bool(abs(sheared[1, 0]) >= 0.5),
        *moves,
    ]
    return ", ".join(filter(None, parts)) or "no change"


def describe_colours(drawn: Drawn) -> str:
    """Factors as what they add, and hue in degrees of its circle."""
    changes = {key: drawn[key] - 1 for key in ("brightness", "contrast", "saturation")}
    hue = round(drawn["hue"] * 360)
    turned = [f"hue {hue:+}°".replace("-", "−")] * (hue != 0)
    return ", ".join([*say_changes(changes), *turned]) or "no change"


def describe_light(drawn: Drawn) -> str:
    """Contrast as a factor, brightness as grey levels of 255."""
    changes = {"contrast": drawn["alpha"] - 1, "brightness": drawn["beta"] / 255}
    return ", ".join(say_changes(changes)) or "no change"


def describe_blur(drawn: Drawn) -> str:
    """The standard deviation of a Gaussian kernel."""
    kernel = np.asarray(drawn["kernel"], float)
    places = np.arange(len(kernel)) - len(kernel) // 2
    spread = float(np.sqrt((kernel * places**2).sum() / kernel.sum()))
    return f"blurred with σ {spread:.1f} px"


def describe_bend(drawn: Drawn) -> str:
    """How far a pixel moves at most."""
    across, down = (np.asarray(drawn[key], float) for key in ("map_x", "map_y"))
    rows, columns = np.indices(across.shape)
    return f"bent by up to {np.hypot(across - columns, down - rows).max():.0f} px"


def say_changes(changes: Mapping[str, float]) -> list[str]:
    """Shares that are added, as percentages with a true minus; those near zero are left out."""
    rounded = {what: round(share * 100) for what, share in changes.items()}
    return [f"{what} {share:+} %".replace("-", "−") for what, share in rounded.items() if share]


def say_share(share: float) -> str:
    """A share as a percentage: "62 %"."""
    return f"{share * 100:.0f} %"


SILENT = ("interpolation", "fill", "fill_mask")  # nothing that is seen
WORDS: dict[str, Callable[[Drawn], str]] = {
    "Affine": describe_affine,
    "AutoContrast": lambda _: "contrast stretched to the whole range",
    "CoarseDropout": lambda drawn: f"{len(drawn['holes'])} hole{'s'[: len(drawn['holes']) != 1]}",
    "ColorJitter": describe_colours,
    "Equalize": lambda _: "histogram made even",
    "GaussNoise": lambda drawn: f"noise of {np.std(drawn['noise_map']):.0f} grey levels",
    "GaussianBlur": describe_blur,
    "GridDistortion": describe_bend,
    "HorizontalFlip": lambda _: "mirrored",
    "ImageCompression": lambda drawn: f"JPEG at quality {drawn['quality']}",
    "MotionBlur": lambda drawn: f"shaken over {len(drawn['kernel'])} px",
    "NoOp": lambda _: "left as it is",
    "OpticalDistortion": describe_bend,
    "Posterize": lambda drawn: f"{drawn['num_bits']} bits a channel",
    "RandomBrightnessContrast": describe_light,
    "RandomGamma": lambda drawn: f"gamma {drawn['gamma']:.2f}",
    "Sharpen": lambda drawn: f"sharpened by {say_share(drawn['alpha'])}",
    "Solarize": lambda drawn: f"inverted above {say_share(drawn['threshold'])}",
    "ToGray": lambda _: "grey",
}
