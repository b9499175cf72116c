"""B: the second."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.a import early
