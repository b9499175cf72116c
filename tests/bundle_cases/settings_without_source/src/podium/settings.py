"""Settings: the block."""

SETTINGS = {}
