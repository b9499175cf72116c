"""B: the second."""

try:
    from podium.a import early
except ImportError:
    early = None
