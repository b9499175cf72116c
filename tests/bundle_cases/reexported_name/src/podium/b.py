"""B: the second."""

from podium.a import json
