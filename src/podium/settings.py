"""Settings: the block to edit on Kaggle

Name a setting, give it a value; whatever is not named keeps its default. `--help` lists every
setting with its default, unit and limit. A command line wins over this block. This is a Kaggle
script, not a notebook: from a notebook, save it as podium.py and run `!python podium.py`.
Example: {"model.backbone": "keras:EfficientNetV2S", "pixels.image_size": 300, "train.epochs": 12}
"""

SETTINGS: dict[str, object] = {}

SOURCE = "modules"  # the build puts the sha256 of the sources here
