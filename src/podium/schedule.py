"""Schedule: how fast the weights move

The learning rate climbs linearly from zero and falls along half a cosine to 1 % of its peak
(Loshchilov and Hutter 2017, arXiv 1608.03983), counted in updates. The optimizer is AdamW; biases
and normalisation parameters are not decayed.
"""

import keras

from podium.config import ScheduleConfig

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


def make_optimizer(config: ScheduleConfig, peak: float, updates: int) -> keras.optimizers.Optimizer:
    """AdamW on the schedule above."""
    schedule = make_schedule(peak, updates, config.warmup)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
