"""Settings: the block to edit on Kaggle

Name a setting, give it a value; whatever is not named keeps its default. `--help` lists every
setting with its default, unit and limit. A command line wins over this block.
Example: {"model.backbone": "keras:EfficientNetV2S", "pixels.image_size": 300, "train.epochs": 12}
"""

SETTINGS: dict[str, object] = {}

SOURCE = "modules"  # in the built script: the sha256 of the sources it was built from
