"""Learning: the settings of the model, its training and its answers

One frozen dataclass for each stage, as in config; here are the stages after the pixels.
"""

from dataclasses import dataclass
from typing import Literal

from podium.declare import setting


@dataclass(frozen=True)
class ModelConfig:
    """The backbone: which, from which weights, and what of it trains."""

    backbone: str = setting(
        "keras:EfficientNetV2B0", "a name of the table (make backbones), or hub:folder"
    )
    weights: Literal["pretrained", "pretrained-if-found", "random"] = setting(
        "pretrained", "what the backbone starts from; if-found is for rehearsals"
    )
    frozen_stages: int = setting(
        0,
        "stages that never train, from the first; a stage ends where the resolution halves; "
        "5 is the whole backbone",
        low=0,
        high=5,
    )
    batch_norm: Literal["train", "frozen"] = setting(
        "train", "frozen keeps its statistics, scale and offset as pretrained"
    )
    bn_momentum: float | None = setting(
        None,
        "share of the old statistics kept at each step; none is the network's own",
        low=0.0,
        high=0.9999,
    )
    drop_path: float | None = setting(
        None, "stochastic depth of the last block; none is the network's own", low=0.0, high=0.9
    )


@dataclass(frozen=True)
class HeadConfig:
    """From features to logits."""

    pooling: Literal["avg", "gem"] = setting(
        "avg", "mean over the feature map, or generalised mean with p = 3"
    )
    dropout: float = setting(0.2, "share of features dropped before the head", low=0.0, high=0.9)
    hidden: int = setting(
        0, "width of one more dense layer; 0 is none", unit="features", low=0, high=8192
    )
    activation: Literal["elu", "relu", "gelu", "swish"] = setting("elu", "of that layer")


@dataclass(frozen=True)
class OptimizerConfig:
    """What turns gradients into updates; none is as the backbone's recipe says."""

    name: Literal["auto", "adamw", "adamax", "sgd", "rmsprop", "lion"] = setting(
        "auto", "optimizer; auto is the recipe's (docs/recipes.md), and sgd has momentum 0.9"
    )
    weight_decay: float | None = setting(
        None, "decoupled weight decay; none is the recipe's", low=0.0, high=1.0
    )
    clip: float | None = setting(
        None,
        "largest norm of all gradients of an update; none is the recipe's, 0 is off",
        low=0.0,
        high=1000.0,
    )
    accumulate: int = setting(
        1,
        "parts of a batch that go through the network one by one before the weights move, if it "
        "does not fit whole",
        low=1,
        high=1024,
    )
    ema: float = setting(
        0.0,
        "share of the averaged weights kept at each update, which then validate and predict; 0 is "
        "off, 1 − 10 / updates is usual",
        low=0.0,
        high=0.99999,
    )


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate."""

    name: Literal["cosine", "constant", "plateau", "one-cycle"] = setting(
        "cosine", "how the rate goes after its warm-up; plateau falls when validation stalls"
    )
    head_lr: float | None = setting(
        None,
        "peak learning rate while only the head trains; none is the recipe's",
        low=0.0,
        high=10.0,
    )
    peak_lr: float | None = setting(
        None,
        "peak learning rate while everything trains; none is the recipe's",
        low=0.0,
        high=10.0,
    )
    warmup: float = setting(0.1, "share of the updates that warm up linearly", low=0.0, high=0.9)
    layer_decay: float = setting(
        1.0,
        "learning rate of each stage as a share of the next one's; 1 is the same for all",
        low=0.1,
        high=1.0,
    )
    range_test: bool = setting(
        False, "whether a learning rate range test is drawn before the first fold trains"
    )


@dataclass(frozen=True)
class TrainConfig:
    """The two phases of the fine-tune, and what is saved on the way."""

    head_epochs: int = setting(1, "epochs with the backbone frozen", low=0, high=1000)
    epochs: int = setting(8, "epochs with everything training", low=1, high=1000)
    clean_epochs: int = setting(
        0, "of these, the last ones that see images as the test part does", low=0, high=1000
    )
    first_size: float = setting(
        1.0,
        "side of the squares in the first epochs as a share of image_size, which it reaches at "
        "two thirds of the epochs; 1 is off",
        low=0.25,
        high=1.0,
    )
    label_smoothing: float | None = setting(
        None,
        "share of each target spread over all classes; none is the recipe's",
        low=0.0,
        high=0.9,
    )
    class_weights: Literal["none", "balanced"] = setting(
        "none", "balanced weighs each class by the inverse of its share of the training images"
    )
    checkpoint_minutes: float = setting(
        5.0, "time between two checkpoints", unit="min", low=0.0, high=600.0
    )


@dataclass(frozen=True)
class PredictConfig:
    """The answer to the test part."""

    run: str | None = setting(
        None,
        "folder of an earlier run whose models predict, and nothing is trained; attached finds it "
        "under /kaggle/input",
    )
    recalibrate: Literal["if-better", "no"] = setting(
        "if-better",
        "whether batch norm's statistics are taken anew on clean training images after training, "
        "where validation improves by more than its standard error",
    )
    test_size: Literal["if-better", "no"] = setting(
        "no", "whether larger images answer, where validation improves likewise (FixRes)"
    )
    # Five views of each fold's own part take some 5 % of a default run's time: about one forward
    # pass over the training images, where its epochs and their validations take as long as 22.
    views: str = setting(
        "flip shift-left shift-right shift-up shift-down",
        "ways to see images that are tried on each fold's own part, names apart by spaces: flip, "
        "shift-, crop-, zoom-, turn-…, brighter, darker, grey; used for the test part where the "
        "metric is shown to gain; none is off",
    )
    most_views: int = setting(
        0,
        "views that an image may take at most while it is undecided, tried likewise; 0 is off, 48 "
        "is much, and costs as a third as many named ones",
        low=0,
        high=1000,
    )


@dataclass(frozen=True)
class PseudoConfig:
    """Test images that an earlier run's models are sure of, as training images."""

    run: str | None = setting(
        None,
        "folder of the finished run that labels, attached finds it under /kaggle/input; none is "
        "off, as some competitions forbid labels of the test part made by models or by hand: read "
        "the rules",
    )
    arm: Literal["pseudo", "control"] = setting(
        "pseudo",
        "control trains as many updates without those images, and shows what they add",
    )
    agreement: float = setting(
        0.95, "least share of views that see the same class in a test image", low=0.0, high=1.0
    )
    precision: float = setting(
        0.99,
        "how often, at the lower 95 % bound, a class's answers are right out of fold that are as "
        "confident as a label must be; of a class with fewer than 2.7 / (1 − precision) answers "
        "none is",
        low=0.5,
        high=0.999,
    )
    ratio: float = setting(
        1.0,
        "most labels of test images for each training image of a fold; a class gets at most its "
        "expected share of them, and no more than the test part is expected to hold",
        low=0.01,
        high=100.0,
    )
