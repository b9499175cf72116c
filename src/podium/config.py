"""Configuration: every setting, its default and its limit

One frozen dataclass for each stage; a stage receives its own section and nothing else.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")


def setting(
    default: Value,
    meaning: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Value:
    """Declares one setting: its default, meaning, unit and inclusive limits (those of its unit)."""
    limits = {"meaning": meaning, "unit": unit, "low": low, "high": high}
    declared: Any = field(default=default, metadata=limits)
    return declared  # type: ignore[no-any-return]


@dataclass(frozen=True)
class RuntimeConfig:
    """The machine: which devices and backend, where the run is kept, how long it may last."""

    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = setting(
        "auto", "what the run must find; auto takes the best there is"
    )
    backend: Literal["auto", "tensorflow", "jax"] = setting(
        "auto",
        "Keras backend; auto is jax on a TPU or GPU, tensorflow on a CPU; tensorflow uses one GPU",
    )
    devices: int | None = setting(
        None,
        "devices the run must find; on a CPU under jax, that many virtual ones",
        low=1,
        high=64,
    )
    folder: str | None = setting(
        None, "run folder; none is /kaggle/working, or runs/<date and time> at home"
    )
    session_hours: float | None = setting(
        None, "session limit; none is 9 on a TPU and 12 elsewhere", unit="h", low=0.05, high=24
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "auto",
        "what the backbone computes in; auto is mixed_bfloat16 on a TPU and on GPUs since Ampere, "
        "mixed_float16 on T4 and V100, float32 on a CPU and on still older GPUs",
    )
    seed: int = setting(
        0, "seed of folds, data order, weights and augmentation", low=0, high=999_999
    )


@dataclass(frozen=True)
class DataConfig:
    """The competition's files, and what they mean where detection needs help."""

    folder: str | None = setting(
        None, "the competition's files; none is the one competition under /kaggle/input"
    )
    sample_submission: str | None = setting(
        None, "the sample submission; none finds sample*submission*.csv"
    )
    id_column: str | None = setting(None, "image id in the train table; none detects it")
    label_column: str | None = setting(None, "label in the train table; none detects it")
    group_column: str | None = setting(
        "auto",
        "train column whose equal values stay in one fold; auto finds one that is called like a "
        "patient, subject, location, sequence or site, none is off",
    )
    # fmt: off
    metric: Literal[
        "auto", "accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "samples_f1",
        "log_loss", "auc", "qwk", "map", "pf1",
    ] = setting(
        "auto",
        "what the competition is judged by, which its files cannot tell; auto is what is usual for "
        "such answers",
    )
    # fmt: on
    answer: Literal["auto", "label", "labels", "probability", "probabilities", "ranking"] = setting(
        "auto",
        "what the submission's cells hold: a class, several, the probability of one class, of "
        "each, or the likeliest from the first; auto asks the sample submission",
    )
    positive_class: str | None = setting(
        None, "class whose probability is asked, if it is one; none is the last in natural order"
    )
    solution: str | None = setting(
        None, "true labels of the test part, for rehearsals, also in the submission's form"
    )
    holdout: float = setting(
        0.0,
        "share of labelled images held back as the test part if there is no sample submission",
        low=0.0,
        high=0.5,
    )
    limit: int | None = setting(
        None, "labelled images used, drawn class by class; none is all", unit="images", low=10
    )
    test_limit: int | None = setting(
        None, "test images predicted, the rest get the prior; none is all", unit="images", low=1
    )


@dataclass(frozen=True)
class FoldsConfig:
    """Cross-validation."""

    count: int = setting(5, "parts of the training images, each validated once", low=2, high=20)
    near_duplicates: Literal["together", "ignore"] = setting(
        "together", "whether images that are nearly the same stay in one fold"
    )
    file: str | None = setting(
        None, "folds.csv of an earlier run, or its folder, whose images keep their folds"
    )


@dataclass(frozen=True)
class PixelsConfig:
    """From image files to batches."""

    image_size: int = setting(
        224, "side of the square the network sees", unit="px", low=16, high=1024
    )
    batch_size: int = setting(
        32, "images in one batch, over all devices", unit="images", low=1, high=8192
    )
    cache: Literal["auto", "memory", "disk", "none"] = setting(
        "auto",
        "where decoded images are kept; auto is memory, or else disk, if cache_share allows it; "
        "none decodes them for each batch",
    )
    cache_share: float = setting(
        0.5, "share of free memory, or free disk, that auto may take", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class AugmentConfig:
    """What training images go through: cut and mirrored on the device, the rest on the host."""

    policy: str = setting(
        "flip-crop",
        "none, flip-crop, light, colour, randaugment, mixup, cutmix, albumentations:NAME (NAME is "
        "shift-scale-rotate, coarse-dropout, blur-noise, grid-distort or hard), or "
        "module:function of your own, which returns an albumentations Compose",
    )
    margin: float = setting(
        0.125, "what a crop may cut off, as a share of image_size", low=0.0, high=0.5
    )
    flip: Literal["auto", "yes", "no"] = setting(
        "auto",
        "mirrors half of the images left and right; auto is as the policy says, but no where each "
        "class is a character (digits, text)",
    )
    workers: int | None = setting(
        None, "processes that run a Compose; none is one for each core", low=1, high=256
    )


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
class ScheduleConfig:
    """The learning rate and the optimizer (AdamW)."""

    head_lr: float = setting(
        1e-3, "peak learning rate while only the head trains", low=0.0, high=1.0
    )
    peak_lr: float = setting(3e-4, "peak learning rate while everything trains", low=0.0, high=1.0)
    warmup: float = setting(0.1, "share of the updates that warm up linearly", low=0.0, high=0.9)
    weight_decay: float = setting(1e-4, "decoupled weight decay", low=0.0, high=1.0)
    layer_decay: float = setting(
        1.0,
        "learning rate of each stage as a share of the next one's; 1 is the same for all",
        low=0.1,
        high=1.0,
    )


@dataclass(frozen=True)
class TrainConfig:
    """The two phases of the fine-tune."""

    head_epochs: int = setting(1, "epochs with the backbone frozen", low=0, high=1000)
    epochs: int = setting(8, "epochs with everything training", low=1, high=1000)


@dataclass(frozen=True)
class PredictConfig:
    """The answer to the test part."""

    run: str | None = setting(
        None,
        "folder of an earlier run whose models predict, and nothing is trained; attached finds it "
        "under /kaggle/input",
    )


@dataclass(frozen=True)
class Config:
    """All settings of one run."""

    runtime: RuntimeConfig = RuntimeConfig()
    data: DataConfig = DataConfig()
    folds: FoldsConfig = FoldsConfig()
    pixels: PixelsConfig = PixelsConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    head: HeadConfig = HeadConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()


# A preset names a use of the toolkit; a competitor's own numbers belong in SETTINGS.
PRESETS: dict[str, dict[str, object]] = {
    # Every stage once, on any competition, in minutes on a laptop: it rehearses, it does not learn.
    "dry-run": {
        "data.holdout": 0.2,
        "data.limit": 300,
        "data.test_limit": 600,
        "folds.count": 2,
        "pixels.image_size": 64,
        "model.backbone": "tiny",
        "model.weights": "pretrained-if-found",
        "train.epochs": 2,
    },
    # 2×T4: half the default batch on each, at the default backbone's own resolution.
    "gpu": {"runtime.accelerator": "gpu", "pixels.batch_size": 64},
    # TPU v5e-8: eight cores, 32 images on each.
    "tpu": {"runtime.accelerator": "tpu", "runtime.devices": 8, "pixels.batch_size": 256},
}
