"""Declare: how a setting is written down"""

from dataclasses import field
from typing import Any, TypeVar

Value = TypeVar("Value")


def setting(
    default: Value,
    meaning: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Value:
    """Declares one setting: its default, meaning, unit and inclusive limits (those of its unit)."""
    limits = {"meaning": meaning, "unit": unit, "low": low, "high": high}
    declared: Any = field(default=default, metadata=limits)
    return declared  # type: ignore[no-any-return]
