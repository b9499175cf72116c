"""Settings: the block to edit on Kaggle."""

SETTINGS: dict[str, object] = {}

SOURCE = "modules"  # the sources
