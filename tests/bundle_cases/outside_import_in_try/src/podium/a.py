"""A: the first."""

try:
    import numpy as np
except ImportError:
    np = None
