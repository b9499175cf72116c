"""A: the first."""

import sys

if sys.argv:
    import json
