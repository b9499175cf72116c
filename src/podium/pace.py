"""Pace: whether the device waits for its images, or they for the device"""

import time
from collections.abc import Iterable
from typing import Any

# Training that is slower than its input by this factor is not held up by it.
AHEAD = 1.25


def measure_rate(batches: Iterable[Any], seconds: float = 1.0) -> float:
    """Images per second that a pipeline gives when nothing else is done: over that many seconds.

    `batches` are tuples whose first part is [B, …]. The first one, which waits for the pipeline to
    start, does not count; at least one more does.
    """
    begun, images = 0.0, 0
    for number, (pixels, *_) in enumerate(batches):
        if number == 0:
            begun = time.perf_counter()
            continue
        images += len(pixels)
        if time.perf_counter() - begun >= seconds:
            break
    return images / max(time.perf_counter() - begun, 1e-9) if images else 0.0


def describe_bottleneck(host: float, training: float) -> str:
    """Says which side is the limit, of images per second that the input gives and training takes.

    Training cannot be faster than its input, so where both are about as fast it waits for it.
    """
    rates = f"the input gives {host:,.0f} images/s, training takes {training:,.0f}"
    if host >= AHEAD * training:
        return f"{rates}: the device is the limit, its input is {host / training:.1f} times as fast"
    return (
        f"{rates}: the input is the limit, and the device waits for it; a cheaper augment.policy, "
        f"a smaller pixels.image_size or pixels.cache in memory makes it faster"
    )
