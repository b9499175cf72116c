"""Configuration: every setting, its default and its limit

One frozen dataclass for each stage; a stage receives its own section and nothing else.
"""

from dataclasses import dataclass
from typing import Literal

from podium.declare import setting
from podium.learning import (
    HeadConfig,
    ModelConfig,
    OptimizerConfig,
    PredictConfig,
    PseudoConfig,
    ScheduleConfig,
    TrainConfig,
)


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
    hosts: str | None = setting(
        None,
        "addresses of the machines that train together under jax, apart by commas, the first with "
        "a port; none is this one alone; devices and batch_size are those of all",
    )
    host: int = setting(
        0, "place of this machine among hosts; 0, the first, writes the run", low=0, high=63
    )
    folder: str | None = setting(
        None, "run folder; none is /kaggle/working, or runs/<date and time> at home"
    )
    session_hours: float | None = setting(
        None, "session limit; none is 9 on a TPU and 12 elsewhere", unit="h", low=0.005, high=24
    )
    reserve_minutes: float | None = setting(
        None,
        "kept free before the session's limit; none is a twentieth of the session",
        unit="min",
        low=0.0,
        high=600.0,
    )
    resume: str = setting(
        "auto",
        "auto goes on with an unfinished run in the run folder, or attached under /kaggle/input; "
        "no starts anew; or the folder of a run to go on with",
    )
    failure_exit: Literal["auto", "zero", "one"] = setting(
        "auto",
        "exit code of a run that failed; auto is zero on Kaggle, which may drop the output of "
        "others, and one elsewhere",
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
    colour: Literal["keep", "grey"] = setting(
        "keep", "grey shows the backbone the luma alone, in training and in the saved model"
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
class Config:
    """All settings of one run."""

    runtime: RuntimeConfig = RuntimeConfig()
    data: DataConfig = DataConfig()
    folds: FoldsConfig = FoldsConfig()
    pixels: PixelsConfig = PixelsConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    head: HeadConfig = HeadConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    pseudo: PseudoConfig = PseudoConfig()


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
