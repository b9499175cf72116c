"""Decoders agree: on pixels within what JPEG's standard leaves open, on logits within what that
much noise makes of them.

Derivation. IEEE 1180 lets an inverse DCT stray from the exact one by a mean square of 0.02 a
sample; two decoders may stray in opposite directions, which makes 0.08. Turning Y, Cb and Cr into
R, G and B multiplies it by 1 + 1.402² and so on, 2.91 on average, and rounding adds 1/12 for each
decoder. A scaled decode is the mean over a block of the full one; beside the above, its own samples
are rounded (1/12), and so are those of the full one, whose errors the mean over k × k divides by
k². At 1/8 a sample is a whole number of eighths, and ties are rounded up: by 1/16 on average. A
resize adds no more than its rounding. How the network's own answer moves under noise of that size
is measured; the tolerance of a logit is its standard deviation times a factor that a normal
distribution exceeds once in a billion.
"""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_decode import make_photo

from podium.cache import allocate_pixels
from podium.decode import decode_image, fit_square

IDCT = 0.02  # mean square error a sample
COLOUR = np.mean([1 + 1.402**2, 1 + 0.344136**2 + 0.714136**2, 1 + 1.772**2])
ROUNDING = 1 / 12
TIES = np.array([1 + 1.402, 1 - 0.344136 - 0.714136, 1 + 1.772]) / 16  # in RGB, at 1/8
SURE = 6.1  # standard deviations
PHOTOS, SIDE = 6, 64


def permitted_error(scale: int) -> float:
    """Mean square by which two decoders may differ in RGB, one of them at a scale of 1/scale."""
    if scale == 1:
        return COLOUR * 4 * IDCT + 2 * ROUNDING
    return (COLOUR * (IDCT + ROUNDING) + ROUNDING) * (1 + 1 / scale**2)


def write_jpegs(folder, size: int) -> list[str]:
    """Photographs of that size whose chroma has the resolution of their luma, nowhere clipped."""
    paths = [str(folder / f"{number}.jpg") for number in range(PHOTOS)]
    for number, path in enumerate(paths):
        photo = np.clip(make_photo(size, size, number), 40, 215)
        Image.fromarray(photo).save(path, quality=90, subsampling=0)
    return paths


def decode_stored(paths: list[str]) -> np.ndarray:
    """As a run sees them: decoded by Podium, kept as uint8."""
    pixels = allocate_pixels(len(paths), SIDE, "memory")
    for row, path in enumerate(paths):
        pixels[row] = decode_image(path, SIDE)
    return pixels


def decode_pillow(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def decode_opencv(path: str) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


def decode_tfrecord(path: str) -> np.ndarray:
    """Through a TFRecord file, as Kaggle's TPU competitions hold their images."""
    record = path.replace(".jpg", ".tfrec")
    with open(path, "rb") as file, tf.io.TFRecordWriter(record) as writer:  # noqa: PTH123
        content = tf.train.BytesList(value=[file.read()])
        features = tf.train.Features(feature={"image": tf.train.Feature(bytes_list=content)})
        writer.write(tf.train.Example(features=features).SerializeToString())
    example = next(iter(tf.data.TFRecordDataset(record)))
    parsed = tf.io.parse_single_example(example, {"image": tf.io.FixedLenFeature([], tf.string)})
    return tf.io.decode_jpeg(parsed["image"], 3, dct_method="INTEGER_ACCURATE").numpy()


def block_mean(full: np.ndarray, scale: int) -> np.ndarray:
    """The mean over blocks of scale × scale: what a decode at 1/scale is explained by."""
    side = len(full) // scale
    blocks = full.reshape(side, scale, side, scale, 3).mean((1, 3), dtype=np.float64)
    return blocks.round().astype(np.uint8)


DECODERS = [decode_pillow, decode_opencv, decode_tfrecord]


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A convolutional net that has learnt to tell the photographs' patches apart."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Rescaling(1 / 127.5, -1)]
    for width in (16, 32, 64):
        layers += [keras.layers.Conv2D(width, 3, 2, "same"), keras.layers.ReLU()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(PHOTOS)]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    photos = np.stack([make_photo(SIDE, SIDE, number) for number in range(PHOTOS)])
    noise = np.random.default_rng(0).normal(0, 20, (8 * PHOTOS, SIDE, SIDE, 3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(np.repeat(photos, 8, 0) + noise, np.repeat(np.arange(PHOTOS), 8), 16, 5, verbose=0)
    return model


def tolerate(network: keras.Model, images: np.ndarray, scale: int) -> np.ndarray:
    """The tolerance of each logit [N, C] where a decode at 1/scale meets a full one."""
    rng, draws = np.random.default_rng(1), 16
    error = np.sqrt(permitted_error(scale) + 2 * ROUNDING)  # the squares are rounded too
    noisy = [images + rng.normal(0, error, images.shape) for _ in range(draws)]
    answers = answer(network, np.concatenate(noisy)).reshape(draws, len(images), -1)
    shift = answer(network, images + TIES) - answer(network, images) if scale == 8 else 0.0
    return SURE * answers.std(axis=0, ddof=1) + np.abs(shift)


def answer(network: keras.Model, images: np.ndarray) -> np.ndarray:
    return network.predict(np.asarray(images, np.float32), verbose=0)


def mean_square(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one.astype(np.float64) - other.astype(np.float64)) ** 2).mean())


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("size", [64, 80, 100])
def test_decoders_agree_where_nothing_is_scaled(tmp_path, network, decode, size: int):
    paths = write_jpegs(tmp_path, size)
    stored = decode_stored(paths)
    others = np.stack([fit_square(decode(path), SIDE) for path in paths])
    assert mean_square(stored, others) <= permitted_error(1) + 2 * ROUNDING
    difference = np.abs(answer(network, stored) - answer(network, others))
    assert (difference <= tolerate(network, others, 1)).all()


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(("size", "scale"), [(128, 2), (160, 2), (200, 2), (256, 4), (608, 8)])
def test_a_scaled_decode_differs_by_what_jpegs_scaling_explains(
    tmp_path, network, decode, size: int, scale: int
):
    paths = write_jpegs(tmp_path, size)
    stored = decode_stored(paths)
    others = np.stack([fit_square(block_mean(decode(path), scale), SIDE) for path in paths])
    assert mean_square(stored, others) <= permitted_error(scale) + 2 * ROUNDING
    difference = np.abs(answer(network, stored) - answer(network, others))
    assert (difference <= tolerate(network, others, scale)).all()


def test_the_tolerance_tells_a_worse_resize_and_a_swap_of_colours(tmp_path, network):
    paths = write_jpegs(tmp_path, 160)
    full = [decode_opencv(path) for path in paths]
    explained = np.stack([fit_square(block_mean(image, 2), SIDE) for image in full])
    aliased = np.stack([cv2.resize(image, (SIDE, SIDE)) for image in full])
    allowed = tolerate(network, explained, 2)
    expected = answer(network, explained)
    for wrong in (aliased, explained[..., ::-1], np.roll(explained, 1, axis=2)):
        assert (np.abs(answer(network, wrong) - expected) > allowed).any()
