"""Recipe: what learning takes where the settings leave it open

Each family of backbones has the optimizer it is usually fine-tuned with, and each optimizer its
rates, its decay and its clipping; docs/recipes.md names their sources. Rates hold for a batch of
256 images and grow with it: in proportion, or as its root where each weight's step is normalised.
What a user sets is never changed, and an optimizer of their choice comes with its own rates.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

from podium.config import Config

USUAL_BATCH = 256  # images of an update, at which the rates hold
FAR = 10.0  # a rate that is so many times the usual one is worth a word

OptimizerName = Literal["adamw", "adamax", "sgd", "rmsprop", "lion"]


class Recipe(NamedTuple):
    """The rates of one optimizer, for one family of backbones or for any."""

    optimizer: OptimizerName
    family: str  # as in the table of backbones; "any"
    peak_lr: float  # at USUAL_BATCH, as the next one
    head_lr: float
    growth: float  # of the rates, as a power of the batch
    weight_decay: float  # decoupled
    clip: float  # norm of all gradients; 0 is off

    def scale_rates(self, batch: int) -> tuple[float, float]:
        """The rates of the head alone and of everything, for a batch of so many images."""
        growth = (batch / USUAL_BATCH) ** self.growth
        return self.head_lr * growth, self.peak_lr * growth


class Custom(NamedTuple):
    """What a family is usually fine-tuned with."""

    optimizer: OptimizerName
    label_smoothing: float


CUSTOMS: dict[str, Custom] = {
    "tiny": Custom("adamw", 0.0),
    "EfficientNetV2": Custom("rmsprop", 0.1),
    "ConvNeXt": Custom("adamw", 0.1),
    "DenseNet": Custom("sgd", 0.1),
    "ResNetV2": Custom("sgd", 0.1),
    "ResNet": Custom("sgd", 0.1),
    "MobileNet": Custom("sgd", 0.1),
    "Inception": Custom("sgd", 0.1),
    "NASNet": Custom("sgd", 0.1),
    "VGG": Custom("sgd", 0.1),
    "SavedModel": Custom("adamw", 0.1),
}

# The first that fits holds: a family's own before any's.
RECIPES: tuple[Recipe, ...] = (
    Recipe("adamw", "tiny", 3e-4, 1e-3, 0.0, 1e-4, 0.0),
    Recipe("adamw", "ConvNeXt", 3.5e-5, 3.5e-4, 0.5, 0.05, 0.0),
    Recipe("sgd", "VGG", 1e-3, 1e-2, 1.0, 1e-3, 1.0),
    Recipe("adamw", "any", 1e-4, 1e-3, 0.5, 1e-3, 1.0),
    Recipe("adamax", "any", 2e-3, 2e-3, 0.5, 1e-3, 0.0),
    Recipe("sgd", "any", 1e-2, 1e-1, 1.0, 1e-3, 1.0),
    Recipe("rmsprop", "any", 5e-4, 5e-3, 1.0, 0.0, 0.0),
    Recipe("lion", "any", 1e-5, 1e-4, 0.5, 1e-2, 1.0),
)


def find_recipe(optimizer: str, family: str) -> Recipe:
    """The recipe of an optimizer for a family; "auto" is the family's usual one."""
    name = CUSTOMS[family].optimizer if optimizer == "auto" else optimizer
    fitting = (row for row in RECIPES if row.optimizer == name and row.family in (family, "any"))
    return next(fitting)


def settle_recipe(config: Config, family: str, metric: str, *, exclusive: bool = True) -> Config:
    """The config with everything said that it leaves to the recipe of the backbone's family.

    Targets stay whole where log loss judges, which smoothing would cost, and where an image may
    have several classes, as all those it has not would be smoothed too.
    """
    recipe = find_recipe(config.optimizer.name, family)
    head_lr, peak_lr = recipe.scale_rates(config.pixels.batch_size)
    whole = metric == "log_loss" or not exclusive
    smoothing = 0.0 if whole else CUSTOMS[family].label_smoothing
    optimizer, schedule, train = config.optimizer, config.schedule, config.train
    return replace(
        config,
        optimizer=replace(
            optimizer,
            name=recipe.optimizer,
            weight_decay=choose(optimizer.weight_decay, recipe.weight_decay),
            clip=choose(optimizer.clip, recipe.clip),
        ),
        schedule=replace(
            schedule,
            head_lr=choose(schedule.head_lr, head_lr),
            peak_lr=choose(schedule.peak_lr, peak_lr),
        ),
        train=replace(train, label_smoothing=choose(train.label_smoothing, smoothing)),
    )


def choose(given: float | None, usual: float) -> float:
    """What is set, if it is, which 0 is too."""
    return usual if given is None else given


def describe_recipe(config: Config, family: str) -> str:
    """Says in words what a settled config trains with, and which rate is far from the usual one."""
    optimizer, schedule, smoothing = config.optimizer, config.schedule, config.train.label_smoothing
    rates = (schedule.head_lr or 0.0, schedule.peak_lr or 0.0)
    parts = [
        f"{optimizer.name}",
        f"learning rate {rates[0]:.2g} for the head, {rates[1]:.2g} for all ({schedule.name})",
        f"weight decay {optimizer.weight_decay:g}",
    ]
    if optimizer.clip:
        parts.append(f"gradients clipped at {optimizer.clip:g}")
    if optimizer.ema:
        parts.append(f"weights averaged by {optimizer.ema:g}")
    if smoothing:
        parts.append(f"labels smoothed by {smoothing:g}")
    usual = find_recipe(optimizer.name, family).scale_rates(config.pixels.batch_size)
    for name, given, common in zip(("head_lr", "peak_lr"), rates, usual, strict=True):
        if not common / FAR <= given <= common * FAR:
            parts.append(f"schedule.{name} is far from the usual {common:.2g} of {optimizer.name}")
    return "; ".join(parts)
