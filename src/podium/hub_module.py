"""Hub module: a SavedModel as a Keras layer, where its weights cannot be ported

For the TensorFlow backend alone. Keras's own TFSMLayer runs a module always as in inference, so
its batch statistics stay frozen and its dropout stays off; this layer trains it whole.
"""

from typing import Any

import keras
import tensorflow as tf

from podium.handles import BackboneError


@keras.saving.register_keras_serializable("podium")
class HubModule(keras.layers.Layer):
    """Runs a reusable SavedModel: [B, H, W, 3] float32 in 0 to 1 to [B, F] float32.

    Its variables are this layer's, shared and not copied: they train, freeze, save and load with
    the model. Frozen, it runs as in inference and so keeps its moving statistics. Raises
    BackboneError on a backend other than TensorFlow, or if the SavedModel is not reusable.
    """

    def __init__(self, folder: str, **options: Any) -> None:
        if keras.backend.backend() != "tensorflow":
            raise BackboneError(
                f"{folder} is a SavedModel that Keras cannot rebuild and that runs on TensorFlow "
                f"alone; set runtime.backend to tensorflow, or choose a backbone of the table, "
                f"such as keras:EfficientNetV2B0"
            )
        # A SavedModel computes in float32 whatever the policy.
        super().__init__(**{**options, "dtype": "float32"})
        self.folder = folder
        self.module = tf.saved_model.load(folder)
        if not callable(self.module) or not getattr(self.module, "variables", None):
            raise BackboneError(f"{folder} is no reusable SavedModel: nothing in it can be trained")
        training = {id(one) for one in self.module.trainable_variables}
        for place, shared in enumerate(self.module.variables):
            self._track_variable(share_variable(shared, place, id(shared) in training))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes features, as in training only if the layer is not frozen."""
        training = bool(training) and self.trainable
        features = self.module(inputs, training=training)
        if training:
            for penalty in getattr(self.module, "regularization_losses", None) or []:
                self.add_loss(penalty())
        return features

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the layer: the folder must still be there."""
        return {**super().get_config(), "folder": self.folder}


def find_side(module: Any) -> int | None:
    """The side, in px, of the images that a SavedModel takes; None if it takes any."""
    functions = getattr(module.__call__, "concrete_functions", [])
    specs = [spec for one in functions for spec in tf.nest.flatten(one.structured_input_signature)]
    shapes = [spec.shape for spec in specs if isinstance(spec, tf.TensorSpec)]
    return next((shape[1] for shape in shapes if shape.rank == 4), None)


def share_variable(shared: Any, place: int, trainable: bool) -> keras.Variable:
    """A Keras variable that is the module's own."""
    name = f"{place:04d}_{shared.name.partition(':')[0].replace('/', '_')}"
    variable = keras.Variable(
        shared, shape=shared.shape, dtype=shared.dtype.name, trainable=trainable, name=name
    )
    if variable.value is not shared:
        raise BackboneError(f"Keras {keras.__version__} copied {name} instead of sharing it")
    return variable
