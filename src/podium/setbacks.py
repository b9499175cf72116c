"""Setbacks: what a fold does after too little memory, and after a loss that is no number

Neither costs the run. Of images that do not fit on the device at once, fewer go through at a
time, and as many make an update. From a loss that is no number, a fold goes back to its last
checkpoint and on at a lower rate, twice at most; then the weights before it answer.
"""

from dataclasses import replace

from podium.epochs import Position

MOST_LOWERED = 2
LOWER = 0.5  # the rate then, as a share
ADVICE = "lower schedule.peak_lr, or set runtime.precision to float32"


class DivergedError(RuntimeError):
    """The loss was no number before there was anything to go back to."""


class OutOfMemoryError(RuntimeError):
    """Not even the smallest part of a batch fits on the device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Did the device run out of memory? TensorFlow and JAX say so in the same words."""
    return "RESOURCE_EXHAUSTED" in str(error) or type(error).__name__ == "ResourceExhaustedError"


def lower_rate(now: Position, saved: Position) -> Position | None:
    """The place to go on from, at a lower rate than there; None if that was tried often enough."""
    lowered = now.lowered + 1
    if lowered > MOST_LOWERED:
        return None
    share = LOWER ** (lowered - saved.lowered)
    return replace(saved, lowered=lowered, schedule=saved.schedule.scaled(share))


def halve_parts(place: Position, batch_size: int, devices: int) -> Position:
    """The place with half as many images at once; OutOfMemoryError if they cannot be fewer."""
    parts, images = 2 * place.parts, batch_size // place.parts
    if batch_size % (parts * devices):
        raise OutOfMemoryError(
            f"{images} images at once, of {batch_size} for an update, are too many for the memory "
            f"of {devices} device{'s' * (devices > 1)}, and cannot be halved; lower "
            f"pixels.image_size, or choose a smaller model.backbone"
        )
    return replace(place, parts=parts)
