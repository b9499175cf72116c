"""A: the first."""

import atexit
import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras


def keep(function: Callable[[], None]) -> Callable[[], None]:
    """Gives it back."""
    return function


@dataclass(frozen=True)
@functools.total_ordering
class Row:
    @property
    def size(self) -> int:
        @atexit.register
        def later() -> None: ...

        return 1

    @size.setter
    def size(self, value: int) -> None: ...

    @print
    def show(self) -> None: ...


@keras.saving.register_keras_serializable("podium")
class Layer(keras.layers.Layer): ...


@keep
@functools.cache
def fine() -> None: ...


@atexit.register
def last() -> None: ...


@keras.utils.register(open("x"))
def wrong() -> None: ...


@functools.lru_cache(int(input()))
async def waits() -> None: ...
