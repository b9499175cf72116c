"""A: the first."""

import json
