"""A: the first."""

from __future__ import annotations
