"""A Keras backbone with its weights, exported as a reusable SavedModel, as Hub modules are.

    KERAS_HOME=folder python bench/export_module.py keras:MobileNetV2 /tmp/module
    python bench/finetune.py --backbone hub:/tmp/module --weights pretrained --data ...

The weights are found as in any run. The module takes [B, H, W, 3] float32 in 0 to 1, gives pooled
features [B, F]; it has variables, trainable_variables and a training argument. Its names are not
those of a published EfficientNetV2, so Podium trains it as it is, through HubModule.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from podium import runtime  # noqa: F401, chooses the backend before Keras loads

import keras
import tensorflow as tf

from podium.learning import ModelConfig
from podium.events import Reporter
from podium.network import build_architecture
from podium.normalise import scale_pixels
from podium.weights import prepare_backbone


def make_module(network: keras.Model):
    """A Keras network behind the interface of a reusable SavedModel."""
    module = tf.__internal__.tracking.AutoTrackable()
    module.network = network
    module.variables = [one.value for one in network.variables]
    module.trainable_variables = [one.value for one in network.trainable_variables]
    module.__call__ = tf.function(lambda images, training=False: network(images, training=training))
    return module


def main() -> None:
    """Finds the weights, exports the network and says what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        config = ModelConfig(options.backbone, "pretrained")
        start = prepare_backbone(config, 224, folder, Reporter(folder))
        inside = build_architecture(start.backbone, None)
        inside.load_weights(start.weights)
    images = keras.Input((None, None, 3))
    pixels = keras.layers.Rescaling(255.0)(images)
    module = make_module(keras.Model(images, inside(scale_pixels(pixels, start.scaling))))
    shape = tf.TensorSpec((None, None, None, 3), tf.float32)
    for training in (False, True):
        module.__call__.get_concrete_function(shape, training=training)
    tf.saved_model.save(module, options.folder)
    print(f"{options.folder}: {len(module.variables)} variables of {options.backbone}")


if __name__ == "__main__":
    main()
