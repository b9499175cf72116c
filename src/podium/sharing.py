"""Sharing: one batch over all devices, of all hosts

Keras splits each batch over the devices on JAX alone, and takes the mean over the whole batch
wherever one is taken: in the loss, in the gradients and in batch norm's statistics. What is drawn
on the device is drawn for the whole batch too, so that eight devices learn what one learns, but
for the order in which floats are added.
"""

from typing import Any

import keras

from podium.hosts import count_hosts


def share_devices(count: int) -> None:
    """Splits every batch over all devices; Keras can do that on JAX alone.

    Must come before the model is built, and not twice in a session. The devices of a host follow
    each other, as its part of a batch does.
    """
    if count == 1 or keras.backend.backend() != "jax":
        return
    import jax

    devices = sorted(jax.devices(), key=lambda device: int(device.process_index))
    names = [f"{device.platform}:{device.id}" for device in devices]
    spread = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    keras.distribution.set_distribution(spread)


def own_part(batch_size: int) -> slice:
    """The rows of each batch that this host feeds: all, unless hosts share their batches."""
    if keras.distribution.distribution() is None or count_hosts() == 1:
        return slice(0, batch_size)
    import jax

    size = batch_size // count_hosts()
    return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def answer_everywhere(model: keras.Model) -> None:
    """Has `model.predict` give the answers to the whole batch to each host, and not to its part.

    Must come before the model predicts for the first time.
    """
    spread = keras.distribution.distribution()
    if spread is None or count_hosts() == 1:
        return
    layout = keras.distribution.TensorLayout([None, None], spread.device_mesh)

    def predict_step(*given: Any) -> Any:
        answers, state = type(model).predict_step(model, *given)
        return keras.distribution.distribute_tensor(answers, layout), state

    model.predict_step = predict_step
