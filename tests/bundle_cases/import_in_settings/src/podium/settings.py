"""Settings: the block to edit on Kaggle."""

import json

SETTINGS: dict[str, object] = {}

SOURCE = "modules"  # the sources
