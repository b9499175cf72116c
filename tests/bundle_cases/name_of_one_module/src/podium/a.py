"""A: the first."""

__all__ = ("x",)
