import albumentations
import numpy as np
import pytest

from podium.composes import COMPOSES, Transform
from workbench.words import WORDS, describe_transform, say_share

IMAGE = np.random.default_rng(0).integers(0, 256, (97, 97, 3), dtype=np.uint8)
STILL = {"rotate": (0, 0), "p": 1.0}
CASES = [
    ("Affine", {"rotate": (20, 20), "p": 1.0}, "turned 20° left"),
    ("Affine", {"rotate": (-8, -8), "scale": 1.2, "p": 1.0}, "turned 8° right, scaled to 120 %"),
    ("Affine", {"shear": {"x": (15, 15), "y": (0, 0)}, **STILL}, "sheared 15° sideways"),
    ("Affine", {"shear": {"x": (0, 0), "y": (15, 15)}, **STILL}, "sheared 15° upwards"),
    (
        "Affine",
        {"translate_percent": {"x": (0.25, 0.25), "y": (-0.2, -0.2)}, **STILL},
        "moved across +25 %, moved down −20 %",
    ),
    ("Affine", {"scale": 1.0, **STILL}, "no change"),
    (
        "RandomBrightnessContrast",
        {"brightness_limit": (-0.2, -0.2), "contrast_limit": (0.1, 0.1), "p": 1.0},
        "contrast +10 %, brightness −20 %",
    ),
    (
        "RandomBrightnessContrast",
        {"brightness_limit": 0.0, "contrast_limit": 0.0, "p": 1.0},
        "no change",
    ),
    (
        "ColorJitter",
        {
            "brightness": (1.3, 1.3),
            "contrast": (1, 1),
            "saturation": (0.5, 0.5),
            "hue": (-0.05, -0.05),
            "p": 1.0,
        },
        "brightness +30 %, saturation −50 %, hue −18°",
    ),
    ("GaussianBlur", {"sigma_limit": (1.5, 1.5), "p": 1.0}, "blurred with σ 1.5 px"),
    ("MotionBlur", {"blur_limit": (5, 5), "p": 1.0}, "shaken over 5 px"),
    ("ImageCompression", {"quality_range": (40, 40), "p": 1.0}, "JPEG at quality 40"),
    ("RandomGamma", {"gamma_limit": (80, 80), "p": 1.0}, "gamma 0.80"),
    ("Sharpen", {"alpha": (0.5, 0.5), "p": 1.0}, "sharpened by 50 %"),
    ("Solarize", {"threshold_range": (0.5, 0.5), "p": 1.0}, "inverted above 50 %"),
    ("Posterize", {"num_bits": (4, 4), "p": 1.0}, "4 bits a channel"),
    ("HorizontalFlip", {"p": 1.0}, "mirrored"),
    ("VerticalFlip", {"p": 1.0}, "vertical flip"),
]


@pytest.mark.parametrize(("name", "options", "words"), CASES)
def test_what_was_drawn_is_said_in_words(name: str, options: dict[str, object], words: str):
    chain = albumentations.Compose(
        [getattr(albumentations, name)(**options)], save_applied_params=True
    )
    (drawn,) = chain(image=IMAGE)["applied_transforms"]
    assert describe_transform(*drawn) == words


@pytest.mark.parametrize(("count", "words"), [(1, "1 hole"), (3, "3 holes")])
def test_holes_are_counted(count: int, words: str):
    assert describe_transform("CoarseDropout", {"holes": np.zeros((count, 4))}) == words


def test_noise_is_said_by_its_standard_deviation():
    noise = np.array([[[20.0], [-20.0]]])
    assert describe_transform("GaussNoise", {"noise_map": noise}) == "noise of 20 grey levels"


def test_a_bend_is_said_by_the_pixel_that_moves_most():
    rows, columns = np.indices((5, 5)).astype(float)
    columns[2, 2] += 3
    rows[2, 2] += 4
    assert describe_transform("GridDistortion", {"map_x": columns, "map_y": rows}).endswith("5 px")


def test_what_is_not_known_is_said_by_its_name_and_numbers():
    drawn = {"slant_angle": 12.3456, "shape": (9, 9, 3), "fill": 0.0, "interpolation": 1}
    assert describe_transform("MyOwnThing", drawn) == "my own thing slant angle 12.3"


def test_every_transform_of_the_table_has_words():
    def list_names(chain: tuple[Transform, ...]) -> set[str]:
        inner = [one.get("transforms", ()) for _, one in chain]
        return {name for name, _ in chain}.union(*map(list_names, inner))

    named = set[str]().union(*map(list_names, COMPOSES.values()))
    assert named - {"OneOf", "SomeOf"} <= set(WORDS)


def test_a_share_is_a_whole_percentage():
    assert say_share(0.617) == "62 %"
