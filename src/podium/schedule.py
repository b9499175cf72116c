"""Schedule: how fast the weights move

The learning rate climbs linearly from zero and falls along half a cosine to 1 % of its peak
(Loshchilov and Hutter 2017, arXiv 1608.03983), counted in updates. The optimizer is AdamW; biases
and normalisation parameters are not decayed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from podium.learning import ScheduleConfig

FINAL_SHARE = 0.01  # of the peak, at the last update


def make_schedule(
    peak: float, updates: int, warmup: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate as a function of the update, of which there are `updates`."""
    climbing = min(round(warmup * updates), updates - 1)
    if climbing < 1:
        return keras.optimizers.schedules.CosineDecay(peak, updates, alpha=FINAL_SHARE)
    return keras.optimizers.schedules.CosineDecay(
        0.0,  # a float: Keras fails on an integer here
        updates - climbing,
        alpha=FINAL_SHARE,
        warmup_target=peak,
        warmup_steps=climbing,
    )


@keras.saving.register_keras_serializable("podium")
class StagewiseAdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a learning rate for each variable.

    `shares` gives each variable's share of the learning rate by its path; others have all of it.
    """

    def __init__(self, *args: Any, shares: Mapping[str, float] | None = None, **options: Any):
        super().__init__(*args, **options)
        self.shares = dict(shares or {})

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable at its share of the rate."""
        # TensorFlow hands over its own variable here, which does not know its path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        super().update_step(gradient, variable, learning_rate * self.shares.get(path, 1.0))

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decays each variable at its share too: decoupled decay is measured in the rate."""
        if not self.shares:
            super()._apply_weight_decay(variables)
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                pull = self.weight_decay * self.shares.get(variable.path, 1.0)
                variable.assign(variable - variable * pull * self.learning_rate)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the optimizer."""
        return {**super().get_config(), "shares": self.shares}


def make_optimizer(
    config: ScheduleConfig, peak: float, updates: int, shares: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """AdamW on the schedule above, each variable at its share of the rate."""
    schedule = make_schedule(peak, updates, config.warmup)
    optimizer = StagewiseAdamW(schedule, weight_decay=1e-4, shares=shares)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
