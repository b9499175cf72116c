"""Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → pixels → folds → augment → backbones → model → train → predict → submit → report

     136  Settings: the block to edit on Kaggle
     216  Declare: how a setting is written down
     237  Learning: the settings of the model, its training and its answers
     449  Configuration: every setting, its default and its limit
     662  Knobs: the settings one by one, as help, override and report show them
     732  Overrides: from defaults to the settings of this run
     888  Devices: what the backend found, held against what was asked for
     989  Hosts: several machines that train one network
    1182  Runtime: the machine, and the Keras backend that suits it
    1374  Libraries
    1398  Storage: a file is there whole, or as it was before
    1437  Attempts: an answer within a time limit, or none
    1473  Events: what the run says, to the reader of the log and to programs
    1618  Predictions: class probabilities, keyed by image id
    1679  Task: what is asked of each image
    1734  Tallies: what each image adds to a metric
    1912  Metrics: how good the answers are, and how sure that figure is
    2090  Evidence: whether answers are better than others, or only luckier
    2281  Cuts: where one grade ends and the next begins, for quadratic weighted kappa
    2366  Rules: how probabilities become answers
    2529  Decide: which answers are submitted, and whether a fitted rule earns its place
    2598  Questions: what a run was asked to show, and what the evidence said
    2689  Members: probabilities of several models, or of several views, on the same images
    2746  Greedy: weights by steps that each add the member that helps the metric most
    2857  Blends: what several models, or several views of an image, answer together
    3028  Ensemble: which blend of members is used, and whether any earns the place of the plain one
    3229  Inputs: where the competition's files are
    3436  Tables: which one is about training images, and what its columns are
    3659  Annotations: the JSON of COCO as a table
    3710  Labels: what each training image shows
    3890  Archives: images that lie in zips or TFRecords alone
    4025  Sample: the ids that are asked for, and their images
    4104  Classes: their names and their order
    4186  Asked: what the sample submission wants to know of each image
    4367  Solution: what the test images show, where that is known
    4415  Draws: a part of the images for rehearsals, and a test part where there is none
    4464  Competition: from its files to one image table
    4639  Decode: one image file to an upright square of uint8
    4810  Cache: where decoded squares are kept
    5022  Pixels: from image files to squares of uint8
    5154  Duplicates: images that are nearly the same
    5390  Folds: every training image is validated once, by a model that never saw it
    5605  Tells: how well the values of a column alone tell the labels of images
    5682  Leaks: what would make a score look better than the network is
    5902  Split: training images to folds, near-duplicates together, and what may leak across
    5966  Composes: chains of albumentations' transforms, by name or of the user's own
    6188  Policies: what training images go through, by name
    6264  Augmentation: what the device does to training images
    6327  Workers: processes that run a Compose
    6451  Crew: the workers of one fold, on all cores
    6625  Mixing: two images and their targets in one
    6698  Sharing: one batch over all devices, of all hosts
    6750  Batches: from stored squares to what a training step takes
    6953  Pace: whether the device waits for its images, or they for the device
    6992  Handles: where pretrained weights lie
    7095  Backbones: the table of networks that turn pixels into features
    7234  Normalisation: from pixels of 0 to 255 to what a backbone expects
    7276  Hub module: a SavedModel as a Keras layer, where its weights cannot be ported
    7343  Port: a Hub module's weights on Keras's own EfficientNetV2
    7569  Network: the backbone built, as its row of the table says
    7646  Weights: what the backbone starts from
    7827  Freezing: which variables train, and how fast
    7960  Model: augment, normalise, backbone, head
    8057  Prediction: from a trained model to class probabilities
    8108  Views: the same images, seen another way
    8244  Adaptive: more views only for images that are still undecided
    8330  Marks: how well a model answers images whose labels are known
    8354  Recipe: what learning takes where the settings leave it open
    8481  Schedule: how fast the weights move
    8575  Optimizers: gradients to updates, at rates that are known beforehand
    8713  Objective: what training minimises, and what it is told to show
    8788  Checkpoint: all that a fold has learned so far, in one file
    9001  Range test: which learning rates a network bears
    9116  Pseudo-labels: test images of which a model is sure, as training images
    9309  Fold data: what one fold trains on, and what validates it
    9414  Recalibrate: batch norm's statistics, taken anew
    9624  Truth: why a network answers new images worse than those it learned
    9808  FixRes: larger images answer than were learned
    9874  Conclusion: how well a fold's network knows what it learned, and with what it answers
    9943  Budget: what still fits before the deadline
   10184  Stretch: some updates in one go, watched
   10271  Planner: what the run's parts cost, and how far each fold may go
   10402  Epochs: how far a fold has got, and what comes next
   10542  Diary: one row of figures for each epoch of a fold, as it goes
   10659  Keeper: checkpoints of a fold, by the clock, and its model at the end
   10729  Setbacks: what a fold does after too little memory, and after a loss that is no number
   10775  Trainee: the network of a fold, built, frozen and compiled as its next epoch needs it
   10860  Training: one fold, in two phases, and through what may come between
   11151  Looks: what a fold's model says of the same images, seen in several ways
   11342  Inference: the models of an earlier run answer a competition's test part
   11490  Pupil: what a run that learns from pseudo-labels keeps of them, and says
   11615  Teacher: a finished run of the same images and folds labels test images
   11749  Validation: what Kaggle would refuse is refused before, and what looks wrong is said
   11890  Submission: answers laid out as the sample is
   11952  Card: the run at a glance, as a phone shows it
   12185  Post: one request to a webhook, within a hard limit
   12340  Signing: who may speak, and what may be obeyed
   12364  Commands: what whoever watches may ask of a run
   12437  Sinks: who is told of the run, and in which words
   12632  Chat: the card on Discord, Slack, Telegram and ntfy, within their limits
   12872  Relay: events through an ntfy topic, sealed
   13045  Delivery: from the record to a sink, at least once
   13266  Pulse: a sign of life each minute, from a thread of its own
   13306  Address: which sink an address stands for
   13440  Webhook: finds where the run is to be told, and tells it there
   13601  Histories: what each fold wrote down of its epochs
   13685  Curves: one picture of all folds so far, for a phone
   13734  Summary: the run in figures
   13909  Results: what a run leaves in its folder, and what it must not leave of another
   14038  Resume: a run that was cut off goes on where it was
   14263  Record: what a run folder holds, as far as the run has got
   14349  Test-time augmentation: whether several views of an image answer better than one
   14581  Adoption: several views of the test part, where they are shown to help
   14792  Page: the pieces that the report is made of
   14943  Panels: how each fold learned, drawn one below the other
   15120  Proofs: the evidence page, one block a question
   15295  Findings: what a run mixes up, and the images it got most wrong
   15389  Mistakes: which classes a run mixes up, and the images it got most wrong
   15462  Report: one page that shows the run
   15654  Cross-validation: fold by fold, each trained on the others
   15830  The run: the stages in order

Sources: sha256 d307f7eaf2713d911166cce84cc612103ac29a68d02adc537354f07914240a2d
"""

# ==================================================================================================
# Settings: the block to edit on Kaggle
# ==================================================================================================
# Name a setting, give it a value; whatever is not named keeps its default. `--help` lists every
# setting with its default, unit and limit. A command line wins over this block. This is a Kaggle
# script, not a notebook: from a notebook, save it as podium.py and run `!python podium.py`.
# Example: {"model.backbone": "keras:EfficientNetV2S", "pixels.image_size": 300, "train.epochs": 12}

SETTINGS: dict[str, object] = {}

# The build puts the sha256 of the sources here
SOURCE = "d307f7eaf2713d911166cce84cc612103ac29a68d02adc537354f07914240a2d"


import atexit
import base64
import contextlib
import csv
import difflib
import email.utils
import hashlib
import hmac
import html
import importlib.metadata
import importlib.util
import io
import ipaddress
import itertools
import json
import logging
import math
import multiprocessing
import os
import platform
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import weakref
import zipfile
import zlib
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import Field, asdict, dataclass, field, fields, is_dataclass, replace
from functools import partial, reduce
from heapq import heapify, heappop, heappush
from itertools import chain, groupby, islice, pairwise, takewhile
from multiprocessing.connection import Connection, wait
from operator import itemgetter
from pathlib import Path, PurePosixPath
from statistics import median
from types import ModuleType
from typing import (
    Any,
    BinaryIO,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit

# ==================================================================================================
# Declare: how a setting is written down
# ==================================================================================================

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


# ==================================================================================================
# Learning: the settings of the model, its training and its answers
# ==================================================================================================
# One frozen dataclass for each stage, as in config; here are the stages after the pixels.


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


# ==================================================================================================
# Configuration: every setting, its default and its limit
# ==================================================================================================
# One frozen dataclass for each stage; a stage receives its own section and nothing else.


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


# ==================================================================================================
# Knobs: the settings one by one, as help, override and report show them
# ==================================================================================================


class Knob(NamedTuple):
    """One setting as `--help` and docs/settings.md show it."""

    name: str  # dotted: "train.epochs"
    hint: Any  # its type
    default: object
    meaning: str
    unit: str
    low: float | None
    high: float | None

    @property
    def limit(self) -> str:
        """What values it takes, in words: "2 to 20", "cpu, gpu or tpu", "text"."""
        kind, optional = unwrap_optional(self.hint)
        if get_origin(kind) is Literal:
            text = ", ".join(get_args(kind))
        elif kind is str:
            text = "text"
        elif self.high is None and self.low is None:
            text = "yes or no" if kind is bool else "any number"
        elif self.high is None:
            text = f"{self.low:g} or more"
        elif self.low is None:
            text = f"up to {self.high:g}"
        else:
            text = f"{self.low:g} to {self.high:g}"
        return f"{text}, or none" if optional else text


def list_knobs() -> Iterator[Knob]:
    """Yields every setting, stage by stage, in the order of the stages."""
    for section in fields(Config):
        for declared in fields(section_class(section)):
            yield Knob(
                f"{section.name}.{declared.name}",
                declared.type,
                declared.default,
                **declared.metadata,
            )


def section_class(section: Field[Any]) -> Any:
    """The dataclass of one section of Config."""
    if not is_dataclass(section.type):
        raise TypeError(f"Config.{section.name} is not a section")
    return section.type


def unwrap_optional(hint: Any) -> tuple[Any, bool]:
    """Splits `int | None` into (int, True); any other type T gives (T, False)."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None)), True
    return hint, False


def list_settings(config: Config) -> dict[str, object]:
    """Every setting and its value, by dotted name."""
    named = {}
    for knob in list_knobs():
        section, leaf = knob.name.split(".")
        named[knob.name] = getattr(getattr(config, section), leaf)
    return named


# ==================================================================================================
# Overrides: from defaults to the settings of this run
# ==================================================================================================
# Three sources, later wins: defaults, the SETTINGS block above, the command line. A preset is a
# bundle of settings that its source applies first. All mistakes are reported together and before
# Keras loads, because a round trip to Kaggle costs minutes.

SWITCH = {"yes": True, "true": True, "no": False, "false": False}


class SettingsError(ValueError):
    """Settings that cannot be used; the message has one line for each mistake."""


def convert_value(knob: Knob, value: object) -> object:
    """Turns one given value, text from a command line or an object from SETTINGS, into its type.

    Raises SettingsError naming the setting, its limit and the value.
    """
    kind, optional = unwrap_optional(knob.hint)
    if optional and (value is None or str(value).lower() == "none"):
        return None
    refusal = SettingsError(f"{knob.name} must be {knob.limit}{unit_text(knob)}, not {value!r}")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise refusal
        return value
    if kind is bool:
        if str(value).lower() not in SWITCH:
            raise refusal
        return SWITCH[str(value).lower()]
    if kind is str:
        if not isinstance(value, str) or not value:
            raise refusal
        return value
    return convert_number(kind, knob, value, refusal)


def convert_number(kind: Any, knob: Knob, value: object, refusal: SettingsError) -> int | float:
    """Turns a value into an int or float within the knob's limits, or raises the refusal."""
    if isinstance(value, bool):  # True is an int to Python, but nobody means 1 by it
        raise refusal
    try:
        number = float(value) if kind is float else int(str(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise refusal from None
    low = -math.inf if knob.low is None else knob.low
    high = math.inf if knob.high is None else knob.high
    if not (low <= number <= high) or math.isinf(number):
        raise refusal
    return number


def unit_text(knob: Knob) -> str:
    """The unit in brackets, where there is one."""
    return f" ({knob.unit})" if knob.unit else ""


def override(config: Config, given: Mapping[str, object]) -> Config:
    """Returns the config with the given dotted settings replaced.

    Raises SettingsError listing every unknown name and every value out of its limits.
    """
    knobs = {knob.name: knob for knob in list_knobs()}
    mistakes, changes = [], dict[str, dict[str, Any]]()
    for name, value in given.items():
        if name not in knobs:
            mistakes.append(f"unknown setting {name!r}{suggest(name, knobs)}")
            continue
        try:
            section, leaf = name.split(".")
            changes.setdefault(section, {})[leaf] = convert_value(knobs[name], value)
        except SettingsError as mistake:
            mistakes.append(str(mistake))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    sections = {name: replace(getattr(config, name), **new) for name, new in changes.items()}
    return replace(config, **sections)


def suggest(name: str, known: Mapping[str, object]) -> str:
    """Says which known name was probably meant."""
    leaf_match = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    close = difflib.get_close_matches(name, known, n=1) or leaf_match
    return f"; did you mean {close[0]!r}?" if close else "; --help lists them all"


def expand_preset(given: Mapping[str, object]) -> dict[str, object]:
    """Replaces the entry "preset" by the settings it stands for; the other entries win over it."""
    chosen = dict(given)
    name = chosen.pop("preset", None)
    if name is None:
        return chosen
    if name not in PRESETS:
        raise SettingsError(f"preset must be {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[str(name)] | chosen


def parse_command_line(argv: Sequence[str]) -> dict[str, object]:
    """Reads `--name value` and `--name=value` into a dict; raises SettingsError for the rest."""
    given, mistakes, words = dict[str, object](), [], list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            mistakes.append(f"{word!r} is not a setting; write --name value")
        elif equals:
            given[name] = value
        elif words and not words[0].startswith("--"):
            given[name] = words.pop(0)
        else:
            mistakes.append(f"--{name} has no value; write --{name} value")
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return given


def read_config(argv: Sequence[str], settings: Mapping[str, object] = SETTINGS) -> Config:
    """Resolves defaults, SETTINGS and command line into one Config.

    Raises SettingsError with every mistake of all sources, one line each.
    """
    config, mistakes = Config(), []
    for source, read in (("SETTINGS", lambda: settings), ("", lambda: parse_command_line(argv))):
        try:
            config = override(config, expand_preset(read()))
        except SettingsError as error:
            prefix = f"{source}: " if source else ""
            mistakes += [prefix + line for line in str(error).splitlines()]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return config


def format_help() -> str:
    """The text of `--help`: usage, presets, then every setting grouped by stage."""
    lines = [
        "Trains an image classifier on a Kaggle competition and writes submission.csv.",
        "",
        "usage: python podium.py [--preset NAME] [--stage.setting VALUE …]",
        "   eg: python podium.py --preset dry-run --data.folder my-competition",
        "",
        f"presets: {', '.join(PRESETS)}",
    ]
    stages = {section.name: section_class(section).__doc__ for section in fields(Config)}
    stage = ""
    for knob in list_knobs():
        if not knob.name.startswith(f"{stage}.") or not stage:
            stage = knob.name.partition(".")[0]
            lines += ["", f"{stage}: {stages[stage]}"]
        default = "none" if knob.default is None else f"{knob.default}"
        lines.append(f"  --{knob.name:<24} {default:<22}  {knob.limit}{unit_text(knob)}")
        lines.append(f"  {'':<26} {knob.meaning}")
    return "\n".join(lines)


# ==================================================================================================
# Devices: what the backend found, held against what was asked for
# ==================================================================================================


class DeviceError(RuntimeError):
    """The devices found are not the devices asked for."""


class Devices(NamedTuple):
    """What the backend found: kind, names, and of NVIDIA GPUs the lowest compute capability."""

    kind: str  # "cpu", "gpu" or "tpu"
    names: tuple[str, ...]
    capability: float = 0.0  # 7.5 is a T4, 8.0 and more Ampere and later


def list_devices(backend: str) -> Devices:
    """Opens the backend's devices. The other library is kept off the accelerator.

    TensorFlow takes the first GPU alone: Keras shares a batch over several on JAX only.
    """
    import tensorflow as tf

    if backend == "jax":
        import jax

        tf.config.set_visible_devices([], "GPU")
        devices = jax.devices()
        kind = {"cuda": "gpu", "rocm": "gpu"}.get(devices[0].platform, devices[0].platform)
        lowest = min(float(getattr(one, "compute_capability", 0)) for one in devices)
        return Devices(kind, tuple(str(one) for one in devices), lowest)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return Devices("cpu", ("CPU:0",))
    tf.config.set_visible_devices(gpus[:1], "GPU")
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = float("{}.{}".format(*details.get("compute_capability", (0, 0))))
    return Devices("gpu", (gpus[0].name,), capability)


def choose_precision(config: RuntimeConfig, devices: Devices) -> str:
    """Returns the precision asked for, else the fastest that the devices have units for.

    bfloat16 has float32's range and needs no loss scaling; GPUs before Ampere have float16 alone,
    under which Keras scales the loss by itself.
    """
    if config.precision != "auto":
        return config.precision
    if devices.kind == "tpu" or (devices.kind == "gpu" and devices.capability >= 8):
        return "mixed_bfloat16"
    return "mixed_float16" if devices.kind == "gpu" and devices.capability >= 7 else "float32"


def check_devices(
    config: RuntimeConfig, backend: str, kind: str, devices: Sequence[str], present: str
) -> None:
    """Raises DeviceError unless backend, kind and number of devices are those asked for.

    `present` is what the machine's device files say there is: a library that cannot use it falls
    back to the CPU without a word, and hours later there is nothing.
    """
    if config.backend not in ("auto", backend):
        raise DeviceError(
            f"runtime.backend is {config.backend}, but Keras was already loaded with {backend}; "
            f"set KERAS_BACKEND={config.backend} before Python starts"
        )
    if config.accelerator not in ("auto", kind):
        raise DeviceError(
            f"runtime.accelerator is {config.accelerator}, but {backend} found {kind} "
            f"({', '.join(devices)}); choose the accelerator in the session's settings, "
            f"or set runtime.accelerator to auto"
        )
    if config.accelerator == "auto" and kind != present:
        raise DeviceError(
            f"this machine has a {present}, but {backend} found {kind} ({', '.join(devices)}); "
            f"see that its driver and {backend} fit, or set runtime.accelerator to {kind}"
        )
    if config.devices not in (None, len(devices)):
        raise DeviceError(
            f"runtime.devices is {config.devices}, but {backend} found {len(devices)} "
            f"({', '.join(devices)}); set it to {len(devices)} or none"
        )


def check_batch(batch_size: int, devices: int, parts: int = 1) -> None:
    """Raises DeviceError unless the global batch divides evenly over parts and devices."""
    if parts > 1 and batch_size % (parts * devices):
        raise DeviceError(
            f"optimizer.accumulate is {parts}, but pixels.batch_size {batch_size} cannot be cut "
            f"into so many parts for {devices} device{'s' * (devices > 1)}; use a multiple of "
            f"{parts * devices}"
        )
    if batch_size % devices:
        below = batch_size // devices * devices
        fit = f"{below} or {below + devices}" if below else f"{devices}"
        raise DeviceError(
            f"pixels.batch_size is {batch_size}, which {devices} devices do not divide; use {fit}"
        )


# ==================================================================================================
# Hosts: several machines that train one network
# ==================================================================================================
# Each runs this script with the same settings and a number of its own (runtime.host). All draw the
# same order, feed their part of every batch, and get the whole batch's loss and answers, and so
# decide the same; where a clock decides, the first is asked. The first writes the run folder; the
# others work in a copy of it, which is thrown away.

JOIN_SECONDS = 300.0  # in which all must be there
GO = b"go"


def list_hosts(config: RuntimeConfig) -> list[str]:
    """The addresses of all hosts; none where this machine trains alone."""
    return [one.strip() for one in (config.hosts or "").split(",") if one.strip()]


def check_hosts(config: RuntimeConfig, backend: str) -> None:
    """Raises DeviceError unless the settings name hosts, and this one of them, that can join."""
    hosts = list_hosts(config)
    if config.host >= max(len(hosts), 1):
        raise DeviceError(
            f"runtime.host is {config.host}, but runtime.hosts names {len(hosts) or 'no'} "
            f"machines, which are numbered from 0; correct one of them"
        )
    if len(hosts) > 1 and backend != "jax":
        raise DeviceError(
            f"runtime.hosts names {len(hosts)} machines, but {backend} trains on one; "
            f"set runtime.backend to jax"
        )
    if len(hosts) > 1 and not hosts[0].rpartition(":")[2].isdigit():
        raise DeviceError(
            f"runtime.hosts begins with {hosts[0]}, which names no port where the others reach "
            f"the first; write {hosts[0]}:18765"
        )


def join_hosts(config: RuntimeConfig, backend: str, seconds: float = JOIN_SECONDS) -> None:
    """Joins the other hosts, if there are any; must come before a device is opened.

    Raises DeviceError if the settings cannot be meant or not all hosts are there in time.
    """
    check_hosts(config, backend)
    hosts = list_hosts(config)
    if len(hosts) < 2:
        return
    if config.host:
        call_first_host(hosts[0], config.host, seconds)
    else:
        await_hosts(hosts, seconds)
    import jax
    import keras

    keras.utils.set_random_seed(config.seed)  # else Keras would have the hosts agree on one
    keras.distribution.initialize(",".join(hosts), len(hosts), config.host)
    if jax.device_count() != len(hosts) * jax.local_device_count():
        raise DeviceError(
            f"runtime.hosts names {len(hosts)} machines, which have {jax.device_count()} devices "
            f"together, {jax.local_device_count()} of them here; each must have as many"
        )


def await_hosts(hosts: list[str], seconds: float) -> None:
    """Waits, as the first host, until each of the others has called, and bids them go on.

    JAX waits as well, but where a host is missing it ends the process without an exception.
    """
    end, port = time.monotonic() + seconds, int(hosts[0].rpartition(":")[2])
    missing = set(range(1, len(hosts)))
    with ExitStack() as lines:
        try:
            server = lines.enter_context(socket.create_server(("", port)))
        except OSError as error:
            raise DeviceError(
                f"port {port}, which runtime.hosts names first, cannot be opened here "
                f"({error.strerror}); name another"
            ) from error
        callers = []
        while missing:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                caller = lines.enter_context(server.accept()[0])
                caller.settimeout(1.0)
                missing.discard(int(caller.recv(8) or b"0"))
                callers.append(caller)
            except (OSError, ValueError):  # in time, or a caller that is no host
                if time.monotonic() >= end:
                    raise DeviceError(describe_missing(hosts, missing, seconds)) from None
        for caller in callers:
            caller.sendall(GO)


def describe_missing(hosts: list[str], missing: set[int], seconds: float) -> str:
    """Names the hosts that did not come, and what to do."""
    names = ", ".join(f"{number} ({hosts[number]})" for number in sorted(missing))
    return (
        f"of the {len(hosts)} machines in runtime.hosts, {names} did not come within "
        f"{seconds:.0f} s; start this script on each, with its number as runtime.host"
    )


def call_first_host(address: str, number: int, seconds: float) -> None:
    """Calls the first host until it answers, and waits until it has heard from all."""
    end, reply, (name, _, port) = time.monotonic() + seconds, b"", address.rpartition(":")
    while not reply and time.monotonic() < end:
        try:
            with socket.create_connection((name.strip("[]"), int(port)), timeout=5.0) as line:
                line.sendall(str(number).encode())
                line.settimeout(max(end - time.monotonic(), 0.01))
                reply = line.recv(8)
        except OSError:
            pass
        if not reply:
            time.sleep(min(1.0, max(end - time.monotonic(), 0.0)))
    if reply != GO:
        raise DeviceError(
            f"the first of runtime.hosts, {address}, did not answer within {seconds:.0f} s; see "
            f"that the script runs there with runtime.host 0, and that its port can be reached"
        )


def count_hosts() -> int:
    """How many hosts have joined, this one among them; opens JAX's devices."""
    import keras

    if keras.backend.backend() != "jax":
        return 1
    import jax

    return int(jax.process_count())


def is_first_host(backend: str) -> bool:
    """Of several hosts that train together, is this the one that reports?"""
    if backend != "jax":
        return True
    import jax

    return int(jax.process_index()) == 0


def ask_first_host(value: float) -> float:
    """Gives the first host's value, in single precision, to all; they must all ask.

    Whatever is decided by a clock, or by a folder that the first alone writes, needs it: were one
    host to train on where another stops, both would wait for ever.
    """
    if count_hosts() == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def copy_run_folder(config: RuntimeConfig) -> Path:
    """Where a host that is not the first works: a copy of the run folder, with what a resume needs.

    It goes when the process ends; where the run failed, it stays to be looked at.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"podium-host{config.host}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if config.folder and Path(config.folder).is_dir():
        shutil.copytree(config.folder, folder, dirs_exist_ok=True)
    return folder


def check_same_folder(config: RuntimeConfig, folder: Path) -> None:
    """Waits until each host has its copy; raises DeviceError if this one's is another folder's."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    text = " ".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files)
    mark = zlib.crc32(text.encode()) % 2**24  # as many bits as single precision keeps
    if ask_first_host(mark) != mark:
        raise DeviceError(
            f"the run folder {config.folder or ''} of host {config.host} does not hold what the "
            f"first host's does, with which the run would go on; set runtime.folder to a new one, "
            f"or one that all hosts see"
        )


def leave_hosts(code: int) -> int:
    """Gives back the exit code; of a run that failed on one of several hosts, ends the process.

    The orderly end waits five minutes for the others, and they wait for this one; that it is gone
    they notice at once.
    """
    if code and count_hosts() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


# ==================================================================================================
# Runtime: the machine, and the Keras backend that suits it
# ==================================================================================================
# Keras reads its backend once, when it is first imported. So this section looks at the machine by
# its files and environment alone, without loading TensorFlow or JAX (a TPU belongs to the first
# library that opens it), and chooses before anything heavier is imported.
#
#     TPU, or a GPU    JAX; TensorFlow only reads files
#     CPU              TensorFlow; JAX with virtual devices rehearses a TPU

KAGGLE_INPUT, KAGGLE_WORKING = Path("/kaggle/input"), Path("/kaggle/working")
SESSION_HOURS = {"tpu": 9.0, "gpu": 12.0, "cpu": 12.0}  # Kaggle's limits
RESERVE_SHARE = 0.05  # of a session, which began before the run, and whose end takes its output


@dataclass(frozen=True)
class Runtime:
    """What the run has got: the accelerator's kind, its devices, the backend and the deadline."""

    accelerator: str  # "cpu", "gpu" or "tpu"
    backend: str  # "tensorflow" or "jax"
    devices: tuple[str, ...]  # as the backend names them
    precision: str  # "float32", "mixed_bfloat16" or "mixed_float16"
    folder: Path  # where everything is written
    started: float  # seconds since 1970
    deadline: float  # likewise: when the run must be done
    reserve: float = 0.0  # seconds of the session after that


def is_on_kaggle(environ: Mapping[str, str] = os.environ) -> bool:
    """Is this one of Kaggle's sessions?"""
    return "KAGGLE_KERNEL_RUN_TYPE" in environ


def find_accelerator(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> str:
    """Says "tpu", "gpu" or "cpu" from device files and environment, opening no library."""
    if environ.get("ISTPUVM") == "1" or any(dev.glob("accel[0-9]*")):
        return "tpu"
    if environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(dev.glob("nvidia[0-9]*")):
        return "gpu"
    return "cpu"


def choose_backend(config: RuntimeConfig, accelerator: str) -> str:
    """Returns the backend asked for, else the one that suits the accelerator."""
    if config.backend != "auto":
        return config.backend
    return "tensorflow" if accelerator == "cpu" and len(list_hosts(config)) < 2 else "jax"


def plan_environment(config: RuntimeConfig, accelerator: str) -> dict[str, str]:
    """The environment variables that must stand before Keras, JAX or TensorFlow is imported."""
    if config.accelerator != "auto":
        accelerator = config.accelerator
    backend = choose_backend(config, accelerator)
    plan = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}  # warnings are not for users
    if accelerator == "cpu":  # keeps both libraries quiet about the driver that is not there
        plan |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if accelerator == "cpu" and backend == "jax" and config.devices:
        here = max(config.devices // max(len(list_hosts(config)), 1), 1)
        plan["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={here}"
    if backend == "jax":  # every fold builds its own network, which is compiled for the first alone
        plan["JAX_COMPILATION_CACHE_DIR"] = str(find_compiled())
    if len(list_hosts(config)) > 1:
        plan["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] = "gloo"  # what CPUs of several hosts talk by
    return plan


def find_compiled() -> Path:
    """Where JAX keeps what it compiled: with what else this user's programs can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podium" / "compiled"


def prepare_environment(argv: Sequence[str]) -> Config | SettingsError:
    """Reads the settings and chooses the backend; what already stands in the environment wins.

    `--help` and mistaken settings end the program here, before anything heavy is loaded; on Kaggle
    mistakes are handed on, for a run there ends with a status, whatever becomes of it.
    """
    if "--help" in argv or "-h" in argv:
        print(format_help())
        raise SystemExit(0)
    config: Config | SettingsError
    try:
        config = read_config(argv)
    except SettingsError as error:
        if not is_on_kaggle():
            mistakes = "\n  ".join(str(error).splitlines())
            raise SystemExit(f"These settings cannot be used:\n  {mistakes}") from None
        config = error
    chosen = config.runtime if isinstance(config, Config) else RuntimeConfig()
    for name, value in plan_environment(chosen, find_accelerator()).items():
        os.environ.setdefault(name, value)
    return config


def find_run_folder(config: RuntimeConfig) -> Path:
    """The folder the run writes to, made if need be.

    Raises DeviceError if it cannot be made or written to.
    """
    folder = Path(config.folder or time.strftime("runs/%Y-%m-%d-%H%M%S"))
    if config.folder is None and KAGGLE_WORKING.is_dir():
        folder = KAGGLE_WORKING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".podium-was-here"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise DeviceError(
            f"the run folder {folder} cannot be written to ({error.strerror}); "
            f"set runtime.folder to a folder that can"
        ) from error
    return folder


def find_deadline(config: RuntimeConfig, kind: str, started: float) -> tuple[float, float]:
    """When a run must be done, and the seconds kept free from then to the session's limit.

    Raises SettingsError if these are the whole session.
    """
    minutes = 60 * (config.session_hours or SESSION_HOURS.get(kind, 12.0))
    reserve = config.reserve_minutes
    if reserve is None:
        reserve = RESERVE_SHARE * minutes
    if reserve >= minutes:
        raise SettingsError(
            f"runtime.reserve_minutes is {reserve:g}, but the session has {minutes:g} minutes; "
            f"set it below that, or raise runtime.session_hours"
        )
    return started + 60 * (minutes - reserve), 60 * reserve


def open_runtime(config: Config, backend: str, started: float) -> Runtime:
    """Joins the other hosts, opens the devices and the run folder and verifies them.

    Raises DeviceError if the machine is not the one that was asked for, SettingsError if no time
    is left to run in.
    """
    join_hosts(config.runtime, backend)
    found = list_devices(backend)
    check_devices(config.runtime, backend, found.kind, found.names, find_accelerator())
    check_batch(config.pixels.batch_size, len(found.names), config.optimizer.accumulate)
    lead = is_first_host(backend)
    folder = find_run_folder(config.runtime) if lead else copy_run_folder(config.runtime)
    check_same_folder(config.runtime, folder)
    deadline, reserve = find_deadline(config.runtime, found.kind, started)
    return Runtime(
        found.kind,
        backend,
        found.names,
        choose_precision(config.runtime, found),
        folder,
        started,
        deadline,
        reserve,
    )


def read_versions() -> dict[str, str]:
    """Versions of Python and of the libraries a run depends on."""
    names = ("keras", "tensorflow", "jax", "numpy", "pandas", "scikit-learn", "pillow")
    found = {"python": platform.python_version()}
    installed = {one.name.lower(): one.version for one in importlib.metadata.distributions()}
    for name in names:  # tensorflow is tensorflow-cpu on Kaggle's TPU image
        found[name] = installed.get(name) or installed.get(f"{name}-cpu", "not installed")
    return found


def describe_runtime(runtime: Runtime) -> str:
    """One card: devices, memory, cores, versions, run folder, deadline."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = ", ".join(f"{name} {version}" for name, version in read_versions().items())
    left = (runtime.deadline - time.time()) / 3600
    deadline = time.strftime("%H:%M", time.localtime(runtime.deadline))
    first, count = runtime.devices[0], len(runtime.devices)
    rows = {
        "devices": f"{count} × {runtime.accelerator} ({first}{', …' if count > 1 else ''})",
        "backend": f"{runtime.backend}, {runtime.precision}",
        "host": f"{os.cpu_count()} cores, {pages / 2**30:.1f} GiB of memory",
        "versions": versions,
        "run folder": str(runtime.folder),
        "deadline": f"{deadline}, in {left:.1f} h; {runtime.reserve / 60:.3g} min are kept free",
    }
    return "\n".join(f"  {name:<11} {text}" for name, text in rows.items())


# The one thing Podium does when it is imported: everything below depends on it.
CONFIG = prepare_environment(sys.argv[1:] if __name__ == "__main__" else [])


# ==================================================================================================
# Libraries
# ==================================================================================================
# Imported only now: Keras reads its backend once, when it is imported, and Runtime chose it.

import cv2
import keras
import matplotlib as mpl
import numpy as np
import pandas as pd
import requests
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import sparse
from scipy.fft import dctn
from scipy.optimize import minimize
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import betainc, expit, ndtri, stdtr, stdtrit
from scipy.stats import beta, binom, chi2_contingency, rankdata

# ==================================================================================================
# Storage: a file is there whole, or as it was before
# ==================================================================================================
# A session can end, or a disk be full, in the middle of a write. So every result is written beside
# its place under another name and moved there in one step.


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, or raises OSError and leaves an earlier one untouched."""
    with open_whole(path) as file:
        file.write(content)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its place when the block ends, and is dropped if that raises."""
    half = path.with_name(f"{path.name}.half")
    try:
        with half.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was moved into a folder or out of it outlast a loss of power."""
    with suppress(OSError):  # some network file systems cannot
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)


# ==================================================================================================
# Attempts: an answer within a time limit, or none
# ==================================================================================================
# A library that asks the network may wait for ever: for a name server that is silent, for a server
# that drips. Its own time limits do not cover that, so it is asked in a thread that can be left.


def call_in_time(call: Callable[[], Any], seconds: float) -> Any:
    """Returns what a call returns, or raises what it raises, or TimeoutError after the limit.

    The call goes on in a daemon thread, which does not keep the program from ending.
    """
    outcome = dict[str, Any]()

    def run() -> None:
        try:
            outcome["value"] = call()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return outcome["value"]


def describe_error(error: BaseException) -> str:
    """An error's type and the first line of its words, which hold no address."""
    words = re.sub(r"\S*://\S*", "…", str(error).strip().partition("\n")[0])[:160]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


# ==================================================================================================
# Events: what the run says, to the reader of the log and to programs
# ==================================================================================================
# Every stage tells the reporter; the reporter appends one JSON line to events.jsonl, the run's own
# record, and prints a line where a person would want one. What is sent to a webhook is read from
# there. The reporter never stops the run: an event that cannot be written is counted and lost.

LONGEST_LIST = 100  # of an array or a list, the values that an event keeps
LONGEST_TEXT = 8_000  # characters; of a longer text the end is kept, where a traceback says most
LONGEST_LINE = 64_000  # bytes of one event
LONGEST_READ = 256_000  # bytes of the record read at once
ASIDES = ("line_said", "heartbeat")  # events that say nothing of how the run stands


class Reporter:
    """Appends events to `events.jsonl` in the run folder, and prints lines for people.

    An event's key is (run, session, seq): the run is what an earlier session in the folder began,
    the session is this process. Of several hosts only the leader reports.
    """

    def __init__(self, folder: Path, *, leader: bool = True) -> None:
        self.folder, self.path = folder, folder / "events.jsonl"
        self.leader, self.process = leader, os.getpid()
        self.session = secrets.token_hex(4)
        self.run = next((str(one["run"]) for one, _ in read_record(self.path)), self.session)
        self.seq = self.lost = 0  # events, and those of them that could not be written
        self.last = ""  # the newest event's name, but for asides
        self.torn = is_torn(self.path)  # a killed process may have left half a line
        self.warnings: list[str] = []  # shown again in the report
        self.hidden: list[str] = []  # secrets, which no line may hold
        self.listeners: list[threading.Event] = []  # set at every event
        self.lock = threading.Lock()

    def emit(self, event: str, **values: Any) -> None:
        """Appends one event; its name is past tense ("fold_started"). Never raises.

        Does nothing in a process that was forked off: its parent reports.
        """
        if not self.leader or os.getpid() != self.process:
            return
        with self.lock:
            try:
                self.seq += 1
                self.last = self.last if event in ASIDES else event
                key = {"run": self.run, "session": self.session, "seq": self.seq}
                record = {**key, "time": round(time.time(), 3), "event": event}
                values = clean_values(values, LONGEST_LIST)
                line = json.dumps(record | values, allow_nan=False, default=str)
                if len(line) > LONGEST_LINE:
                    line = json.dumps(record | {"too_long": len(line)})
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n" * self.torn + self.hide(line) + "\n")
                self.torn = False
            except Exception:  # a value may raise anything when it is asked what it is
                self.lost, self.torn = self.lost + 1, self.path.exists()
        for listener in self.listeners:
            listener.set()

    def say(self, text: str) -> None:
        """Prints a line of the log, and tells whoever watches from elsewhere."""
        self.print(text)
        self.emit("line_said", text=text)

    def print(self, text: str) -> None:
        """Prints at once, as Kaggle's log shows whole lines; what concerns a delivery only so."""
        if self.leader:
            print(self.hide(text), flush=True)

    def warn(self, text: str) -> None:
        """Says something that a person should look at, and keeps it for the report."""
        self.warnings.append(self.hide(text))
        self.print(f"! {text}")
        self.emit("warning_raised", text=text)

    def hide(self, text: str) -> str:
        """The text without the secrets that this run was given."""
        for secret in self.hidden:
            text = text.replace(secret, "…")
        return text


def is_torn(path: Path) -> bool:
    """Does the record end in the middle of a line?"""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # there is none yet, or it is empty
        return False


def read_record(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields the events from a byte of the record on, each with the byte where it ends.

    Reads a limited part, whole lines only. Lines that a killed process left torn are passed over.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            lines = file.read(LONGEST_READ).split(b"\n")
    except OSError:
        return
    for line in lines[:-1]:  # what follows the last line's end is not whole yet
        start += len(line) + 1
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and {"run", "session", "seq", "time", "event"} <= event.keys():
            yield event, start


def clean_values(values: Mapping[str, Any], most: int | None = None) -> dict[str, Any]:
    """Turns values into what strict JSON knows: plain numbers, and null for NaN or infinity.

    Of a list it keeps so many values at most.
    """
    return {str(name): clean_value(value, most) for name, value in values.items()}


def clean_value(value: Any, most: int | None = None) -> Any:
    """One value made fit for strict JSON; arrays and tensors become short lists."""
    if isinstance(value, Mapping):
        return clean_values(value, most)
    if isinstance(value, list | tuple):
        return [clean_value(one, most) for one in value[:most]]
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"…{value[-LONGEST_TEXT:]}"
    if hasattr(value, "__array__"):  # NumPy, JAX and TensorFlow alike
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        if array.dtype.kind not in "biuOSU":  # bfloat16 has a kind of its own
            array = array.astype(np.float64)
        short = array.ravel()[:LONGEST_LIST].tolist()
        return clean_value(short if array.ndim else short[0])
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_whole(path, json.dumps(clean_values(content), indent=1, allow_nan=False).encode())


# ==================================================================================================
# Predictions: class probabilities, keyed by image id
# ==================================================================================================
# The one type in which stages meet. Rows are found by id, never by position, so blending models or
# writing a submission again needs neither retraining nor care about order.


class Predictions(NamedTuple):
    """Class probabilities: `ids` [N] str, `probs` [N, C] float32 whose rows sum to 1.

    Of one model, or of an average, ids are unique.
    """

    ids: NDArray[np.str_]
    probs: NDArray[np.float32]


def average_predictions(members: Sequence[Predictions]) -> Predictions:
    """Averages members' probabilities image by image; all members must hold the same ids.

    Raises ValueError if an id is missing from a member.
    """
    ids = members[0].ids
    probs = np.mean([select_probs(member, ids) for member in members], axis=0, dtype=np.float64)
    return Predictions(ids, probs.astype(np.float32))


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Lays predictions end to end: of different images, or of several models on the same."""
    ids = np.concatenate([part.ids for part in parts])
    return Predictions(ids, np.concatenate([part.probs for part in parts]))


def select_probs(
    predictions: Predictions, ids: Sequence[Any] | NDArray[Any]
) -> NDArray[np.float32]:
    """Returns the probabilities [len(ids), C] of the given ids, in their order.

    Raises ValueError naming ids that have no prediction.
    """
    rows = {image_id: row for row, image_id in enumerate(predictions.ids.tolist())}
    missing = [str(image_id) for image_id in ids if str(image_id) not in rows]
    if missing:
        raise ValueError(f"{len(missing)} ids have no prediction, e.g. {', '.join(missing[:3])}")
    return predictions.probs[[rows[str(image_id)] for image_id in ids]]


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Writes an .npz file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=predictions.ids, probs=predictions.probs)
    write_whole(path, buffer.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Reads what `write_predictions` wrote."""
    # A file of our own: of one that is no archive NumPy would leave its own open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Predictions(arrays["ids"], arrays["probs"])


# ==================================================================================================
# Task: what is asked of each image
# ==================================================================================================
# Shapes: N images, C classes.

# What the cells of a submission hold: a class, a list of classes, the probability of the last
# class, the probability of each class, the most probable classes from the first to the last.
AnswerKind = Literal["label", "labels", "probability", "probabilities", "ranking"]
# fmt: off
MetricName = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "samples_f1",
    "log_loss", "auc", "qwk", "map", "pf1",
]
# fmt: on


class Task(NamedTuple):
    """What is asked of each image, and how the answers are judged."""

    answer: AnswerKind
    classes: tuple[str, ...]  # [C]
    exclusive: bool = True  # an image has one class; else any number of them
    metric: MetricName = "accuracy"
    ranks: int = 5  # classes in a ranking


def infer_metric(answer: AnswerKind, exclusive: bool) -> MetricName:
    """The metric that competitions with such answers use most: a guess to be confirmed."""
    if answer == "probabilities":
        return "log_loss" if exclusive else "auc"
    usual: dict[AnswerKind, MetricName] = {
        "label": "accuracy",
        "labels": "samples_f1",
        "probability": "auc",
        "ranking": "map",
    }
    return usual[answer]


def encode_targets(labels: NDArray[Any] | Sequence[Any], classes: int) -> NDArray[np.uint8]:
    """Lays labels out as ones and zeros: [N, C].

    A label is the index of a class or, where an image may have several, a tuple of indices.
    """
    labels = np.asarray(labels) if len(labels) == 0 else labels
    targets = np.zeros((len(labels), classes), np.uint8)
    if len(labels) and isinstance(labels[0], tuple):
        counts = [len(label) for label in labels]
        columns = np.fromiter(chain.from_iterable(labels), np.int64, sum(counts))
        targets[np.repeat(np.arange(len(labels)), counts), columns] = 1
    else:
        targets[np.arange(len(labels)), np.asarray(labels, np.int64)] = 1
    return targets


# ==================================================================================================
# Tallies: what each image adds to a metric
# ==================================================================================================
# Every metric but AUC is a function of means over images. So one definition gives the score and all
# bootstrap draws of it, the means being one product of matrices; AUC is weighed by order instead.
#
# Shapes: N images, C classes, K figures an image adds, D draws; targets, answers [N, C].

Truth = NDArray[np.uint8]  # [N, C], ones and zeros
Answers = NDArray[np.floating[Any]]  # [N, C], decisions (ones and zeros) or probabilities
Doubles = NDArray[np.float64]

SURE = 1e-15  # a probability of the truth below it counts as it, as Kaggle does


def find_named(task: Task, answers: Answers) -> NDArray[np.uint8]:
    """The classes that each answer names, the likeliest where it is probabilities: [N, C]."""
    if not task.exclusive:
        return (answers >= 0.5).astype(np.uint8)
    return encode_targets(answers.argmax(axis=1), answers.shape[1])


def tally_matches(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """Whether all of an image's classes are right: [N, 1]."""
    return np.asarray((targets == answers).all(axis=1, keepdims=True), np.float64)


def tally_classes(_: Task, targets: Truth, answers: Answers) -> sparse.csr_array:
    """Hits, truths and claims of each class, laid side by side: [N, 3 C], sparse."""
    truths = sparse.csr_array(targets, dtype=np.float64)
    claims = sparse.csr_array(answers, dtype=np.float64)
    return sparse.hstack([truths * claims, truths, claims], format="csr")


def tally_pooled(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """Hits, truths and claims of all classes together: [N, 3]."""
    truths, claims = targets != 0, answers != 0
    counts = [cells.sum(axis=1) for cells in (truths & claims, truths, claims)]
    return np.asarray(np.stack(counts, axis=1), np.float64)


def tally_samples(task: Task, targets: Truth, answers: Answers) -> Doubles:
    """F1 of each image by itself: [N, 1]."""
    return combine_f1(tally_pooled(task, targets, answers))[:, None]


def tally_last(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """Hits, truths and claims of the last class, each claim as large as its probability: [N, 3]."""
    truth, claim = targets[:, -1].astype(np.float64), answers[:, -1].astype(np.float64)
    return np.stack([truth * claim, truth, claim], axis=1)


def tally_grades(_: Task, targets: Truth, answers: Answers) -> Doubles:
    """(t − a)², t, a and t² + a² of the true grade t and the answered grade a: [N, 4]."""
    true, answered = targets.argmax(axis=1), answers.argmax(axis=1)
    columns = [(true - answered) ** 2, true, answered, true**2 + answered**2]
    return np.asarray(np.stack(columns, axis=1), np.float64)


def tally_surprise(task: Task, targets: Truth, answers: Answers) -> Doubles:
    """Negative log-likelihood in nats: [N, 1].

    Of the true class, rows being scaled to a sum of 1; where an image may have several classes, the
    mean over all classes of having it or not.
    """
    if task.exclusive:
        total = answers.sum(axis=1, dtype=np.float64)
        told = answers[np.arange(len(targets)), targets.argmax(axis=1)] / np.maximum(total, SURE)
        return np.asarray(-np.log(np.maximum(told, SURE))[:, None])
    told = np.where(targets != 0, answers, 1 - answers)
    return np.asarray(-np.log(np.maximum(told, SURE)).mean(axis=1, keepdims=True, dtype=float))


def tally_ranks(task: Task, targets: Truth, answers: Answers) -> Doubles:
    """Average precision of the first `task.ranks` classes: [N, 1]."""
    ranked = rank_classes(answers, task.ranks)
    right = np.take_along_axis(targets, ranked, axis=1).astype(np.float64)
    places = np.arange(1, ranked.shape[1] + 1)
    possible = np.minimum(targets.sum(axis=1, dtype=np.int64), ranked.shape[1])
    gained = (right * right.cumsum(axis=1) / places).sum(axis=1)
    return np.asarray(gained / np.maximum(possible, 1))[:, None]


def rank_classes(answers: Answers, ranks: int) -> NDArray[np.int64]:
    """The most probable classes from the first to the last: [N, min(ranks, C)]; ties by index."""
    left = answers.astype(np.float64)
    rows = np.arange(len(left))
    ranked = np.empty((len(left), min(ranks, left.shape[1])), np.int64)
    for place in range(ranked.shape[1]):
        ranked[:, place] = left.argmax(axis=1)
        left[rows, ranked[:, place]] = -np.inf
    return ranked


def combine_mean(means: Doubles) -> Doubles:
    """The mean itself: [D, 1] → [D]."""
    return means[:, 0]


def combine_f1(means: Doubles) -> Doubles:
    """F1 of hits, truths and claims, [D, 3] → [D]; 1 where nothing is true and nothing claimed."""
    hits, truths, claims = means.T
    return divide_or(2 * hits, truths + claims, 1.0)


def combine_macro_f1(means: Doubles) -> Doubles:
    """Mean F1 of the classes that are true or claimed of some image: [D, 3 C] → [D]."""
    hits, truths, claims = np.split(means, 3, axis=1)
    return average_classes(2 * hits, truths + claims)


def combine_recalls(means: Doubles) -> Doubles:
    """Mean recall of the classes that some image has: [D, 3 C] → [D]."""
    hits, truths, _ = np.split(means, 3, axis=1)
    return average_classes(hits, truths)


def combine_kappa(means: Doubles) -> Doubles:
    """Quadratic weighted kappa, [D, 4] → [D]; 1 where all grades, true and answered, are one."""
    apart, true, answered, squares = means.T
    by_chance = squares - 2 * true * answered
    return 1 - divide_or(apart, np.where(by_chance > 1e-12, by_chance, 0.0), 0.0)


def divide_or(above: Doubles, below: Doubles, otherwise: float) -> Doubles:
    """The quotient, or another figure where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below > 0)


def average_classes(above: Doubles, below: Doubles) -> Doubles:
    """Mean over classes of a quotient, without those that it is not defined for: [D, C] → [D]."""
    return divide_or(divide_or(above, below, 0.0).sum(axis=1), (below > 0).sum(axis=1), 1.0)


def weigh_auc(targets: Truth, answers: Answers, weights: Doubles) -> Doubles:
    """Mean over columns of the area under the ROC curve, for each draw: weights [N, D] → [D].

    A column whose images all have the class, or none, has no curve and is left out; NaN where that
    is every column. Two exclusive classes have mirrored curves, so that their mean is either.
    """
    total, defined = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    columns = np.ascontiguousarray(answers.T)
    for truth, scores in zip(np.ascontiguousarray(targets.T) != 0, columns, strict=True):
        if truth.any() and not truth.all():
            area = weigh_column(truth, scores, weights)
            total += np.nan_to_num(area)
            defined += np.isfinite(area)
    return divide_or(total, defined, np.nan)


def weigh_column(truth: NDArray[np.bool_], scores: Answers, weights: Doubles) -> Doubles:
    """Area under the ROC curve of one class, ties counting half: truth, scores [N] → [D].

    It is the share of pairs in the right order, so only the order of the rarer side is needed: the
    weight of the other side between its scores, and on them.
    """
    if 2 * truth.sum() > len(truth):
        truth, scores = ~truth, -scores
    marks, places = np.unique(scores[truth], return_inverse=True)
    heights = np.searchsorted(marks, scores[~truth]) + np.searchsorted(
        marks, scores[~truth], side="right"
    )  # even: between two marks; odd: on a mark
    on_marks = sum_rows(places, len(marks), weights[truth])
    others = sum_rows(heights, 2 * len(marks) + 1, weights[~truth])
    below = others.cumsum(axis=0)[:-1:2] + others[1::2] / 2
    pairs = on_marks.sum(axis=0) * others.sum(axis=0)
    return divide_or((on_marks * below).sum(axis=0), pairs, np.nan)


def sum_rows(places: NDArray[np.int64], count: int, weights: Doubles) -> Doubles:
    """Sums the rows that go to the same place: [N, D] → [count, D]."""
    if weights.shape[1] == 1:  # for which a matrix takes longer to make than to use
        return np.asarray(np.bincount(places, weights[:, 0], count)[:, None], np.float64)
    rows = np.arange(len(places))
    shares = sparse.csr_array((np.ones(len(places)), (places, rows)), (count, len(places)))
    return np.asarray(shares @ weights)


# ==================================================================================================
# Metrics: how good the answers are, and how sure that figure is
# ==================================================================================================
# Shapes throughout: N images, C classes, D draws; targets [N, C] uint8; answers [N, C], which are
# decisions (ones and zeros), or probabilities; labels [N] int64; probs [N, C] float32.

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution
DRAWS = 1000  # of a bootstrap
WEIGHTS_AT_ONCE = 4_000_000  # 32 MB


class Metric(NamedTuple):
    """A metric as people call it, what it judges, and how it is worked out.

    `tally` says what each image adds, [N, K], and `combine` makes scores [D] of means [D, K]. Of
    "order" it matters only which answers are higher, so that any real numbers will do.
    """

    title: str
    takes: Literal["decisions", "probabilities", "order"]
    fits: tuple[AnswerKind, ...]
    tally: Callable[[Task, Truth, Answers], Any] | None  # AUC has none
    combine: Callable[[Doubles], Doubles] = combine_mean
    higher_is_better: bool = True
    perfect: float = 1.0


# fmt: off
METRICS: dict[MetricName, Metric] = {
    "accuracy": Metric("accuracy", "decisions", ("label", "labels"), tally_matches),
    "balanced_accuracy":
        Metric("balanced accuracy", "decisions", ("label",), tally_classes, combine_recalls),
    "macro_f1":
        Metric("macro F1", "decisions", ("label", "labels"), tally_classes, combine_macro_f1),
    "micro_f1": Metric("micro F1", "decisions", ("label", "labels"), tally_pooled, combine_f1),
    "samples_f1": Metric("mean F1 of images", "decisions", ("labels",), tally_samples),
    "log_loss":
        Metric("log loss", "probabilities", ("probability", "probabilities"), tally_surprise,
               higher_is_better=False, perfect=0.0),
    "auc": Metric("mean column-wise AUC", "order", ("probability", "probabilities"), None),
    "qwk":
        Metric("quadratic weighted kappa", "decisions", ("label",), tally_grades, combine_kappa),
    "map": Metric("mean average precision", "order", ("ranking",), tally_ranks),
    "pf1": Metric("probabilistic F1", "probabilities", ("probability",), tally_last, combine_f1),
}
# fmt: on


class Score(NamedTuple):
    """A metric's value with its 95 % interval, and log loss in nats, over n images."""

    n: int
    metric: MetricName
    value: float
    interval: tuple[float, float]
    log_loss: float


def score_predictions(task: Task, targets: Truth, answers: Answers, probs: Answers) -> Score:
    """Scores answers by the task's metric, and the probabilities behind them by log loss.

    The interval is Wilson's for accuracy, else the middle 95 % of bootstrap draws. Where AUC is not
    defined, value and interval are NaN. Raises ValueError if there is nothing to score.
    """
    value = score_answers(task, targets, answers)
    surprise = score_answers(task._replace(metric="log_loss"), targets, probs)
    if task.metric == "accuracy":
        interval = wilson_interval(round(value * len(targets)), len(targets))
    else:
        interval = find_interval(value, bootstrap_scores(task, targets, answers))
    return Score(len(targets), task.metric, value, interval, surprise)


def score_answers(task: Task, targets: Truth, answers: Answers) -> float:
    """The metric's value; NaN where AUC is not defined. Raises ValueError on what has no score."""
    check_answers(task, targets, answers)
    return float(weigh_scores(task, targets, answers, [np.ones((len(targets), 1))])[0])


def bootstrap_scores(
    task: Task, targets: Truth, answers: Answers, draws: int = DRAWS, seed: int = 0
) -> Doubles:
    """The metric's value on each of D samples of the images, drawn with replacement: [D].

    The same seed draws the same images, whatever the answers: scores of two answers are paired.
    """
    check_answers(task, targets, answers)
    return weigh_scores(task, targets, answers, draw_weights(len(targets), draws, seed))


def weigh_scores(task: Task, targets: Truth, answers: Answers, weights: Any) -> Doubles:
    """The metric's values where images count as often as blocks of weights [N, d] say: [D]."""
    metric = METRICS[task.metric]
    if metric.tally is None:
        return np.concatenate([weigh_auc(targets, answers, block) for block in weights])
    tally = metric.tally(task, targets, answers).T
    means = [np.asarray(tally @ block).T / block.sum(axis=0)[:, None] for block in weights]
    return metric.combine(np.concatenate(means))


def draw_weights(n: int, draws: int, seed: int) -> Iterator[Doubles]:
    """How often each of n images is drawn, in blocks [n, d] of some of the draws."""
    dice = np.random.default_rng(seed)
    for width in split_draws(n, draws):
        cells = dice.integers(0, n, (n, width)) * width + np.arange(width)
        yield np.bincount(cells.ravel(), minlength=n * width).reshape(n, width).astype(np.float64)


def split_draws(n: int, draws: int) -> Iterator[int]:
    """Widths of blocks of draws of n images, none of which takes much memory."""
    at_once = max(1, WEIGHTS_AT_ONCE // n)
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


def find_interval(value: float, scores: Doubles) -> tuple[float, float]:
    """The middle 95 % of draws, widened to hold the value itself; NaN where no draw has a score."""
    scores = scores[np.isfinite(scores)]
    if len(scores) == 0:
        return np.nan, np.nan
    low, high = np.quantile(scores, [0.025, 0.975])
    return min(float(low), value), max(float(high), value)


def check_answers(task: Task, targets: Truth, answers: Answers) -> None:
    """Raises ValueError, saying why, unless the metric is defined for such answers."""
    if len(targets) == 0 or len(targets) != len(answers):
        raise ValueError(f"cannot score {len(answers)} predictions against {len(targets)} labels")
    if targets.ndim != 2 or targets.shape != answers.shape:
        raise ValueError(
            f"cannot score answers of shape {answers.shape} against truth of {targets.shape}"
        )
    if not np.isfinite(answers).all():
        rows = int((~np.isfinite(answers)).any(axis=1).sum())
        raise ValueError(f"the answers to {rows} of {len(answers)} images are not finite numbers")
    if task.exclusive and not (targets.sum(axis=1) == 1).all():
        raise ValueError("each image must have one class, for the task's classes are exclusive")
    check_range(task, answers)


def check_range(task: Task, answers: Answers) -> None:
    """Raises ValueError where decisions are not ones and zeros, or probabilities beyond them."""
    takes = METRICS[task.metric].takes
    if takes == "decisions" and not ((answers == 0) | (answers == 1)).all():
        raise ValueError(
            f"{METRICS[task.metric].title} judges decisions, ones and zeros, but was given others; "
            "let a rule decide first"
        )
    if takes == "probabilities" and not (answers.min() >= 0 and answers.max() <= 1):
        raise ValueError(
            f"{METRICS[task.metric].title} judges probabilities, but was given "
            f"{answers.min():.4g} to {answers.max():.4g}"
        )


def name_one_sided(task: Task, targets: Truth) -> list[str]:
    """The classes that AUC leaves out, because all images have them, or none."""
    counts = targets.sum(axis=0, dtype=np.int64)
    return [task.classes[at] for at in np.flatnonzero((counts == 0) | (counts == len(targets)))]


def wilson_interval(right: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share, sound near 0 and 1 too (Wilson 1927, JASA 22:209)."""
    share, z2 = right / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def count_confusions(
    labels: NDArray[np.int64], predicted: NDArray[Any], classes: int
) -> NDArray[np.int64]:
    """Counts images by true class (rows) and predicted class (columns): [C, C]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


# ==================================================================================================
# Evidence: whether answers are better than others, or only luckier
# ==================================================================================================
# Two answers to the same images are compared on the metric itself, image by image, as their errors
# are shared. A candidate is adopted only where the one-sided 95 % bound of its gain is above zero
# and a toss of coins would seldom do as well, so that of candidates that change nothing at most one
# in twenty is.

DOUBT = 0.05  # how often a candidate that changes nothing may be adopted
POWER = 0.8  # how often a detectable gain is shown
SHOWN = 1.644854 + 0.841621  # standard errors that it is, where those are known well
ROUNDING = 1e-12  # scores that differ by less do so by rounding


class Comparison(NamedTuple):
    """What a candidate gains over plain answers to n images (or repeats), in the metric's unit.

    A gain is positive where the candidate is better, also of metrics that fall as answers improve.
    `low` and `high` bound it with 95 % confidence each; p is one-sided. `detectable` is the true
    gain that so many images would show four times in five.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    adopted: bool
    detectable: float


def pass_gate(
    n: int, gain: float, p: float, low: float, high: float, detectable: float
) -> Comparison:
    """The gate: a candidate is adopted where its gain's bound is above zero, and p below 5 %."""
    adopted = bool(gain > 0 and low > 0 and p < DOUBT)
    return Comparison(n, float(gain), float(low), float(high), float(p), adopted, float(detectable))


def compare_answers(
    task: Task,
    targets: Truth,
    plain: Answers,
    candidate: Answers,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares two answers to the same images, which count as independent: [N, C] each.

    Accuracy by McNemar's exact test. Of another metric p is the randomisation test's, which is to
    it what McNemar's is to accuracy; its bounds are Student's where it is a mean over images, else
    those of a paired bootstrap. Where the metric is not defined nothing is adopted. Raises
    ValueError on what has no score.
    """
    metric, n = METRICS[task.metric], len(targets)
    sign = 1 if metric.higher_is_better else -1
    before, after = (score_answers(task, targets, answers) for answers in (plain, candidate))
    gain = sign * (after - before)
    if np.array_equal(plain, candidate):
        return pass_gate(n, gain, 1.0, 0.0, 0.0, 0.0)
    if not np.isfinite(gain):
        return pass_gate(n, gain, 1.0, np.nan, np.nan, np.nan)
    if task.metric == "accuracy":
        return count_changes(n, *count_flips(task, targets, plain, candidate))
    mixed = score_mixtures(task, targets, plain, candidate, draws, seed)
    p = (1 + (sign * mixed >= sign * after - ROUNDING).sum()) / (1 + draws)
    if metric.tally is not None and metric.combine is combine_mean:
        one, other = (metric.tally(task, targets, answers) for answers in (plain, candidate))
        return pass_gate(n, gain, p, *bound_mean(sign * (other - one)[:, 0], 1 / n))
    return judge_draws(n, gain, sign * draw_gains(task, targets, plain, candidate, draws, seed), p)


def count_flips(task: Task, targets: Truth, plain: Answers, candidate: Answers) -> tuple[int, int]:
    """Counts the images that only the candidate names rightly, and those that only the plain one.

    What an answer names is what it decides, or the classes that it holds for the likeliest.
    """
    decided = METRICS[task.metric].takes == "decisions"
    right, righter = (
        (targets == (answers if decided else find_named(task, answers))).all(axis=1)
        for answers in (plain, candidate)
    )
    return int((righter > right).sum()), int((righter < right).sum())


def count_changes(n: int, fixed: int, broken: int) -> Comparison:
    """Compares accuracies by the images that changed sides, exactly (McNemar 1947).

    The bounds are Clopper and Pearson's of the share of fixed images among those, so that low > 0
    and p < 0.05 are one statement.
    """
    changed = fixed + broken
    least = beta.ppf(DOUBT, fixed, broken + 1) if fixed else 0.0
    most = beta.ppf(1 - DOUBT, fixed + 1, broken) if broken else 1.0
    low, high = (changed * (2 * share - 1) / n for share in (least, most))
    error = np.sqrt(changed - (fixed - broken) ** 2 / n) / n
    return pass_gate(
        n, (fixed - broken) / n, binom.sf(fixed - 1, changed, 0.5), low, high, SHOWN * error
    )


def score_mixtures(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, draws: int, seed: int
) -> Doubles:
    """The metric's values on mixtures, each image's answer being one of the two by a coin: [D].

    If it does not matter which answer is whose, the candidate is one mixture like any other (Fisher
    1935). For AUC the answers are ranks, so that both are on one scale.
    """
    if METRICS[task.metric].tally is None:
        plain, candidate = rankdata(plain, axis=0), rankdata(candidate, axis=0)
    changed = (plain != candidate).any(axis=1)
    both = np.concatenate([plain, candidate[changed]])
    truth = np.concatenate([targets, targets[changed]])
    return weigh_scores(task, truth, both, toss_weights(changed, draws, seed))


def toss_weights(changed: NDArray[np.bool_], draws: int, seed: int) -> Iterator[Doubles]:
    """Weights of N answers and of M others to the changed images, either of which counts.

    Blocks [N + M, d] of some of the draws.
    """
    dice = np.random.default_rng(seed)
    others = int(changed.sum())
    for width in split_draws(len(changed) + others, draws):
        coins = dice.integers(0, 2, (others, width)).astype(np.float64)
        kept = np.ones((len(changed), width))
        kept[changed] = 1 - coins
        yield np.concatenate([kept, coins])


def draw_gains(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, draws: int, seed: int
) -> Doubles:
    """What the candidate's score has over the plain one's on bootstrap draws of the images: [D]."""
    one, other = (
        bootstrap_scores(task, targets, answers, draws, seed) for answers in (plain, candidate)
    )
    return other - one


def judge_draws(n: int, gain: float, gains: Doubles, p: float | None = None) -> Comparison:
    """Compares by the gains of bootstrap draws [D]; draws without a score are left out.

    p is the share of draws that gain nothing, unless a test that says more gives it.
    """
    gains = gains[np.isfinite(gains)]
    if len(gains) == 0 or not np.isfinite(gain):
        return pass_gate(n, gain, 1.0, np.nan, np.nan, np.nan)
    if p is None:
        p = (1 + (gains <= 0).sum()) / (1 + len(gains))
    low, high = np.quantile(gains, [DOUBT, 1 - DOUBT])
    return pass_gate(n, gain, p, low, high, SHOWN * gains.std())


def compare_repeats(differences: Doubles, validated: float, trained: float) -> Comparison:
    """Compares by what R repeats of a training gain, on other folds or with other seeds.

    Their training images overlap, so that they differ less than new ones would: Student's t with
    the variance corrected by validated over trained images (Nadeau and Bengio 2003, Machine
    Learning 52:239). Repeats that all gain the same do not tell how sure that is.
    """
    repeats, share = len(differences), 1 / len(differences) + validated / trained
    gain, p = float(np.mean(differences)), 1.0
    if np.ptp(differences) > ROUNDING:
        error = np.std(differences, ddof=1) * np.sqrt(share)
        p = stdtr(repeats - 1, -gain / error)
    return pass_gate(repeats, gain, p, *bound_mean(differences, share))


def bound_mean(values: Doubles, share: float) -> tuple[float, float, float]:
    """Student's bounds of a mean, one-sided 95 % each, and the true mean that would be shown.

    `share` is what part of the values' variance the mean's is: 1 / n for n independent ones.
    """
    if len(values) < 2:
        return np.nan, np.nan, np.nan
    error, free = values.std(ddof=1) * np.sqrt(share), len(values) - 1
    half, more = (stdtrit(free, chance) * error for chance in (1 - DOUBT, POWER))
    return values.mean() - half, values.mean() + half, half + more


def find_paired_error(
    task: Task, targets: Truth, plain: Answers, candidate: Answers, seed: int = 0
) -> float:
    """The standard error of what a candidate gains, [N, C] answers each; NaN without a score."""
    gains = draw_gains(task, targets, plain, candidate, DRAWS, seed)
    gains = gains[np.isfinite(gains)]
    return float(gains.std()) if len(gains) else np.nan


# ==================================================================================================
# Cuts: where one grade ends and the next begins, for quadratic weighted kappa
# ==================================================================================================
# An answered grade is the number of cuts at or below the expected grade. Its moments, and so kappa,
# are sums over cuts of what lies above each; so one cut can be tried in all places at once.
#
# Shapes: N images, C grades, P places where a cut may lie; targets [N, C] uint8, expected [N].

PLACES = 2000  # tried for a cut


class Places(NamedTuple):
    """Where a cut may lie, [P] from low to high, and the share and mean grade sum above each."""

    cuts: Doubles
    shares: Doubles  # of images that lie above
    sums: Doubles  # of their true grades, divided by N


def fit_cuts(targets: Truth, expected: Doubles) -> tuple[float, ...]:
    """The C − 1 cuts of expected grades that give the highest kappa, by coordinate search.

    It starts from the middles between grades, and from cuts that make each grade as frequent as it
    truly is; the better end counts.
    """
    classes, truth = targets.shape[1], targets.argmax(axis=1)
    places = list_places(truth, expected, classes)
    middles = np.searchsorted(places.cuts, np.arange(1, classes) - 0.5)
    above = [(truth >= grade).mean() for grade in range(1, classes)]
    quantiles = np.searchsorted(-places.shares, -np.array(above))
    ends = [move_cuts(places, truth, start) for start in (middles, quantiles)]
    best = max(ends, key=lambda end: float(score_cuts(places, truth, end)[0]))
    return tuple(places.cuts[best].tolist())


def list_places(truth: NDArray[np.int64], expected: Doubles, classes: int) -> Places:
    """Halfway between neighbouring expected grades, and beyond both ends; at most 2,000 or so."""
    order = np.argsort(expected, kind="stable")
    grades, n = expected[order], len(order)
    steps = np.flatnonzero(np.diff(grades) > 0) + 1
    steps = (
        steps[np.unique(np.linspace(0, len(steps) - 1, PLACES).astype(int))]
        if len(steps)
        else steps
    )
    cuts = np.concatenate([[-1.0], (grades[steps - 1] + grades[steps]) / 2, [float(classes)]])
    below = np.concatenate([[0], steps, [n]])
    total = np.concatenate([[0], truth[order].cumsum()])
    return Places(cuts, 1 - below / n, (total[-1] - total[below]) / n)


def move_cuts(
    places: Places, truth: NDArray[np.int64], start: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Moves one cut after the other to its best place between its neighbours until none moves."""
    chosen = start.clip(0, len(places.cuts) - 1)
    for _ in range(100):
        before = chosen.copy()
        for cut in range(len(chosen)):
            low = chosen[cut - 1] if cut else 0
            high = chosen[cut + 1] if cut + 1 < len(chosen) else len(places.cuts) - 1
            tried = np.repeat(chosen[:, None], high - low + 1, axis=1)
            tried[cut] = np.arange(low, high + 1)
            scores = score_cuts(places, truth, tried)
            if scores.max() > scores[chosen[cut] - low]:
                chosen[cut] = low + int(scores.argmax())
        if np.array_equal(before, chosen):
            break
    return chosen


def score_cuts(places: Places, truth: NDArray[np.int64], chosen: NDArray[np.int64]) -> Doubles:
    """Kappa of cuts in the chosen places, [C − 1] or, for T trials at once, [C − 1, T] → [T].

    The grade a is a sum of ones over the cuts below, and a² of odd numbers 1, 3, 5, …
    """
    chosen = chosen.reshape(len(chosen), -1)
    shares, sums = places.shares[chosen], places.sums[chosen].sum(axis=0)
    answered = shares.sum(axis=0)
    odd = 2 * np.arange(len(chosen)) + 1
    squares = odd @ shares + (truth**2).mean()
    true = np.full(len(answered), truth.mean())
    return combine_kappa(np.stack([squares - 2 * sums, true, answered, squares], axis=1))


# ==================================================================================================
# Rules: how probabilities become answers
# ==================================================================================================
# Decisions for F1 want thresholds, grades for kappa want cuts, log loss wants bounds. Here is what
# a rule does, and which values suit given images best; whether to use it is the next section's.
#
# Shapes: N images, C classes; targets [N, C] uint8, probs [N, C] float32.

FLOORS = [float(f"{10 ** (-step / 4):.1e}") for step in range(4, 25)]  # 0.1 to 1e-6
EVENED = [step / 10 for step in range(1, 11)]  # powers of a class's frequency
PULL = 10.0  # images of a class that weigh as much as what other classes say of its threshold
LEVELS = 100  # thresholds tried on whole images


class Rule(NamedTuple):
    """How probabilities become answers.

    The values are: of "bounds" what 0 and 1 become; of "argmax" the weight of each class, or none;
    of "thresholds" one for all classes, or one for each; of "cuts" the expected grade at which each
    grade but the first begins. With `fill` an image below all thresholds gets its likeliest class.
    """

    kind: Literal["unchanged", "bounds", "argmax", "thresholds", "cuts"]
    values: tuple[float, ...] = ()
    fill: bool = False


def read_rule(fields: Mapping[str, Any]) -> Rule:
    """A rule from what JSON made of its `_asdict()`."""
    return Rule(fields["kind"], tuple(fields["values"]), fields["fill"])


def find_rule(summary: Mapping[str, Any], task: Task) -> Rule:
    """The rule in a run's summary.json; the plain one if it has none, or is of another metric."""
    stored = (summary.get("decision") or {}).get("rule")
    same = summary.get("metric") == task.metric
    return read_rule(stored) if stored and same else plain_rule(task)


def plain_rule(task: Task) -> Rule:
    """The rule that needs no fitting: argmax, a threshold of 0.5, or probabilities unchanged."""
    if METRICS[task.metric].takes != "decisions":
        return Rule("unchanged")
    return Rule("argmax") if task.exclusive else Rule("thresholds", (0.5,), fill=True)


def apply_rule(rule: Rule, probs: Answers) -> NDArray[np.float32]:
    """Answers as the metric takes them, [N, C]: ones and zeros, or probabilities."""
    values = np.array(rule.values)
    if rule.kind == "unchanged":
        return probs.astype(np.float32)
    if rule.kind == "bounds":
        return np.asarray(values[0] + (values[1] - values[0]) * probs, np.float32)
    if rule.kind == "thresholds":
        return pass_thresholds(probs, values, rule.fill)
    if rule.kind == "cuts":
        chosen = np.searchsorted(values, expect_grades(probs), side="right")
    else:
        chosen = (probs * values if len(values) else probs).argmax(axis=1)
    return choose_classes(chosen, probs.shape[1])


def choose_classes(chosen: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Decisions for one class each: [N] → [N, C]."""
    return encode_targets(chosen, classes).astype(np.float32)


def pass_thresholds(probs: Answers, thresholds: Doubles, fill: bool) -> NDArray[np.float32]:
    """Decisions for all classes at or above their threshold."""
    passed = probs >= thresholds
    if fill:
        empty = np.flatnonzero(~passed.any(axis=1))
        passed[empty, probs[empty].argmax(axis=1)] = True
    return passed.astype(np.float32)


def expect_grades(probs: Answers) -> Doubles:
    """The mean grade that the probabilities of grades 0 … C − 1 foretell: [N]."""
    return np.asarray(probs @ np.arange(probs.shape[1], dtype=np.float64))


def list_rules(task: Task, targets: Truth, probs: Answers) -> list[Rule]:
    """The rules worth trying for the metric, with values that suit these images; plain first."""
    rules = [plain_rule(task)]
    if task.metric == "log_loss":
        rules += [Rule("bounds", bounds) for bounds in list_bounds(task)]
    elif task.metric == "qwk":
        rules += [Rule("cuts", fit_cuts(targets, expect_grades(probs)))]
    elif task.metric == "pf1" and task.exclusive:
        threshold = find_threshold(probs[:, -1], targets[:, -1] != 0)
        rules += [Rule("thresholds", (*[2.0] * (probs.shape[1] - 1), threshold))]
    elif task.exclusive and task.metric in ("balanced_accuracy", "macro_f1"):
        shares = np.maximum(targets.mean(axis=0), 1 / len(targets))
        weights = [(shares.min() / shares) ** power for power in EVENED]
        rules += [Rule("argmax", tuple(weight.tolist())) for weight in weights]
    elif not task.exclusive and task.metric in ("macro_f1", "micro_f1", "samples_f1"):
        thresholds = fit_thresholds(task, targets, probs)
        rules += [Rule("thresholds", thresholds, fill) for fill in (True, False)]
    return rules


def list_bounds(task: Task) -> list[tuple[float, float]]:
    """Bounds that keep probabilities off 0 and 1, and the sum of exclusive ones at 1."""
    rest = len(task.classes) - 1 if task.exclusive else 1
    return [(floor, 1 - rest * floor) for floor in FLOORS if (rest + 1) * floor < 1]


def fit_thresholds(task: Task, targets: Truth, probs: Answers) -> tuple[float, ...]:
    """Thresholds for F1: each class's own for macro F1, else one for all."""
    if task.metric == "samples_f1":
        return (find_level(targets, probs),)
    if task.metric == "micro_f1":
        return (find_threshold(probs.ravel(), targets.ravel() != 0),)
    columns = zip(np.ascontiguousarray(probs.T), targets.T != 0, strict=True)
    own = np.array([find_threshold(scores, truth) for scores, truth in columns])
    sizes = targets.sum(axis=0, dtype=np.float64)
    common = float(own @ sizes / max(1.0, sizes.sum()))
    return tuple(((sizes * own + PULL * common) / (sizes + PULL)).tolist())


def find_threshold(scores: Answers, truth: NDArray[np.bool_]) -> float:
    """The threshold of highest F1 for scores [M], by sorting; 0.5 where nothing is true.

    It lies halfway between the lowest hit and the next score below, as only passing a hit helps.
    """
    hits = np.sort(scores[truth])
    if len(hits) == 0:
        return 0.5
    ordered = np.sort(scores)
    starts = np.searchsorted(ordered, hits)
    found = len(hits) - np.searchsorted(hits, hits)
    best = int((found / (len(ordered) - starts + len(hits))).argmax())
    below = ordered[max(0, starts[best] - 1)]
    return (float(hits[best]) + float(below)) / 2


def find_level(targets: Truth, probs: Answers) -> float:
    """The threshold of highest mean F1 of images, of the quantiles of true classes' scores."""
    hits = probs[targets != 0]
    if len(hits) == 0:
        return 0.5
    levels = np.unique(np.quantile(hits, np.linspace(0, 1, LEVELS)))
    passing = probs >= levels[0]
    heights = np.searchsorted(levels, probs[passing], side="right") - 1
    rows, true = np.nonzero(passing)[0], targets[passing] != 0
    claims = count_passing(rows, heights, len(probs), len(levels))
    found = count_passing(rows[true], heights[true], len(probs), len(levels))
    truths = targets.sum(axis=1, dtype=np.int64)[:, None]
    bare = np.where(claims + truths > 0, 2 * found / np.maximum(claims + truths, 1), 1.0)
    top = np.take_along_axis(targets, probs.argmax(axis=1)[:, None], axis=1)
    filled = np.where(claims > 0, bare, 2 * top / (1 + truths))
    best = max(bare.mean(axis=0), filled.mean(axis=0), key=np.max)
    return float(levels[best.argmax()])


def count_passing(
    rows: NDArray[np.int64], heights: NDArray[np.int64], images: int, levels: int
) -> NDArray[np.int64]:
    """Counts, for each image and level, the scores that reach it: [images, levels]."""
    counts = np.bincount(rows * levels + heights, minlength=images * levels)
    return counts.reshape(images, levels)[:, ::-1].cumsum(axis=1)[:, ::-1]


# ==================================================================================================
# Decide: which answers are submitted, and whether a fitted rule earns its place
# ==================================================================================================
# A rule is fitted on out-of-fold predictions, and judged nested: each fold is answered by a rule
# that has not seen its truth. It stands only if the evidence says that it beats the plain one.
#
# Shapes: N images, C classes; targets [N, C] uint8, probs [N, C] float32, folds [N] int64.


class Decision(NamedTuple):
    """The rule that stands, its answers out of fold [N, C], and why.

    `plain` and `nested` are the scores of the plain rule, and of rules fitted on the other folds,
    which alone name `flips[0]` images rightly; the plain one alone does `flips[1]`.
    """

    rule: Rule
    answers: NDArray[np.float32]
    plain: float
    nested: float
    comparison: Comparison
    flips: tuple[int, int]


def fit_rule(task: Task, targets: Truth, probs: Answers) -> Rule:
    """The rule that scores best on these images; the plain one where none is better."""
    best, *others = list_rules(task, targets, probs)
    if not others:
        return best
    sign = 1 if METRICS[task.metric].higher_is_better else -1
    top = sign * score_answers(task, targets, apply_rule(best, probs))
    for rule in others:
        score = sign * score_answers(task, targets, apply_rule(rule, probs))
        if score > top:
            best, top = rule, score
    return best


def answer_nested(
    task: Task, targets: Truth, probs: Answers, folds: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Answers each fold by a rule fitted on all others: [N, C].

    Where there is but one fold, by the plain rule.
    """
    answers = apply_rule(plain_rule(task), probs)
    present = np.unique(folds)
    for fold in present if len(present) > 1 else []:
        held = folds == fold
        rule = fit_rule(task, targets[~held], probs[~held])
        answers[held] = apply_rule(rule, probs[held])
    return answers


def fit_nested(task: Task, targets: Truth, probs: Answers, folds: NDArray[np.int64]) -> Decision:
    """Fits a rule on out-of-fold predictions, and keeps it only if nested answers show its worth.

    Raises ValueError on what has no score.
    """
    plain = apply_rule(plain_rule(task), probs)
    nested = answer_nested(task, targets, probs, folds)
    comparison = compare_answers(task, targets, plain, nested)
    before, after = (score_answers(task, targets, answers) for answers in (plain, nested))
    flips = count_flips(task, targets, plain, nested)
    if comparison.adopted:
        return Decision(fit_rule(task, targets, probs), nested, before, after, comparison, flips)
    return Decision(plain_rule(task), plain, before, after, comparison, flips)


# ==================================================================================================
# Questions: what a run was asked to show, and what the evidence said
# ==================================================================================================
# Is TTA worth it, and which weights, which augmentation? Each question holds its options, what each
# of them scores, gains and costs, and which one is used; decisions.json keeps them, and the report
# shows them. The first option is the plain one, which stays unless another is shown to be better.

QUESTIONS_FILE = "decisions.json"


class Option(NamedTuple):
    """One way to do it: its score, and its gain over the question's first option.

    `cost` is in the question's unit, None where it costs nothing or nobody measured it. `fixed` and
    `broken` count images that only this option, or only the first, gets right.
    """

    name: str
    score: float  # the metric, on images that the option was not fitted to
    gain: Comparison | None = None  # of the first option, which has none, and of what is not tested
    cost: float | None = None
    fixed: int | None = None
    broken: int | None = None


class Question(NamedTuple):
    """One decision and its evidence, as a person would ask it."""

    name: str  # one word, under which the file keeps it
    asks: str  # "Is test-time augmentation worth it?"
    answer: str  # in words, with the figures that decide
    metric: MetricName
    chosen: str  # the name of an option
    options: tuple[Option, ...]
    unit: str = "s"  # of the costs
    notes: tuple[str, ...] = ()  # what else there is to know


def keep_questions(folder: Path, questions: Sequence[Question]) -> None:
    """Adds questions to decisions.json, or puts them in the place of those of the same name."""
    kept = {question.name: question for question in read_questions(folder)}
    kept |= {question.name: question for question in questions}
    fields = [question_fields(question) for question in kept.values()]
    write_json(folder / QUESTIONS_FILE, {"questions": fields})


def read_questions(folder: Path) -> list[Question]:
    """The questions of a run's folder; none where it has no decisions.json.

    Raises ValueError, naming the file, if it is not as `keep_questions` writes it.
    """
    path = folder / QUESTIONS_FILE
    if not path.is_file():
        return []
    try:
        held = json.loads(path.read_text(encoding="utf-8"))["questions"]
        return [read_question(fields) for fields in held]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold questions as Podium writes them: {error}"
        ) from error


def question_fields(question: Question) -> dict[str, Any]:
    """A question as JSON holds it."""
    options = [
        option._asdict() | {"gain": option.gain._asdict() if option.gain else None}
        for option in question.options
    ]
    return question._asdict() | {"options": options}


def read_question(fields: Mapping[str, Any]) -> Question:
    """A question from what JSON made of its fields."""
    options = tuple(read_option(one) for one in fields["options"])
    return Question(**{**fields, "options": options, "notes": tuple(fields["notes"])})


def read_option(fields: Mapping[str, Any]) -> Option:
    """An option from what JSON made of its fields; a figure that JSON does not know is NaN."""
    gain: Any = fields["gain"]
    if gain is not None:
        gain = Comparison(**{name: know(figure) for name, figure in gain.items()})
    return Option(**{**fields, "score": know(fields["score"]), "gain": gain})


def know(figure: Any) -> Any:
    """A figure as it was before JSON, which has no word for what is no number."""
    return np.nan if figure is None else figure


# ==================================================================================================
# Members: probabilities of several models, or of several views, on the same images
# ==================================================================================================
# Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8.

Members = NDArray[np.floating[Any]]  # [M, N, C], probabilities

FLOOR = 1e-7  # float32 knows no probability nearer to one; a zero may not veto all others


def fill_gaps(members: Members) -> Members:
    """The members with a number for every image: the others' mean, and all alike without others."""
    known = np.isfinite(members)
    if known.all():
        return members
    told = known.sum(axis=0)
    means = np.where(known, members, 0).sum(axis=0) / np.maximum(told, 1)
    means[told == 0] = 1 / members.shape[2]
    filled: Members = np.where(known, members, means)
    return filled


def sum_weighted(weights: Sequence[float], members: Members) -> Doubles:
    """The weighted sum over members, one after the other, as they may be large: [N, C]."""
    total = np.zeros(members.shape[1:])
    for weight, member in zip(weights, members, strict=True):
        if weight:
            total += weight * member
    return total


def take_logits(probs: Answers, exclusive: bool) -> Answers:
    """Log probabilities, or log odds where an image may have several classes."""
    logits: Answers = np.log(np.maximum(probs, FLOOR))
    return logits if exclusive else logits - np.log(np.maximum(1 - probs, FLOOR))


def squash(logits: Doubles, exclusive: bool) -> Doubles:
    """The way back: softmax of the rows [N, C], or a sigmoid of each class by itself."""
    if not exclusive:
        return np.asarray(expit(logits))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def find_told(task: Task, targets: Truth, members: Members) -> Doubles:
    """The probability that each member gave to each truth: [M, N], or [M, N C] of several classes.

    None is below the floor.
    """
    if task.exclusive:
        told = members[:, np.arange(len(targets)), targets.argmax(axis=1)]
    else:
        told = np.where(targets != 0, members, 1 - members).reshape(len(members), -1)
    return np.asarray(np.maximum(told, FLOOR), np.float64)


# ==================================================================================================
# Greedy: weights by steps that each add the member that helps the metric most
# ==================================================================================================
# Of Caruana et al. (2004, ICML): with replacement, sorted initialisation, and bags. What decides is
# the metric itself, and log loss only between equals.
#
# Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8.

STEPS, STALE = 40, 10  # of a search at most, and in a row that gain nothing
BAGS = 20

Counts = NDArray[np.number[Any]]  # [M], how often each member counts


class Judge:
    """Tells which of several means of members is best, on the metric.

    Images that all members decide alike are counted once, as every mean decides them so too.
    """

    def __init__(self, task: Task, targets: Truth, members: Members) -> None:
        members, self.rule, self.task = fill_gaps(members), plain_rule(task), task
        self.told = find_told(task, targets, members)
        self.metric, self.images, self.settled = METRICS[task.metric], len(targets), np.zeros(1)
        if self.metric.takes == "decisions":
            first, *others = (apply_rule(self.rule, member) for member in members)
            alike = np.all([(other == first).all(axis=1) for other in others or [first]], axis=0)
            self.settled = self.add_up(targets[alike], first[alike])
            targets, members = targets[~alike], members[:, ~alike]
        self.targets, self.members = targets, members
        self.scores = dict[tuple[float, ...], float]()

    def add_up(self, targets: Truth, answers: NDArray[np.float32]) -> Doubles:
        """What images add to the metric, summed: [K]."""
        assert self.metric.tally  # noqa: S101  # AUC is no sum
        return np.asarray(self.metric.tally(self.task, targets, answers).sum(axis=0), np.float64)

    def score(self, counts: Counts) -> float:
        """The metric of a mean, higher for what is better; the lowest where it is not defined."""
        key = tuple((counts / counts.sum()).tolist())
        if key not in self.scores:
            probs = np.minimum(sum_weighted(key, self.members), 1)
            answers = apply_rule(self.rule, probs)
            if self.metric.tally:
                means = (self.settled + self.add_up(self.targets, answers)) / self.images
                value = float(self.metric.combine(means[None])[0])
            else:
                value = float(weigh_auc(self.targets, answers, np.ones((self.images, 1)))[0])
            value = value if self.metric.higher_is_better else -value
            self.scores[key] = value if np.isfinite(value) else -np.inf
        return self.scores[key]

    def refine(self, counts: Counts) -> tuple[float, int]:
        """What decides between equals: log loss, but for rounding, then the number of members."""
        told = np.log((counts / counts.sum()) @ self.told).mean()
        return round(float(told), 9), -int((counts > 0).sum())

    def choose(self, options: Iterable[Counts]) -> Counts:
        """The best of some means."""
        options = list(options)
        scores = [self.score(counts) for counts in options]
        equals = [counts for counts, one in zip(options, scores, strict=True) if one == max(scores)]
        return equals[0] if len(equals) == 1 else max(equals, key=self.refine)


def rank_members(judge: Judge) -> list[int]:
    """The members from the best by itself to the worst."""
    alone = np.eye(len(judge.told), dtype=np.int64)
    return sorted(
        range(len(alone)),
        key=lambda member: (judge.score(alone[member]), judge.refine(alone[member])),
        reverse=True,
    )


def search_greedily(task: Task, targets: Truth, members: Members) -> Doubles:
    """The mean of the weights that are found in bags of half the members: [M].

    Bags are drawn by the members' order of merit, whatever order they are given in. No mean of bags
    stands against a single member that is better on these images.
    """
    judge, count = Judge(task, targets, members), len(members)
    merit = rank_members(judge)
    dice, size = np.random.default_rng(0), min(count, max(2, (count + 1) // 2))
    found, total = dict[tuple[int, ...], Counts](), np.zeros(count)
    for _ in range(BAGS):
        bag = tuple(merit[place] for place in sorted(dice.permutation(count)[:size]))
        if bag not in found:
            found[bag] = search_bag(judge, bag)
        total += found[bag] / found[bag].sum()
    best = judge.choose([total / BAGS, np.eye(count)[merit[0]]])
    return np.asarray(best, np.float64)


def search_bag(judge: Judge, bag: Sequence[int]) -> Counts:
    """The best mean on the way of a greedy search among members, which are given best first: [M].

    It starts from the best of the means of the first few.
    """
    alone = np.eye(len(judge.told), dtype=np.int64)
    counts = judge.choose(alone[list(bag[:end])].sum(axis=0) for end in range(1, len(bag) + 1))
    best, stale = counts, 0
    for _ in range(STEPS):
        counts = judge.choose(counts + alone[member] for member in bag)
        ahead = judge.choose([best, counts]) is counts
        best, stale = (counts, 0) if ahead else (best, stale + 1)
        if stale == STALE:
            break
    return best


# ==================================================================================================
# Blends: what several models, or several views of an image, answer together
# ==================================================================================================
# Probabilities are averaged, or multiplied with exponents and scaled anew, or their ranks averaged.
# The weights are fitted on out-of-fold answers; which of these fits to trust is the next section's.
# Accuracies as weights are not among them: of .965 and .969 they make .499 and .501.
#
# Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8.

EM_ROUNDS, EM_SETTLED = 500, 1e-5
RIDGE = 0.01  # nats by which a stack is worse for an exponent that is one off the mean's
MOST_POWER = 20.0  # and of an exponent: images that are all right would have them grow for ever


class Blend(NamedTuple):
    """How members become one: weights [M], none below zero, of a kind of mean.

    Those of "mean" and "rank" sum to 1, those of "geometric" need not. `power` sharpens the result
    where it is above 1: what multiplies its log probabilities, or its logits where an image may
    have several classes. A rank is one among the images that are answered together.
    """

    kind: Literal["mean", "geometric", "rank"]
    weights: tuple[float, ...]
    power: float = 1.0


Fit = Callable[[Task, Truth, Members], Blend]


def apply_blend(blend: Blend, members: Members, *, exclusive: bool) -> NDArray[np.float32]:
    """The probabilities of a blend: [N, C]; rows sum to 1 where an image has one class.

    Where members have no number, the mean of the others takes its place.
    """
    members = fill_gaps(members)
    if blend.kind == "geometric":
        logits = sum_weighted(blend.weights, take_logits(members, exclusive))
        return squash(blend.power * logits, exclusive).astype(np.float32)
    if blend.kind == "rank":
        members = rankdata(members, axis=1) / (members.shape[1] + 1)
    probs = sum_weighted(blend.weights, members)
    if exclusive:
        total = probs.sum(axis=1, keepdims=True)
        probs = np.divide(probs, total, np.full_like(probs, 1 / probs.shape[1]), where=total > 0)
    if blend.power != 1:
        probs = squash(blend.power * take_logits(probs, exclusive), exclusive)
    return np.minimum(probs, 1).astype(np.float32)


def spread_evenly(members: Members) -> tuple[float, ...]:
    """The same weight for all members."""
    return (1 / len(members),) * len(members)


def fit_uniform(_: Task, __: Truth, members: Members) -> Blend:
    """The mean."""
    return Blend("mean", spread_evenly(members))


def fit_geometric(_: Task, __: Truth, members: Members) -> Blend:
    """The mean of log probabilities, or of logits."""
    return Blend("geometric", spread_evenly(members))


def fit_ranks(_: Task, __: Truth, members: Members) -> Blend:
    """The mean of ranks, for metrics that ask how images are ordered, as AUC does."""
    return Blend("rank", spread_evenly(members))


def fit_single(task: Task, targets: Truth, members: Members) -> Blend:
    """The member that is best by itself on the metric."""
    best = rank_members(Judge(task, targets, members))[0]
    return Blend("mean", tuple(np.eye(len(members))[best].tolist()))


def fit_likelihood(task: Task, targets: Truth, members: Members) -> Blend:
    """The weights of lowest log loss, by expectation maximisation, which needs no derivative.

    The loss is convex, so there is one answer; no member by itself is better.
    """
    told = find_told(task, targets, fill_gaps(members))
    weights = np.array(spread_evenly(members))
    for _ in range(EM_ROUNDS):
        moved = weights * (told @ (1 / (weights @ told))) / told.shape[1]
        settled = np.abs(moved - weights).max() < EM_SETTLED
        weights = moved / moved.sum()
        if settled:
            break
    ends = [weights, *np.eye(len(members))]
    best = max(ends, key=lambda end: float(np.log(end @ told).mean()))
    return Blend("mean", tuple(best.tolist()))


def fit_greedy(task: Task, targets: Truth, members: Members) -> Blend:
    """The weights of a greedy search on the metric itself."""
    return Blend("mean", tuple(search_greedily(task, targets, members).tolist()))


def fit_stack(task: Task, targets: Truth, members: Members) -> Blend:
    """The exponents, none below zero, of lowest log loss; a ridge pulls them towards the mean's."""
    logits, start = (
        take_logits(fill_gaps(members), task.exclusive),
        np.array(spread_evenly(members)),
    )
    exponents = fit_exponents(task, targets, logits, start, RIDGE)
    return Blend("geometric", tuple(exponents.tolist()))


def fit_power(task: Task, targets: Truth, probs: Answers) -> float:
    """The power of lowest log loss for probabilities [N, C]: a temperature's inverse."""
    logits = take_logits(fill_gaps(probs[None]), task.exclusive)
    return float(fit_exponents(task, targets, logits, np.ones(1), 0.0)[0])


def fit_exponents(
    task: Task, targets: Truth, logits: Members, start: Doubles, ridge: float
) -> Doubles:
    """The multipliers [M] of logits [M, N, C] whose sum has the lowest log loss, in nats.

    The ridge is against squares of what they are off the start. The problem is convex.
    """
    flat, truth = logits.reshape(len(logits), -1), targets.astype(np.float64)
    cells = len(targets) if task.exclusive else targets.size

    def measure(weights: Doubles) -> tuple[float, Doubles]:
        heights = (weights @ flat).reshape(truth.shape)
        probs = squash(heights, task.exclusive)
        wrong = np.logaddexp(0, heights)
        if task.exclusive:
            top = heights.max(axis=1, keepdims=True)
            wrong = top + np.log(np.exp(heights - top).sum(axis=1, keepdims=True))
        off = weights - start
        loss = (wrong.sum() - (truth * heights).sum()) / cells + ridge * off @ off
        return float(loss), flat @ (probs - truth).ravel() / cells + 2 * ridge * off

    bounds = [(0.0, MOST_POWER)] * len(start)
    return np.asarray(minimize(measure, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


FITS: dict[str, Fit] = {
    "uniform": fit_uniform,
    "best single": fit_single,
    "log-loss weights": fit_likelihood,
    "greedy": fit_greedy,
    "geometric mean": fit_geometric,
    "geometric stack": fit_stack,
    "rank average": fit_ranks,
}


def list_fits(task: Task) -> dict[str, Fit]:
    """The fits worth trying for a task, uniform first: ranks only where order is all that counts.

    A ranking asks for the order of classes, not of images, so that it wants none either.
    """
    fits = dict(FITS)
    if task.metric != "auc":
        del fits["rank average"]
    return fits


def weigh_by_accuracy(task: Task, targets: Truth, members: Members) -> Blend:
    """Accuracies as weights, to be shown and not to be used: they hardly differ from each other."""
    named = [find_named(task, member) == targets for member in fill_gaps(members)]
    right = np.array([cells.all(axis=1).mean() for cells in named])
    total = right.sum()
    weights = right / total if total else np.array(spread_evenly(members))
    return Blend("mean", tuple(weights.tolist()))


# ==================================================================================================
# Ensemble: which blend of members is used, and whether any earns the place of the plain one
# ==================================================================================================
# The choice is nested: each fold is answered by the candidate that was best on the other folds,
# among fits that had not seen what they answered there either, and then fitted on all of those.
# Once this is compared with the plain blend, which stays where the luckiest of as many candidates
# would gain as much.
#
# Shapes: M members, N images, C classes; members [M, N, C], targets [N, C] uint8, folds [N] int64.

Parts = frozenset[int]  # of the images, which are left out of a fit


class Choice(NamedTuple):
    """The candidate that stands, its blend, its answers out of fold [N, C], and why.

    `options` are all candidates, the plain one first, each fitted on the other folds only;
    `comparison` is of the choice among them, made without the fold that it answers.
    """

    name: str
    blend: Blend
    probs: NDArray[np.float32]
    options: tuple[Option, ...]
    comparison: Comparison


class Nest:
    """Members whose blends are fitted without some parts of the images, each fit made once."""

    def __init__(
        self,
        task: Task,
        targets: Truth,
        members: Members,
        parts: NDArray[np.int64],
        fits: Mapping[str, Fit],
    ) -> None:
        self.task, self.targets, self.members, self.parts = task, targets, members, parts
        self.fits, self.blends = fits, dict[tuple[str, Parts], Blend]()
        self.present, self.rule = np.unique(parts).tolist(), plain_rule(task)

    def fit(self, name: str, left: Parts = frozenset()) -> Blend:
        """A candidate's blend, fitted without the parts that are left out."""
        if (name, left) not in self.blends:
            rows = ~np.isin(self.parts, list(left))
            fitted = self.fits[name](self.task, self.targets[rows], self.members[:, rows])
            self.blends[name, left] = fitted
        return self.blends[name, left]

    def answer_part(self, probs: NDArray[np.float32], part: int, blend: Blend) -> None:
        """Fills in what a blend answers to one part of probs [N, C]."""
        held = self.parts == part
        probs[held] = apply_blend(blend, self.members[:, held], exclusive=self.task.exclusive)

    def answer(self, name: str, left: Parts = frozenset()) -> NDArray[np.float32]:
        """What a candidate answers to each part, fitted on all others but those left out: [N, C].

        Parts that are left out are not answered.
        """
        probs = np.zeros(self.targets.shape, np.float32)
        for part in set(self.present) - left:
            self.answer_part(probs, part, self.fit(name, left | {part}))
        return probs

    def answer_chosen(self) -> NDArray[np.float32]:
        """What the candidate answers to each part that is chosen and fitted on the others."""
        probs = np.zeros(self.targets.shape, np.float32)
        for part in self.present:
            left = frozenset({part})
            self.answer_part(probs, part, self.fit(self.choose(list(self.fits), left), left))
        return probs

    def choose(self, names: Sequence[str], left: Parts = frozenset()) -> str:
        """The candidate of the best answers without the parts left out; of equals the first."""
        rows = ~np.isin(self.parts, list(left))

        def rate(name: str) -> float:
            answers = self.decide(self.answer(name, left)[rows])
            return self.rate(score_answers(self.task, self.targets[rows], answers))

        return max(names, key=rate)

    def rate(self, score: float) -> float:
        """A score as one that is higher for what is better; the lowest where it is no number."""
        sign = 1 if METRICS[self.task.metric].higher_is_better else -1
        return sign * score if np.isfinite(score) else -np.inf

    def decide(self, probs: Answers) -> NDArray[np.float32]:
        """The answers that the metric takes, by the plain rule."""
        return apply_rule(self.rule, probs)


def choose_blend(
    task: Task,
    targets: Truth,
    members: Members,
    folds: NDArray[np.int64],
    fits: Mapping[str, Fit],
) -> Choice:
    """Chooses among candidates of which the first is the plain one, which stays in doubt.

    Where it does not, the candidate that is best over all folds is fitted on all. Of one fold alone
    there is nothing to choose by. Raises ValueError on what has no score.
    """
    nest = Nest(task, targets, members, divide(folds), fits)
    plain = next(iter(fits))
    if len(nest.present) == 1:
        return keep_plain(nest, plain)
    usual, chosen = nest.answer(plain), nest.answer_chosen()
    others = {name: nest.answer(name) for name in fits if name != plain}
    found = compare_chosen(nest, usual, chosen, list(others.values()))
    options = [weigh_option(nest, plain, usual, None)]
    options += [weigh_option(nest, name, probs, usual) for name, probs in others.items()]
    if not found.adopted:
        return Choice(plain, nest.fit(plain), usual, tuple(options), found)
    name = max(options[1:], key=lambda option: nest.rate(option.score)).name
    return Choice(name, nest.fit(name), chosen, tuple(options), found)


def divide(folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The folds; each of two in halves, as a choice wants other parts to be made on: [N]."""
    if len(np.unique(folds)) != 2:
        return folds
    return 2 * folds + np.arange(len(folds)) % 2


def keep_plain(nest: Nest, plain: str) -> Choice:
    """The plain blend where nothing else can be tried."""
    blend = nest.fit(plain)
    probs = apply_blend(blend, nest.members, exclusive=nest.task.exclusive)
    answers = nest.decide(probs)
    option = Option(plain, score_answers(nest.task, nest.targets, answers))
    comparison = compare_answers(nest.task, nest.targets, answers, answers)
    return Choice(plain, blend, probs, (option,), comparison)


def compare_chosen(
    nest: Nest,
    usual: NDArray[np.float32],
    chosen: NDArray[np.float32],
    others: Sequence[NDArray[np.float32]],
) -> Comparison:
    """Compares the choice with the usual answers, as one of several that could have been lucky.

    A candidate that leads by luck leads on most folds, and is chosen for all of them: a choice that
    is nested has no bias, but the spread of the luckiest. So its gain, in standard errors, must
    also be beyond that of the luckiest of all candidates if none were better than the plain one.
    """
    both = nest.decide(usual), nest.decide(chosen)
    found = compare_answers(nest.task, nest.targets, *both)
    if len(others) < 2 or not np.isfinite(found.difference):
        return found
    sign = 1 if METRICS[nest.task.metric].higher_is_better else -1
    own, *gains = (
        sign * draw_gains(nest.task, nest.targets, both[0], nest.decide(probs), DRAWS, 0)
        for probs in (chosen, *others)
    )
    luck, error = find_luck(np.stack(gains), len(nest.targets)), np.nanstd(own)
    p = (1 + (luck * error >= found.difference).sum()) / (1 + len(luck))
    most = float(np.quantile(luck, 1 - DOUBT))
    return pass_gate(
        found.n,
        found.difference,
        max(found.p, float(p)),
        min(found.low, found.difference - most * error),
        found.high,
        max(found.detectable, (most + ndtri(POWER)) * error),
    )


def find_luck(gains: Doubles, images: int) -> Doubles:
    """Standard errors that the luckiest candidate gains where none is better: [K, D] → [D].

    White's reality check (2000, Econometrica 68:1097), in which candidates that are clearly worse
    than the plain one do not count (Hansen 2005, Journal of Business & Economic Statistics 23:365).
    """
    gains = gains[:, np.isfinite(gains).all(axis=0)]
    means, errors = gains.mean(axis=1), gains.std(axis=1)
    hopeless = -np.sqrt(2 * np.log(np.log(max(images, 3))))
    rivals = (errors > 0) & (means >= hopeless * errors)
    if not rivals.any():
        return np.zeros(gains.shape[1])
    centred = gains[rivals] - means[rivals, None]
    return np.asarray((centred / errors[rivals, None]).max(axis=0))


def weigh_option(
    nest: Nest, name: str, probs: NDArray[np.float32], usual: NDArray[np.float32] | None
) -> Option:
    """A candidate's score, and its gain over the usual answers, which the plain one has not."""
    answers = nest.decide(probs)
    score = score_answers(nest.task, nest.targets, answers)
    if usual is None:
        return Option(name, score)
    both = nest.decide(usual), answers
    fixed, broken = count_flips(nest.task, nest.targets, *both)
    gain = compare_answers(nest.task, nest.targets, *both)
    return Option(name, score, gain, fixed=fixed, broken=broken)


# ==================================================================================================
# Inputs: where the competition's files are
# ==================================================================================================
# Kaggle mounts a competition at /kaggle/input/<name> or /kaggle/input/competitions/<name>. In there
# lie the sample submission and the images; an image is found by any form of its id. Copies of the
# images in other formats (DICOM, TFRecord, zip) are counted and left alone.

# Kaggle's newer layout has a folder for each kind, in which sources lie so many folders down: a
# model's is owner, name, framework, variation, version.
SOURCE_DEPTHS = {"competitions": 1, "datasets": 2, "notebooks": 2, "models": 5}
MOUNT_LIMIT, MOUNT_PAUSE = 300.0, 10.0  # seconds
SAMPLE_NAME = re.compile(r"sample.?submission.*\.csv$", re.IGNORECASE)
# Folders that say which part their images belong to: train_images, Test, stage1_test, Testing.
TRAIN_FOLDER = re.compile(r"(?<![A-Za-z])[Tt]rain|TRAIN")
TEST_FOLDER = re.compile(r"(?<![A-Za-z])[Tt]est(s|ing)?(?![a-z])|(?<![A-Z])TEST(?![A-Z])")
IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
RECORD_SUFFIXES = frozenset((".tfrec", ".tfrecord", ".tfrecords"))
IDS_ASKED = 10_000  # whether they name an image
TWIN_SUFFIXES = frozenset((".dcm", ".zip")) | RECORD_SUFFIXES
NAMES_SHOWN = 5  # ids in a note


class CompetitionError(ValueError):
    """The competition's files cannot be understood; the message names the setting that helps."""


def wait_for_inputs(
    config: DataConfig, report: Reporter, mounted: Path = KAGGLE_INPUT, seconds: float = MOUNT_LIMIT
) -> None:
    """Waits until every attached input holds a file: Kaggle may mount them after the start.

    Raises CompetitionError after the limit. Does nothing where the data lies elsewhere.
    """
    named = Path(config.folder or mounted).resolve()
    if not mounted.is_dir() or not named.is_relative_to(mounted.resolve()):
        return
    begun = time.monotonic()
    while empty := list_empty_inputs(mounted, config):
        names = ", ".join(map(str, empty))
        if time.monotonic() - begun >= seconds:
            raise CompetitionError(
                f"{names}: still empty after {seconds / 60:g} minutes; Kaggle mounts a newly "
                f"attached source late at times: push again, or check that it is attached and "
                f"that the competition's rules are accepted"
            )
        report.say(f"  waiting for {names}, which is empty; Kaggle mounts inputs late at times")
        time.sleep(min(MOUNT_PAUSE, seconds))


def list_empty_inputs(mounted: Path, config: DataConfig) -> list[Path]:
    """The mounted inputs, and the folder of the settings, in which there is no file yet."""
    inputs = [one for path in sorted(mounted.iterdir()) for one in list_sources(path)] or [mounted]
    inputs += [Path(config.folder)] if config.folder else []
    return [one for one in inputs if not one.is_file() and not any(f for *_, f in os.walk(one))]


def list_sources(path: Path, depth: int | None = None) -> list[Path]:
    """The sources below a mount: itself, or so many folders down where it holds one kind alone."""
    depth = SOURCE_DEPTHS.get(path.name, 0) if depth is None else depth
    below = sorted(path.iterdir()) if depth and path.is_dir() else []
    return [one for path in below for one in list_sources(path, depth - 1)] or [path]


def find_competition_folder(config: DataConfig, mounted: Path = KAGGLE_INPUT) -> Path:
    """The folder named by the settings, else the one mounted folder with a sample submission."""
    if config.folder is not None:
        folder = Path(config.folder)
        if not folder.is_dir():
            raise CompetitionError(f"data.folder is {config.folder}, which is not a folder")
        return folder
    folders = [*mounted.glob("*"), *mounted.glob("competitions/*")]
    found = sorted(one for one in folders if one.is_dir() and list_samples(one, "*.csv"))
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise CompetitionError(
            f"looked under {mounted} for one competition with a sample submission and found "
            f"{names}; attach the competition, or set data.folder"
        )
    return found[0]


def list_samples(folder: Path, pattern: str) -> list[Path]:
    """The sample submissions among the files that match the pattern."""
    return sorted(path for path in folder.glob(pattern) if SAMPLE_NAME.search(path.name))


def find_sample(folder: Path, config: DataConfig) -> Path | None:
    """The sample submission named by the settings or found, at the top first; None if none is."""
    if config.sample_submission is not None:
        path = folder / config.sample_submission
        if not path.is_file():
            raise CompetitionError(
                f"data.sample_submission is {config.sample_submission}, "
                f"but there is no such file in {folder}"
            )
        return path
    found = list_samples(folder, "*.csv") or list_samples(folder, "**/*.csv")
    if len(found) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise CompetitionError(
            f"{folder} holds several sample submissions ({names}); "
            f"choose one with data.sample_submission"
        )
    return found[0] if found else None


def read_table(path: Path) -> pd.DataFrame:
    """Reads a CSV as text cells, so that an id such as 007 or a class called NA stays itself."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise CompetitionError(f"{path} cannot be read as a CSV table: {error}") from error


def name_some(ids: Sequence[str], what: str) -> str:
    """Says how many ids there are and names the first: `3 test ids (a, b, c) have`."""
    shown = ", ".join(ids[:NAMES_SHOWN]) + (", …" if len(ids) > NAMES_SHOWN else "")
    return f"{len(ids)} {what}s ({shown}) have"


def read_clean_table(path: Path) -> pd.DataFrame:
    """Reads a CSV as text cells, without spaces around names and cells."""
    table = read_table(path).rename(columns=str.strip)
    clean: pd.DataFrame = table.apply(lambda cells: cells.str.strip())
    return clean


class ImageIndex:
    """All images under a folder, found by path, name or stem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [path for path in folder.rglob("*") if not path.name.startswith(".")]
        self.paths = sorted(
            path.relative_to(folder).as_posix()
            for path in files
            if path.suffix.lower() in IMAGE_SUFFIXES
        )
        suffixes = (path.suffix.lower() for path in files)
        self.twins = Counter(suffix for suffix in suffixes if suffix in TWIN_SUFFIXES)
        self.by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            for name in list_names(path):
                self.by_name[name].append(path)

    def find(self, image_id: str, part: str) -> str | None:
        """The path of an image of the "train" or "test" part, or None if there is no such file.

        Of several, it is the one in a folder of its part; the training part has none in a test
        folder. Raises CompetitionError if that leaves more than one.
        """
        found = self.look_up(image_id)
        if part == "train":
            found = [path for path in found if part_of(path) != "test"]
        found = [path for path in found if part_of(path) == part] or found
        if len(found) > 1:
            raise CompetitionError(
                f"{part} id {image_id!r} could be {found[0]} or {found[1]}; "
                f"set data.folder to a folder that holds one of them"
            )
        return found[0] if found else None

    def look_up(self, image_id: str) -> list[str]:
        """The images that an id names, by the first of its readings that names any."""
        for reading in list_readings(image_id):
            if reading in self.by_name:
                return self.by_name[reading]
        return []

    def share(self, ids: "Sequence[str] | pd.Series[str]") -> float:
        """The share of ids that name an image; of very many, enough of them are asked."""
        known = [bool(self.look_up(one)) for one in ids[:: max(1, len(ids) // IDS_ASKED)]]
        return sum(known) / len(known) if known else 0.0


def list_names(path: str) -> list[str]:
    """What an image may be called: every tail of its path, with its suffix and without."""
    parts = PurePosixPath(path).parts
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    return tails + [tail.rpartition(".")[0] for tail in tails]


def list_readings(image_id: str) -> Iterator[str]:
    """What an id may mean: itself; without spaces; without a suffix that the file has not, or the
    .0 of a tool that took it for a number.
    """
    yield image_id
    yield image_id.strip()
    stem, _, suffix = image_id.strip().rpartition(".")
    if f".{suffix.lower()}" in IMAGE_SUFFIXES | TWIN_SUFFIXES or (
        stem.isdecimal() and suffix == "0"
    ):
        yield stem


def part_of(path: str) -> str | None:
    """The part, "train" or "test", that an image's folders say it is of, or None if none says so.

    The first folder that names one decides: a class called "test tube" below train is a class.
    """
    for folder in PurePosixPath(path).parts[:-1]:
        train, test = bool(TRAIN_FOLDER.search(folder)), bool(TEST_FOLDER.search(folder))
        if train != test:
            return "train" if train else "test"
    return None


# ==================================================================================================
# Tables: which one is about training images, and what its columns are
# ==================================================================================================
# The id column is known by its values, which name images; the label by the sample submission, else
# by its name. A column called like a patient or a place is a group: its images stay in one fold.

LABEL_NAMES = re.compile(r"label|class|category|target|species|breed|diagnosis", re.IGNORECASE)
# What keeps images alike, from the widest: a sequence is taken in one place.
GROUP_WORDS = ("patient", "subject", "location", "site", "sequence", "seq")
GROUP_NAMES = [re.compile(rf"{word}[ _-]?(id|no|number|name)?", re.I) for word in GROUP_WORDS]
GROUPS_LEAST = 5  # fewer would not fill the folds
ID_SHARE = 0.5  # of a column's cells must name images for it to be the id column


class LabelTable(NamedTuple):
    """A table about training images, and which of its columns names them."""

    path: Path
    table: pd.DataFrame  # text cells
    id_column: str

    @property
    def others(self) -> list[str]:
        """The columns that do not name images."""
        return [str(column) for column in self.table if column != self.id_column]

    def check_column(self, setting: str, column: str) -> None:
        """Raises CompetitionError if a column that a setting names is not there."""
        if column not in self.table:
            raise CompetitionError(
                f"{setting} is {column!r}, but the columns of {self.path.name} are "
                f"{', '.join(self.table.columns)}"
            )


def read_tables(
    folder: Path, set_aside: set[Path]
) -> tuple[list[tuple[Path, pd.DataFrame]], list[str]]:
    """All tables below a folder but those set aside, and notes on those that cannot be read.

    Spaces around names and cells are dropped. Raises CompetitionError if a table that cannot be
    read calls itself a train table.
    """
    tables, notes = [], []
    for path in sorted(folder.rglob("*.csv")):
        if path.resolve() in set_aside or path.name.startswith("."):
            continue
        try:
            tables.append((path, read_clean_table(path)))
        except CompetitionError as error:
            if is_called_train(path):
                raise
            notes.append(f"left aside: {error}")
    return tables, notes


def is_called_train(path: Path) -> bool:
    """Does a table's name say that it is about training images?"""
    name = path.name.lower()
    return ("train" in name or "label" in name) and "test" not in name


def list_asked(sample: pd.DataFrame | None) -> list[str]:
    """The columns that a sample submission asks for, without spaces around their names."""
    return [] if sample is None else [str(column).strip() for column in sample.columns[1:]]


def find_label_tables(
    index: ImageIndex,
    config: DataConfig,
    sample: pd.DataFrame | None,
    tables: Sequence[tuple[Path, pd.DataFrame]],
) -> list[LabelTable]:
    """Tables that are about training images, each with its id column.

    Of several, those with the label column of the settings, then those called train, then those
    with a column that is asked for, then those with one row for each image. A table of the ids
    that are asked for is about test images, unless it is called train or holds annotations: both
    parts may be numbered alike.
    """
    test_ids = set() if sample is None else set(sample.iloc[:, 0].str.strip())
    found, asked = [], list_asked(sample)
    for path, table in tables:
        column = find_id_column(index, config, sample, table)
        if column is None or table.shape[1] == 1:
            continue
        of_training = is_called_train(path) or path.suffix == ".json"
        if of_training or table[column].isin(test_ids).mean() <= ID_SHARE:
            found.append(LabelTable(path, table, column))
    found = [one for one in found if config.label_column in one.table] or found
    found = [one for one in found if is_called_train(one.path)] or found
    found = [one for one in found if set(asked) & set(one.others)] or found
    return [one for one in found if one.table[one.id_column].is_unique] or found


def find_id_column(
    index: ImageIndex, config: DataConfig, sample: pd.DataFrame | None, table: pd.DataFrame
) -> str | None:
    """The column that names images: the one of the settings, else the best of those that do.

    Small numbers may name images by chance: of equals, it is the one called as in the sample, then
    the one with more different values.
    """
    if config.id_column is not None:
        return config.id_column if config.id_column in table else None
    asked_by = "" if sample is None else str(sample.columns[0]).strip()
    ranks = {
        str(column): (index.share(table[column]), column == asked_by, table[column].nunique())
        for column in table
    }
    best = max(ranks, key=lambda column: ranks[column], default=None)
    return best if best is not None and ranks[best][0] >= ID_SHARE else None


def find_label_columns(
    config: DataConfig, found: LabelTable, sample: pd.DataFrame | None
) -> list[str]:
    """The label's column, or one for each class: of the settings, or as the sample has them.

    Else it is the only column, the one whose cells are the sample's columns, the one called so, or,
    where there is no sample, the columns of zeros and ones.
    """
    asked, others = list_asked(sample), found.others
    if config.label_column is not None:
        found.check_column("data.label_column", config.label_column)
        return [config.label_column]
    if asked and set(asked) <= set(others):
        return asked
    cells = {name: found.table[name].str.split() for name in others if len(asked) > 1}
    among_asked = [
        name
        for name in cells
        if found.table[name].isin(asked).all() or cells[name].explode().isin(asked).all()
    ]
    called_so = [name for name in others if LABEL_NAMES.search(name)]
    for fitting in (others, among_asked, called_so):
        if len(fitting) == 1:
            return fitting
    flags = [name for name in others if sample is None and found.table[name].isin(("0", "1")).all()]
    if len(flags) > 1:
        return flags
    raise CompetitionError(
        f"any of the columns {', '.join(others)} could be the label; set data.label_column"
    )


def find_group_column(
    config: DataConfig, found: LabelTable, labels: Sequence[str]
) -> tuple[str | None, list[str]]:
    """The column whose equal values stay in one fold, with a note; None if there is none."""
    if config.group_column is None:
        return None, []
    if config.group_column != "auto":
        found.check_column("data.group_column", config.group_column)
        return config.group_column, [f"groups: column {config.group_column!r} of {found.path.name}"]
    for pattern in GROUP_NAMES:
        for name in found.others:
            groups = found.table[name].nunique()
            if name in labels or not pattern.fullmatch(name):
                continue
            if GROUPS_LEAST <= groups < len(found.table) and (found.table[name] != "").all():
                note = f"groups: column {name!r} of {found.path.name}, for its name: {groups} of "
                return name, [note + "them, each in one fold; data.group_column none lets it go"]
    return None, []


def read_others(
    found: LabelTable, labels: Sequence[str], tables: Sequence[tuple[Path, pd.DataFrame]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What tables tell of training and of test images besides the label: text, by id.

    The test part's are those of the first table that is called so and has the same id column.
    """
    name = found.id_column
    others = found.table.set_index(name).drop(columns=list(labels), errors="ignore")
    tests = [
        table.set_index(name) for path, table in tables if is_called_test(path) and name in table
    ]
    return others, tests[0] if tests else pd.DataFrame(index=others.index[:0])


def is_called_test(path: Path) -> bool:
    """Does a table's name say that it is about test images?"""
    return "test" in path.name.lower()


def list_train_only(
    found: LabelTable, labels: Sequence[str], tables: Sequence[tuple[Path, pd.DataFrame]]
) -> list[str]:
    """A note on columns that are known of training images alone: no label, and nothing to use."""
    tests = [table for path, table in tables if is_called_test(path)]
    known = {str(column) for table in tests for column in table} | set(labels)
    only = [name for name in found.others if name not in known]
    if not tests or not only:
        return []
    return [
        f"known of training images alone: {', '.join(only)}; nothing but the image is learned from"
    ]


def describe_grouped_ids(
    sample: pd.DataFrame, tables: Sequence[tuple[Path, pd.DataFrame]]
) -> str | None:
    """Says what the sample's ids stand for if a table has them in a column of their own, or None.

    It names the columns that make up such an id, as patient and laterality make up 10008_L.
    """
    ids = set(sample.iloc[:, 0].str.strip())
    for path, table in tables:
        for column in [name for name in table if ids <= set(table[name])]:
            others = [name for name in table if name != column]
            made_of = [
                f"{one} and {other}"
                for one in others
                for other in others
                if (table[one] + "_" + table[other] == table[column]).all()
            ]
            if made_of or table[column].duplicated().any():
                what = made_of[0] if made_of else column
                return f"{what} of {path.name}, which has {len(table)} images of {len(ids)} such"
    return None


# ==================================================================================================
# Annotations: the JSON of COCO as a table
# ==================================================================================================
# Such a file lists images, and annotations that give an image a category. The table has a row for
# each image, with the image's own fields, and so the rest of Podium sees no difference to a CSV.


def read_annotations(folder: Path) -> list[tuple[Path, pd.DataFrame]]:
    """The tables of all JSON files below a folder that annotate images as COCO does."""
    tables = [(path, read_coco(path)) for path in sorted(folder.rglob("*.json"))]
    return [(path, table) for path, table in tables if table is not None]


def read_coco(path: Path) -> pd.DataFrame | None:
    """A row for each image: its fields, and category_id; None if the file is about something else.

    All cells are text. Several categories of one image stand side by side, with spaces between.
    Raises CompetitionError if the file is no JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CompetitionError(f"{path} cannot be read as JSON: {error}") from error
    if not is_coco(content):
        return None
    categories = defaultdict[Any, set[Any]](set)
    for annotation in content["annotations"]:
        categories[annotation["image_id"]].add(annotation["category_id"])
    rows = [
        {key: str(value) for key, value in image.items() if isinstance(value, str | int | float)}
        | {"category_id": " ".join(map(str, sorted(categories[image["id"]])))}
        for image in content["images"]
    ]
    return pd.DataFrame(rows).fillna("")


def is_coco(content: Any) -> bool:
    """Does a JSON file list images, and annotations with a category?"""
    if not isinstance(content, dict):
        return False
    needed = {"images": {"id", "file_name"}, "annotations": {"image_id", "category_id"}}
    parts = {name: content.get(name) for name in needed}
    return all(
        isinstance(rows, list)
        and rows
        and isinstance(rows[0], dict)
        and needed[name] <= set(rows[0])
        for name, rows in parts.items()
    )


# ==================================================================================================
# Labels: what each training image shows
# ==================================================================================================
# Four sources, in this order: a table beside the images, annotations in COCO's JSON, a folder for
# each class, the class in the file's name. Where a table and folders or names both tell the class,
# they must agree. Annotations name their images one by one, and so go before folders, which may be
# mere numbers.

CLASS_IN_NAME = re.compile(r"(.*?)[._\- ]*\d+")
NO_LABEL = ""


class Labels(NamedTuple):
    """Training images with what they show, and how that was understood."""

    # id: str; path: str, or None: no file; group: str where there is one;
    # label: the cell as text, or of a column for each class a tuple of the classes that are there
    table: pd.DataFrame
    notes: list[str]
    others: tuple[pd.DataFrame, pd.DataFrame] | None = None  # as `read_others` gives them


def read_labels(
    index: ImageIndex, config: DataConfig, sample: pd.DataFrame | None, set_aside: set[Path]
) -> Labels:
    """Finds the labels of the training images.

    `set_aside` are tables that are not about training. Raises CompetitionError if no layout fits.
    """
    tables, unread = read_tables(index.folder, set_aside)
    fitting = find_label_tables(index, config, sample, tables)
    if not fitting:
        annotated = read_annotations(index.folder)
        fitting = find_label_tables(index, config, sample, annotated)
    if fitting:
        found = choose_table(index, fitting)
        labels = read_label_table(index, config, found, sample, tables)
        return labels._replace(notes=labels.notes + unread)
    if config.group_column not in (None, "auto"):
        raise CompetitionError("data.group_column needs a train table, and there is none")
    test_ids = [] if sample is None else sample.iloc[:, 0].tolist()
    asked = {index.find(image_id, "test") for image_id in test_ids}
    paths = [path for path in index.paths if path not in asked and part_of(path) != "test"]
    for what, names in (
        ("folder", label_by_folder(paths)),
        ("file name", label_by_name(paths)),
    ):
        if names:
            table = pd.DataFrame({"id": paths, "path": paths, "label": names})
            return Labels(table, [f"labels: from each image's {what}", *unread])
    raise CompetitionError(
        f"found no labels in {index.folder}: no table with image ids and a label, no annotations, "
        f"no folder for each class, no class in the file names of {len(paths)} images; "
        f"see data.folder"
    )


def choose_table(index: ImageIndex, fitting: Sequence[LabelTable]) -> LabelTable:
    """The one table of training images; raises CompetitionError if there are several."""
    if len(fitting) > 1:
        names = ", ".join(one.path.name for one in fitting)
        raise CompetitionError(
            f"{index.folder} holds several tables of training images ({names}); name a column that "
            f"only one of them has with data.label_column or data.id_column"
        )
    return fitting[0]


def read_label_table(
    index: ImageIndex,
    config: DataConfig,
    found: LabelTable,
    sample: pd.DataFrame | None,
    tables: Sequence[tuple[Path, pd.DataFrame]],
) -> Labels:
    """Reads ids, labels and groups from a table."""
    path, table, id_column = found
    columns = find_label_columns(config, found, sample)
    group, grouped = find_group_column(config, found, columns)
    repeated = table[id_column][table[id_column].duplicated()]
    if len(repeated):
        raise CompetitionError(
            f"{path.name} lists image {repeated.iloc[0]!r} more than once in column {id_column!r}"
        )
    paths = [index.find(image_id, "train") for image_id in table[id_column]]
    labels = table[columns[0]] if len(columns) == 1 else read_one_hot(found, columns)
    images = pd.DataFrame({"id": table[id_column], "path": paths, "label": labels})
    if group is not None:
        images["group"] = table[group]
    what = f"column {columns[0]!r}" if len(columns) == 1 else f"{len(columns)} columns"
    notes = [f"labels: {what} of {path.name}, ids in {id_column!r}", *grouped]
    notes += list_train_only(found, columns, tables)
    images, unlabelled = drop_unlabelled(images, what, path)
    check_places_agree(images, path)
    return Labels(images, notes + unlabelled, read_others(found, columns, tables))


def read_one_hot(found: LabelTable, columns: Sequence[str]) -> "pd.Series[Any]":
    """The classes whose columns hold a 1, for each row; no label where a cell is empty.

    Raises CompetitionError if a cell is neither empty nor 0 nor 1.
    """
    cells = found.table[list(columns)]
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    for name in columns:
        for row in cells.index[~numbers[name].isin((0, 1)) & (cells[name] != NO_LABEL)][:1]:
            raise CompetitionError(
                f"{found.path.name} has {cells.at[row, name]!r} in column {name!r}, of image "
                f"{found.table.at[row, found.id_column]!r}, where 0 or 1 should be: 1 for a class "
                f"that is there; see data.label_column"
            )
    names, empty = np.array(columns, object), numbers.isna().any(axis=1)
    there = (numbers == 1).to_numpy()
    labels = [
        NO_LABEL if none else tuple(names[row]) for none, row in zip(empty, there, strict=True)
    ]
    return pd.Series(labels, index=cells.index, dtype=object)


def drop_unlabelled(images: pd.DataFrame, what: str, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Leaves out rows whose label is empty, with a note; too many are an error."""
    empty = images["label"].map(lambda label: label == NO_LABEL)
    ids = images["id"][empty].tolist()
    if len(ids) > len(images) / 2:
        raise CompetitionError(
            f"{len(ids)} of {len(images)} cells of {what} of {path.name} are empty, "
            f"e.g. that of {ids[0]!r}; see data.label_column"
        )
    left_out = (
        f"{len(ids)} rows of {path.name} have no label and are left out: {', '.join(ids[:3])}"
    )
    return images[~empty].reset_index(drop=True), [left_out] if ids else []


def check_places_agree(images: pd.DataFrame, path: Path) -> None:
    """Raises CompetitionError if folders or file names tell the same classes, but another's."""
    present = images[images["path"].notna()]
    paths = present["path"].tolist()
    folders = [PurePosixPath(text).parent.name for text in paths]
    for place, told in (("folder", folders), ("file name", label_by_name(paths))):
        if set(told) != set(present["label"]):
            continue
        wrong = present[[one != other for one, other in zip(told, present["label"], strict=True)]]
        if len(wrong):
            first = wrong.iloc[0]
            raise CompetitionError(
                f"{path.name} says that {first['id']} is {first['label']!r}, but it lies in "
                f"{first['path']}; {len(wrong)} images contradict their {place}"
            )


def label_by_folder(paths: Sequence[str]) -> list[str]:
    """The folder of each image, if these are two or more classes side by side; else nothing.

    The classes may lie in several places, such as train and valid, of which one has them all.
    """
    places = defaultdict[PurePosixPath, set[str]](set)
    for parent in {PurePosixPath(path).parent for path in paths}:
        places[parent.parent].add(parent.name)
    classes = max(places.values(), key=len, default=set())
    alike = len({len(place.parts) for place in places}) == 1  # and none lies beside the folders
    if len(classes) < 2 or "" in classes or not alike:
        return []
    if not all(names <= classes for names in places.values()):
        return []
    return [PurePosixPath(path).parent.name for path in paths]


def label_by_name(paths: Sequence[str]) -> list[str]:
    """What stands before the number in each file's name, if that makes two or more classes.

    All must lie in one folder: where there are several, names may be numbered by something else.
    """
    if len({PurePosixPath(path).parent for path in paths}) > 1:
        return []
    matches = [CLASS_IN_NAME.fullmatch(PurePosixPath(path).stem) for path in paths]
    labels = [match.group(1) for match in matches if match and match.group(1)]
    return labels if len(labels) == len(paths) and len(set(labels)) > 1 else []


# ==================================================================================================
# Archives: images that lie in zips or TFRecords alone
# ==================================================================================================
# Where there are no image files, they are unpacked into a temporary folder, once as long as the
# archives stay the same, with the competition's tables beside them: from there on nothing differs.

# How encoded images begin, and the suffix that says so.
IMAGE_STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp"}
Row = dict[str, Any]  # one record, without its lists


def open_images(folder: Path) -> tuple[ImageIndex, list[str]]:
    """The images of a folder; if it has none, those of its zips, else of its TFRecords.

    Notes say what was unpacked. Raises CompetitionError if an archive is broken or the disk full.
    """
    index = ImageIndex(folder)
    if index.paths:
        return index, []
    files = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    records = [path for path in files if path.suffix.lower() in RECORD_SUFFIXES]
    for archives in (zips, records):
        if archives:
            unpacked = ImageIndex(unpack_once(folder, archives))
            if unpacked.paths:
                kinds = archives[0].suffix
                note = f"{len(unpacked.paths)} images unpacked from {len(archives)} {kinds} files"
                return unpacked, [f"{note} to {unpacked.folder}"]
    return index, []


def unpack_once(folder: Path, archives: Sequence[Path]) -> Path:
    """A temporary folder with the archives' images and the folder's tables, whole or not there."""
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in archives]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"podium-{digest}"
    if place.is_dir():
        return place
    half = Path(tempfile.mkdtemp(prefix=f"{place.name}-"))
    unpack = unpack_zips if archives[0].suffix.lower() == ".zip" else unpack_records
    try:
        link_tables(folder, half)
        unpack(archives, half)
        half.rename(place)
    except (OSError, zipfile.BadZipFile, tf.errors.OpError) as error:
        raise CompetitionError(
            f"{folder} has no image files, and its archives cannot be unpacked to {half.parent} "
            f"({error}); unpack them to a folder and name it with data.folder"
        ) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return place


def link_tables(folder: Path, place: Path) -> None:
    """Links tables and annotations into another folder, each at the same place below it."""
    for path in folder.rglob("*"):
        if path.suffix.lower() in (".csv", ".json"):
            link = place / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def unpack_zips(archives: Sequence[Path], place: Path) -> None:
    """Unpacks each zip into a folder of its own name, which may tell the part: train.zip.

    One whose content lies beside it is left out, as train.csv.zip beside train.csv.
    """
    for path in archives:
        if not path.with_suffix("").is_file():
            with zipfile.ZipFile(path) as archive:
                archive.extractall(place / path.name.partition(".")[0])


def unpack_records(archives: Sequence[Path], place: Path) -> None:
    """Writes the records' images as files into train and test, and their other fields as tables.

    A table is left out where the folder has one of its own that is called train.
    """
    has_table = any(is_called_train(path) for path in place.rglob("*.csv"))
    for part in ("train", "test"):
        (place / part).mkdir(exist_ok=True)
        chosen = [path for path in archives if part_of_record(path) == part]
        records = (row for path in chosen for row in read_records(path))
        rows = dict(write_record(row, place / part) for row in records)  # of two sizes, the last
        if part == "train" and rows and not has_table:
            pd.DataFrame(rows.values()).to_csv(place / "train.csv", index=False)


def part_of_record(path: Path) -> str:
    """The part of a TFRecord file: test if its name or folder says so, as test03-687.tfrec."""
    return "test" if TEST_FOLDER.search(f"{path.parent.name}/{path.stem}") else "train"


def read_records(path: Path) -> Iterator[Row]:
    """The fields of each tf.train.Example of a file that hold one value."""
    for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
        fields = sorted(tf.train.Example.FromString(record).features.feature.items())
        kinds = [(name, field, field.WhichOneof("kind")) for name, field in fields]
        lists = {name: getattr(field, kind).value for name, field, kind in kinds if kind}
        yield {name: values[0] for name, values in lists.items() if len(values) == 1}


def write_record(row: Row, place: Path) -> tuple[str, dict[str, object]]:
    """Writes a record's image under its id; returns the id and the other fields.

    Raises CompetitionError if it has no encoded image, or no text to call it by.
    """
    images = [name for name, value in row.items() if find_suffix(value)]
    others: dict[str, object] = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in row.items()
        if name not in images
    }
    texts = [name for name, value in others.items() if isinstance(value, str)]
    texts.sort(key=lambda name: ("image" not in name.lower(), "id" not in name.lower()))
    if len(images) != 1 or not texts:
        raise CompetitionError(
            f"a TFRecord holds {', '.join(row)}, and not one encoded image and its id; unpack the "
            f"images to files and name their folder with data.folder"
        )
    content, image_id = row[images[0]], Path(str(others[texts[0]])).name
    suffix = find_suffix(content)
    (place / f"{image_id.removesuffix(suffix)}{suffix}").write_bytes(content)
    return image_id, others


def find_suffix(content: Any) -> str:
    """The suffix of an encoded image's format; nothing if it is something else."""
    if not isinstance(content, bytes):
        return ""
    return next((suffix for start, suffix in IMAGE_STARTS.items() if content.startswith(start)), "")


# ==================================================================================================
# Sample: the ids that are asked for, and their images
# ==================================================================================================
# Podium answers image by image: ids that stand for groups of images are refused, as is a
# competition whose images it cannot read.


def read_sample(path: Path, index: ImageIndex) -> pd.DataFrame:
    """Reads the sample submission and checks that its ids are ids; all cells are text."""
    sample = read_table(path)
    if sample.shape[1] < 2 or len(sample) == 0:
        raise CompetitionError(f"{path.name} must have ids, at least one more column, and rows")
    first, *others = sample.columns
    for column in others:
        named = sample[column].is_unique and index.share(sample[column]) > ID_SHARE
        if named and index.share(sample[first]) <= ID_SHARE:
            raise CompetitionError(
                f"the ids of {path.name} stand in column {column!r} and not in the first; put them "
                f"first in a copy, and name it with data.sample_submission"
            )
    ids = sample[first]
    if (ids == "").any() or ids.duplicated().any():
        odd = "" if (ids == "").any() else ids[ids.duplicated()].iloc[0]
        raise CompetitionError(f"the ids of {path.name} are not unique; see {odd!r}")
    return sample


def check_images(index: ImageIndex, sample: pd.DataFrame | None, aside: set[Path]) -> None:
    """Raises CompetitionError if there is no image, saying what there is instead."""
    if index.paths:
        return
    refuse_groups(sample, index, aside)
    if dicom := index.twins[".dcm"]:
        raise CompetitionError(
            f"{index.folder} holds {dicom} DICOM files and no image that Podium reads; convert "
            f"them to PNG or JPEG, or attach a data set in which that is done and name it with "
            f"data.folder"
        )
    raise CompetitionError(f"found no images in {index.folder}; see data.folder")


def refuse_groups(sample: pd.DataFrame | None, index: ImageIndex, aside: set[Path]) -> None:
    """Raises CompetitionError if the sample's ids are those of groups of images."""
    tables, _ = read_tables(index.folder, aside)
    groups = None if sample is None else describe_grouped_ids(sample, tables)
    if sample is not None and groups is not None:
        what = " and ".join(f"{count} {suffix}" for suffix, count in sorted(index.twins.items()))
        raise CompetitionError(
            f"the sample submission asks for one answer for each {sample.columns[0]}, such as "
            f"{sample.iloc[0, 0]!r}, which is no image but a {groups}; to predict groups of images "
            f"is out of Podium's scope{f' (there are {what} files too)' if what else ''}"
        )


def find_test(index: ImageIndex, sample: pd.DataFrame) -> pd.DataFrame:
    """The ids that the sample asks for, each with the path of its image, or None."""
    ids = sample.iloc[:, 0].tolist()
    paths = pd.Series([index.find(image_id, "test") for image_id in ids], dtype=object)
    return pd.DataFrame({"id": ids, "path": paths})


def check_test(
    train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, path: Path, index: ImageIndex
) -> None:
    """Raises CompetitionError if no test id has a file, or a test image is also trained on."""
    if test["path"].isna().all():
        refuse_groups(sample, index, {path.resolve()})
        raise CompetitionError(
            f"none of the {len(test)} ids of {path.name} has an image, "
            f"e.g. {test['id'].iloc[0]!r}; see data.folder"
        )
    shared = set(train["path"]) & set(test["path"].dropna())
    if shared:
        raise CompetitionError(
            f"{len(shared)} images are both training and test, e.g. {min(shared)}; "
            f"see data.id_column and data.sample_submission"
        )


# ==================================================================================================
# Classes: their names and their order
# ==================================================================================================
# A label is the name of a class, or a list of names with spaces between. Classes that are whole
# numbers are in the order of numbers, others in that of the alphabet; the sample submission's
# columns have the order that they have there.

Names = tuple[str, ...]  # the classes that one image shows


def are_lists(labels: set[str]) -> bool:
    """Are labels with spaces lists of labels, and not names?

    They are if every part of them is a label by itself elsewhere, or a whole number. Raises
    CompetitionError if that holds for some and not for others.
    """
    spaced = sorted(label for label in labels if " " in label)
    if not spaced:
        return False
    if all(is_whole(part) for label in labels for part in label.split()):
        return True
    lists = [set(label.split()) <= labels for label in spaced]
    if any(lists) and not all(lists):
        one, other = spaced[lists.index(True)], spaced[lists.index(False)]
        raise CompetitionError(
            f"label {one!r} may be a list, as each of its parts is a label by itself, but "
            f"{other!r} has a part that is none: set data.answer to labels if an image has "
            f"several labels, or to label if these are names with spaces"
        )
    return all(lists)


def is_whole(text: str) -> bool:
    """Is this a whole number?"""
    return text.removeprefix("-").isdecimal()


def split_names(cell: str | Names, answer: AnswerKind, columns: Sequence[str]) -> Names:
    """The classes that a label names: a tuple has them already, a list has spaces between."""
    if not isinstance(cell, str):
        return cell
    parts = tuple(dict.fromkeys(cell.split()))
    if answer == "labels":
        return parts
    listed = answer == "probabilities" and cell not in columns and set(parts) <= set(columns)
    return parts if listed else (cell,)


def list_classes(present: set[str], columns: Sequence[str], images: int) -> list[str]:
    """The classes: the sample's columns if they are, else the labels in natural order."""
    if len(present) < 2:
        raise CompetitionError(
            f"all {images} training images have the label {min(present)!r}; see data.label_column"
        )
    if columns:
        unknown = sorted(present - set(columns))
        if unknown:
            raise CompetitionError(
                f"label {unknown[0]!r} is not among the sample submission's columns "
                f"{', '.join(columns[:5])}…; see data.label_column"
            )
        return list(columns)
    whole = all(map(is_whole, present))
    return sorted(present, key=(lambda label: (int(label), label)) if whole else None)


def put_positive_last(classes: Sequence[str], config: DataConfig) -> list[str]:
    """Two classes, of which the last is the one whose probability is asked."""
    if len(classes) != 2:
        raise CompetitionError(
            f"the sample submission asks for one probability for each image, but the training "
            f"labels are {len(classes)} classes ({', '.join(classes[:5])}…) and not two; see "
            f"data.label_column and data.answer"
        )
    positive = config.positive_class or classes[-1]
    if positive not in classes:
        raise CompetitionError(
            f"data.positive_class is {positive!r}, but the labels are {' and '.join(classes)}"
        )
    return sorted(classes, key=lambda name: name == positive)


# ==================================================================================================
# Asked: what the sample submission wants to know of each image
# ==================================================================================================
# Several columns are classes with their probabilities. What one column holds is told by its cells
# beside the training labels; where both readings of a cell are sound, metric or answer must be set.
# The metric itself stands in no file: the usual one is taken, with a request to confirm it.

ANSWERS: dict[AnswerKind, str] = {
    "label": "a label",
    "labels": "a list of labels",
    "probability": "one probability",
    "probabilities": "a probability of each class",
    "ranking": "a list of the likeliest labels",
}
RANKS = 5  # in a ranking whose sample does not tell


class Asked(NamedTuple):
    """The task, the classes that each training image shows, and how that was understood."""

    task: Task
    names: list[Names]  # [N]
    notes: list[str]


def read_task(
    sample: pd.DataFrame | None, cells: Sequence[str | Names], config: DataConfig
) -> Asked:
    """Understands what is asked from the sample and the training labels.

    Raises CompetitionError, naming the setting that decides, for what can be read in two ways.
    """
    columns = list_asked(sample)
    answer = read_answer(sample, cells, config)
    names = [split_names(cell, answer, columns) for cell in cells]
    present = {name for one in names for name in one}
    classes = list_classes(present, columns if answer == "probabilities" else [], len(cells))
    if answer == "probability":
        classes = put_positive_last(classes, config)
    elif config.positive_class is not None:
        raise CompetitionError(
            f"data.positive_class is {config.positive_class!r}, but {ANSWERS[answer]} is asked for "
            f"and not the probability of one class"
        )
    exclusive = answer != "labels" and all(len(one) == 1 for one in names)
    metric = infer_metric(answer, exclusive) if config.metric == "auto" else config.metric
    check_metric(metric, answer, classes)
    spaced = [name for name in classes if " " in name]
    if answer == "ranking" and spaced:
        raise CompetitionError(
            f"a list of labels is asked for, with spaces between them, but label {spaced[0]!r} has "
            f"a space itself; see data.label_column and data.answer"
        )
    ranks = min(count_ranks(sample), len(classes)) if answer == "ranking" else RANKS
    task = Task(answer, tuple(classes), exclusive, metric, ranks)
    return Asked(task, names, describe_task(task, config))


def read_answer(
    sample: pd.DataFrame | None, cells: Sequence[str | Names], config: DataConfig
) -> AnswerKind:
    """The kind of answer: of the settings, if the columns allow it, else as the sample tells."""
    columns = list_asked(sample)
    if config.answer != "auto":
        if columns and (config.answer == "probabilities") != (len(columns) > 1):
            raise CompetitionError(
                f"data.answer is {config.answer}, but the sample submission has {len(columns)} "
                f"columns beside the ids ({', '.join(columns[:5])}): probabilities have a column "
                f"for each class, the others have one"
            )
        return config.answer
    if len(columns) > 1:
        return "probabilities"
    labels = {cell for cell in cells if isinstance(cell, str)}
    if sample is None:
        return choose_answer(labels, config)
    return read_one_column(sample.iloc[:, 1].str.strip().tolist(), labels, columns[0], config)


def choose_answer(labels: set[str], config: DataConfig) -> AnswerKind:
    """Without a sample submission: what the metric judges, else the labels themselves.

    There are none as text where each class has a column.
    """
    if not labels:
        return "probabilities"
    if are_lists(labels):
        return "labels"
    judged = [answer for answer in ANSWERS if config.metric in list_judges(answer)]
    if "probability" in judged and len(labels) > 2:
        return "probabilities"
    return judged[0] if judged else "label"


def read_one_column(
    texts: Sequence[str], labels: set[str], column: str, config: DataConfig
) -> AnswerKind:
    """The kind of answer that one column of cells holds, beside the training labels."""
    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
    known = set(texts) <= labels
    if numbers.notna().all() and (numbers % 1 != 0).any() and not known:
        return "probability"
    if are_lists(labels):
        return "labels"
    counts = {len(text.split()) for text in texts}
    if max(counts) > 1 and not known:
        return "ranking" if len(counts) == 1 else "labels"
    if len(labels) == 2 and set(texts) <= {"0", "1", ""}:
        return choose_binary(labels, column, known or set(texts) == {""}, config)
    return "label"


def choose_binary(
    labels: set[str], column: str, could_be_label: bool, config: DataConfig
) -> AnswerKind:
    """Zeros and ones are a class or its probability: the metric decides, or it is refused."""
    if not could_be_label:
        return "probability"
    for answer in ("label", "probability"):
        if config.metric in list_judges(answer):
            return answer
    if not labels <= {"0", "1"}:
        return "label"
    raise CompetitionError(
        f"column {column!r} of the sample submission holds 0 or 1, as the training labels do: it "
        f"may ask for the label, or for the probability of '1'; set data.metric (to one of "
        f"{', '.join(list_judges('label'))} for the label, "
        f"{', '.join(list_judges('probability'))} for the probability), or data.answer to label or "
        f"probability"
    )


def list_judges(answer: AnswerKind) -> list[MetricName]:
    """The metrics that judge such answers."""
    return [name for name, metric in METRICS.items() if answer in metric.fits]


def check_metric(metric: MetricName, answer: AnswerKind, classes: Sequence[str]) -> None:
    """Raises CompetitionError if the metric does not judge such answers."""
    if metric not in list_judges(answer):
        raise CompetitionError(
            f"data.metric is {metric}, but {ANSWERS[answer]} is asked for, which "
            f"{' or '.join(list_judges(answer))} can judge; see also data.answer"
        )
    if metric == "qwk" and not all(map(is_whole, classes)):
        raise CompetitionError(
            f"data.metric is qwk, which needs classes in an order, as whole numbers are, and not "
            f"{', '.join(classes[:5])}…; see data.label_column"
        )


def count_ranks(sample: pd.DataFrame | None) -> int:
    """How many classes a cell of the sample lists, where all list as many; else the usual five."""
    counts = set() if sample is None else {len(text.split()) for text in sample.iloc[:, 1]}
    return max(counts) if len(counts) == 1 and max(counts) > 1 else RANKS


def describe_task(task: Task, config: DataConfig) -> list[str]:
    """What was understood of answers and metric, a line each."""
    notes = []
    if task.answer == "probability":
        first, last = task.classes
        turn = "" if config.positive_class else f"; data.positive_class {first} turns it round"
        notes.append(f"the probability is that of {last!r}, and not of {first!r}{turn}")
    elif task.answer == "ranking":
        notes.append(f"a list has {task.ranks} labels, the likeliest first")
    elif not task.exclusive:
        notes.append("an image may show several classes, or none: each is learned by itself")
    elif task.answer == "probabilities":
        notes.append("an image shows one class: its probabilities sum to one")
    guess = (
        ""
        if config.metric != "auto"
        else (
            ", the usual one; the files cannot tell the metric: confirm it, or set another, with "
            f"data.metric {task.metric}"
        )
    )
    return [*notes, f"metric: {task.metric}{guess}"]


# ==================================================================================================
# Solution: what the test images show, where that is known
# ==================================================================================================
# For rehearsals: the truth as labels, or in the form in which the submission answers.


def read_solution(path: Path, ids: Sequence[str], task: Task) -> list[Names]:
    """The classes that each test image shows; the first column of the CSV holds the ids.

    Raises CompetitionError if there is no such file, or an id is missing.
    """
    if not path.is_file():
        raise CompetitionError(f"data.solution is {path}, which is not a file")
    table = read_clean_table(path)
    known = table.iloc[:, 0].isin(ids)
    rows = table[known].set_index(table.columns[0])
    truth = dict(zip(rows.index, read_truth(rows, task), strict=True))
    missing = [image_id for image_id in ids if image_id not in truth]
    if missing:
        raise CompetitionError(f"data.solution: {name_some(missing, 'test id')} no label in {path}")
    return [truth[image_id] for image_id in ids]


def read_truth(rows: pd.DataFrame, task: Task) -> list[Names]:
    """The classes of each row: from a column for each class, else from the first column."""
    if set(task.classes) <= set(rows.columns):
        shares = rows[list(task.classes)].apply(pd.to_numeric, errors="coerce").fillna(0)
        if task.exclusive:
            return [(str(name),) for name in shares.idxmax(axis=1)]
        there = (shares >= 0.5).to_numpy()
        return [tuple(pd.Index(task.classes)[row]) for row in there]
    return [read_cell(str(cell), task) for cell in rows.iloc[:, 0]]


def read_cell(cell: str, task: Task) -> Names:
    """The classes that one cell of an answer tells."""
    if cell in task.classes:
        return (cell,)
    if not task.exclusive:
        return tuple(cell.split())
    if task.answer == "ranking":
        return tuple(cell.split()[:1]) or (cell,)
    share = pd.to_numeric(cell, errors="coerce")
    if task.answer == "probability" and not pd.isna(share):
        return (task.classes[int(share >= 0.5) - 2],)
    return (cell,)


# ==================================================================================================
# Draws: a part of the images for rehearsals, and a test part where there is none
# ==================================================================================================
# Drawn by id and seed, so that the order of rows does not matter; every draw holds the classes in
# proportion.


def draw_held(images: pd.DataFrame, share: float, seed: int) -> NDArray[np.int64]:
    """Rows to hold back: that share, class by class; of groups, whole ones, at least one."""
    wanted, order = max(1, round(share * len(images))), draw_order(images, seed)
    if "group" not in images:
        return order[:wanted]
    drawn = images["group"].iloc[order].drop_duplicates()
    reached = drawn.map(images["group"].value_counts()).cumsum()
    chosen = drawn[(reached <= wanted) | (reached == reached.min())]
    return np.flatnonzero(images["group"].isin(chosen))


def draw_order(table: pd.DataFrame, seed: int) -> NDArray[np.int64]:
    """Rows in an order whose every beginning holds the labels in proportion.

    Depends on ids and seed, not on the order of rows.
    """
    rng = np.random.default_rng(seed)
    by_id = table["id"].argsort(kind="stable").to_numpy()
    shuffled = by_id[rng.permutation(len(table))]
    labels = table["label"].iloc[shuffled].astype(str)
    share = (labels.groupby(labels).cumcount() + 0.5) / labels.map(labels.value_counts())
    return np.asarray(shuffled[share.argsort(kind="stable").to_numpy()], np.int64)


def draw_train(table: pd.DataFrame, config: DataConfig, seed: int) -> pd.DataFrame:
    """At most data.limit training images, class by class, at least one of each that fits."""
    if config.limit is None or config.limit >= len(table):
        return table
    order = table.iloc[draw_order(table, seed)]
    first = order[~order["label"].astype(str).duplicated()]
    return pd.concat([first, order.drop(index=first.index)]).iloc[: config.limit]


def draw_test(table: pd.DataFrame, config: DataConfig, seed: int) -> pd.DataFrame:
    """The test images, with a path for at most data.test_limit of them."""
    present = table["id"][table["path"].notna()].sort_values()
    if config.test_limit is None or config.test_limit >= len(present):
        return table
    kept = np.random.default_rng(seed).choice(present, config.test_limit, replace=False)
    return table.assign(path=table["path"].where(table["id"].isin(kept), None))


# ==================================================================================================
# Competition: from its files to one image table
# ==================================================================================================
# The sample submission is the judge: it decides the ids, the columns, the order of the classes and
# what is asked of each image. What was understood is printed and reported.
#
# Shapes: N training images, T test images, C classes.


@dataclass(frozen=True)
class Competition:
    """Images, and what is to be submitted."""

    # [N] id, path: str; label: int64, index into classes, or a tuple of them where classes do not
    # exclude each other; group: str if there are groups
    train: pd.DataFrame
    test: pd.DataFrame  # [T] id: str; path: str or None; label if known; as in the sample
    task: Task
    sample: pd.DataFrame  # [T] the sample submission as text
    notes: tuple[str, ...]  # what was understood, a line each
    # What tables tell of training and test images besides the label: text, by id.
    others: tuple[pd.DataFrame, pd.DataFrame] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes: [C]."""
        return self.task.classes


def read_competition(config: DataConfig, seed: int) -> Competition:
    """Understands a competition's folder; raises CompetitionError naming the setting that helps."""
    folder = find_competition_folder(config)
    index, opened = open_images(folder)
    sample_path = find_sample(index.folder, config)
    sample = None if sample_path is None else read_sample(sample_path, index)
    aside = {Path(one).resolve() for one in (sample_path, config.solution) if one is not None}
    check_images(index, sample, aside)
    labels = read_labels(index, config, sample, aside)
    images, missing = drop_missing(labels.table, folder)
    asked = read_task(sample, images["label"].tolist(), config)
    images["label"] = pd.Series(asked.names, dtype=object)
    if sample is None or sample_path is None:
        images, test, sample = hold_out(images, asked.task, config.holdout, folder, seed)
        found = [
            f"no sample submission: {len(test)} labelled images are held back as the test part"
        ]
    else:
        test = find_test(index, sample)
        check_test(images, test, sample, sample_path, index)
        found = describe_test(test, asked.task, sample_path)
        if config.solution is not None:
            truth = read_solution(Path(config.solution), test["id"].tolist(), asked.task)
            test["label"] = pd.Series(truth, dtype=object)
    train = draw_train(images, config, seed).sort_values("id", ignore_index=True)
    drawn = draw_test(test, config, seed)
    notes = [f"folder: {folder}", *opened, *labels.notes, *missing, *found, *asked.notes]
    notes += describe_classes(images, asked.task.classes)
    notes += describe_rest(index, images, test) + describe_limits(images, train, test, drawn)
    return Competition(
        index_labels(train, asked.task, index.folder),
        index_labels(drawn, asked.task, index.folder),
        asked.task,
        sample,
        tuple(notes),
        labels.others,
    )


def drop_missing(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Leaves out training ids that have no file, with a note; too many are an error."""
    missing = table["id"][table["path"].isna()].tolist()
    if len(missing) > len(table) / 2:
        raise CompetitionError(
            f"{len(missing)} of {len(table)} training ids have no image in {folder}, "
            f"e.g. {missing[0]!r}; see data.folder and data.id_column"
        )
    found = table[table["path"].notna()].reset_index(drop=True)
    left_out = f"{name_some(missing, 'training id')} no file and are left out"
    return found, [left_out] if missing else []


def hold_out(
    images: pd.DataFrame, task: Task, share: float, folder: Path, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Without a sample submission, sets a share of the labelled images aside as the test part.

    Returns training part, test part, and a sample that asks for the task's kind of answer.
    """
    if share == 0:
        raise CompetitionError(
            f"found no sample submission in {folder}, where its name would be like "
            f"sample_submission.csv; name it with data.sample_submission, or hold labelled "
            f"images back as a test part for a rehearsal with data.holdout 0.2"
        )
    held = images.index[draw_held(images, share, seed)]
    test = images.loc[sorted(held), ["id", "path", "label"]].reset_index(drop=True)
    train = images.drop(index=held).reset_index(drop=True)
    blank = {"ranking": " ".join(task.classes[: task.ranks]), "probability": "0.5"}
    columns = task.classes if task.answer == "probabilities" else ("label",)
    cell = "0.5" if len(columns) > 1 else blank.get(task.answer, task.classes[0])
    return train, test, pd.DataFrame({"id": test["id"]} | dict.fromkeys(columns, cell))


def describe_test(test: pd.DataFrame, task: Task, sample: Path) -> list[str]:
    """What is asked for, and which test images are not there."""
    asked = f"asked for: {ANSWERS[task.answer]} for each of {len(test)} ids, as in {sample.name}"
    absent = test["id"][test["path"].isna()].tolist()
    note = f"{name_some(absent, 'test id')} no file and will be predicted by the prior"
    return [asked, note] if absent else [asked]


def describe_classes(train: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """How many images and classes there are, and which classes are too rare to be sure of."""
    counts = Counter(name for names in train["label"] for name in names)
    sizes = {name: counts[name] for name in classes}
    notes = [
        f"{len(train)} training images, {len(classes)} classes of {min(sizes.values())} to "
        f"{max(sizes.values())}: " + ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
    ]
    rare = {name: size for name, size in sizes.items() if size < 2}
    for name, size in list(rare.items())[:NAMES_SHOWN]:
        fate = "in one fold it is validated without having been trained on"
        notes.append(
            f"class {name!r} has 1 image: {fate}"
            if size
            else f"class {name!r} has no training image: it will hardly be predicted"
        )
    if len(rare) > NAMES_SHOWN:
        notes.append(f"{len(rare) - NAMES_SHOWN} more classes have at most 1 image")
    return notes


def describe_rest(index: ImageIndex, train: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """What is there and not used: images that no table names, and copies in other formats."""
    rest = sorted(set(index.paths) - set(train["path"]) - set(test["path"].dropna()))
    notes = []
    if rest:
        notes.append(
            f"not used: {len(rest)} images that are neither labelled nor asked for, e.g. {rest[0]}"
        )
    if index.twins:
        twins = ", ".join(f"{count} {suffix}" for suffix, count in sorted(index.twins.items()))
        notes.append(f"not used: {twins} files, as there are images")
    return notes


def describe_limits(
    images: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, drawn: pd.DataFrame
) -> list[str]:
    """What the settings leave out."""
    notes, count = [], drawn["path"].notna().sum()
    if len(train) < len(images):
        notes.append(f"data.limit: {len(train)} of {len(images)} training images are used")
    if count < test["path"].notna().sum():
        notes.append(f"data.test_limit: {count} test images are predicted, the rest by the prior")
    return notes


def index_labels(table: pd.DataFrame, task: Task, folder: Path) -> pd.DataFrame:
    """Turns labels from names to indices, and paths from relative to whole."""
    table = table.reset_index(drop=True)
    whole = [None if pd.isna(path) else str(folder / path) for path in table["path"]]
    table["path"] = pd.Series(whole, dtype=object)
    if "label" not in table:
        return table
    rows = {name: row for row, name in enumerate(task.classes)}
    unknown = {name for names in table["label"] for name in names} - set(rows)
    if unknown:
        raise CompetitionError(f"data.solution holds {min(unknown)!r}, which is no training label")
    indices = [tuple(sorted(rows[name] for name in names)) for names in table["label"]]
    if not task.exclusive:
        return table.assign(label=pd.Series(indices, dtype=object))
    return table.assign(label=np.array([first for (first,) in indices], np.int64))


# ==================================================================================================
# Decode: one image file to an upright square of uint8
# ==================================================================================================
# JPEGs, nearly all of what competitions hold, are decoded by OpenCV at the smallest DCT scale that
# still covers the square; all else by Pillow, which knows far more formats and has the last word
# on what is broken. One resize serves both, so that an image does not depend on who decoded it.
#
# Shapes: S side of the square.

# What Pillow raises on broken files: no such file or truncated, broken PNG chunk, absurd header,
# broken AVIF.
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)

# The DCT scales that OpenCV decodes at: one in 8, 4, 2 and 1.
REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}

# EXIF orientation: whether to swap rows and columns, then the steps along rows and columns.
# fmt: off
TURNS = {
    2: (False, 1, -1), 3: (False, -1, -1), 4: (False, -1, 1),
    5: (True, 1, 1), 6: (True, 1, -1), 7: (True, -1, -1), 8: (True, -1, 1),
}
# fmt: on
ORIENTATION = 0x0112  # the EXIF tag

JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
JPEG_SCAN, JPEG_TAGS = 0xDA, 0xE1
JPEG_START = b"\xff\xd8"


class JpegHeader(NamedTuple):
    """What of a JPEG decides how it is decoded."""

    width: int
    height: int
    tagged: bool  # EXIF or XMP, which may turn it


def decode_image(
    path: str, side: int, scratch: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Decodes one file upright into a centred square [S, S, 3] uint8, aspect ratio kept.

    `scratch` [2 S, 2 S, 3], which is overwritten, saves the time to touch new memory. Raises one
    of BROKEN_IMAGE if the file is missing, truncated or no image.
    """
    with Path(path).open("rb", buffering=0) as file:
        data = file.read()
    header = read_jpeg_header(data)
    square = None if header is None else decode_jpeg(data, header, side, scratch)
    return decode_with_pillow(data, side) if square is None else square


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG of no more pixels than Pillow takes; None for all else."""
    if data[:2] != JPEG_START:
        return None
    place, size, tagged = 2, (0, 0), False
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            size = width, height
        elif marker == JPEG_SCAN:
            fits = 0 < size[0] * size[1] <= (Image.MAX_IMAGE_PIXELS or 0)
            return JpegHeader(*size, tagged) if fits else None
        tagged |= marker == JPEG_TAGS
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def decode_jpeg(
    data: bytes, header: JpegHeader, side: int, scratch: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8] | None:
    """The square [S, S, 3] uint8 of a JPEG; None if OpenCV refuses it, as it does what is cut off.

    In memory, that is: of a truncated file, cv2.imread makes up the rest.
    """
    shorter = min(header.width, header.height)
    scale = next(scale for scale in REDUCED if shorter // scale >= side or scale == 1)
    flags = REDUCED[scale] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        blue_first = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if blue_first is None:
        return None
    orientation = 1
    if header.tagged:
        with Image.open(io.BytesIO(data)) as image:  # reads no more than the tags
            orientation = read_orientation(image)
    square = cv2.cvtColor(fit_square(blue_first, side, scratch), cv2.COLOR_BGR2RGB)
    return turn_upright(np.asarray(square, np.uint8), orientation)


def decode_with_pillow(data: bytes, side: int) -> NDArray[np.uint8]:
    """The square [S, S, 3] uint8 of an image in any format that Pillow reads.

    Raises one of BROKEN_IMAGE.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side, side))
        pixels = np.asarray(convert_to_rgb(image))
        return turn_upright(fit_square(pixels, side), read_orientation(image))


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8 bits a channel; Pillow alone would clip 16 bits to white.

    Of 16 bits the upper 8 are kept, whatever range an image uses, so that images compare. Raises
    ValueError for floating-point pixels, whose range nothing tells.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; convert them to 8 or 16 bits")
    if image.mode.startswith("I"):
        upper = np.clip(np.asarray(image, np.int64) >> 8, 0, 255)
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # a palette may have transparency, which Pillow converts by way of RGBA
        image = image.convert("RGBA")
    return image.convert("RGB")


def fit_square(
    pixels: NDArray[np.uint8], side: int, scratch: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Cuts the centre square out of [H, W, 3] and resizes it to [S, S, 3], without aliasing.

    OpenCV's area mean blurs where it shrinks by less than half, and is slow. There, which is where
    a DCT scale leaves off, cubic interpolation at twice the side and the mean of each 2 × 2 is as
    near to the exact resize or nearer, in half the time (bench/decoders.py).
    """
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    square = pixels[top : top + shorter, left : left + shorter]
    if shorter <= side:
        return resize_square(square, side, cv2.INTER_CUBIC)
    if shorter < 2 * side:
        square = resize_square(square, 2 * side, cv2.INTER_CUBIC, scratch)
    return resize_square(square, side, cv2.INTER_AREA)


def resize_square(
    square: NDArray[np.uint8], side: int, method: int, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """OpenCV's resize of a square to [S, S, 3], which `into` may be."""
    return np.asarray(cv2.resize(square, (side, side), dst=into, interpolation=method), np.uint8)


def read_orientation(image: Image.Image) -> int:
    """The orientation that an image's tags tell, 1 to 8; tags that cannot be read tell none."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever is wrong with its tags, the image itself was read
        return 1


def turn_upright(square: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns a square [S, S, 3] as its EXIF orientation says; it stays as it is for an unknown one.

    Source: EXIF 2.3, tag 274.
    """
    swapped, down, right = TURNS.get(orientation, (False, 1, 1))
    return (square.swapaxes(0, 1) if swapped else square)[::down, ::right]


# ==================================================================================================
# Cache: where decoded squares are kept
# ==================================================================================================
# In memory if they take no more than a share of what is free there, else on disk, else nowhere, and
# every batch is decoded anew. Memory and file have no name, so nothing is left behind however a run
# ends; other processes of the same user reach them by way of /proc, without a copy.
#
# Shapes: N images, S side of the square.

CacheKind = Literal["memory", "disk", "none"]


class PixelError(RuntimeError):
    """The pixels cannot be stored, or are none."""


class Pixels(Protocol):
    """Squares [N, S, S, 3] uint8, indexed by rows: an array, or images decoded anew."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, S, S, 3."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Room(NamedTuple):
    """Bytes that are free."""

    memory: int
    disk: int


def measure_room() -> Room:
    """What is free now in memory and in the folder for temporary files.

    /kaggle/working has a quota that results need, so nothing is free there.
    """
    folder = Path(tempfile.gettempdir()).resolve()
    reserved = folder.is_relative_to(KAGGLE_WORKING)
    return Room(measure_memory(), 0 if reserved else shutil.disk_usage(folder).free)


def measure_memory(system: Path = Path("/")) -> int:
    """Bytes of memory that this process may still take; 0 where there is no Linux to ask.

    That is what the machine has to give, or less in a container with a limit of its own, where
    files cached by the kernel count as taken but are given up.
    """
    try:
        text = (system / "proc/meminfo").read_text()
    except OSError:
        return 0
    available = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return min([int(available[1]) * 1024 if available else 0, *measure_groups(system)])


def measure_groups(system: Path) -> Iterator[int]:
    """Yields the free bytes under each memory limit of this process's control groups, v1 or v2."""
    names = {
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        "": ("memory.max", "memory.current", "inactive_file"),
    }
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers not in names:
            continue
        limit, usage, given_up = names[controllers]
        top = system / "sys/fs/cgroup" / controllers
        inner = top / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            try:
                most, used = (int((folder / name).read_text()) for name in (limit, usage))
                stat = dict(re.findall(r"(\w+) (\d+)", (folder / "memory.stat").read_text()))
            except (OSError, ValueError):  # no such group here, or no limit ("max")
                continue
            yield max(most - used + int(stat.get(given_up, 0)), 0)


def choose_cache(size: int, room: Room, config: PixelsConfig) -> CacheKind:
    """Where that many bytes are kept: as pixels.cache says, or where they fit into its share.

    Raises PixelError if they do not fit at all where the setting wants them.
    """
    free: dict[CacheKind, int] = {"memory": room.memory, "disk": room.disk}
    if config.cache == "auto":
        allowed = (kind for kind in free if size <= config.cache_share * free[kind])
        return next(allowed, "none")
    if size > free.get(config.cache, size):
        raise PixelError(
            f"pixels.cache is {config.cache}, and the images need {size / 1e9:.1f} GB where "
            f"{free[config.cache] / 1e9:.1f} GB are free; lower pixels.image_size or data.limit, "
            f"or set pixels.cache to auto"
        )
    return config.cache


def describe_cache(shape: tuple[int, int], kind: CacheKind, room: Room, share: float) -> str:
    """Says in one line what is kept where, and by which limits; `shape` is N, S."""
    where = {"memory": "kept in memory", "disk": "kept on disk", "none": "decoded for each batch"}
    return (
        f"{shape[0]} squares of {shape[1]} px, {count_bytes(*shape) / 1e9:.2f} GB, {where[kind]}; "
        f"auto may take {share:.0%} of the free {room.memory / 1e9:.1f} GB of memory "
        f"or {room.disk / 1e9:.1f} GB in {tempfile.gettempdir()}"
    )


def count_bytes(count: int, side: int) -> int:
    """The size of that many squares."""
    return count * side * side * 3


def allocate_pixels(count: int, side: int, kind: CacheKind) -> NDArray[np.uint8]:
    """Reserves [count, S, S, 3] uint8 in memory or on disk, which goes with the last view of it.

    Raises PixelError if the disk has no room: found out now, not by a crash in the middle.
    """
    size = max(count_bytes(count, side), 1)
    try:
        file = open_unnamed(kind)
        try:
            os.truncate(file, size)
            if kind == "disk" and hasattr(os, "posix_fallocate"):  # macOS has none: finds out later
                os.posix_fallocate(file, 0, size)
            pixels: NDArray[np.uint8] = map_pixels(file, (count, side, side, 3))
        except BaseException:
            os.close(file)
            raise
    except OSError as error:
        raise PixelError(
            f"{count} images of {side} px need {size / 1e9:.1f} GB in {tempfile.gettempdir()}, "
            f"which has no room ({error.strerror}); lower pixels.image_size or data.limit, "
            f"or set TMPDIR to a larger disk"
        ) from error
    weakref.finalize(pixels.base, os.close, file)
    return pixels


def open_unnamed(kind: CacheKind) -> int:
    """Opens memory, or a file on disk, that has no name: a file descriptor."""
    if kind == "memory" and hasattr(os, "memfd_create"):  # Linux; /dev/shm may be tiny
        return os.memfd_create("podium-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def map_pixels(file: int, shape: tuple[int, ...]) -> Any:
    """Maps an open file, by its path under /proc where there is one, which the array remembers."""
    path = f"/proc/{os.getpid()}/fd/{file}"
    if Path(path).exists():
        return np.memmap(path, np.uint8, "r+", shape=shape)
    with open(file, "r+b", closefd=False) as stream:
        return np.memmap(stream, np.uint8, "r+", shape=shape)


def share_path(pixels: Pixels) -> str | None:
    """The path by which another process maps the same pixels, as long as this one holds them.

    There, `np.memmap(path, np.uint8, "r", shape=pixels.shape)` copies nothing. None if these are
    not pixels from `allocate_pixels`, or not from the first on, or there is no /proc.
    """
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        return None
    root: Any = pixels
    while isinstance(root.base, np.ndarray):
        root = root.base
    first = pixels.flags.c_contiguous and pixels.ctypes.data == root.ctypes.data
    return str(pixels.filename) if first else None


def make_writer(pixels: NDArray[np.uint8]) -> Callable[[int, NDArray[np.uint8]], object]:
    """How to store a square at a row: through the file, at half the cost of touching new pages."""
    path = share_path(pixels)
    if path is None:
        return pixels.__setitem__
    file, size = int(Path(path).name), count_bytes(1, pixels.shape[1])
    return lambda row, square: os.pwrite(file, np.ascontiguousarray(square), row * size)


class FreshPixels:
    """Squares [N, S, S, 3] uint8 that are decoded whenever they are asked for, on all cores."""

    def __init__(self, paths: Sequence[str], side: int) -> None:
        self.paths = np.array(paths, object)
        self.shape = (len(paths), side, side, 3)
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        chosen = self.paths[rows]
        squares = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for row, square in enumerate(self.pool.map(self.decode, chosen)):
            squares[row] = square
        return squares

    def decode(self, path: str) -> NDArray[np.uint8]:
        """One square; raises PixelError if the file, which was read before, cannot be any more."""
        try:
            return decode_image(path, self.shape[1])
        except BROKEN_IMAGE as error:
            raise PixelError(f"{path} could be read at first, and now cannot: {error}") from error


# ==================================================================================================
# Pixels: from image files to squares of uint8
# ==================================================================================================
# Every image is decoded once, for all folds and epochs, if there is room to keep it. Pixels stay
# uint8, 0 to 255: to normalise them is the model's business.
#
# Shapes: N images, B batch, S side of the stored square.

TOGETHER = 16  # images that a thread decodes before it asks for more


class Images(NamedTuple):
    """An image table and its decoded pixels, row by row, unreadable images left out."""

    table: pd.DataFrame  # [N] id, path; label and group where known
    pixels: Pixels  # [N, S, S, 3] uint8
    unreadable: list[str]  # ids


class JoinedPixels:
    """Squares of two stores as one, without a copy: the rows of the second follow."""

    def __init__(self, first: Pixels, second: Pixels) -> None:
        self.first, self.second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        places = np.arange(len(self))[rows]
        squares = np.empty((len(places), *self.shape[1:]), np.uint8)
        late = places >= len(self.first)
        squares[~late] = self.first[places[~late]]
        squares[late] = self.second[places[late] - len(self.first)]
        return squares


def decode_images(
    paths: Sequence[str], side: int, into: NDArray[np.uint8] | None, report: Reporter, part: str
) -> NDArray[np.bool_]:
    """Decodes all files on all cores, `into` [N, S, S, 3] if given; tells which are readable [N].

    An unreadable image leaves zeros and a False.
    """
    readable = np.zeros(len(paths), np.bool_)
    write = None if into is None else make_writer(into)

    def decode_some(rows: range) -> int:
        scratch = np.empty((2 * side, 2 * side, 3), np.uint8)
        for row in rows:
            try:
                square = decode_image(paths[row], side, scratch)
            except BROKEN_IMAGE as error:
                report.emit("image_unreadable", path=paths[row], reason=str(error))
                continue
            readable[row] = True
            if write is not None:
                write(row, square)
        return rows.stop

    started = said = time.monotonic()
    starts = range(0, len(paths), TOGETHER)
    tasks = [range(start, min(start + TOGETHER, len(paths))) for start in starts]
    with one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(decode_some, tasks):
            now = time.monotonic()
            if now - said > 15 or done == len(paths):
                said, speed = now, done / max(now - started, 1e-9)
                report.say(f"  {part}: {done} of {len(paths)} images decoded, {speed:.0f}/s")
    return readable


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keeps OpenCV from threads of its own while a pool has all cores at work."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def read_images(
    table: pd.DataFrame, side: int, part: str, config: PixelsConfig, report: Reporter
) -> Images:
    """Decodes the images of a table that have a file, and leaves out what cannot be read.

    `part` is "training" or "test". Raises PixelError if nothing is left, or nowhere to keep it.
    """
    table = table[table["path"].notna()].reset_index(drop=True)
    paths, room = table["path"].tolist(), measure_room()
    kind = choose_cache(count_bytes(len(paths), side), room, config)
    report.say(f"  {part}: {describe_cache((len(paths), side), kind, room, config.cache_share)}")
    cached = None if kind == "none" else allocate_pixels(len(paths), side, kind)
    readable = decode_images(paths, side, cached, report, part)
    if not readable.any():
        raise PixelError(f"none of the {len(table)} {part} images can be read; see data.folder")
    kept = np.flatnonzero(readable)
    table, unreadable = table.iloc[kept].reset_index(drop=True), table["id"][~readable].tolist()
    if unreadable:
        fate = "left out of training" if part == "training" else "predicted with the prior"
        names = ", ".join(unreadable)
        report.warn(f"{len(unreadable)} {part} images cannot be read and are {fate}: {names}")
    if cached is None:
        return Images(table, FreshPixels(table["path"].tolist(), side), unreadable)
    return Images(table, move_up(cached, kept), unreadable)


def move_up(pixels: NDArray[np.uint8], kept: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Closes the gaps between kept rows, in place: a copy might not fit into memory."""
    for row, old in enumerate(kept):
        if row != old:
            pixels[row] = pixels[old]
    return pixels[: len(kept)]


def check_pixels(batch: NDArray[Any]) -> None:
    """Raises PixelError unless a batch is raw pixels: uint8 that reach beyond 1.

    The model normalises by itself, so pixels scaled before would be scaled twice, and nothing but
    a bad accuracy would tell.
    """
    if batch.dtype != np.uint8 or batch.max() <= 1:
        raise PixelError(
            f"the first batch is {batch.dtype} from {batch.min():g} to {batch.max():g}, but the "
            f"model takes raw pixels, uint8 from 0 to 255, and normalises them itself; take the "
            f"scaling (/ 255, preprocess_input) out of the input pipeline"
        )


# ==================================================================================================
# Duplicates: images that are nearly the same
# ==================================================================================================
# A photograph may be there twice: saved anew, resized, cropped a little, brightened, mirrored. In
# two folds, such a pair lets the network recognise what it should learn to tell. All pairs are
# compared, first by a short description of each image, then closely; what is found stays together.
#
# Shapes: N training images, T test images, P pairs, S side of the stored square.

LOW = 8  # frequencies that describe an image, in each direction
COARSE, FINE = 16, 32  # sides of thumbnails, px
# Cosines, measured by bench/duplicates.py: of descriptions, from which a pair is looked at; of
# coarse thumbnails, from which it is looked at closely; of details, from which it is nearly the
# same and, among images that all look alike, the same.
SIMILAR, ALIKE, NEAR, SAME = 0.85, 0.965, 0.82, 0.98
FLAT = 1.0  # grey levels; an image of a smaller deviation shows nothing to recognise
TILE = 2048  # images that are compared with as many others at a time
CHUNK = 128  # images that are shrunk, and pairs that are looked at closely, at a time


class Pairs(NamedTuple):
    """Images that are nearly the same, each pair once, sorted by rows."""

    first: NDArray[np.int64]  # [P] rows of the training part
    second: NDArray[np.int64]  # [P] rows after the first; N and more are rows of the test part
    cosine: NDArray[np.float32]  # [P] of their details, NEAR to 1

    def select(self, kept: NDArray[Any] | slice) -> "Pairs":
        """Some of the pairs: a mask [P], places, or a range."""
        return Pairs(self.first[kept], self.second[kept], self.cosine[kept])


class Clusters(NamedTuple):
    """Which training images belong together, and what is odd about it."""

    numbers: NDArray[np.int64]  # [N] equal where images are nearly the same, by way of others too
    note: str = ""
    serious: bool = False


def find_duplicates(train: Pixels, test: Pixels | None = None) -> Pairs:
    """Finds the pairs of nearly the same images, within the training part and across to the test.

    Pixels are [N, S, S, 3] and [T, S, S, 3]. Flat images are in no pair. Takes 6 kB of memory an
    image, and time with the square of their number: see docs/benchmarks.md.
    """
    size = len(train) + (0 if test is None else len(test))
    chunks = [np.arange(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    tiles = [slice(start, min(start + TILE, size)) for start in range(0, size, TILE)]
    turns = [
        (slice(one.start, min(one.stop, len(train))), other)
        for number, one in enumerate(tiles)
        for other in tiles[number:]
        if one.start < len(train)
    ]

    take = partial(take_squares, train, test)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shrunk = pool.map(lambda rows: make_thumbnails(take(rows), COARSE), chunks)
        thumbnails = np.concatenate(list(shrunk))
        described = describe_thumbnails(thumbnails)
        alike = pool.map(lambda turn: compare_tiles(thumbnails, described, *turn), turns)
        near = pool.map(lambda pairs: compare_details(pairs, take), itertools.chain(*alike))
        return sort_pairs(list(near))


def take_squares(train: Pixels, test: Pixels | None, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The squares of ascending rows, those of the test part counted on from N."""
    inside = rows < len(train)
    if test is None or inside.all():
        return np.asarray(train[rows])
    return np.concatenate([train[rows[inside]], test[rows[~inside] - len(train)]])


def sort_pairs(found: Sequence[Pairs]) -> Pairs:
    """Each pair once, at its best: an image may be like another and like its mirror too."""
    first, second, cosine = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-cosine, second, first))
    pairs = Pairs(first, second, cosine).select(order)
    new = (np.diff(pairs.first, prepend=-1) != 0) | (np.diff(pairs.second, prepend=-1) != 0)
    return pairs.select(new)


def make_thumbnails(images: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Small and blurred, so that a small shift is a small change: [N, side, side, 3] float32.

    Their mean is 0 and their length 1, which leaves neither brightness nor contrast; flat ones
    are 0. The fine ones hold details alone, without shades that images of one place share.
    """
    thumbnails = np.empty((len(images), side, side, 3), np.float32)
    for image, thumbnail in zip(images, thumbnails, strict=True):
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        shade = cv2.GaussianBlur(small, (0, 0), 3) if side == FINE else 0
        thumbnail[:] = cv2.GaussianBlur(small, (0, 0), 1) - shade
    thumbnails -= thumbnails.mean((1, 2, 3), keepdims=True)
    length = np.sqrt(np.einsum("nijk,nijk->n", thumbnails, thumbnails))
    least = FLAT * np.sqrt(3) * side if side == COARSE else 1e-6
    flat = length < least
    thumbnails /= np.where(flat, np.inf, length)[:, None, None, None]
    return thumbnails


def describe_thumbnails(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """The low frequencies of grey thumbnails, of length 1: [N, LOW, LOW] float32.

    They are those of which a perceptual hash keeps the signs (Zauner 2010, Implementation and
    benchmarking of perceptual image hash functions). Their values tell more, and a matrix product
    compares them as fast. Each is weighted by its frequency, as low ones are large in any image.
    """
    grey = thumbnails @ np.array([0.299, 0.587, 0.114], np.float32)
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :LOW, :LOW]
    low *= np.hypot(*np.mgrid[:LOW, :LOW]).astype(np.float32)
    length = np.sqrt(np.einsum("nij,nij->n", low, low))
    return np.asarray(low / np.maximum(length, 1e-9)[:, None, None], np.float32)


def compare_tiles(
    thumbnails: NDArray[np.float32], described: NDArray[np.float32], one: slice, other: slice
) -> list[tuple[Pairs, bool]]:
    """Compares two ranges of images; returns the pairs that are alike, and those mirrored."""
    alike = []
    flat = described.reshape(len(described), -1)
    mirror = np.where(np.arange(LOW) % 2, -1, 1).astype(np.float32)  # odd frequencies change sign
    for mirrored in (False, True):
        others = (described[other] * mirror if mirrored else described[other]).reshape(-1, LOW**2)
        found = np.flatnonzero(flat[one] @ others.T >= SIMILAR)  # far faster than nonzero
        rows, columns = np.divmod(found, len(others))
        first, second = rows + one.start, columns + other.start
        first, second = first[first < second], second[first < second]
        cosine = np.zeros(len(first), np.float32)
        for start in range(0, len(first), CHUNK):
            part = slice(start, start + CHUNK)
            moved, fixed = thumbnails[first[part]], thumbnails[second[part]]
            cosine[part] = fit_either(moved, fixed[:, :, ::-1] if mirrored else fixed, ALIKE)
        alike.append((Pairs(first, second, cosine).select(cosine >= ALIKE), mirrored))
    return alike


def compare_details(
    alike: tuple[Pairs, bool], take: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
) -> Pairs:
    """The pairs whose details fit too; `take` has the pixels of rows."""
    pairs, mirrored = alike
    found = []
    for start in range(0, len(pairs.first), CHUNK):
        part = pairs.select(slice(start, start + CHUNK))
        rows, places = np.unique([part.first, part.second], return_inverse=True)
        details = make_thumbnails(take(rows), FINE)[places.reshape(2, -1)]
        fixed = details[1][:, :, ::-1] if mirrored else details[1]
        part = part._replace(cosine=fit_either(details[0], fixed, NEAR))
        found.append(part.select(part.cosine >= NEAR))
    return Pairs(*map(np.concatenate, zip(*found, strict=True))) if found else pairs


def fit_either(
    one: NDArray[np.float32], other: NDArray[np.float32], least: float
) -> NDArray[np.float32]:
    """How well thumbnails fit, whichever of the two is moved, or 0 below `least`: cosines [P].

    The worse of the two counts: from a plain image, any other's shades could be made.
    """
    cosine = fit_moved(one, other)
    close = np.flatnonzero(cosine >= least)
    cosine[close] = np.minimum(cosine[close], fit_moved(other[close], one[close]))
    return cosine


def fit_moved(moved: NDArray[np.float32], fixed: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well a thumbnail, moved a little, fits another: cosines [P].

    An image that is shifted or stretched by little is about itself and a sum of its derivatives:
    their span is fitted by least squares (Simard, LeCun and Denker 1993, Efficient pattern
    recognition using a new transformation distance).
    """
    ramp = np.linspace(-1, 1, moved.shape[1], dtype=np.float32)
    down, right = np.gradient(moved, axis=(1, 2))
    moves = [moved, down, right, down * ramp[:, None, None], right * ramp[:, None]]
    span = np.stack(moves, 1).reshape(len(moved), len(moves), 3 * len(ramp) ** 2)
    span -= span.mean(2, keepdims=True)
    gram = span @ span.transpose(0, 2, 1)
    gram += 1e-6 * np.eye(len(moves), dtype=np.float32)  # stripes have no derivative along them
    along = span @ fixed.reshape(len(fixed), 3 * len(ramp) ** 2, 1)
    fitted = (along * np.linalg.solve(gram, along)).sum((1, 2))
    return np.asarray(np.sqrt(np.clip(fitted, 0, 1)), np.float32)


def cluster_images(pairs: Pairs, count: int, folds: int) -> Clusters:
    """Joins the pairs among `count` training images to clusters, for that many folds.

    A cluster of more than half a fold cannot be kept together without harm: such images look alike
    by nature, as digits and X-rays do, and of all images only those that are the same are joined.
    """
    pairs, most = pairs.select(pairs.second < count), count / folds / 2
    near, same = (
        Clusters(link_rows(kept, count)) for kept in (pairs, pairs.select(pairs.cosine >= SAME))
    )
    large, copies = (int(np.bincount(one.numbers, minlength=1).max()) for one in (near, same))
    if large <= max(most, 2):
        return near
    note = (
        f"{large} training images look alike, by way of one another, which is more than half a "
        f"fold: only those that are the same are kept together; if they show one object, name "
        f"its column with data.group_column"
    )
    if copies > most:
        note = (
            f"{copies} training images are the same and stay in one fold, of which they are more "
            f"than half; remove the copies, or set folds.near_duplicates to ignore"
        )
    return same._replace(note=note, serious=copies > most)


def link_rows(pairs: Pairs, count: int) -> NDArray[np.int64]:
    """Numbers the connected parts of `count` rows: [count] int64."""
    links = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), (count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def merge_groups(groups: Sequence[str] | None, clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers what must stay together: images of one group or one cluster, by way of others too.

    An image whose group is empty text belongs to no group. Returns [N] int64.
    """
    if groups is None:
        return clusters
    count = len(clusters)
    named = np.array([name != "" for name in groups], np.bool_)
    nodes = np.where(named, pd.factorize(np.asarray(groups, np.object_))[0], -1)
    rows = np.concatenate([np.arange(count), np.flatnonzero(named)])
    # Images are linked to a node for each cluster, and to one for each group behind those.
    columns = np.concatenate([clusters, clusters.max(initial=-1) + 1 + nodes[named]]) + count
    size = int(columns.max(initial=count)) + 1
    links = coo_array((np.ones(len(rows)), (rows, columns)), (size, size))
    return np.asarray(connected_components(links, directed=False)[1][:count], np.int64)


# ==================================================================================================
# Folds: every training image is validated once, by a model that never saw it
# ==================================================================================================
# Every fold gets its share of each class, or of each label where an image has several; images of
# one group (patient, location, near-duplicates, …) stay together. The split depends on ids and seed
# alone, not on the order of rows, and is kept in folds.csv, from which another run may take it.
#
# Shapes: N images, U units (groups, or single images), K folds, C classes.


class FoldError(ValueError):
    """The images cannot be split as asked."""


def make_folds(images: pd.DataFrame, config: FoldsConfig, seed: int) -> NDArray[np.int64]:
    """Assigns a fold to each row of the image table: [N] int64 in 0 … folds.count − 1.

    Reads columns id and label (int, or a tuple of ints) and, where there is one, group. Images that
    folds.file knows keep its fold; the others are dealt. Raises FoldError if there are fewer images
    (or groups) than folds, if a fold would get none, or if the file is of other images or folds.
    """
    units = number_units(images)
    check_units(int(units.max(initial=-1)) + 1, "group" in images, config.count)
    kept = np.full(len(images), -1)
    if config.file is not None:
        kept = match_folds(images, read_folds(config.file), config)
    labels = count_labels(images["label"], units)
    sizes = np.bincount(units)
    # Not the order of the table but dice decide between units of one size; the largest go first,
    # as they leave the least choice.
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    dealt = np.empty_like(order)
    known = most_frequent_folds(units, kept, config.count)
    dealt[order] = deal_units(labels[order], sizes[order], known[order], config.count)
    folds = np.where(kept < 0, dealt[units], kept)
    check_filled(folds, config)
    return folds


def number_units(images: pd.DataFrame) -> NDArray[np.int64]:
    """What is dealt as one: the group of each image, or itself, numbered by smallest id: [N]."""
    order = images["id"].argsort(kind="stable").to_numpy()
    names = images["group"] if "group" in images else images["id"]
    units = np.empty(len(images), np.int64)
    units[order] = pd.factorize(names.iloc[order])[0]
    return units


def check_units(units: int, grouped: bool, count: int) -> None:
    """Raises FoldError if there are fewer groups or images than folds."""
    if units >= count:
        return
    fix = f"set folds.count to {units} or fewer"
    if units < 2:
        fix = "set data.group_column to another or none, or folds.near_duplicates to ignore"
    raise FoldError(
        f"folds.count is {count}, but there are only {units} {'groups' if grouped else 'images'}; "
        f"{fix if grouped or units > 1 else 'see data.folder'}"
    )


def count_labels(labels: Iterable[Any], units: NDArray[np.int64]) -> csr_array:
    """How many images of each unit have each label: [U, C] int64."""
    lists = [label if isinstance(label, tuple) else (label,) for label in labels]
    rows = np.repeat(units, [len(one) for one in lists])
    columns = np.array([label for one in lists for label in one], np.int64)
    shape = (int(units.max()) + 1, int(columns.max(initial=0)) + 1)
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape)


def deal_units(
    labels: csr_array, sizes: NDArray[np.int64], dealt: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Deals units to folds, so that each fold gets its share of every label and of the images: [U].

    `dealt` holds the folds of the units that have one, else −1. Iterative stratification (Sechidis,
    Tsoumakas and Vlahavas 2011, On the stratification of multi-label data): the rarest label first,
    each unit to the fold that lacks that label most, then to the one that lacks images most. No
    fold stays empty while there are units for it: an empty one lacks most of everything.
    """
    dealt = dealt.copy()
    # What each fold lacks, in images times folds, so that shares are whole numbers and ties exact.
    lacks = np.tile(labels.sum(0), (count, 1))
    room = np.full(count, sizes.sum())
    for fold in range(count):
        lacks[fold] -= count * labels[dealt == fold].sum(0)
        room[fold] -= count * sizes[dealt == fold].sum()

    left = labels[dealt < 0].sum(0)  # images of each label that are not dealt yet
    by_label = labels.tocsc()
    queue = [(int(images), label) for label, images in enumerate(left) if images]
    heapify(queue)
    while queue:
        images, label = heappop(queue)
        if images != left[label]:
            continue  # some were dealt for a rarer label; the queue has a later entry
        for unit in by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]:
            if dealt[unit] >= 0:
                continue
            fold = dealt[unit] = max(range(count), key=lambda k: (lacks[k, label], room[k]))
            row = slice(labels.indptr[unit], labels.indptr[unit + 1])
            held, times = labels.indices[row], labels.data[row]
            lacks[fold, held] -= count * times
            room[fold] -= count * sizes[unit]
            left[held] -= times
            for other in held[left[held] > 0]:
                heappush(queue, (int(left[other]), int(other)))
    for unit in np.flatnonzero(dealt < 0):  # without any label
        dealt[unit] = fold = int(room.argmax())
        room[fold] -= count * sizes[unit]
    return dealt


def most_frequent_folds(
    units: NDArray[np.int64], kept: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The fold in which most images of each unit are already, −1 where none is: [U] int64."""
    held = np.zeros((int(units.max()) + 1, count), np.int64)
    np.add.at(held, (units[kept >= 0], kept[kept >= 0]), 1)
    return np.where(held.any(1), held.argmax(1), -1)


def check_filled(folds: NDArray[np.int64], config: FoldsConfig) -> None:
    """Raises FoldError if a fold of the file lost all its images and none came for it."""
    empty = np.setdiff1d(np.arange(config.count), folds)
    if len(empty):
        raise FoldError(
            f"folds.file is {config.file}, but none of the images of its fold {empty[0]} is here; "
            f"use the images of that run (data.limit, data.folder), or unset folds.file"
        )


def write_folds(images: pd.DataFrame, folds: NDArray[np.int64], path: Path) -> None:
    """Writes id, label and fold of every training image."""
    labels = [format_label(label) for label in images["label"]]
    pd.DataFrame({"id": images["id"], "label": labels, "fold": folds}).to_csv(path, index=False)


def format_label(label: Any) -> str:
    """A label as folds.csv holds it: 3, or 0 3 7 where an image may have several."""
    return " ".join(map(str, label)) if isinstance(label, tuple) else str(int(label))


def find_folds(file: str) -> Path:
    """The folds.csv that folds.file names: itself, or the one in a run's folder."""
    return Path(file) / "folds.csv" if Path(file).is_dir() else Path(file)


def read_folds(file: str) -> pd.DataFrame:
    """The id and label, as text, and the fold, int64, of each image in folds.csv.

    `file` is that file, or the folder of its run. Raises FoldError if it is not what a run writes.
    """
    try:
        table = pd.read_csv(
            find_folds(file), dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:  # not there, no text, no table
        raise FoldError(f"folds.file is {file}, which cannot be read: {error}") from error
    right = {"id", "label", "fold"} <= set(table) and table["fold"].str.fullmatch(r"\d{1,2}").all()
    if not right or table["id"].duplicated().any():
        raise FoldError(
            f"folds.file is {file}, but a table of folds has columns id, label and fold, each id "
            f"once, and whole numbers as folds; name the folds.csv of an earlier run"
        )
    return table[["id", "label", "fold"]].astype({"fold": np.int64})


def match_folds(
    images: pd.DataFrame, table: pd.DataFrame, config: FoldsConfig
) -> NDArray[np.int64]:
    """The fold that a table of folds gives each image, −1 where it knows none: [N] int64.

    Raises FoldError if the table has another number of folds, other labels, or none of the images.
    """
    count = int(table["fold"].max()) + 1 if len(table) else 0
    if count != config.count:
        raise FoldError(
            f"folds.file is {config.file}, which has {count} folds, but folds.count is "
            f"{config.count}; set folds.count to {count}, or unset folds.file"
        )
    known = table.set_index("id").reindex(images["id"].tolist())
    found = known["fold"].notna().to_numpy()
    if not found.any():
        raise FoldError(
            f"folds.file is {config.file}, but it knows none of the {len(images)} images; its ids "
            f"are such as {table['id'].iloc[0]!r}, those here such as {images['id'].iloc[0]!r}"
        )
    labels = np.array([format_label(label) for label in images["label"]], np.object_)
    other = np.flatnonzero(found & (known["label"].to_numpy() != labels))
    if len(other):
        row = other[0]
        raise FoldError(
            f"folds.file is {config.file}, where image {images['id'].iloc[row]!r} has label "
            f"{known['label'].iloc[row]!r}, but here {labels[row]!r}, and {len(other)} in all "
            f"differ; the classes or the labels changed since: unset folds.file"
        )
    return known["fold"].fillna(-1).to_numpy(np.int64)


def describe_reuse(images: pd.DataFrame, config: FoldsConfig) -> list[str]:
    """Says how the images and those of folds.file differ; empty without that setting."""
    if config.file is None:
        return []
    ids, known = set(images["id"]), set(read_folds(config.file)["id"])
    notes = [f"folds.file: {len(ids & known)} images keep the fold of {config.file}"]
    if ids - known:
        notes.append(f"folds.file: {len(ids - known)} images are new and were dealt to its folds")
    if known - ids:
        example = min(known - ids)
        notes.append(f"folds.file: {len(known - ids)} of its images are gone, such as {example!r}")
    return notes


# ==================================================================================================
# Tells: how well the values of a column alone tell the labels of images
# ==================================================================================================
# Shapes: N images.

GROUP_NAME = re.compile(
    r"patient|subject|person|user|site|location|place|camera|scene|seq|video|series|study|case"
    r"|session|group|lesion|plant|animal|individual",
    re.IGNORECASE,
)
BINS = 20  # a number with more values than that is cut into so many equal parts


def is_group(name: str, values: NDArray[np.object_], labels: NDArray[np.int64]) -> bool:
    """Whether a column is called like a group, or has nearly one label for each of many values."""
    unique = len(set(values))
    if not 1 < unique <= len(values) / 2:
        return False
    if GROUP_NAME.search(name):
        return True
    agreement, base = measure_agreement(values, labels)
    return unique > 2 * len(set(labels)) and agreement > max(0.9, (1 + base) / 2)


def measure_agreement(
    values: NDArray[np.object_], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """The share of equal labels in pairs of images with one value, and in all pairs."""
    table = pd.DataFrame({"value": values, "label": labels})
    within, both = count_pairs(table, ["value"]), count_pairs(table, ["value", "label"])
    every = len(table) * (len(table) - 1)
    return both / max(within, 1), count_pairs(table, ["label"]) / max(every, 1)


def count_pairs(table: pd.DataFrame, columns: list[str]) -> int:
    """How many ordered pairs of rows are equal in these columns."""
    sizes = table.groupby(columns).size().to_numpy(np.int64)
    return int((sizes * (sizes - 1)).sum())


def share_split(values: NDArray[np.object_], folds: NDArray[np.int64]) -> tuple[float, int]:
    """The share and number of values whose images are in more than one fold; empty is no value."""
    held = pd.Series(folds)[values != ""].groupby(values[values != ""]).nunique()
    split = int((held > 1).sum())
    return split / max(len(held), 1), split


def follow_majority(
    values: NDArray[np.object_], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> tuple[float, float]:
    """The accuracy of the most frequent label of each value, out of fold, and of one for all.

    The labels of the other folds count; a value that they lack gets the most frequent of all.
    """
    table = pd.DataFrame({"value": cut_numbers(values), "label": labels})
    right = 0
    for fold in np.unique(folds):
        known, asked = table[folds != fold], table[folds == fold]
        if len(known) == 0:
            continue
        usual = known["label"].mode()[0]
        counts = known.groupby(["value", "label"]).size().reset_index(name="count")
        best = counts.sort_values("count", kind="stable").drop_duplicates("value", keep="last")
        told = asked["value"].map(best.set_index("value")["label"]).fillna(usual)
        right += int((told == asked["label"]).sum())
    return right / len(table), int(np.bincount(labels).max()) / len(table)


def cut_numbers(values: NDArray[np.object_]) -> NDArray[np.object_]:
    """Numbers of many values as BINS equal parts, anything else as it is: [N]."""
    numbers = pd.to_numeric(pd.Series(values), errors="coerce")
    if numbers.nunique() <= BINS or numbers.isna().mean() > 0.5:
        return values
    parts = np.floor(numbers.rank(pct=True) * BINS * (1 - 1e-9)).fillna(-1)
    return np.asarray(parts, np.object_)


# ==================================================================================================
# Leaks: what would make a score look better than the network is
# ==================================================================================================
# Columns that only the train table has, copies of test images, images of one object on both sides
# of a split, files that give the label away. Each finding states a figure, and none stops a run.
#
# Shapes: N training images, T test images.

FILES = 3000  # images whose files are looked at
ERRORS_ABOVE, GAIN = 4.0, 0.05  # standard errors, and accuracy, above the most frequent label


class Audited(NamedTuple):
    """What the audit looks at; rows are those of the decoded images."""

    train: pd.DataFrame  # [N] id, path, label; group, where a column was given for it
    test: pd.DataFrame  # [T] id, path
    folds: NDArray[np.int64]  # [N]
    pairs: Pairs | None  # of nearly the same images, where they were looked for
    columns: pd.DataFrame  # the train table's but id and label: text, by id
    test_columns: pd.DataFrame  # the test table's but the id: text, by id

    @property
    def labels(self) -> NDArray[np.int64]:
        """A number for each label, or for each set of labels: [N]."""
        names = [format_label(label) for label in self.train["label"]]
        return np.asarray(pd.factorize(np.array(names, np.object_))[0], np.int64)

    def column(self, name: str) -> NDArray[np.object_]:
        """A column of the train table, by row: [N] text, empty where it has no cell."""
        cells = self.columns[name]
        found = cells[~cells.index.duplicated()].reindex(self.train["id"].tolist())
        return np.asarray(found.fillna(""), np.object_)


class Leak(NamedTuple):
    """One finding."""

    check: str  # what was looked for
    subject: str  # where: a column, a property of the files
    figure: float  # a share or an accuracy, which the words name
    text: str
    serious: bool  # a warning; else a note


def audit_leaks(audited: Audited) -> list[Leak]:
    """Looks for leaks, warnings first; a check that fails is a finding, not an error."""
    checks: tuple[Callable[[Audited], Iterator[Leak]], ...] = (
        find_straddling_groups,
        find_straddling_copies,
        find_disagreeing_copies,
        find_copies_in_test,
        find_hidden_groups,
        find_shared_groups,
        find_train_only_columns,
        find_telling_files,
    )
    leaks = list[Leak]()
    for check in checks:
        name = check.__name__.removeprefix("find_").replace("_", " ")
        try:
            leaks += check(audited)
        except Exception as error:  # an audit must not cost the run
            text = f"{name} could not be looked for ({describe_error(error)})"
            leaks.append(Leak(name, "audit", float("nan"), text, True))
    return sorted(leaks, key=lambda leak: not leak.serious)


def find_straddling_groups(audited: Audited) -> Iterator[Leak]:
    """Groups that were given and are in several folds, as those of folds.file may be."""
    if "group" in audited.train:
        groups = audited.train["group"].to_numpy(np.object_)
        share, split = share_split(groups, audited.folds)
        if split:
            text = (
                f"{split} groups ({share:.1%}) are in more than one fold, so that scores are too "
                f"good; unset folds.file"
            )
            yield Leak("straddling groups", "group", share, text, True)


def find_straddling_copies(audited: Audited) -> Iterator[Leak]:
    """Nearly the same images in different folds."""
    pairs = select_train(audited)
    apart = pairs.select(audited.folds[pairs.first] != audited.folds[pairs.second])
    if len(apart.first):
        share = len(apart.first) / len(pairs.first)
        text = (
            f"{len(apart.first)} of {len(pairs.first)} pairs of nearly the same images are in "
            f"different folds{name_pairs(audited, apart)}; see folds.near_duplicates, folds.file"
        )
        yield Leak("straddling copies", "images", share, text, True)


def find_disagreeing_copies(audited: Audited) -> Iterator[Leak]:
    """Nearly the same training images with different labels: one of them is wrong."""
    pairs = select_train(audited)
    wrong = pairs.select(audited.labels[pairs.first] != audited.labels[pairs.second])
    if len(wrong.first):
        share = len(wrong.first) / len(pairs.first)
        text = (
            f"{len(wrong.first)} of {len(pairs.first)} pairs of nearly the same training images "
            f"have different labels{name_pairs(audited, wrong)}; look at them"
        )
        yield Leak("disagreeing copies", "labels", share, text, True)


def find_copies_in_test(audited: Audited) -> Iterator[Leak]:
    """Test images that are training images too."""
    if audited.pairs is None:
        return
    copies = audited.pairs.select(audited.pairs.second >= len(audited.train))
    if len(copies.first):
        count, same = (
            len(np.unique(one.second)) for one in (copies, copies.select(copies.cosine >= SAME))
        )
        share = count / len(audited.test)
        text = (
            f"{count} of {len(audited.test)} test images ({share:.1%}) are nearly the same as a "
            f"training image{name_pairs(audited, copies)}, {same} of them but for compression, "
            f"size or a mirror; the test score is too good by what they add"
        )
        yield Leak("copies in test", "images", share, text, True)


def select_train(audited: Audited) -> Pairs:
    """The pairs within the training part."""
    if audited.pairs is None:
        return Pairs(*(np.zeros(0, np.int64),) * 2, np.zeros(0, np.float32))
    return audited.pairs.select(audited.pairs.second < len(audited.train))


def name_pairs(audited: Audited, pairs: Pairs) -> str:
    """An example, the clearest one."""
    ids = [*audited.train["id"], *audited.test["id"]]
    best = int(pairs.cosine.argmax())
    return f", such as {ids[pairs.first[best]]!r} and {ids[pairs.second[best]]!r}"


def find_hidden_groups(audited: Audited) -> Iterator[Leak]:
    """Columns that look like groups, are not used as such, and straddle folds."""
    for name in map(str, audited.columns):
        values = audited.column(name)
        if is_used(audited, values) or not is_group(name, values, audited.labels):
            continue
        agreement, base = measure_agreement(values, audited.labels)
        split = share_split(values, audited.folds)[1]
        if split:
            text = (
                f"two images with the same {name!r} have the same label in {agreement:.1%} of all "
                f"cases (any two images: {base:.1%}), and {split} of its values are in more than "
                f"one fold; if it says whom or what an image shows, set data.group_column to it"
            )
            yield Leak("hidden groups", name, agreement, text, True)


def find_shared_groups(audited: Audited) -> Iterator[Leak]:
    """Groups of the train table that are in the test table too, or expressly not."""
    for name in map(str, audited.columns.columns.intersection(audited.test_columns.columns)):
        values = audited.column(name)
        if not is_used(audited, values) and not is_group(name, values, audited.labels):
            continue
        share = float(audited.test_columns[name].isin(set(values)).mean())
        advice = "a split by it is like that of the test part"
        if share > 0.5:
            advice = "a split by it is harder than the test part"
        text = f"{share:.1%} of the test rows have a {name!r} that training images have: {advice}"
        yield Leak("shared groups", name, share, text, False)


def find_train_only_columns(audited: Audited) -> Iterator[Leak]:
    """Columns that only the train table has, and how well each tells the label."""
    train_only = audited.columns.columns.difference(audited.test_columns.columns, sort=False)
    for name in map(str, train_only):
        accuracy, base = follow_majority(audited.column(name), audited.labels, audited.folds)
        text = (
            f"column {name!r} is in the train table only; alone it tells the label of "
            f"{accuracy:.1%} of images (the most frequent label: {base:.1%}), so that nothing "
            f"made from it may be an input"
        )
        yield Leak("train-only columns", name, accuracy, text, False)


def find_telling_files(audited: Audited) -> Iterator[Leak]:
    """Properties of the files that tell the label above chance, as where classes were saved apart.

    Texture makes files large as well, so that their size is a note, and their dimensions a warning.
    """
    rows = np.unique(np.linspace(0, len(audited.train) - 1, FILES).astype(np.int64))
    paths = audited.train["path"].iloc[rows]
    names = [Path(name).name for name in audited.train["id"].iloc[rows]]
    properties = {
        "dimensions": np.array([read_size(path) for path in paths], np.object_),
        "file size": np.array([Path(path).stat().st_size for path in paths], np.object_),
        "number in the id": np.array([re.sub(r"\D", "", name) for name in names], np.object_),
    }
    for name, values in properties.items():
        labels, folds = audited.labels[rows], audited.folds[rows]
        accuracy, base = follow_majority(values, labels, folds)
        error = np.sqrt(base * (1 - base) / len(rows)) or 1.0
        if accuracy - base > max(GAIN, ERRORS_ABOVE * error):
            text = (
                f"the {name} alone tells the label of {accuracy:.1%} of {len(rows)} images (the "
                f"most frequent label: {base:.1%}); see whether the classes were taken or saved "
                f"in different ways, which the network may learn in place of what they show"
            )
            yield Leak("telling files", name, accuracy, text, name == "dimensions")


def read_size(path: str) -> str:
    """Width and height, as text, from the header of a file."""
    with Image.open(path) as image:
        return f"{image.width}×{image.height}"


def is_used(audited: Audited, values: NDArray[np.object_]) -> bool:
    """Whether a column is the one that was given as group."""
    return "group" in audited.train and bool((audited.train["group"] == values).all())


# ==================================================================================================
# Split: training images to folds, near-duplicates together, and what may leak across
# ==================================================================================================

SECONDS_A_PAIR = 1e-8  # of one core: bench/duplicates.py
WORTH_TELLING = 30.0  # seconds

Tables = tuple[pd.DataFrame, pd.DataFrame]


class Split(NamedTuple):
    """The fold of each training image, and what was found on the way."""

    folds: NDArray[np.int64]  # [N]
    leaks: list[Leak]
    pairs: Pairs | None  # of nearly the same images, also of the test part; None: not looked for


def split_images(
    config: Config, others: Tables | None, train: Images, test: Images, report: Reporter
) -> Split:
    """Deals the training images to folds, and says what the audit of the split found.

    `others` are the columns of the competition's tables besides the label. Raises FoldError if the
    images cannot be split as asked.
    """
    for note in describe_reuse(train.table, config.folds):
        report.say(f"  {note}")
    table, pairs = train.table, None
    if config.folds.near_duplicates == "together":
        seconds = SECONDS_A_PAIR * (len(train.table) + len(test.table)) ** 2 / (os.cpu_count() or 1)
        if seconds > WORTH_TELLING:
            report.say(f"  looking for near-duplicates: about {seconds / 60:.0f} minutes")
        pairs = find_duplicates(train.pixels, test.pixels)
        clusters = cluster_images(pairs, len(table), config.folds.count)
        table = group_images(table, clusters, report)
        if clusters.note:  # what is alike by nature is no leak
            pairs = pairs.select(pairs.cosine >= SAME)
    folds = make_folds(table, config.folds, config.runtime.seed)
    columns, test_columns = others or (pd.DataFrame(), pd.DataFrame())
    audited = Audited(train.table, test.table, folds, pairs, columns, test_columns)
    leaks = audit_leaks(audited)
    for leak in leaks:
        if leak.serious:
            report.warn(leak.text)
        else:
            report.say(f"  {leak.text}")
    return Split(folds, leaks, pairs)


def group_images(table: pd.DataFrame, clusters: Clusters, report: Reporter) -> pd.DataFrame:
    """The table with a group for images that are nearly the same, joined to the groups it has."""
    if clusters.serious:
        report.warn(clusters.note)
    elif clusters.note:
        report.say(f"  {clusters.note}")
    repeated = len(table) - len(np.unique(clusters.numbers))
    if repeated == 0:
        return table
    report.say(f"  {repeated} training images are nearly the same as others: kept together")
    given = table["group"].tolist() if "group" in table else None
    return table.assign(group=merge_groups(given, clusters.numbers))


# ==================================================================================================
# Composes: chains of albumentations' transforms, by name or of the user's own
# ==================================================================================================
# albumentations 2.0.8 is meant, which is MIT-licensed; its successor albumentationsx goes by the
# same import name under another licence, and is refused. It is loaded when a policy needs it.
# Geometry fills what moves in from outside with a mirror image: black edges would tell the network
# what was done. Shapes: S side of an image.

Transform = tuple[str, dict[str, Any]]  # a class of albumentations, and its options

MIRROR = {"border_mode": 4}  # cv2.BORDER_REFLECT_101
# RandAugment(2, 9) of Cubuk et al. 2019, arXiv 1909.13719: two operations at magnitude 9 of 10.
RANDAUGMENT: tuple[Transform, ...] = (
    ("NoOp", {"p": 1.0}),
    ("AutoContrast", {"p": 1.0}),
    ("Equalize", {"p": 1.0}),
    ("Affine", {"rotate": (-27, 27), "p": 1.0, **MIRROR}),
    ("Posterize", {"num_bits": (4, 4), "p": 1.0}),
    ("Solarize", {"threshold_range": (0.1, 1.0), "p": 1.0}),
    ("ToGray", {"p": 1.0}),
    ("RandomBrightnessContrast", {"brightness_limit": 0.0, "contrast_limit": 0.45, "p": 1.0}),
    ("RandomBrightnessContrast", {"brightness_limit": 0.45, "contrast_limit": 0.0, "p": 1.0}),
    ("Sharpen", {"alpha": (0.1, 0.9), "lightness": (1.0, 1.0), "p": 1.0}),
    ("Affine", {"shear": {"x": (-15, 15), "y": (0, 0)}, "p": 1.0, **MIRROR}),
    ("Affine", {"shear": {"x": (0, 0), "y": (-15, 15)}, "p": 1.0, **MIRROR}),
    ("Affine", {"translate_percent": {"x": (-0.3, 0.3), "y": (0, 0)}, "p": 1.0, **MIRROR}),
    ("Affine", {"translate_percent": {"x": (0, 0), "y": (-0.3, 0.3)}, "p": 1.0, **MIRROR}),
)
COMPOSES: dict[str, tuple[Transform, ...]] = {
    "light": (
        ("Affine", {"rotate": (-10, 10), "scale": (0.95, 1.1), "keep_ratio": True, "p": 0.7,
                    **MIRROR}),
        ("RandomBrightnessContrast", {"brightness_limit": 0.1, "contrast_limit": 0.1, "p": 0.7}),
    ),
    "colour": (
        ("ColorJitter", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05,
                         "p": 0.8}),
        ("RandomGamma", {"gamma_limit": (80, 120), "p": 0.3}),
        ("ToGray", {"p": 0.1}),
    ),
    "randaugment": (
        ("SomeOf", {"transforms": RANDAUGMENT, "n": 2, "replace": True, "p": 1.0}),
    ),
    "shift-scale-rotate": (
        ("Affine", {"translate_percent": (-0.0625, 0.0625), "scale": (0.9, 1.1),
                    "keep_ratio": True, "rotate": (-45, 45), "p": 0.9, **MIRROR}),
    ),
    "coarse-dropout": (
        ("RandomBrightnessContrast", {"p": 0.5}),
        ("CoarseDropout", {"num_holes_range": (1, 8), "hole_height_range": (0.05, 0.2),
                           "hole_width_range": (0.05, 0.2), "p": 0.8}),
    ),
    "blur-noise": (
        ("OneOf", {"transforms": (
            ("GaussianBlur", {"sigma_limit": (0.5, 2.0), "p": 1.0}),
            ("MotionBlur", {"blur_limit": (3, 7), "p": 1.0}),
            ("GaussNoise", {"std_range": (0.02, 0.1), "p": 1.0}),
            ("ImageCompression", {"quality_range": (40, 90), "p": 1.0}),
        ), "p": 0.8}),
    ),
    "grid-distort": (
        ("OneOf", {"transforms": (
            ("GridDistortion", {"distort_limit": (-0.3, 0.3), "p": 1.0, **MIRROR}),
            ("OpticalDistortion", {"distort_limit": (-0.3, 0.3), "p": 1.0, **MIRROR}),
        ), "p": 0.8}),
    ),
    "hard": (
        ("Affine", {"translate_percent": (-0.1, 0.1), "scale": (1.0, 1.4),
                    "keep_ratio": True, "rotate": (-20, 20), "p": 0.9, **MIRROR}),
        ("ColorJitter", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05,
                         "p": 0.8}),
        ("OneOf", {"transforms": (
            ("GaussianBlur", {"sigma_limit": (0.5, 1.5), "p": 1.0}),
            ("ImageCompression", {"quality_range": (40, 90), "p": 1.0}),
            ("GridDistortion", {"distort_limit": (-0.2, 0.2), "p": 1.0, **MIRROR}),
        ), "p": 0.3}),
        ("CoarseDropout", {"num_holes_range": (1, 4), "hole_height_range": (0.1, 0.25),
                           "hole_width_range": (0.1, 0.25), "p": 0.5}),
    ),
}  # fmt: skip


def load_albumentations() -> Any:
    """Imports albumentations, which must not ask the network for news of itself.

    Raises SettingsError if it is missing, older than 2, or its successor.
    """
    installed = {one.name.lower() for one in importlib.metadata.distributions()}
    if "albumentationsx" in installed:
        raise SettingsError(
            "augment.policy needs albumentations 2.0.8, but albumentationsx is installed in its "
            "place, whose licence (AGPL) binds what uses it; pip uninstall albumentationsx, then "
            "pip install albumentations==2.0.8, or set augment.policy to flip-crop"
        )
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations
    except ImportError as error:
        raise SettingsError(
            f"augment.policy needs albumentations, which cannot be imported ({error}); "
            f"pip install albumentations==2.0.8, or set augment.policy to flip-crop"
        ) from error
    if not hasattr(albumentations.Compose, "set_random_state"):
        raise SettingsError(
            f"augment.policy needs albumentations 2.0.8, not {albumentations.__version__}; "
            f"pip install albumentations==2.0.8, or set augment.policy to flip-crop"
        )
    return albumentations


def make_compose(name: str) -> Any:
    """A Compose of the table, or the one that `module:function` returns.

    Raises SettingsError if there is none.
    """
    library = load_albumentations()
    if name in COMPOSES:
        compose = library.Compose(build_transforms(library, COMPOSES[name]))
    else:
        compose = call_own_function(name)
        if not isinstance(compose, library.Compose):
            raise SettingsError(
                f"augment.policy is {name}, which must return an albumentations Compose, "
                f"not {type(compose).__name__}"
            )
    return compose


class SeededCompose:
    """A Compose that draws all it does to an image from one seed.

    Compose.set_random_seed would give each transform the same seed, so that their coins fall alike,
    and takes 70 µs an image; here all share one pair of generators, which is set back in 6 µs.
    """

    def __init__(self, name: str) -> None:
        self.compose = make_compose(name)
        self.generator = np.random.Generator(np.random.PCG64(0))
        self.coin = random.Random(0)  # noqa: S311, no secret depends on it
        self.compose.set_random_state(self.generator, self.coin)

    def seed(self, seed: bytes) -> None:
        """Starts both generators from 48 bytes."""
        state, increment, coin = (int.from_bytes(seed[at : at + 16]) for at in (0, 16, 32))
        self.generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment | 1},  # PCG64 takes odd ones
            "has_uint32": 0,
            "uinteger": 0,
        }
        self.coin.seed(coin)

    def augment(self, image: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        """Augments one image [S, S, 3], and brings it back to its size if need be."""
        self.seed(seed)
        made: NDArray[np.uint8] = self.compose(image=image)["image"]
        if made.shape == image.shape:
            return made
        return np.asarray(cv2.resize(made, image.shape[1::-1], interpolation=cv2.INTER_AREA))


def build_transforms(library: Any, chain: Sequence[Transform]) -> list[Any]:
    """Makes the transforms of a chain, and those inside of them."""
    made = []
    for name, options in chain:
        inner = options.get("transforms")
        held = {"transforms": build_transforms(library, inner)} if inner else {}
        made.append(getattr(library, name)(**(options | held)))
    return made


def call_own_function(name: str) -> Any:
    """Calls `module:function`; raises SettingsError if it cannot be found or fails."""
    try:
        return find_own_function(name)()
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"augment.policy is {name}, which fails ({type(error).__name__}: {error})"
        ) from error


def find_own_function(name: str, inputs: Path = KAGGLE_INPUT) -> Callable[[], Any]:
    """Finds `module:function` on Python's path, or in what is attached on Kaggle."""
    module, _, function = name.partition(":")
    attached = sorted(inputs.glob(f"*/{module}.py")) + sorted(inputs.glob(f"*/*/{module}.py"))
    sys.path += [str(one.parent) for one in attached if str(one.parent) not in sys.path]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.loader is None:
        raise SettingsError(
            f"augment.policy is {name}, but there is no {module}.py beside the script, on "
            f"PYTHONPATH, or in a dataset that is attached"
        )
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    found: Callable[[], Any] = getattr(loaded, function)
    return found


def check_compose(name: str, side: int) -> None:
    """Raises SettingsError unless a Compose keeps images what they are: [S, S, 3] uint8.

    Another size is put right; other types are not.
    """
    compose, image = make_compose(name), np.full((side, side, 3), 127, np.uint8)
    try:
        made = compose(image=image)["image"]
    except Exception as error:
        raise SettingsError(
            f"augment.policy is {name}, which fails on an image of {side} px "
            f"({type(error).__name__}: {error})"
        ) from error
    if getattr(made, "dtype", None) != np.uint8 or made.ndim != 3 or made.shape[2] != 3:
        shape = getattr(made, "shape", "no shape")
        raise SettingsError(
            f"augment.policy is {name}, which turns an image into {getattr(made, 'dtype', made)} "
            f"{shape}; it must stay uint8 with 3 channels: take Normalize, ToFloat and ToTensorV2 "
            f"out, as the model normalises by itself"
        )


# ==================================================================================================
# Policies: what training images go through, by name
# ==================================================================================================
# A policy says what the device does (cut and mirror), what the host does (a Compose), and whether
# images are mixed. Nothing happens outside training. Geometry but for cut and mirror stays on the
# host: a rotation is a gather, which stalls a TPU. A mirrored digit is no digit: whether a policy
# helps is for validation to say.

FEW_CLASSES = 10  # of fewer, names of one character may be grades, or yes and no


class Policy(NamedTuple):
    """What one policy does, and where."""

    crop: bool = False  # on the device: a random square of a larger image
    flip: bool = False  # on the device: half of the images mirrored, left and right
    compose: str = ""  # on the host: a name in COMPOSES, or module:function
    mix: Literal["", "mixup", "cutmix"] = ""  # on the host: two images and their targets


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flip-crop": Policy(crop=True, flip=True),
    "light": Policy(crop=True, flip=True, compose="light"),
    "colour": Policy(crop=True, flip=True, compose="colour"),
    "randaugment": Policy(crop=True, flip=True, compose="randaugment"),
    "mixup": Policy(crop=True, flip=True, mix="mixup"),
    "cutmix": Policy(crop=True, flip=True, mix="cutmix"),
    "albumentations:shift-scale-rotate": Policy(flip=True, compose="shift-scale-rotate"),
    "albumentations:coarse-dropout": Policy(flip=True, compose="coarse-dropout"),
    "albumentations:blur-noise": Policy(flip=True, compose="blur-noise"),
    "albumentations:grid-distort": Policy(flip=True, compose="grid-distort"),
    "albumentations:hard": Policy(flip=True, compose="hard"),
}


def find_policy(name: str) -> Policy:
    """The policy of that name; `module:function` is a Compose of the user's own, and nothing else.

    Raises SettingsError with the names there are.
    """
    if name in POLICIES:
        return POLICIES[name]
    module, colon, function = name.partition(":")
    if colon and module != "albumentations" and module and function.isidentifier():
        return Policy(compose=name)
    close = difflib.get_close_matches(name, POLICIES, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise SettingsError(
        f"augment.policy must be {', '.join(POLICIES)}, or module:function of your own, "
        f"not {name!r}{guess}"
    )


def settle_augmentation(
    config: AugmentConfig, classes: Sequence[str], image_size: int, report: Reporter
) -> AugmentConfig:
    """Checks the policy, and decides what augment.flip leaves open: the same section, settled.

    Where each class is a character, a mirrored image is another class or none, and nothing is
    mirrored. Raises SettingsError if the policy cannot be used.
    """
    policy = find_policy(config.policy)
    if policy.compose:
        check_compose(policy.compose, image_size)
    if config.flip != "auto":
        return config
    characters = len(classes) >= FEW_CLASSES and all(len(name) == 1 for name in classes)
    if policy.flip and characters:
        report.say(
            f"  augment.flip is off: the classes {', '.join(classes[:4])}, … look like characters, "
            f"which a mirror makes others of; if they are not, set it to yes"
        )
    return replace(config, flip="yes" if policy.flip and not characters else "no")


# ==================================================================================================
# Augmentation: what the device does to training images
# ==================================================================================================
# A random square is cut out of a slightly larger image, and half of the images are mirrored, as
# the policy says. Nothing happens outside training, when the centre is cut.


def crop_margin(config: AugmentConfig, image_size: int) -> int:
    """Pixels by which stored images are larger than what the network sees."""
    return math.ceil(config.margin * image_size) if find_policy(config.policy).crop else 0


@keras.saving.register_keras_serializable("podium")
class CropAndFlip(keras.layers.Layer):
    """Cuts a square of `size` pixels out of each image, and mirrors some of them.

    Takes [B, S, S, 3] uint8 and gives [B, size, size, 3] float32, still 0 to 255. In training each
    image has its own place and its own coin; otherwise the centre is cut and nothing mirrored.
    keras.layers.RandomCrop cuts a whole batch at one place. Here a cut is a product with a matrix
    of zeros and ones, which a TPU does at full speed where a gather would stall it.
    """

    def __init__(self, size: int, flip: bool, seed: int = 0, **options: Any) -> None:
        super().__init__(dtype="float32", **{k: v for k, v in options.items() if k != "dtype"})
        self.size, self.flip, self.seed = size, flip, seed
        self.still = False  # cuts the centre in training too; read when a model is compiled
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Cuts and mirrors in training; cuts the centre otherwise."""
        images = keras.ops.cast(images, "float32")
        margin = images.shape[1] - self.size
        if training and not self.still and (margin or self.flip):
            return self.cut_at_random(images, margin)
        start = margin // 2
        return images[:, start : start + self.size, start : start + self.size, :]

    def cut_at_random(self, images: Any, margin: int) -> Any:
        """Draws a place and a coin for each image, and applies both by two matrix products."""
        side, steps = images.shape[1], keras.ops.arange(self.size)
        top, left, coin = (self.draw(images, bound) for bound in (margin + 1, margin + 1, 2))
        mirrored = keras.ops.where(coin == 1, self.size - 1 - steps, steps) if self.flip else steps
        rows = keras.ops.one_hot(top + steps, side)  # (B, size, S)
        columns = keras.ops.one_hot(left + mirrored, side)
        cut = keras.ops.einsum("bih,bhwc->biwc", rows, images)
        return keras.ops.einsum("bjw,biwc->bijc", columns, cut)

    def draw(self, images: Any, bound: int) -> Any:
        """One integer in 0 … bound − 1 for each image: [B, 1] int32."""
        shape = (keras.ops.shape(images)[0], 1)
        return keras.random.randint(shape, 0, bound, dtype="int32", seed=self.draws)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the layer."""
        return {**super().get_config(), "size": self.size, "flip": self.flip, "seed": self.seed}


def make_augmentation(config: AugmentConfig, image_size: int, seed: int) -> CropAndFlip:
    """Builds the layer for a policy; augment.flip must be settled, or is as the policy says."""
    flip = find_policy(config.policy).flip if config.flip == "auto" else config.flip == "yes"
    return CropAndFlip(image_size, flip, seed, name="augment")


# ==================================================================================================
# Workers: processes that run a Compose
# ==================================================================================================
# They are started afresh and import NumPy, OpenCV and albumentations, not this script, and so
# never touch the accelerator. Stored squares and finished images lie in memory that has no name
# and that all map; only places and seeds are sent. However the run ends, its end of the lines
# closes then, and the workers go; nothing is left behind.

# A process begins with this: it is sent the function `serve_chunks`, and calls it.
BEGINNING = (
    "import pickle, sys; from multiprocessing.connection import Connection; "
    "line = Connection(int(sys.argv[1])); pickle.loads(line.recv_bytes())(line)"
)


class Chunk(NamedTuple):
    """Images that one worker makes, one after the other."""

    slot: int  # of the batches in memory
    start: int  # the first image's place in memory
    rows: list[int]  # of the stored squares
    seeds: list[bytes]

    @property
    def span(self) -> slice:
        """Its places in memory."""
        return slice(self.start, self.start + len(self.rows))


class Worker:
    """One process, and the chunks that it has been sent and has not answered."""

    def __init__(self, serve: bytes) -> None:
        self.line, theirs = multiprocessing.Pipe()
        self.chunks = deque[Chunk]()
        self.process = subprocess.Popen(  # noqa: S603, what it runs is ours
            [sys.executable, "-P", "-c", BEGINNING, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C does not reach it: it ends with the run
        )
        theirs.close()
        with suppress(OSError):
            self.line.send_bytes(serve)

    def take(self, chunk: Chunk) -> None:
        """Sends a chunk; that a worker is gone is noticed when its answer is waited for."""
        self.chunks.append(chunk)
        with suppress(OSError):
            self.line.send(tuple(chunk))

    def stop(self) -> None:
        """Waits for the process to end, as it does when its line is closed."""
        self.line.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Place(NamedTuple):
    """An array [*, S, S, 3] uint8 that another process maps."""

    path: str
    shape: tuple[int, ...]


def serve_chunks(
    compose: str, stored: Place | None, made: Place, path: list[str], line: Connection
) -> None:
    """A worker's life: makes chunks, and answers what went wrong, until the line is closed.

    Stored squares that cannot be mapped are copied, by who sends a chunk, to where it is made.
    """
    sys.path[:] = path
    cv2.setNumThreads(0)  # there is a process for each core already
    seeded = SeededCompose(compose)
    images = np.memmap(made.path, np.uint8, "r+", shape=made.shape)
    squares = np.memmap(stored.path, np.uint8, "r", shape=stored.shape) if stored else None
    with suppress(EOFError, OSError):
        while True:
            line.send(augment_chunk(seeded, squares, images, line.recv()))


def augment_chunk(
    seeded: SeededCompose,
    squares: NDArray[np.uint8] | None,
    images: NDArray[np.uint8],
    chunk: tuple[int, int, list[int], list[bytes]],
) -> str:
    """Makes the images of a chunk, from stored squares or from what lies in their place."""
    _, start, rows, seeds = chunk
    try:
        for place, (row, seed) in enumerate(zip(rows, seeds, strict=True), start):
            square = images[place] if squares is None else squares[row]
            images[place] = seeded.augment(np.array(square), seed)  # a copy: a Compose may write
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def pickle_by_value(function: Callable[..., None]) -> bytes:
    """Pickles a function of this package with all of it that it uses.

    Its module would bring Keras along, and the script has no module that could be imported.
    """
    try:
        import cloudpickle
    except ImportError:  # joblib before 1.6 brings its own
        from joblib.externals import cloudpickle
    package = serve_chunks.__module__.partition(".")[0]
    cloudpickle.register_pickle_by_value(ModuleType(package))
    return bytes(cloudpickle.dumps(function))


def describe_end(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    code = process.returncode
    if code == -signal.SIGKILL:
        return "killed, perhaps for want of memory: a lower augment.workers takes less"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# ==================================================================================================
# Crew: the workers of one fold, on all cores
# ==================================================================================================
# Threads give albumentations 1.6 cores of two, as Python runs in one of them at a time, so this
# takes processes. One that dies is replaced, and its images are made again from the same seeds:
# what comes out does not depend on how many there are, or on what becomes of them.
#
# Shapes: B batch, S side of the stored square.

BATCHES_AHEAD = 3  # batches in memory: two in work while one is taken
LARGEST_CHUNK = 16  # images sent at once
MOST_LOST = 8  # workers that are replaced, before the others do the work of those that die
# Seconds in which TensorFlow's thread takes the last batch. Were it in Python still when Python
# ends, it would die there, and the program wait for it for ever.
LAST_MOMENT = 0.1


class TurnOverError(Exception):
    """Another stream has begun, or the crew is closed."""


class Job(NamedTuple):
    """A batch to be augmented."""

    rows: NDArray[np.int64]  # [B] of the stored pixels
    seeds: list[bytes]  # [B] of 48 bytes


class Crew:
    """Augments batches of stored pixels, some batches ahead of who takes them.

    With a count of one there are no processes, and this one does the work. Memory: BATCHES_AHEAD
    batches of B × S × S × 3 bytes, and about 150 MB for each process.
    """

    def __init__(
        self,
        compose: str,
        pixels: Pixels,
        batch_size: int,
        count: int,
        report: Reporter,
    ) -> None:
        self.compose, self.pixels, self.batch_size = compose, pixels, batch_size
        self.report, self.closed = report, False
        self.images = allocate_pixels(BATCHES_AHEAD * batch_size, pixels.shape[1], "memory")
        stored, made = find_place(pixels), find_place(self.images)
        self.copies = stored is None  # squares must be copied to where a worker sees them
        self.serve = b""
        if made is None:  # macOS has no way to share it
            count = 1
        else:
            life = partial(serve_chunks, compose, stored, made, list(sys.path))
            self.serve = pickle_by_value(life)
        self.chunk_size = min(-(-batch_size // count), LARGEST_CHUNK)
        self.lock, self.turn, self.lost = threading.Lock(), 0, 0
        self.here: SeededCompose | None = None  # for the work that is done in this process
        self.workers = [Worker(self.serve) for _ in range(count)] if count > 1 else []
        atexit.register(self.close)

    def augment(self, jobs: Iterator[Job]) -> Iterator[NDArray[np.uint8]]:
        """Yields the images [B, S, S, 3] of each job in turn, valid until the next are asked for.

        A new stream ends the one before it, and so does closing.
        """
        turn, filled = self.open_turn(), deque[int]()
        with suppress(TurnOverError):
            for slot, job in zip(itertools.cycle(range(BATCHES_AHEAD)), jobs, strict=False):
                self.send(turn, slot, job)
                filled.append(slot)
                if len(filled) == BATCHES_AHEAD:
                    yield self.fetch(turn, filled.popleft())
            for slot in filled:
                yield self.fetch(turn, slot)

    def open_turn(self) -> int:
        """Ends the stream before, as only one has the memory; −1 is no turn: the crew has gone."""
        with self.lock:
            while any(worker.chunks for worker in self.workers):
                self.listen()
            self.turn += 1
            return -1 if self.closed else self.turn

    def check_turn(self, turn: int) -> None:
        """Raises TurnOverError if the stream has been ended."""
        if turn != self.turn:
            raise TurnOverError

    def send(self, turn: int, slot: int, job: Job) -> None:
        """Copies a job's images into memory and hands them out."""
        with self.lock:
            self.check_turn(turn)
            for first in range(0, self.batch_size, self.chunk_size):
                part = slice(first, first + self.chunk_size)
                place = slot * self.batch_size + first
                self.hand_out(Chunk(slot, place, job.rows[part].tolist(), job.seeds[part]))

    def hand_out(self, chunk: Chunk) -> None:
        """Gives a chunk to the worker that has least to do, or does it here if there is none."""
        if self.copies:
            self.images[chunk.span] = self.pixels[np.array(chunk.rows)]
        if self.workers:
            min(self.workers, key=lambda worker: len(worker.chunks)).take(chunk)
            return
        if self.here is None:
            self.here = SeededCompose(self.compose)
        squares = None if self.copies else np.asarray(self.pixels)
        self.check(augment_chunk(self.here, squares, self.images, chunk))

    def check(self, problem: str) -> None:
        """Raises PixelError if there was a problem with an image."""
        if problem:
            raise PixelError(f"augment.policy {self.compose} fails on an image ({problem})")

    def fetch(self, turn: int, slot: int) -> NDArray[np.uint8]:
        """Waits until a slot's images are made."""
        with self.lock:
            self.check_turn(turn)
            while any(chunk.slot == slot for worker in self.workers for chunk in worker.chunks):
                self.listen()
        first = slot * self.batch_size
        return self.images[first : first + self.batch_size]

    def listen(self) -> None:
        """Waits for answers; replaces a worker that is gone. Raises PixelError if one failed."""
        lines = wait([worker.line for worker in self.workers])
        for worker in [worker for worker in self.workers if worker.line in lines]:
            try:
                problem = worker.line.recv()
            except (EOFError, OSError):
                self.replace(worker)
                continue
            worker.chunks.popleft()
            self.check(problem)

    def replace(self, worker: Worker) -> None:
        """Starts another worker in the place of one that died, and hands out its chunks anew."""
        worker.stop()
        self.workers.remove(worker)
        self.lost += 1
        if self.lost <= MOST_LOST:
            self.workers.append(Worker(self.serve))
        fate = "another takes its place" if self.lost <= MOST_LOST else "it is not replaced"
        self.report.warn(
            f"a process that augments images ended by itself ({describe_end(worker.process)}); "
            f"{fate}, and its images are made again"
        )
        for chunk in worker.chunks:
            self.hand_out(chunk)

    def close(self) -> None:
        """Ends the streams and the processes."""
        atexit.unregister(self.close)
        with self.lock:
            self.turn, self.closed = self.turn + 1, True
            workers, self.workers = self.workers, []
            for worker in workers:
                worker.stop()
        time.sleep(LAST_MOMENT)


def find_place(pixels: Pixels) -> Place | None:
    """Where another process finds the same pixels, if it can."""
    path = share_path(pixels)
    return Place(path, pixels.shape) if path else None


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ==================================================================================================
# Mixing: two images and their targets in one
# ==================================================================================================
# mixup adds two images in shares (Zhang et al. 2018, arXiv 1710.09412); cutmix sets a part of one
# into the other (Yun et al. 2019, arXiv 1905.04899). Both mix each image of a batch with another of
# the batch, in a share of its own, and the targets in the same share. Pixels stay uint8.
#
# Shapes: B batch, S side of the stored square, C classes.

MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0  # of the Beta distribution that shares are drawn from

PixelBatch = NDArray[np.uint8]  # [B, S, S, 3]
TargetBatch = NDArray[np.float32]  # [B, C]


def mix_batch(
    kind: Literal["mixup", "cutmix"],
    images: PixelBatch,
    targets: TargetBatch,
    margin: int,
    generator: np.random.Generator,
) -> tuple[PixelBatch, TargetBatch]:
    """Mixes a batch, into new arrays; `margin` is what the device will cut off, in pixels."""
    partners = generator.permutation(len(images))
    if kind == "mixup":
        shares = generator.beta(MIXUP_ALPHA, MIXUP_ALPHA, len(images)).astype(np.float32)
        mixed = blend_images(images, partners, shares)
    else:
        boxes = draw_boxes(len(images), images.shape[1], margin, generator)
        mixed = paste_boxes(images, partners, boxes)
        areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        shares = np.asarray(1 - areas / (images.shape[1] - margin) ** 2, np.float32)
    own = shares[:, None]
    return mixed, own * targets + (1 - own) * targets[partners]


def blend_images(
    images: PixelBatch, partners: NDArray[np.int64], shares: NDArray[np.float32]
) -> PixelBatch:
    """Adds each image and its partner, in the shares [B] of the former, rounded."""
    mixed = np.empty_like(images)
    for row, (partner, share) in enumerate(zip(partners, shares.tolist(), strict=True)):
        cv2.addWeighted(images[row], share, images[partner], 1 - share, 0, dst=mixed[row])
    return mixed


def draw_boxes(
    count: int, side: int, margin: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draws what is set in: top, bottom, left and right of each box, [B, 4].

    A box lies where the device shows it wherever it cuts, so that its area is its share exactly.
    """
    seen = side - margin  # the side of what the device shows
    half = seen * np.sqrt(1 - generator.beta(CUTMIX_ALPHA, CUTMIX_ALPHA, count)) / 2
    centres = generator.uniform(margin, seen, (2, count))
    top, left = np.clip(np.rint(centres - half), margin, seen).astype(np.int64)
    bottom, right = np.clip(np.rint(centres + half), margin, seen).astype(np.int64)
    return np.stack([top, bottom, left, right], axis=1)


def paste_boxes(
    images: PixelBatch, partners: NDArray[np.int64], boxes: NDArray[np.int64]
) -> PixelBatch:
    """Sets a part of its partner into each image, at the same place."""
    mixed = images.copy()
    for row, (partner, (top, bottom, left, right)) in enumerate(
        zip(partners, boxes.tolist(), strict=True)
    ):
        mixed[row, top:bottom, left:right] = images[partner, top:bottom, left:right]
    return mixed


# ==================================================================================================
# Sharing: one batch over all devices, of all hosts
# ==================================================================================================
# Keras splits each batch over the devices on JAX alone, and takes the mean over the whole batch
# wherever one is taken: in the loss, in the gradients and in batch norm's statistics. What is drawn
# on the device is drawn for the whole batch too, so that eight devices learn what one learns, but
# for the order in which floats are added.


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


# ==================================================================================================
# Batches: from stored squares to what a training step takes
# ==================================================================================================
# All batches have one static shape, so a TPU compiles once; they are the same on every backend, as
# NumPy alone draws their order. Targets are shares of classes, not indices, so that an image
# may show several classes, or be a mixture of two images.
#
# Shapes: N images, B batch, S side of the stored square, C classes.


class Labelled(NamedTuple):
    """Pixels, and the label of each: an index, or a tuple of indices (see `encode_targets`)."""

    pixels: Pixels  # [N, S, S, 3] uint8
    labels: NDArray[Any]  # [N]
    classes: int
    ids: NDArray[Any] | None = None  # [N], what an image's augmentation is drawn from; else its row

    def encode(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The targets of some rows: [len(rows), C]."""
        return encode_targets(self.labels[rows], self.classes).astype(np.float32)


def order_epoch(
    rows: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Shuffles rows for one epoch into full batches: [steps, B].

    The last batch is filled from the start of the same shuffle, so no batch is short, no image is
    left out, and batch norm never sees padding.
    """
    shuffled = np.random.default_rng((seed, epoch)).permutation(rows)
    return np.resize(shuffled, (count_steps(len(rows), batch_size), batch_size))


def count_steps(images: int, batch_size: int) -> int:
    """How many batches hold that many images, the last one filled up."""
    return -(-images // batch_size)


class Draw(NamedTuple):
    """One batch of the training stream."""

    epoch: int
    step: int  # of the whole stream
    rows: NDArray[np.int64]  # [B]
    rounds: NDArray[np.int64]  # [B], how often each image has been in the epoch before

    def cut(self, part: slice) -> Self:
        """A part of its images."""
        return self._replace(rows=self.rows[part], rounds=self.rounds[part])


def draw_batches(
    rows: NDArray[np.int64], batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Draw]:
    """Yields the batches of the stream from a step on, for ever."""
    steps = count_steps(len(rows), batch_size)
    rounds = (np.arange(steps * batch_size) // len(rows)).reshape(steps, batch_size)
    for epoch in itertools.count(start_step // steps):
        order = order_epoch(rows, batch_size, seed, epoch)
        for place in range(max(start_step - epoch * steps, 0), steps):
            yield Draw(epoch, epoch * steps + place, order[place], rounds[place])


def seed_images(draw: Draw, ids: NDArray[Any], seed: int) -> list[bytes]:
    """The seed of each image of a batch: 48 bytes from run, epoch, round and the image's id."""
    names = zip(draw.rounds.tolist(), ids[draw.rows].tolist(), strict=True)
    texts = [f"{seed} {draw.epoch} {turn} {name}" for turn, name in names]
    return [hashlib.blake2b(text.encode(), digest_size=48).digest() for text in texts]


class Host:
    """What the host does to training images: a crew that runs a Compose, and mixing.

    Its processes, if the policy asks for any, start at once and end with the with statement.
    """

    def __init__(self, config: Config, pixels: Pixels, report: Reporter) -> None:
        policy, workers = find_policy(config.augment.policy), config.augment.workers
        self.pixels, self.mix = pixels, policy.mix
        self.margin = pixels.shape[1] - config.pixels.image_size
        # Images are mixed with others of the batch, which each of several hosts must make whole.
        batch_size = config.pixels.batch_size
        self.made = slice(0, batch_size) if policy.mix else own_part(batch_size)
        self.crew: Crew | None = None
        if policy.compose:
            size, count = self.made.stop - self.made.start, workers or count_cores()
            self.crew = Crew(policy.compose, pixels, size, count, report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.crew:
            self.crew.close()

    def take_images(
        self, draws: Iterator[Draw], ids: NDArray[Any], seed: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Yields the images [B, S, S, 3] of each draw, valid until the next are asked for."""
        if self.crew:
            jobs = (Job(draw.rows, seed_images(draw, ids, seed)) for draw in draws)
            yield from self.crew.augment(jobs)
        else:
            yield from (self.pixels[draw.rows] for draw in draws)

    def finish(
        self, draw: Draw, images: NDArray[np.uint8], targets: NDArray[np.float32], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Mixes a batch if the policy says so, and gives images of their own memory."""
        if not self.mix:
            return copy_aligned(images) if self.crew else images, targets
        generator = np.random.default_rng((seed, draw.epoch, draw.step + 1))  # 0 is the order's
        return mix_batch(self.mix, images, targets, self.margin, generator)


def copy_aligned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy whose memory TensorFlow takes over, as it begins at a multiple of 64 bytes."""
    room = np.empty(images.nbytes + 63, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + images.nbytes].reshape(images.shape)
    copy[:] = images
    return copy


class Cut(NamedTuple):
    """How the images of an update go through the network: all at once, or part by part."""

    batch_size: int
    parts: int = 1


def make_train_batches(
    data: Labelled,
    rows: NDArray[np.int64],
    cut: Cut,
    seed: int,
    host: Host | None = None,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Endless shuffled batches (pixels [B, S, S, 3] uint8, targets [B, C] float32) of the rows.

    Cut into parts, each batch comes as so many of them, and B is that of a part. Without a host,
    images are as they are stored. The stream depends on data, seed and policy alone; from a later
    step on it is the same stream. Of several hosts each gives its part of it.
    """
    fed = own_part(cut.batch_size)
    made = host.made if host else fed
    size = (fed.stop - fed.start) // cut.parts
    ids = np.arange(len(data.pixels)) if data.ids is None else data.ids

    def generate() -> Iterator[tuple[NDArray[Any], ...]]:
        stream = draw_batches(rows, cut.batch_size, seed, start_step)
        draws, ahead = itertools.tee(draw.cut(made) for draw in stream)
        stored = (data.pixels[draw.rows] for draw in ahead)
        images = host.take_images(ahead, ids, seed) if host else stored
        for draw, fresh in zip(draws, images, strict=False):
            batch = fresh, data.encode(draw.rows)
            finished = host.finish(draw, *batch, seed) if host else batch
            first = fed.start - made.start
            for part in range(first, first + cut.parts * size, size):
                yield tuple(array[part : part + size] for array in finished)

    shape = (size, data.pixels.shape[1], data.classes)
    return batch_dataset(generate, shape, None)


def make_eval_batches(data: Labelled, rows: NDArray[np.int64], batch_size: int) -> tf.data.Dataset:
    """Batches in row order (pixels, targets, weights [B] float32); the tail is filled up with
    rows of weight 0, which weighted metrics do not see and predictions cut off. Of several hosts
    each gives its part of them.
    """
    fed = own_part(batch_size)
    padded = np.resize(rows, (count_steps(len(rows), batch_size), batch_size))
    weights = (np.arange(padded.size) < len(rows)).astype(np.float32).reshape(padded.shape)

    def generate() -> Iterator[tuple[NDArray[Any], ...]]:
        for batch, weight in zip(padded[:, fed], weights[:, fed], strict=True):
            yield data.pixels[batch], data.encode(batch), weight

    shape = (fed.stop - fed.start, data.pixels.shape[1], data.classes)
    return batch_dataset(generate, shape, len(padded))


def batch_dataset(generate: Any, shape: tuple[int, int, int], steps: int | None) -> tf.data.Dataset:
    """A tf.data pipeline over a generator of batches, with static shapes, two batches ahead.

    `shape` is (B, S, C). `steps` batches have weights; an endless stream, which has none, is for
    training.
    """
    batch_size, side, classes = shape
    signature = [
        tf.TensorSpec((batch_size, side, side, 3), tf.uint8),
        tf.TensorSpec((batch_size, classes), tf.float32),
        tf.TensorSpec((batch_size,), tf.float32),
    ]
    kept = tuple(signature[:2] if steps is None else signature)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=kept).prefetch(2)
    length = tf.data.INFINITE_CARDINALITY if steps is None else steps
    return dataset.apply(tf.data.experimental.assert_cardinality(length))


# ==================================================================================================
# Pace: whether the device waits for its images, or they for the device
# ==================================================================================================

# Training that is slower than its input by this factor is not held up by it.
AHEAD = 1.25


def measure_rate(batches: Iterable[Any], seconds: float = 1.0) -> float:
    """Images per second that a pipeline gives when nothing else is done: over that many seconds.

    `batches` are tuples whose first part is [B, …]. The first one, which waits for the pipeline to
    start, does not count; at least one more does.
    """
    begun, images = 0.0, 0
    for number, (pixels, *_) in enumerate(batches):
        if number == 0:
            begun = time.perf_counter()
            continue
        images += len(pixels)
        if time.perf_counter() - begun >= seconds:
            break
    return images / max(time.perf_counter() - begun, 1e-9) if images else 0.0


def describe_bottleneck(host: float, training: float) -> str:
    """Says which side is the limit, of images per second that the input gives and training takes.

    Training cannot be faster than its input, so where both are about as fast it waits for it.
    """
    rates = f"the input gives {host:,.0f} images/s, training takes {training:,.0f}"
    if host >= AHEAD * training:
        return f"{rates}: the device is the limit, its input is {host / training:.1f} times as fast"
    return (
        f"{rates}: the input is the limit, and the device waits for it; a cheaper augment.policy, "
        f"a smaller pixels.image_size or pixels.cache in memory makes it faster"
    )


# ==================================================================================================
# Handles: where pretrained weights lie
# ==================================================================================================
# An input attached to the session comes first, then a folder on this machine, then a download,
# which has a time limit: where a session has no internet, kagglehub may wait for ever. What was
# looked for stands in the error.
#
# A handle is what Kaggle Models calls a module: owner/model/framework/variation/version.

HANDLE = re.compile(r"([\w-]+)/([\w.-]+)/(tensorflow2)/([\w.-]+?)(?:/(\d+))?", re.IGNORECASE)
# kaggle.com/models/google/efficientnet-v2/frameworks/TensorFlow2/variations/x/versions/1, or short
KAGGLE_ADDRESS = re.compile(
    r"https?://(?:www\.)?kaggle\.com/models/([\w-]+)/([\w.-]+)/(?:frameworks/)?(tensorflow2)"
    r"/(?:variations/)?([\w.-]+?)(?:/(?:versions/)?(\d+))?/?(?:\?.*)?",
    re.IGNORECASE,
)
# tfhub.dev/google/imagenet/efficientnet_v2_imagenet1k_b0/feature_vector/2: model and variation in
# one; to Kaggle they are google/efficientnet-v2/tensorFlow2/imagenet1k-b0-feature-vector
TFHUB_ADDRESS = re.compile(
    r"https?://tfhub\.dev/google/imagenet/([a-z_]+_v\d)(?:_(\w+?))?"
    r"/(feature_vector|classification)(?:/\d+)?/?(?:\?.*)?"
)
INPUT_DEPTH = 6  # folders below /kaggle/input in which a weights file is looked for


class BackboneError(RuntimeError):
    """The backbone is unknown, cannot be built so, or its weights cannot be had."""


def read_handle(text: str) -> str | None:
    """The handle that a handle, a kaggle.com or a tfhub.dev address stands for; None if none.

    The versions of tfhub.dev are not those of Kaggle Models and are left out. Raises BackboneError
    for an address that cannot be understood.
    """
    if tfhub := TFHUB_ADDRESS.fullmatch(text):
        model, variant, kind = ((part or "").replace("_", "-") for part in tfhub.groups())
        return f"google/{model}/tensorFlow2/{variant}-{kind}".replace("/-", "/")
    if found := HANDLE.fullmatch(text) or KAGGLE_ADDRESS.fullmatch(text):
        owner, model, _, variation, version = found.groups()
        return "/".join(filter(None, (owner, model, "tensorFlow2", variation, version)))
    if text.startswith(("http://", "https://")):
        raise BackboneError(
            f"model.backbone: the address {text} is not understood; give the handle that its page "
            f"on kaggle.com/models shows, owner/model/tensorFlow2/variation/version"
        )
    return None


def list_mounts(handle: str, inputs: Path) -> Iterator[Path]:
    """Where Kaggle may have mounted a module: both layouts, with its version and without."""
    owner, model, framework, variation, *version = handle.split("/")
    for place in (inputs / "models" / owner / model, inputs / model):
        folder = place / framework.lower() / variation
        yield from (folder / number for number in version)
        yield folder
        yield from sorted(folder.glob("[0-9]*"), key=lambda path: -int("0" + path.name[:9]))


def find_module(source: str, minutes: float, inputs: Path = KAGGLE_INPUT) -> Path:
    """The folder of a SavedModel: attached, on this machine, or downloaded within the limit.

    `source` is a handle or a folder. Raises BackboneError listing what was looked for.
    """
    handle = read_handle(source)
    places = list(list_mounts(handle, inputs)) if handle else []
    places.append(Path(source).expanduser())
    for place in places:
        if (place / "saved_model.pb").is_file():
            return place
    looked = "\n  ".join(f"{place}/saved_model.pb" for place in dict.fromkeys(places))
    if not handle:
        raise BackboneError(f"model.backbone: no SavedModel is there; looked for\n  {looked}")
    try:
        return Path(download_module(handle, minutes))
    except Exception as error:  # kagglehub and requests raise many kinds
        raise BackboneError(
            f"model.backbone: the module {handle} is not attached and cannot be downloaded "
            f"({describe_error(error)}); attach it to the notebook (Add Input, Models), switch "
            f"internet on, or name a folder: hub:/path; looked for\n  {looked}"
        ) from error


def download_module(handle: str, minutes: float) -> str:
    """Asks kagglehub for a module; raises TimeoutError after the limit."""
    import kagglehub

    return str(call_in_time(lambda: kagglehub.model_download(handle), minutes * 60))


def find_weights_file(names: set[str], inputs: Path = KAGGLE_INPUT) -> Path | None:
    """The first file with one of these names among the attached inputs, or None."""
    wanted = {name.lower() for name in names}
    for folder, below, files in os.walk(inputs):
        below.sort()
        if len(Path(folder).relative_to(inputs).parts) >= INPUT_DEPTH:
            below.clear()
        for file in sorted(files):
            if file.lower() in wanted:
                return Path(folder) / file
    return None


# ==================================================================================================
# Backbones: the table of networks that turn pixels into features
# ==================================================================================================
# One row for each, with the resolution and the input range it was made for. The range matters: a
# network fed the wrong one fails without a word, so normalisation is a layer of the model and the
# table is the only place that knows it. A Hub module's range is measured when it is ported.
#
#     tiny                     a small net for rehearsals
#     keras:EfficientNetV2S    keras.applications, with ImageNet-1k weights
#     hub:imagenet21k-s        google/efficientnet-v2 of Kaggle Models, as TF-Hub published it
#     hub:<folder>             a reusable TF2 SavedModel; also a kaggle.com or tfhub.dev address

# What a network wants of pixels from 0 to 255: as they are; 0 to 1; -1 to 1; -1 to just under 1;
# less ImageNet's mean, by its deviation; BGR less ImageNet's mean.
Scaling = Literal["none", "unit", "inception", "automl", "imagenet", "caffe"]

# train, test: px of the pretraining and of its test, the better choice for pixels.image_size;
# features: width of the pooled output; params: millions, without top; least: px it can be built at.
# Weights are keras's own files; * is weights_tf_dim_ordering_tf_kernels.
BACKBONE_TABLE = """
name                     family          train test features params scaling   least weights
tiny                     tiny               32   32      128    0.1 inception    16 -
keras:EfficientNetV2B0   EfficientNetV2    192  224     1280    5.9 imagenet     32 efficientnetv2-b0_notop.h5
keras:EfficientNetV2B1   EfficientNetV2    192  240     1280    6.9 imagenet     32 efficientnetv2-b1_notop.h5
keras:EfficientNetV2B2   EfficientNetV2    208  260     1408    8.8 imagenet     32 efficientnetv2-b2_notop.h5
keras:EfficientNetV2B3   EfficientNetV2    240  300     1536   12.9 imagenet     32 efficientnetv2-b3_notop.h5
keras:EfficientNetV2S    EfficientNetV2    300  384     1280   20.3 automl       32 efficientnetv2-s_notop.h5
keras:EfficientNetV2M    EfficientNetV2    384  480     1280   53.2 automl       32 efficientnetv2-m_notop.h5
keras:EfficientNetV2L    EfficientNetV2    384  480     1280  117.7 automl       32 efficientnetv2-l_notop.h5
keras:ConvNeXtTiny       ConvNeXt          224  224      768   27.8 imagenet     32 convnext_tiny_notop.h5
keras:ConvNeXtSmall      ConvNeXt          224  224      768   49.5 imagenet     32 convnext_small_notop.h5
keras:ConvNeXtBase       ConvNeXt          224  224     1024   87.6 imagenet     32 convnext_base_notop.h5
keras:ConvNeXtLarge      ConvNeXt          224  224     1536  196.2 imagenet     32 convnext_large_notop.h5
keras:ConvNeXtXLarge     ConvNeXt          224  224     2048  348.1 imagenet     32 convnext_xlarge_notop.h5
keras:DenseNet121        DenseNet          224  224     1024    7.0 imagenet     32 densenet121_*_notop.h5
keras:DenseNet169        DenseNet          224  224     1664   12.6 imagenet     32 densenet169_*_notop.h5
keras:DenseNet201        DenseNet          224  224     1920   18.3 imagenet     32 densenet201_*_notop.h5
keras:ResNet50V2         ResNetV2          224  224     2048   23.6 inception    32 resnet50v2_*_notop.h5
keras:ResNet101V2        ResNetV2          224  224     2048   42.6 inception    32 resnet101v2_*_notop.h5
keras:ResNet152V2        ResNetV2          224  224     2048   58.3 inception    32 resnet152v2_*_notop.h5
keras:ResNet50           ResNet            224  224     2048   23.6 caffe        32 resnet50_*_notop.h5
keras:ResNet101          ResNet            224  224     2048   42.7 caffe        32 resnet101_*_notop.h5
keras:ResNet152          ResNet            224  224     2048   58.4 caffe        32 resnet152_*_notop.h5
keras:MobileNet          MobileNet         224  224     1024    3.2 inception    32 mobilenet_1_0_224_tf_no_top.h5
keras:MobileNetV2        MobileNet         224  224     1280    2.3 inception    32 mobilenet_v2_*_1.0_224_no_top.h5
keras:MobileNetV3Small   MobileNet         224  224      576    0.9 inception    32 weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5
keras:MobileNetV3Large   MobileNet         224  224      960    3.0 inception    32 weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5
keras:Xception           Inception         299  299     2048   20.9 inception    71 xception_*_notop.h5
keras:InceptionV3        Inception         299  299     2048   21.8 inception    75 inception_v3_*_notop.h5
keras:InceptionResNetV2  Inception         299  299     1536   54.3 inception    75 inception_resnet_v2_*_notop.h5
keras:NASNetMobile       NASNet            224  224     1056    4.3 inception    32 nasnet_mobile_no_top.h5
keras:NASNetLarge        NASNet            331  331     4032   84.9 inception    32 nasnet_large_no_top.h5
keras:VGG16              VGG               224  224      512   14.7 caffe        32 vgg16_*_notop.h5
keras:VGG19              VGG               224  224      512   20.0 caffe        32 vgg19_*_notop.h5
"""  # noqa: E501
KERAS_STEM = "weights_tf_dim_ordering_tf_kernels"

# google/efficientnet-v2 of Kaggle Models: each set of weights, in its version there.
HUB_VERSIONS = {"imagenet1k": 2, "imagenet21k": 1, "imagenet21k-ft1k": 2}
HUB_MODEL = "google/efficientnet-v2/tensorFlow2"


class Backbone(NamedTuple):
    """One row of the table."""

    name: str  # as model.backbone takes it
    family: str
    architecture: str  # its name in keras.applications; "" if it is not there
    train_size: int  # px, at which it was pretrained
    image_size: int  # px, at which it was tested then; may be larger; 0: any
    features: int  # width of the pooled output; 0: only the module knows
    parameters: float  # millions, without top; 0 likewise
    scaling: Scaling  # a ported module's is measured anew
    smallest: int  # px, below which it cannot be built
    weights: str  # keras's file, a handle of Kaggle Models, or a folder; "" if there are none


def read_backbone_table(text: str) -> dict[str, Backbone]:
    """Turns the text above into rows by name, and adds the hub rows of each EfficientNetV2."""
    rows = dict[str, Backbone]()
    for line in text.strip().splitlines()[1:]:
        name, family, train, test, width, millions, scaling, smallest, weights = line.split()
        rows[name] = Backbone(
            name,
            family,
            architecture="" if weights == "-" else name.removeprefix("keras:"),
            train_size=int(train),
            image_size=int(test),
            features=int(width),
            parameters=float(millions),
            scaling=cast("Scaling", scaling),
            smallest=int(smallest),
            weights="" if weights == "-" else weights.replace("*", KERAS_STEM),
        )
    portable = [row for row in rows.values() if row.family == "EfficientNetV2"]
    for kind in ("feature-vector", "classification"):
        for data, version in HUB_VERSIONS.items():
            for row in portable:
                size = row.architecture.removeprefix(row.family).lower()
                name = f"hub:{data}-{size}" + ("" if kind == "feature-vector" else f"-{kind}")
                handle = f"{HUB_MODEL}/{data}-{size}-{kind}/{version}"
                rows[name] = row._replace(name=name, scaling="unit", weights=handle)
    return rows


BACKBONES = read_backbone_table(BACKBONE_TABLE)


def find_backbone(name: str) -> Backbone:
    """Looks a backbone up by its name in the table, by a handle or address, or by its folder.

    Raises BackboneError with the nearest names.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    where = name.removeprefix("hub:")
    if name.startswith(("hub:", "https://")):
        handle = read_handle(where)
        if re.fullmatch(
            r"imagenet[\w-]*-xl(-\w+)*", (handle or where).split("/")[3 if handle else 0]
        ):
            raise BackboneError(
                f"model.backbone is {name}, but Keras has no EfficientNetV2 XL to carry its "
                f"weights; take l, or give the downloaded module's folder, hub:/path, which "
                f"TensorFlow can run as it is"
            )
        for row in BACKBONES.values():
            if handle and handle.split("/")[:4] == row.weights.split("/")[:4]:
                return row._replace(weights=handle) if handle.count("/") == 4 else row
        if handle or "/" in where or "\\" in where or Path(where).is_dir():
            source = handle or where
            return Backbone(*(f"hub:{source}", "SavedModel", "", 0, 0, 0, 0.0, "unit", 16, source))
    near = difflib.get_close_matches(name, BACKBONES, n=4, cutoff=0.4) or list(BACKBONES)[:4]
    raise BackboneError(
        f"model.backbone {name!r} is not in the table; did you mean {', '.join(near)}? "
        f"make backbones lists all"
    )


# ==================================================================================================
# Normalisation: from pixels of 0 to 255 to what a backbone expects
# ==================================================================================================
# It is part of the model, and so are grey pixels: whoever feeds the saved model colours, as a later
# session does that knows nothing of the settings, has the answers that were validated.

# ImageNet's mean and standard deviation by channel, on the scale of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def turn_grey(squares: Any) -> Any:
    """The luma of pixels [B, H, W, 3] of 0 to 255, in all three channels; grey ones stay so."""
    channels = keras.ops.split(squares, 3, axis=-1)
    luma = sum(share * channel for share, channel in zip(LUMA, channels, strict=True))
    return keras.ops.repeat(luma, 3, axis=-1)


def scale_pixels(pixels: Any, scaling: Scaling) -> Any:
    """Scales pixels [B, H, W, 3] of 0 to 255, in float32 under any policy of precision.

    Uses nothing but Keras's own layers, so any Keras loads the model.
    """
    options = {"name": "normalise", "dtype": "float32"}
    if scaling == "none":
        return pixels
    if scaling == "imagenet":
        variance = [std**2 for std in IMAGENET_STD]
        return keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, **options)(pixels)
    if scaling == "caffe":
        blue_first, ones = keras.ops.flip(pixels, axis=-1), [1.0, 1.0, 1.0]
        return keras.layers.Normalization(mean=CAFFE_MEAN, variance=ones, **options)(blue_first)
    factor, offset = {
        "unit": (1 / 255, 0.0),
        "inception": (1 / 127.5, -1.0),
        "automl": (1 / 128, -1.0),
    }[scaling]
    return keras.layers.Rescaling(factor, offset, **options)(pixels)


# ==================================================================================================
# Hub module: a SavedModel as a Keras layer, where its weights cannot be ported
# ==================================================================================================
# For the TensorFlow backend alone. Keras's own TFSMLayer runs a module always as in inference, so
# its batch statistics stay frozen and its dropout stays off; this layer trains it whole.


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


# ==================================================================================================
# Port: a Hub module's weights on Keras's own EfficientNetV2
# ==================================================================================================
# `hub.KerasLayer` does not work in Keras 3, and a TPU cannot run a SavedModel under JAX. But the
# weights can move: google/automl, from which the Hub modules were exported, and keras.applications
# build the same network under other names. They move by name, through two gates: every name and
# shape must fit with nothing left over, and the network must then answer a probe batch as the
# module does. Which input range makes it do so is the range that the module wants.

# How many blocks an EfficientNetV2 has tells its size.
SIZE_BY_BLOCKS = {21: "B0", 27: "B1", 28: "B2", 32: "B3", 40: "S", 57: "M", 79: "L"}
PUBLISHED_NAME = re.compile(r"(?:^|/)((?:stem|head|blocks_\d+)/(?!dense).*)$")
CLASSIFIER_NAME = re.compile(r"(?:^|/)(?:head/)?(?:dense|predictions|logits)\w*/(kernel|bias)$")
PROBED_SCALINGS: tuple[Scaling, ...] = ("unit", "inception", "automl", "imagenet")
PROBE_SIDE, PROBE_IMAGES = 96, 4
# A module's own answer moves by a floor if its input moves by NUDGE; a port may differ by as many.
NUDGE = 1e-6
FLOORS_ALLOWED = 3.0
UNSTEADY = 1e-3  # a floor above which nothing could be told from the answers


class UnportableModule(BackboneError):  # noqa: N818
    """A SavedModel whose weights do not fit Keras's EfficientNetV2; says where it differs first."""


class Module(NamedTuple):
    """A reusable SavedModel: where it lies, what it computes, and its variables by name."""

    folder: Path
    call: Any  # float32 [B, H, W, 3] from 0 to 1, training → features [B, F] or logits [B, C]
    variables: dict[str, NDArray[Any]]


class Port(NamedTuple):
    """A network with a module's weights, the input range it wants, and what the gates measured."""

    network: keras.Model  # scaled pixels [B, H, W, 3] float32 to [B, F]
    scaling: Scaling
    figures: dict[str, Any]


def read_module(folder: Path) -> Module:
    """Loads a reusable SavedModel; raises UnportableModule if it is none, or broken."""
    try:
        with tf.device("cpu:0"):
            loaded = tf.saved_model.load(str(folder))
            variables = [(one.name.partition(":")[0], one.numpy()) for one in loaded.variables]
    except AttributeError as error:
        raise UnportableModule(
            f"{folder} is no reusable SavedModel: it has no variables to train"
        ) from error
    except (IndexError, OSError, ValueError, tf.errors.OpError) as error:
        raise UnportableModule(f"{folder} cannot be read: {describe_error(error)}") from error
    if not callable(loaded) or not variables:
        raise UnportableModule(f"{folder} is no reusable SavedModel: it cannot be called")
    names = [name for name, _ in variables]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UnportableModule(f"{folder} has {doubled[0]} twice, so names do not tell its weights")
    return Module(folder, loaded, dict(variables))


def port_module(module: Module, architecture: str = "") -> Port:
    """Builds the Keras network of a module, with its weights; both gates must let it pass.

    Without an architecture, the number of blocks tells it. Raises UnportableModule.
    """
    architecture = architecture or guess_architecture(module)
    with exact_float32():
        network = getattr(keras.applications, architecture)(
            weights=None, include_top=False, pooling="avg", include_preprocessing=False
        )
        moved = move_weights(module, network)
        scaling, figures = find_scaling(module, network)
    return Port(network, scaling, {"architecture": architecture, "variables": moved, **figures})


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """On the CPU and in float32, whatever the run computes in: both sides must be exact."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with keras.device("cpu:0"):  # and nothing on the accelerator yet
            yield
    finally:
        keras.config.set_dtype_policy(policy)


def guess_architecture(module: Module) -> str:
    """The EfficientNetV2 with as many blocks; raises UnportableModule if there is none."""
    numbers = (re.search(r"blocks_(\d+)/", name) for name in module.variables)
    blocks = len({number[1] for number in numbers if number})
    if blocks not in SIZE_BY_BLOCKS:
        raise UnportableModule(
            f"{module.folder} is no EfficientNetV2 that Keras has: it has {blocks} blocks, where "
            + ", ".join(f"{size} has {count}" for count, size in SIZE_BY_BLOCKS.items())
        )
    return f"EfficientNetV2{SIZE_BY_BLOCKS[blocks]}"


def move_weights(module: Module, network: keras.Model) -> int:
    """Assigns every variable of the module to the network's by name; returns how many.

    Raises UnportableModule if a name or a shape does not fit, or anything is left over.
    """
    targets, source, foreign = dict(list_targets(network)), dict[str, NDArray[Any]](), list[str]()
    for name, value in module.variables.items():
        if found := PUBLISHED_NAME.search(name):
            source[found[1]] = value
        elif not CLASSIFIER_NAME.search(name):
            foreign.append(name)
    differences = {
        "missing": sorted(targets.keys() - source.keys()),
        "unused": sorted(source.keys() - targets.keys()),
        "foreign": sorted(foreign),
        "of another shape": [
            f"{name} {source[name].shape} for {tuple(target.shape)}"
            for name, target in targets.items()
            if name in source and source[name].shape != tuple(target.shape)
        ],
    }
    if any(differences.values()):
        told = (f"{len(n)} {kind}, e.g. {n[0]}" for kind, n in differences.items() if n)
        raise UnportableModule(
            f"{module.folder} does not fit keras:{network.name}: {'; '.join(told)}"
        )
    for name, target in targets.items():
        target.assign(source[name])
    return len(targets)


def list_targets(network: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Every variable of the network with the name under which google/automl published it."""
    layers = {layer.name: layer for layer in network.layers}
    blocks = [name[: -len("_project_conv")] for name in layers if name.endswith("_project_conv")]
    yield from name_variables("stem", layers, ["stem_conv"], ["stem_bn"])
    for number, block in enumerate(blocks):
        convs, norms = ("expand_conv", "project_conv"), ("expand_bn", "bn", "project_bn")
        yield from name_variables(
            f"blocks_{number}",
            layers,
            [f"{block}_{one}" for one in convs],
            [f"{block}_{one}" for one in norms],
        )
        if depthwise := layers.get(f"{block}_dwconv2"):
            yield f"blocks_{number}/depthwise_conv2d/depthwise_kernel", depthwise.kernel
        squeeze = [f"{block}_se_reduce", f"{block}_se_expand"]
        yield from name_variables(f"blocks_{number}/se", layers, squeeze, [])
    yield from name_variables("head", layers, ["top_conv"], ["top_bn"])


def name_variables(
    part: str, layers: Mapping[str, Any], convs: list[str], norms: list[str]
) -> Iterator[tuple[str, keras.Variable]]:
    """The variables of the layers that exist, numbered as TensorFlow numbers a part's layers."""
    for kind, names in (("conv2d", convs), ("tpu_batch_normalization", norms)):
        for place, layer in enumerate(layers[name] for name in names if name in layers):
            for variable in layer.variables:
                yield f"{part}/{kind}{f'_{place}' if place else ''}/{variable.name}", variable


def find_scaling(module: Module, network: keras.Model) -> tuple[Scaling, dict[str, Any]]:
    """The input range under which the network answers as the module, and the differences measured.

    Raises UnportableModule if none is within FLOORS_ALLOWED of the module's own unsteadiness.
    """
    pixels = draw_probe(find_side(module.call) or PROBE_SIDE)
    answer = ask_module(module, pixels / 255.0)
    floor = compare(ask_module(module, pixels / 255.0 + NUDGE), answer)
    if not floor <= UNSTEADY:
        raise UnportableModule(
            f"{module.folder} cannot be checked: its own answer moves by {floor:.1e} if its input "
            f"moves by {NUDGE:.0e}, where {UNSTEADY:.0e} is allowed"
        )
    allowed = FLOORS_ALLOWED * max(floor, float(np.finfo(np.float32).eps))
    probes = dict[str, float]()
    for scaling in PROBED_SCALINGS:
        scaled = scale_pixels(keras.ops.convert_to_tensor(pixels), scaling)
        features = keras.ops.convert_to_numpy(network(scaled, training=False))
        probes[scaling] = compare(classify(module, features), answer)
        if probes[scaling] <= allowed:
            return scaling, {"difference": probes[scaling], "allowed": allowed, "probes": probes}
    told = ", ".join(f"{name} {value:.1e}" for name, value in probes.items())
    raise UnportableModule(
        f"{module.folder} fits keras:{network.name} by name, but they answer differently, "
        f"by {told} relatively, where {allowed:.1e} is allowed"
    )


def draw_probe(side: int) -> NDArray[np.float32]:
    """Pixels like a photograph's, patches under noise around a colour: [B, S, S, 3], 0 to 255."""
    rng = np.random.default_rng(0)
    patches = rng.normal(0, 50, (PROBE_IMAGES, -(-side // 8), -(-side // 8), 3))
    colour = rng.uniform(20, 235, (PROBE_IMAGES, 1, 1, 3))
    noise = rng.normal(0, 10, (PROBE_IMAGES, side, side, 3))
    pixels = colour + patches.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side] + noise
    return np.clip(pixels.round(), 0, 255).astype(np.float32)


def ask_module(module: Module, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """What the module itself computes on the CPU."""
    with tf.device("cpu:0"):
        return np.asarray(module.call(tf.constant(inputs, tf.float32), training=False))


def classify(module: Module, features: NDArray[Any]) -> NDArray[Any]:
    """Applies the module's own classifier to the network's features, if it has one."""
    parts = {
        found[1]: value
        for name, value in module.variables.items()
        if (found := CLASSIFIER_NAME.search(name))
    }
    if not parts:
        return features
    if parts.keys() != {"kernel", "bias"} or parts["kernel"].shape[0] != features.shape[1]:
        raise UnportableModule(f"{module.folder} has a classifier that is not one dense layer")
    return np.asarray(features @ parts["kernel"] + parts["bias"])


def compare(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value; infinite if shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max() / np.abs(other).max())


# ==================================================================================================
# Network: the backbone built, as its row of the table says
# ==================================================================================================

# These would scale pixels by themselves, and must be told not to.
SCALING_INSIDE = ("EfficientNetV2", "ConvNeXt", "MobileNetV3")


class Start(NamedTuple):
    """What every fold's backbone starts from."""

    backbone: Backbone
    scaling: Scaling
    weights: Path | None = None  # of the Keras network; None: random
    module: Path | None = None  # a SavedModel that runs as it is


def check_backbone(config: ModelConfig, image_size: int) -> Backbone:
    """Returns the row of the table, or raises BackboneError if it cannot be built so."""
    backbone = find_backbone(config.backbone)
    if image_size < backbone.smallest:
        raise BackboneError(
            f"pixels.image_size is {image_size} px, but {backbone.name} needs {backbone.smallest} "
            f"or more and was made for {backbone.image_size}; raise it, or train.first_size if "
            f"that made it so small"
        )
    if backbone.name == "tiny" and config.weights == "pretrained":
        raise BackboneError(
            "model.weights is pretrained, but tiny, a network for rehearsals, has none; "
            "set model.weights to random, or model.backbone to keras:EfficientNetV2B0"
        )
    if backbone.family == "SavedModel" and config.weights == "random":
        raise BackboneError(
            f"model.weights is random, but {backbone.name} comes with its weights; set it to "
            f"pretrained"
        )
    return backbone


def build_network(start: Start, image_size: int) -> keras.layers.Layer:
    """Builds the backbone: [B, image_size, image_size, 3] float32, scaled, to [B, features]."""
    if start.module:
        return HubModule(str(start.module), name="backbone")
    network = build_architecture(start.backbone, image_size)
    network.name = "backbone"
    if start.weights:
        network.load_weights(start.weights)
    return network


def build_architecture(
    backbone: Backbone, image_size: int, weights: str | None = None
) -> keras.Model:
    """Builds the Keras network of a row, from random weights or those that Keras downloads."""
    shape = (image_size, image_size, 3)
    if backbone.name == "tiny":
        return build_tiny(shape, backbone.features)
    name = backbone.architecture
    inside = {"include_preprocessing": False} if name.startswith(SCALING_INSIDE) else {}
    return getattr(keras.applications, name)(
        weights=weights, include_top=False, pooling="avg", input_shape=shape, **inside
    )


def build_tiny(shape: tuple[int, int, int], features: int) -> keras.Model:
    """A small convolutional net for rehearsals: it learns digits in a minute on a laptop."""
    inputs = x = keras.Input(shape)
    for place, (width, stride) in enumerate(((16, 1), (32, 2), (64, 2), (features, 2)), start=1):
        conv = keras.layers.Conv2D(
            width, 3, stride, padding="same", use_bias=False, name=f"conv{place}"
        )
        norm = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{place}")
        x = keras.layers.Activation("relu")(norm(conv(x)))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x)


# ==================================================================================================
# Weights: what the backbone starts from
# ==================================================================================================
# They are looked for once, before the folds: among the attached inputs, then in Keras's cache, then
# by download; a Hub module's are ported. They are kept as backbone.weights.h5 in the run folder,
# which every fold reads, with what was measured beside them in backbone.json.

DOWNLOAD_MINUTES = 10.0


def prepare_backbone(config: ModelConfig, image_size: int, folder: Path, report: Reporter) -> Start:
    """Finds the weights, ports them if they are a Hub module's, and keeps them in the run folder.

    Raises BackboneError if they cannot be had, UnportableModule if they are not what they should
    be. Where model.weights allows it, weights that cannot be found are random, with a warning.
    """
    backbone = check_backbone(config, image_size)
    if config.weights == "random" or backbone.name == "tiny":
        return start_at_random(backbone, "model.weights is random", report)
    try:
        if backbone.name.startswith("keras:"):
            return prepare_keras(backbone, folder, report)
        module = find_module(backbone.weights, DOWNLOAD_MINUTES)
    except BackboneError as error:
        if config.weights == "pretrained" or not backbone.architecture:
            raise  # of a module that is not there, not even the architecture is known
        return start_at_random(backbone, str(error), report)
    start = prepare_module(backbone, module, folder, report)
    if start.module and start.backbone.image_size not in (0, image_size):
        raise BackboneError(
            f"pixels.image_size is {image_size} px, but {module} takes "
            f"{start.backbone.image_size} px and no other; set pixels.image_size to that"
        )
    return start


def start_at_random(backbone: Backbone, reason: str, report: Reporter) -> Start:
    """Says plainly that a network which starts from nothing will know little."""
    if backbone.name != "tiny":
        report.warn(
            f"{backbone.name} starts from random weights: this run rehearses the stages, its "
            f"accuracy means little ({reason})"
        )
    return Start(backbone, backbone.scaling)


def prepare_keras(backbone: Backbone, folder: Path, report: Reporter) -> Start:
    """Loads a network of keras.applications from a file, attached or cached, or downloads it."""
    names = {
        backbone.weights,
        f"{backbone.architecture}.weights.h5",
        f"{backbone.architecture}.keras",
    }
    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    found = find_weights_file(names) or find_weights_file({backbone.weights}, cache)
    with keras.device("cpu:0"):
        network = load_network(backbone, found) if found else download_network(backbone, cache)
    source = str(found or cache / backbone.weights)
    return keep_weights(
        Start(backbone, backbone.scaling), network, folder, report, {"source": source}
    )


def load_network(backbone: Backbone, path: Path) -> keras.Model:
    """Builds the network and reads its weights from an .h5, .weights.h5 or .keras file."""
    network = build_architecture(backbone, backbone.image_size)
    try:
        if path.suffix == ".keras":
            copy_weights(keras.models.load_model(path, compile=False), network)
        else:
            network.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds for a file that does not fit
        raise BackboneError(
            f"{path} does not hold the weights of {backbone.name}: {describe_error(error)}"
        ) from error
    return network


def copy_weights(source: keras.Model, network: keras.Model) -> None:
    """Copies the weights of the layers with the same names; raises ValueError if one is missing.

    The source is such a network itself, or a model that Podium saved with one inside.
    """
    inside = [layer for layer in source._flatten_layers() if layer.name == "backbone"]
    layers = {layer.name: layer for layer in (inside[0] if inside else source).layers}
    for layer in network.layers:
        if layer.weights:
            if layer.name not in layers:
                raise ValueError(f"it has no layer {layer.name}")
            layer.set_weights(layers[layer.name].get_weights())


def download_network(backbone: Backbone, cache: Path) -> keras.Model:
    """Lets Keras download the weights into its cache, within a time limit."""

    def build() -> keras.Model:
        with keras.device("cpu:0"):
            return build_architecture(backbone, backbone.image_size, "imagenet")

    try:
        return call_in_time(build, DOWNLOAD_MINUTES * 60)
    except Exception as error:  # keras.utils.get_file raises no narrower type
        raise BackboneError(
            f"the weights of {backbone.name} are not among the attached inputs nor in {cache} "
            f"({backbone.weights}), and cannot be downloaded ({describe_error(error)}): attach the "
            f"file, switch the session's internet on, or set model.weights to random for a "
            f"rehearsal"
        ) from error


def prepare_module(backbone: Backbone, module: Path, folder: Path, report: Reporter) -> Start:
    """Ports a SavedModel, or on TensorFlow takes one of another architecture as it is."""
    source = {"source": str(module), "sha256": hash_module(module)}
    if kept := read_kept(backbone, source, folder):
        return kept
    loaded = read_module(module)
    try:
        port = port_module(loaded, backbone.architecture)
    except UnportableModule as error:
        if backbone.family != "SavedModel" or keras.backend.backend() != "tensorflow":
            raise UnportableModule(
                f"{error}; as it is, only TensorFlow can run it: choose another backbone of the "
                f"table, or set runtime.backend to tensorflow and model.backbone to hub:{module}"
            ) from error
        report.warn(f"{error}; it is trained as it is: TensorFlow alone, in float32")
        side = find_side(loaded.call) or 0
        return Start(backbone._replace(image_size=side), "unit", module=module)
    report.say(
        f"  ported {port.figures['variables']} variables to keras:{port.figures['architecture']}, "
        f"input {port.scaling}; largest relative difference {port.figures['difference']:.1e}, "
        f"allowed {port.figures['allowed']:.1e}"
    )
    ported = find_backbone(f"keras:{port.figures['architecture']}")._replace(name=backbone.name)
    start = Start(ported, port.scaling)
    return keep_weights(start, port.network, folder, report, {**source, **port.figures})


def keep_weights(
    start: Start, network: keras.Model, folder: Path, report: Reporter, figures: dict[str, Any]
) -> Start:
    """Writes the network's weights to the run folder, and what is known of them.

    Raises BackboneError if there is no room.
    """
    path = folder / "backbone.weights.h5"
    about = {"backbone": start.backbone._asdict(), "scaling": start.scaling, **figures}
    try:
        (folder / "backbone.json").unlink(missing_ok=True)  # it must not speak of other weights
        network.save_weights(path)
        write_whole(folder / "backbone.json", json.dumps(about, indent=1).encode())
    except OSError as error:
        raise BackboneError(
            f"{path} could not be written ({describe_error(error)}); free some space, or set "
            f"runtime.folder to a larger disk"
        ) from error
    report.emit("backbone_prepared", **about)
    report.say(f"  {start.backbone.name} starts from {figures['source']}")
    return start._replace(weights=path)


def read_kept(backbone: Backbone, source: dict[str, str], folder: Path) -> Start | None:
    """The start that an earlier process ported from the same module into this run folder."""
    about, weights = folder / "backbone.json", folder / "backbone.weights.h5"
    if not about.is_file() or not weights.is_file():
        return None
    kept = json.loads(about.read_text(encoding="utf-8"))
    row = Backbone(**kept["backbone"])
    if kept.get("sha256") != source["sha256"] or row.name != backbone.name:
        return None
    return Start(row, kept["scaling"], weights)


def hash_module(module: Path) -> str:
    """The sha256 of a SavedModel's graph and of its variables."""
    digest = hashlib.sha256()
    for path in sorted([module / "saved_model.pb", *(module / "variables").glob("*")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


# ==================================================================================================
# Freezing: which variables train, and how fast
# ==================================================================================================
# A backbone is cut into stages where its resolution halves: stage 1 ends at half the image's side,
# stage 5 at 1/32. Early stages see edges, late ones see parts, so early ones can stay as they are
# (model.frozen_stages) or move more slowly (schedule.layer_decay).
#
# The model must be compiled after any change here: Keras looks at `trainable` only then.

ALL_STAGES = 5


def list_stages(backbone: keras.layers.Layer) -> Iterator[tuple[keras.layers.Layer, int]]:
    """Every layer of a backbone, in order, with its stage from 1 on."""
    side, stage = backbone.input_shape[1], 1
    for layer in backbone.layers:
        # Only what looks at neighbours: squeeze-and-excitation makes maps of 1 × 1 on its way.
        if find_window(layer) > 1:
            stage = max(stage, round(math.log2(side / layer.output.shape[1])))
        yield layer, stage


def find_window(layer: keras.layers.Layer) -> int:
    """The side of what a layer, or the widest of those inside it, looks at: 1 is a pixel."""
    inside = getattr(layer, "layers", [layer])  # ConvNeXt's stem is a Sequential
    windows = [getattr(one, "kernel_size", getattr(one, "pool_size", (1, 1))) for one in inside]
    return max(int(max(window)) for window in windows)


def freeze_backbone(model: keras.Model, config: ModelConfig, *, frozen: bool) -> None:
    """Freezes the backbone, or frees what of it the settings let train.

    A frozen batch norm keeps its statistics too (Keras runs it as in inference). A SavedModel is
    one piece, with all its stages frozen or none; raises BackboneError if a setting asks for some.
    """
    backbone = model.get_layer("backbone")
    backbone.trainable = not frozen and config.frozen_stages < ALL_STAGES
    fixed_norm = config.batch_norm == "frozen"
    in_parts = config.frozen_stages not in (0, ALL_STAGES) or fixed_norm
    if not isinstance(backbone, keras.Model) and not in_parts:
        return
    # Layer by layer: Keras passes `trainable` on to the layers only when the backbone's changes.
    for layer, stage in list_parts(backbone, "model.frozen_stages of 1 to 4, model.batch_norm"):
        fixed = fixed_norm and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not frozen and stage > config.frozen_stages and not fixed


def share_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """Each backbone variable's share of the learning rate, by path: decay to the power of the
    stages between it and the head.
    """
    if decay == 1.0:
        return {}
    parts = list(list_parts(model.get_layer("backbone"), "schedule.layer_decay"))
    last = parts[-1][1]
    return {
        variable.path: decay ** (last + 1 - stage)
        for layer, stage in parts
        for variable in layer.trainable_variables
    }


def list_parts(
    backbone: keras.layers.Layer, settings: str
) -> Iterator[tuple[keras.layers.Layer, int]]:
    """The layers and their stages, or BackboneError naming the settings that need them."""
    if not isinstance(backbone, keras.Model):
        raise BackboneError(
            f"{settings} need a backbone made of Keras layers, and a SavedModel is one piece; "
            f"leave them at their defaults, or choose a backbone that can be ported"
        )
    return list_stages(backbone)


def set_bn_momentum(backbone: keras.layers.Layer, momentum: float | None) -> None:
    """Sets the share of the old statistics that every batch norm keeps at each step."""
    if momentum is not None:
        for layer, _ in list_parts(backbone, "model.bn_momentum"):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = momentum


def set_drop_path(backbone: keras.layers.Layer, rate: float | None) -> None:
    """Sets stochastic depth, rising with depth to `rate` (Huang et al. 2016, arXiv 1603.09382).

    Raises BackboneError if the network has none to set.
    """
    if rate is None:
        return
    drops = [
        layer
        for layer, _ in list_parts(backbone, "model.drop_path")
        if isinstance(layer, keras.layers.Dropout) and layer.noise_shape is not None
    ]
    if not drops:
        raise BackboneError(
            "model.drop_path is set, but this backbone has no stochastic depth; "
            "leave it at none, or take an EfficientNetV2"
        )
    for place, layer in enumerate(drops, start=1):
        layer.rate = rate * place / len(drops)


def fit_momentum(steps: int) -> float:
    """The largest momentum, to two digits, whose statistics follow within so many steps."""
    return math.floor(round(100 * (1 - 3 / steps), 6)) / 100


def warn_of_slow_statistics(model: keras.Model, steps: int, report: Reporter) -> None:
    """Warns if batch norm's running statistics need more than an epoch to follow the weights.

    An exponential average forgets over 1 / (1 − momentum) steps; three times that is 95 %.
    """
    backbone = model.get_layer("backbone")
    layers = backbone.layers if isinstance(backbone, keras.Model) else []
    momenta = [
        layer.momentum
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not momenta:
        return
    slowest = max(momenta)
    needed = math.ceil(round(3 / (1 - slowest), 6))
    if steps < needed:
        fitting = fit_momentum(steps)
        remedy = f"model.bn_momentum to {fitting:g} or less, or " if fitting > 0 else ""
        report.warn(
            f"batch norm's statistics lag: with momentum {slowest:g} they need {needed} steps, "
            f"and an epoch has {steps}; set {remedy}model.batch_norm to frozen"
        )


# ==================================================================================================
# Model: augment, normalise, backbone, head
# ==================================================================================================
# The model takes uint8 pixels and gives logits, so nothing can be normalised twice, and the saved
# model can be fed raw pixels anywhere. The head starts from zero: no class is preferred at first.

GEM_POWER = 3.0


def build_model(
    config: Config, start: Start, classes: int, side: int, seed: int, size: int | None = None
) -> keras.Model:
    """Builds the whole network: stored squares [B, side, side, 3] uint8 to logits [B, C].

    What is cut out of a square is `pixels.image_size` wide; it reaches the backbone in another
    `size` if one is given. Raises BackboneError if a setting asks what the backbone cannot do.
    """
    full = config.pixels.image_size
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    squares = make_augmentation(config.augment, full, seed)(pixels)
    if size not in (None, full):
        shrink = keras.layers.Resizing(size, size, antialias=True, dtype="float32", name="shrink")
        squares = shrink(squares)
    return keras.Model(pixels, add_body(squares, config, start, classes, seed), name="podium")


def add_body(squares: Any, config: Config, start: Start, classes: int, seed: int) -> Any:
    """Squares [B, size, size, 3] float32, 0 to 255, to logits [B, C]."""
    return add_head(add_backbone(squares, config, start), config.head, classes, seed)


def add_backbone(squares: Any, config: Config, start: Start) -> Any:
    """Squares [B, size, size, 3] float32, 0 to 255, to features [B, F]."""
    backbone = build_network(start, squares.shape[1])
    set_bn_momentum(backbone, config.model.bn_momentum)
    set_drop_path(backbone, config.model.drop_path)
    if config.head.pooling == "gem":
        backbone = pool_by_gem(backbone)
    if config.pixels.colour == "grey":
        squares = turn_grey(squares)
    return backbone(scale_pixels(squares, start.scaling))


def add_head(features: Any, config: HeadConfig, classes: int, seed: int) -> Any:
    """Features [B, F] to logits [B, C] in float32, so that softmax and loss are exact."""
    x = keras.layers.Dropout(config.dropout, seed=seed, name="dropout")(features)
    if config.hidden:
        x = keras.layers.Dense(config.hidden, config.activation, name="hidden")(x)
    head = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="head")
    return head(x)


def pool_by_gem(backbone: keras.Model) -> keras.Model:
    """Puts the generalised mean in the place of the mean over the feature map (Radenović et al.
    2018, arXiv 1711.02512): the cube root of the mean of cubes, of what is positive.
    """
    if not isinstance(backbone, keras.Model):
        raise BackboneError("head.pooling is gem, but a SavedModel pools by itself; set it to avg")
    kinds = [isinstance(layer, keras.layers.GlobalAveragePooling2D) for layer in backbone.layers]
    place = len(kinds) - 1 - kinds[::-1].index(True)
    x = keras.ops.maximum(keras.ops.cast(backbone.layers[place].input, "float32"), 1e-6)
    x = keras.ops.mean(x**GEM_POWER, axis=(1, 2)) ** (1 / GEM_POWER)
    for layer in backbone.layers[place + 1 :]:
        x = layer(x)
    return keras.Model(backbone.input, x, name="backbone")


def strip_augmentation(model: keras.Model, image_size: int) -> keras.Model:
    """The model as it predicts, of Keras's own layers: any Keras loads it without Podium.

    Takes the same [B, side, side, 3] uint8 and cuts the centre.
    """
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    body = keras.Model(model.get_layer("augment").output, model.output, name="network")
    centre = keras.layers.CenterCrop(image_size, image_size, dtype="float32", name="centre")
    return keras.Model(pixels, body(centre(pixels)), name="podium")


def open_session(precision: str, devices: int) -> None:
    """Forgets earlier models, then sets precision and devices, which Keras forgets with them.

    Must come before each model is built.
    """
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)
    share_devices(devices)


def reopen_session() -> None:
    """Forgets earlier models, and goes on with the same precision and devices."""
    precision, spread = keras.config.dtype_policy(), keras.distribution.distribution()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)
    keras.distribution.set_distribution(spread)


# ==================================================================================================
# Prediction: from a trained model to class probabilities
# ==================================================================================================


def predict_probs(
    model: keras.Model,
    pixels: Pixels,
    rows: NDArray[np.int64],
    batch_size: int,
    *,
    exclusive: bool = True,
) -> NDArray[np.float32]:
    """Predicts the given rows of pixels [N, S, S, 3] uint8: probabilities [len(rows), C].

    They sum to one where classes exclude each other, and else each stands for itself.
    """
    unlabelled = Labelled(pixels, np.zeros(len(pixels), np.int64), 1)
    batches = make_eval_batches(unlabelled, rows, batch_size)
    answer_everywhere(model)
    logits = model.predict(batches, verbose=0)[: len(rows)]
    # A model that diverged answers NaN, which would spread to the other folds' average; it knows
    # nothing, so it says that all classes are equally likely.
    known = np.isfinite(logits).all(axis=1, keepdims=True)
    logits = np.where(known, logits, np.float32(0))
    return take_probs(logits, exclusive=exclusive)


def predict_images(
    model: keras.Model,
    images: Images,
    chosen: NDArray[np.bool_] | None,
    batch_size: int,
    *,
    exclusive: bool = True,
) -> Predictions:
    """Predicts the chosen rows of a table, or all."""
    rows = np.arange(len(images.table)) if chosen is None else np.flatnonzero(chosen)
    ids = images.table["id"].to_numpy(str)[rows]
    probs = predict_probs(model, images.pixels, rows, batch_size, exclusive=exclusive)
    return Predictions(ids, probs)


def take_probs(logits: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.float32]:
    """Turns logits [N, C] into probabilities, in double precision so that rows sum to one.

    Where classes do not exclude each other, each logit makes a probability of its own.
    """
    return np.asarray(squash(logits.astype(np.float64), exclusive), np.float32)


# ==================================================================================================
# Views: the same images, seen another way
# ==================================================================================================
# A view changes a little that should not matter: mirrored, moved, cut, turned, lighter. It is made
# on the host, of squares as they are stored, so the network gets what it always gets: one static
# shape, the same pixels on every backend. A square is larger than what the model cuts out of its
# centre, by augmentation's margin, so what moves into sight was there; else edges are repeated.
#
# Shapes: N images, S side of the stored square.

SHARE_MOVED = 1 / 18  # of the stored side: what augment.margin's default leaves on each side
CUT = 8 / 7  # a crop shows seven eighths of the side
TURN, ZOOM = 8.0, 1.1  # degrees; as far as networks are used to


class View(NamedTuple):
    """What becomes of an image: it is mirrored, zoomed and turned about its centre, then moved."""

    name: str
    flip: bool = False
    zoom: float = 1.0  # above 1 the middle fills the square
    turn: float = 0.0  # degrees, against the clock
    right: float = 0.0  # how far what is seen moves, a share of the stored side, in whole pixels
    down: float = 0.0
    light: float = 1.0  # factor of all values
    grey: bool = False


IDENTITY = View("identity")
VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        IDENTITY,
        View("flip", flip=True),
        View("shift-left", right=-SHARE_MOVED),
        View("shift-right", right=SHARE_MOVED),
        View("shift-up", down=-SHARE_MOVED),
        View("shift-down", down=SHARE_MOVED),
        View("crop-top-left", zoom=CUT, right=SHARE_MOVED, down=SHARE_MOVED),
        View("crop-top-right", zoom=CUT, right=-SHARE_MOVED, down=SHARE_MOVED),
        View("crop-bottom-left", zoom=CUT, right=SHARE_MOVED, down=-SHARE_MOVED),
        View("crop-bottom-right", zoom=CUT, right=-SHARE_MOVED, down=-SHARE_MOVED),
        View("zoom-in", zoom=ZOOM),
        View("zoom-out", zoom=1 / ZOOM),
        View("turn-left", turn=TURN),
        View("turn-right", turn=-TURN),
        View("brighter", light=1.2),
        View("darker", light=0.8),
        View("grey", grey=True),
    )
}


def find_views(names: str) -> tuple[str, ...]:
    """The views that predict.views names, the image as it is before them; () where it is none.

    Raises SettingsError with the names there are.
    """
    asked = dict.fromkeys(names.split())
    if list(asked) == ["none"]:
        return ()
    unknown = [name for name in asked if name not in VIEWS]
    if unknown or not asked:
        close = difflib.get_close_matches(unknown[0], VIEWS, n=1) if unknown else []
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise SettingsError(
            f"predict.views must be none, or names apart by spaces, of {', '.join(VIEWS)}, "
            f"not {names!r}{guess}"
        )
    return tuple(dict.fromkeys((IDENTITY.name, *asked)))


def draw_view(index: int, *, flip: bool) -> View:
    """The view of that number: the image as it is, then any number of small changes.

    The same number is always the same view; every second one is mirrored where `flip` allows it.
    """
    if index == 0:
        return IDENTITY
    moves = np.random.default_rng((42, index)).uniform(-1, 1, 4)
    right, down, turn, zoom = moves * (SHARE_MOVED, SHARE_MOVED, TURN, math.log(ZOOM))
    mirrored = flip and index % 2 == 1
    return View(f"drawn-{index}", mirrored, math.exp(zoom), turn, right, down)


def find_matrix(view: View, side: int) -> NDArray[np.float64]:
    """Where in a stored square each pixel of the view is found: [2, 3], of (x, y, 1)."""
    sine, cosine = (part(math.radians(view.turn)) / view.zoom for part in (math.sin, math.cos))
    back = np.array([[cosine, -sine], [sine, cosine]])
    if view.flip:
        back[0] *= -1
    centre = np.full(2, (side - 1) / 2)
    moved = np.rint(np.array([view.right, view.down]) * side)
    return np.column_stack([back, centre - back @ (centre + moved)])


class Seen:
    """Pixels [N, S, S, 3] uint8 as a view shows them, made whenever they are asked for."""

    def __init__(self, pixels: Pixels, view: View) -> None:
        self.pixels, self.view, self.shape = pixels, view, pixels.shape
        self.matrix = find_matrix(view, pixels.shape[1])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        stored = np.asarray(self.pixels[rows])
        squares = stored.reshape(-1, *self.shape[1:])
        if not np.array_equal(self.matrix, np.eye(2, 3)):
            stay, squares = squares, np.empty_like(squares)
            for row, square in enumerate(stay):
                squares[row] = self.move(square)
        return self.colour(squares).reshape(stored.shape)

    def move(self, square: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One square mirrored, zoomed, turned and moved."""
        moved: NDArray[np.uint8] = cv2.warpAffine(
            square,
            self.matrix,
            (self.shape[2], self.shape[1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return moved

    def colour(self, squares: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Squares in another light, or without colour."""
        if self.view.grey:
            squares = np.repeat(np.rint(squares @ LUMA)[..., None], 3, axis=-1).astype(np.uint8)
        if self.view.light == 1:
            return squares
        levels = np.clip(np.rint(np.arange(256) * self.view.light), 0, 255)
        return np.asarray(levels.astype(np.uint8)[squares])


# ==================================================================================================
# Adaptive: more views only for images that are still undecided
# ==================================================================================================
# Most images are clear after a few views, and some never are. After each round every image has
# votes; where the leading class can be expected to keep a majority, however many views follow, it
# is done (Aggarwal et al. 2023, arXiv 2305.11860). Votes decide when to stop; the answer is the
# mean of the probabilities that were given.
#
# Shapes: N images, C classes.

FIRST_VIEWS, ROUND = 6, 3  # that every image gets; and then one that is undecided, at a time
UNSURE = 0.05  # how likely the leading class may lose its majority where an image is done

# Asked for the number of a view and rows [n], a model answers with probabilities [n, C].
AnswerView = Callable[[int, NDArray[np.int64]], NDArray[np.float32]]


class Gathered(NamedTuple):
    """What adaptive views say of each image, and how many it took."""

    probs: NDArray[np.float32]  # [N, C]
    taken: NDArray[np.int64]  # [N], views
    undecided: NDArray[np.bool_]  # [N], after all there may be


def gather_views(
    answer: AnswerView,
    rows: NDArray[np.int64],
    most: int,
    *,
    exclusive: bool,
    unsure: float = UNSURE,
) -> Gathered:
    """Asks for one view after the other, each only of rows [N] that are undecided, `most` at most.

    Raises ValueError without a view to ask for.
    """
    if most < 1:
        raise ValueError(f"at least one view must be taken, not {most}")
    active, taken = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    sums = votes = np.zeros((len(rows), 0))
    for view in range(most):
        probs = answer(view, rows[active])
        if not sums.shape[1]:
            sums, votes = (np.zeros((len(rows), probs.shape[1])) for _ in range(2))
        sums[active] += probs
        votes[active] += cast_votes(probs, exclusive=exclusive)
        taken[active] += 1
        if is_round(view + 1, most):
            sure = find_certainty(votes[active], view + 1, exclusive=exclusive)
            active = active[sure < 1 - unsure]
        if not len(active):
            break
    undecided = np.isin(np.arange(len(rows)), active)
    return Gathered((sums / np.maximum(taken, 1)[:, None]).astype(np.float32), taken, undecided)


def is_round(views: int, most: int) -> bool:
    """Is it counted after so many views? Who counts after each one stops at the first swing."""
    whole = views >= FIRST_VIEWS and (views - FIRST_VIEWS) % ROUND == 0
    return whole or views == most > FIRST_VIEWS


def cast_votes(probs: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.bool_]:
    """The classes that one view votes for: [n, C]; the likeliest one where they are exclusive."""
    if not exclusive:
        return probs > 0.5
    return np.asarray(np.arange(probs.shape[1]) == probs.argmax(axis=1)[:, None])


def find_certainty(
    votes: NDArray[np.float64], views: int, *, exclusive: bool
) -> NDArray[np.float64]:
    """How surely each image's answer stays with more views: [n, C] votes to [n].

    That is P(Beta(n1 + 1, n2 + 1) > 1/2) of the votes for the two classes ahead; where classes do
    not exclude each other, of those for and against the class that is least clear.
    """
    if exclusive:
        second, first = np.partition(votes, -2, axis=1)[:, -2:].T
    else:
        first = np.maximum(votes, views - votes).min(axis=1)
        second = views - first
    return np.asarray(betainc(second + 1, first + 1, 0.5))


# ==================================================================================================
# Marks: how well a model answers images whose labels are known
# ==================================================================================================


class Marks(NamedTuple):
    """Log loss in nats, accuracy, and the competition's metric by the plain rule."""

    loss: float
    accuracy: float  # of several classes: the share of all questions answered rightly
    metric: float  # NaN where it is not defined


def mark_probs(probs: NDArray[np.float32], truth: NDArray[np.uint8], task: Task) -> Marks:
    """The marks of probabilities [N, C] against their truth [N, C]."""
    if task.exclusive:
        right = probs.argmax(axis=1) == truth.argmax(axis=1)
    else:
        right = (probs > 0.5) == truth.astype(bool)
    answers = apply_rule(plain_rule(task), probs)
    loss = score_answers(task._replace(metric="log_loss"), truth, probs)
    return Marks(loss, float(right.mean()), score_answers(task, truth, answers))


# ==================================================================================================
# Recipe: what learning takes where the settings leave it open
# ==================================================================================================
# Each family of backbones has the optimizer it is usually fine-tuned with, and each optimizer its
# rates, its decay and its clipping; docs/recipes.md names their sources. Rates hold for a batch of
# 256 images and grow with it: in proportion, or as its root where each weight's step is normalised.
# What a user sets is never changed, and an optimizer of their choice comes with its own rates.

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


# ==================================================================================================
# Schedule: how fast the weights move
# ==================================================================================================
# The learning rate is a function of progress: 0 before the first update, 1 after the last. Each
# update takes the rate of its middle, so that the first moves the weights too. Where the end moves,
# because the deadline comes nearer or farther, the rest of the curve is run through at another
# speed from the same rate on: it never jumps.
#
#     cosine      up over the warm-up, then down half a cosine to 1 % (arXiv 1608.03983)
#     one-cycle   up half a cosine from 4 %, then down another to almost nothing (arXiv 1708.07120)
#     constant    up, then level
#     plateau     up, then level; times 0.3 after 3 checks without improvement

FINAL_SHARE = 0.01  # of the peak, where the cosine ends
CYCLE_ENDS = (1 / 25, 4e-6)  # shares of the peak where one-cycle begins and ends, as in fastai
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.3, 3


class Schedule(NamedTuple):
    """The learning rate of every update, and where in its course it is; JSON holds `_asdict()`.

    Values, not tensors: the same on every backend and after every resume.
    """

    name: Literal["cosine", "constant", "plateau", "one-cycle"]
    peak: float
    warmup: float  # share of the course that climbs
    slope: float  # progress of an update
    update: int = 0  # at which the course has come to:
    progress: float = 0.0  # 0 to 1
    factor: float = 1.0  # what rollbacks and plateaus have left of the peak
    best: float | None = None  # lowest validation loss; None before the first check
    waited: int = 0  # checks since then

    def rate(self, update: int) -> float:
        """The learning rate of one update, counted from 0; after the last one it stays."""
        return float(self.rates(update, 1)[0])

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        """The learning rates [count] of consecutive updates."""
        progress = self.progress + self.slope * (np.arange(first, first + count) - self.update)
        return self.peak * self.factor * self.draw_shape(np.clip(progress, 0.0, 1.0))

    def draw_shape(self, progress: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of the peak, 0 to 1, at each progress."""
        level = np.ones_like(progress)
        climbed = np.minimum(progress, self.warmup) / self.warmup if self.warmup else level
        fallen = np.clip((progress - self.warmup) / (1.0 - self.warmup), 0.0, 1.0)
        if self.name == "cosine":
            return np.where(progress < self.warmup, climbed, ease(fallen, 1.0, FINAL_SHARE))
        if self.name == "one-cycle":
            begin, end = CYCLE_ENDS
            up, down = ease(climbed, begin, 1.0), ease(fallen, 1.0, end)
            return np.where(progress < self.warmup, up, down)
        return climbed

    def shorten(self, update: int, updates_left: int) -> "Schedule":
        """The same course from this update on, which now ends with the updates left, at least one.

        The rate of the update itself stays; more updates than before lengthen the course.
        """
        progress = float(np.clip(self.progress + self.slope * (update - self.update), 0.0, 1.0))
        slope = (1.0 - progress) / (max(updates_left, 1) - 0.5)
        return self._replace(update=update, progress=progress, slope=slope)

    def scaled(self, share: float) -> "Schedule":
        """The same course at a share of its rates, 0 to 1, as after a loss that was no number."""
        return self._replace(factor=self.factor * share)

    def check(self, loss: float) -> "Schedule":
        """What a validation loss makes of the course: plateau falls where it stalls, others not.

        A loss that is no number is no improvement.
        """
        if self.name != "plateau":
            return self
        if loss < (np.inf if self.best is None else self.best):
            return self._replace(best=float(loss), waited=0)
        if self.waited + 1 < PLATEAU_PATIENCE:
            return self._replace(waited=self.waited + 1)
        return self._replace(waited=0).scaled(PLATEAU_FACTOR)


def make_schedule(config: ScheduleConfig, peak: float, updates: int) -> Schedule:
    """The course of so many updates, at least one, from its begin."""
    return Schedule(config.name, peak, config.warmup, slope=1 / updates, progress=0.5 / updates)


def ease(progress: NDArray[np.float64], begin: float, end: float) -> NDArray[np.float64]:
    """Half a cosine from begin to end, as progress goes from 0 to 1."""
    eased: NDArray[np.float64] = end + (begin - end) * (1.0 + np.cos(np.pi * progress)) / 2
    return eased


# ==================================================================================================
# Optimizers: gradients to updates, at rates that are known beforehand
# ==================================================================================================
# The rates of the coming updates lie in a table on the device, written once for each stretch of
# training, so that no update waits for the host. Each variable moves and decays at its share of the
# rate; biases and normalisation do not decay. Averaged weights wait beside the weights until both
# are swapped.
#
#     adamw     arXiv 1711.05101
#     adamax    Kingma and Ba 2015, arXiv 1412.6980, section 7.1
#     sgd       momentum 0.9
#     rmsprop   momentum 0.9, rho 0.9, epsilon 0.001, as EfficientNetV2's authors set it
#     lion      arXiv 2302.06675

KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "adamw": ("AdamW", {}),
    "adamax": ("Adamax", {}),
    "sgd": ("SGD", {"momentum": 0.9}),
    "rmsprop": ("RMSprop", {"momentum": 0.9, "rho": 0.9, "epsilon": 1e-3}),
    "lion": ("Lion", {}),
}


class Staged(keras.optimizers.Optimizer):
    """What every optimizer has more than Keras's own, which stands behind it as the other base.

    `shares` gives each variable's share of the rate by its path; others have all of it. The table
    and the update at which it was written are variables of the optimizer: JAX sees no others.
    """

    def __init__(self, updates_at_once: int, shares: Mapping[str, float], **options: Any) -> None:
        super().__init__(self.read_rate, **options)
        self.shares = dict(shares)
        self.coming = self.add_variable((updates_at_once,), dtype="float32", name="coming_rates")
        self.written = self.add_variable((), dtype="int32", name="rates_written")

    def read_rate(self) -> Any:
        """The rate of the present update; the last of the table stays."""
        place = keras.ops.cast(self.iterations, "int32") - self.written
        return keras.ops.take(self.coming, keras.ops.minimum(place, self.coming.shape[0] - 1))

    def write_rates(self, rates: NDArray[np.float64]) -> None:
        """Lays out the rates [U] of the updates that come, 1 or more, as set_rates says."""
        room = self.coming.shape[0]
        if not 0 < len(rates) <= room:
            raise ValueError(f"{len(rates)} rates do not fit a table of {room} updates")
        padded = np.pad(rates, (0, room - len(rates)), mode="edge")
        self.coming.assign(padded.astype(np.float32))
        self.written.assign(int(keras.ops.convert_to_numpy(self.iterations)))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable at its share of the rate."""
        # TensorFlow hands over its own variable here, which does not know its path.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        share = self.shares.get(path, 1.0)
        super().update_step(gradient, variable, learning_rate * share)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decays each variable at its share too: decoupled decay is measured in the rate."""
        if not self.weight_decay:
            return
        rate = self.read_rate() * self.weight_decay
        for variable in filter(self._use_weight_decay, variables):
            pull = rate * self.shares.get(variable.path, 1.0)
            variable.assign(variable - variable * keras.ops.cast(pull, variable.dtype))

    def _update_model_variables_moving_average(self, variables: Sequence[Any]) -> None:
        """Averages the weights once an update: Keras does so for each part of a batch.

        The first update starts the average, which then keeps its share of itself.
        """
        parts = self.gradient_accumulation_steps or 1
        moved = keras.ops.equal((self._iterations + 1) % parts, 0)
        first = keras.ops.equal(self.iterations, 0)
        kept = keras.ops.where(first, 0.0, keras.ops.where(moved, self.ema_momentum, 1.0))
        for variable, average in zip(variables, self._model_variables_moving_average, strict=True):
            share = keras.ops.cast(kept, variable.dtype)
            average.assign(share * average + (1 - share) * variable)

    def finalize_variable_values(self, variables: Sequence[Any]) -> None:
        """Leaves the weights alone after a fit, where Keras would put their averages."""

    def swap_averages(self) -> None:
        """Exchanges the weights and their averages; before the first update there are none."""
        if not self.use_ema or int(keras.ops.convert_to_numpy(self.iterations)) == 0:
            return
        averages = self._model_variables_moving_average
        for variable, average in zip(self._trainable_variables, averages, strict=True):
            weights = keras.ops.copy(variable)
            variable.assign(average)
            average.assign(weights)


def make_optimizer(
    config: OptimizerConfig, updates_at_once: int, shares: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """The optimizer of settings that are settled, for stretches of so many updates.

    Its rates are zero until set_rates writes some.
    """
    base, options = KINDS[config.name]
    kind: Any = type(f"Staged{base}", (Staged, getattr(keras.optimizers, base)), {})
    optimizer = kind(
        updates_at_once,
        shares or {},
        weight_decay=config.weight_decay or 0.0,
        global_clipnorm=config.clip or None,
        gradient_accumulation_steps=config.accumulate if config.accumulate > 1 else None,
        use_ema=config.ema > 0,
        ema_momentum=config.ema,
        **options,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def set_rates(optimizer: keras.optimizers.Optimizer, rates: NDArray[np.float64]) -> None:
    """Writes the rates [U] of the coming updates; after these the last one stays.

    U is at most the `updates_at_once` of the optimizer. Updates are counted by the optimizer: one
    for all parts of a batch, none where half precision overflows.
    """
    find_inner(optimizer).write_rates(rates)


def swap_averages(model: keras.Model) -> None:
    """Exchanges the model's training weights and their averages, and with the next call back.

    Does nothing where none are kept. Batch norm's statistics are not averaged.
    """
    find_inner(model.optimizer).swap_averages()


def find_inner(optimizer: Any) -> Any:
    """The optimizer itself, which Keras wraps in another where it computes in float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


# ==================================================================================================
# Objective: what training minimises, and what it is told to show
# ==================================================================================================
# The loss may smooth its targets and weigh its classes; the metrics never do, so that figures of
# runs with and without can be compared.


class WeighedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits [B, C] with smoothed targets, each image weighed by its class.

    The weight of an image that is mixed of several is mixed as its target is.
    """

    def __init__(self, smoothing: float, weights: NDArray[np.float64]) -> None:
        super().__init__(name="weighed_crossentropy")
        self.smoothing, self.weights = smoothing, weights.astype(np.float32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses [B] of targets [B, C]."""
        losses = keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=True, label_smoothing=self.smoothing
        )
        return losses * keras.ops.sum(y_true * self.weights, axis=-1)


def compile_model(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    task: Task,
    jit: bool,
    smoothing: float = 0.0,
    class_weights: NDArray[np.float64] | None = None,
) -> None:
    """Compiles for training on targets [B, C], which sum to one where classes exclude each other.

    Else each class is a question by itself, and accuracy the share of such questions answered
    rightly; classes have no weights [C] then. The metrics are weighted ones, so that the padding
    of the last batch does not count. The optimizer is built, so that its state can be restored.
    """
    kind = "Categorical" if task.exclusive else "Binary"
    log_loss = getattr(keras.metrics, f"{kind}Crossentropy")(name="log_loss", from_logits=True)
    accuracy = (
        keras.metrics.CategoricalAccuracy(name="accuracy")
        if task.exclusive
        else keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)  # of logits
    )
    loss = (
        getattr(keras.losses, f"{kind}Crossentropy")(from_logits=True, label_smoothing=smoothing)
        if class_weights is None
        else WeighedCrossentropy(smoothing, class_weights)
    )
    model.compile(
        optimizer=optimizer, loss=loss, weighted_metrics=[accuracy, log_loss], jit_compile=jit
    )
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def weigh_classes(labels: NDArray[Any] | Sequence[Any], classes: int) -> NDArray[np.float64]:
    """Balanced weights [C]: inverse to each class's share of the labels, 1 on average over images.

    A class without images weighs nothing. Raises SettingsError where an image has several labels:
    there is no share to weigh by, as each class is a question by itself.
    """
    if len(labels) and isinstance(labels[0], tuple):
        raise SettingsError(
            "train.class_weights is balanced, but here an image may have several classes, and "
            "each is a question by itself; set it to none"
        )
    counts = np.bincount(np.asarray(labels, np.int64), minlength=classes)
    present = np.count_nonzero(counts)
    return np.where(counts, len(labels) / (present * np.maximum(counts, 1)), 0.0)


# ==================================================================================================
# Checkpoint: all that a fold has learned so far, in one file
# ==================================================================================================
# The state is every variable of the model and its optimizer: weights, statistics, moments,
# averages, counters and the states of the random generators. What has been trained for k steps,
# captured and restored into a new model trains on as if it had never stopped, to the bit where the
# device computes the same thing twice. A checkpoint is an .npz file with a digest of all its bytes
# at its end, so that one that is cut short or damaged is never taken for a whole one.

CHECKPOINTS_KEPT = 2  # should the newest be damaged, there is one before it
DIGEST_BYTES = 64
PIECE = 1 << 24  # bytes read at once
FACTS_MEMBER = "facts.json"
SUMMED = "_gradient_accumulator"
ACCUMULATION = "accumulator/parts"  # batches that make one update


class CheckpointError(RuntimeError):
    """A checkpoint is not whole, or of another model."""


class Checkpoint(NamedTuple):
    """What is known of a fold, fit for JSON, and the variables of its model by name."""

    facts: dict[str, Any]
    state: dict[str, NDArray[Any]]


def capture_state(model: keras.Model) -> dict[str, NDArray[Any]]:
    """Copies every variable of a compiled model and its optimizer, by place and path.

    Inside fit on JAX, `model.jax_state_sync()` must have come before.
    """
    state = {name: copy_value(variable) for name, variable in list_variables(model).items()}
    return {**state, ACCUMULATION: np.array(count_parts(model))}


def copy_value(variable: keras.Variable) -> NDArray[Any]:
    """The value, which stays as it is when the variable changes."""
    return np.array(keras.ops.convert_to_numpy(variable.value))


def restore_state(
    model: keras.Model, state: Mapping[str, NDArray[Any]], *, accumulators: bool = True
) -> None:
    """Assigns what `capture_state` copied, all of it or none.

    Without accumulators, what an unfinished update has summed up is left out, and the model may
    take another number of batches for an update. Raises CheckpointError naming the first variable
    that is missing, foreign, or of another shape or type.
    """
    parts, count = int(state[ACCUMULATION]), count_parts(model)
    if accumulators and parts != count:
        raise CheckpointError(
            f"the checkpoint sums the gradients of {parts} batches for an update, this model of "
            f"{count}; set optimizer.accumulate back, or runtime.resume to no"
        )
    ours = list_variables(model)
    theirs = {name: value for name, value in state.items() if name != ACCUMULATION}
    if not accumulators:
        ours, theirs = drop_accumulators(ours), drop_accumulators(theirs)
    check_state(ours, theirs)
    for name, variable in ours.items():
        variable.assign(theirs[name])
    if parts != count:
        counter = find_inner(model.optimizer)._iterations
        counter.assign(counter // parts * count)


def count_parts(model: keras.Model) -> int:
    """Batches whose gradients are summed up for one update."""
    return find_inner(model.optimizer).gradient_accumulation_steps or 1


def list_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable of the model and its optimizer, which is built if need be, by name.

    Accumulators are numbered apart, so that other names are the same without them.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    owned = model.optimizer.variables
    summed = [variable for variable in owned if variable.name.endswith(SUMMED)]
    others = [variable for variable in owned if not variable.name.endswith(SUMMED)]
    groups = {"model": model.variables, "optimizer": others, "accumulator": summed}
    return {
        # An optimizer's path tells when it was built and how many there were before, its names not.
        f"{group}/{place:04} {variable.path if group == 'model' else variable.name}": variable
        for group, variables in groups.items()
        for place, variable in enumerate(variables)
    }


def drop_accumulators(named: Mapping[str, Any]) -> dict[str, Any]:
    """What is not an accumulator."""
    return {name: one for name, one in named.items() if not name.startswith("accumulator/")}


def check_state(ours: Mapping[str, keras.Variable], theirs: Mapping[str, NDArray[Any]]) -> None:
    """Raises CheckpointError unless the state holds exactly the model's variables."""
    remedy = "the checkpoint is of another model: set the settings back, or runtime.resume to no"
    for name, variable in ours.items():
        if name not in theirs:
            raise CheckpointError(f"the checkpoint lacks {name}; {remedy}")
        value, kind = theirs[name], keras.backend.standardize_dtype(variable.dtype)
        if value.shape != tuple(variable.shape) or value.dtype.name != kind:
            raise CheckpointError(
                f"{name} is {value.dtype} of shape {value.shape} in the checkpoint, {kind} of "
                f"shape {tuple(variable.shape)} in the model; {remedy}"
            )
    foreign = [name for name in theirs if name not in ours]
    if foreign:
        raise CheckpointError(f"the model lacks the checkpoint's {foreign[0]}; {remedy}")


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes the next checkpoint of a folder and removes all but the two newest.

    Returns its path. Raises OSError if there is no room, and then leaves the earlier ones.
    """
    earlier = list_checkpoints(folder)
    path = folder / f"checkpoint-{read_number(earlier[0]) + 1 if earlier else 1}.npz"
    with open_whole(path) as file:
        stream = DigestStream(file)
        write_arrays(stream, checkpoint)
        file.write(stream.digest.digest())
    for old in earlier[CHECKPOINTS_KEPT - 1 :]:
        old.unlink()
    return path


class DigestStream:
    """A stream that cannot seek, as a zip archive needs it, and knows the digest of what passed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.blake2b(digest_size=DIGEST_BYTES)

    def write(self, content: bytes) -> int:
        """Passes bytes on."""
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        """Passes it on."""
        self.file.flush()


def write_arrays(stream: Any, checkpoint: Checkpoint) -> None:
    """Writes an uncompressed .npz, piece by piece, with the facts as one more member."""
    # NumPy's format knows no bfloat16, and would read its bytes back as nothing in particular.
    kinds = {name: array.dtype.name for name, array in checkpoint.state.items()}
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(FACTS_MEMBER, json.dumps({"facts": checkpoint.facts, "kinds": kinds}))
        for name, array in checkpoint.state.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a folder that is whole, or None; and in words what is not."""
    halves = sorted(folder.glob("checkpoint-*.npz.half"))
    notes = [f"{path.name} was cut off while it was written" for path in halves]
    for path in list_checkpoints(folder):
        try:
            return read_arrays(path), notes
        except (CheckpointError, OSError) as error:
            notes.append(f"{path.name} is not used: {error}")
    return None, notes


def read_arrays(path: Path) -> Checkpoint:
    """Reads one checkpoint; raises CheckpointError if a byte of it is not as it was written."""
    with path.open("rb") as file:
        check_digest(file)
        with np.load(file, allow_pickle=False) as arrays:
            told = json.loads(arrays[FACTS_MEMBER])
            state = {name: arrays[name].view(kind) for name, kind in told["kinds"].items()}
    return Checkpoint(told["facts"], state)


def check_digest(file: BinaryIO) -> None:
    """Raises CheckpointError unless a file ends with the digest of what comes before."""
    left = file.seek(0, io.SEEK_END) - DIGEST_BYTES
    if left <= 0:
        raise CheckpointError("it is empty, or nearly so")
    file.seek(0)
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while left and (piece := file.read(min(left, PIECE))):
        digest.update(piece)
        left -= len(piece)
    if file.read() != digest.digest():
        raise CheckpointError("it is cut short or damaged, as its digest does not fit")
    file.seek(0)


def list_checkpoints(folder: Path) -> Sequence[Path]:
    """The files of a folder's checkpoints, from the newest."""
    paths = [path for path in folder.glob("checkpoint-*.npz") if read_number(path)]
    return sorted(paths, key=read_number, reverse=True)


def read_number(path: Path) -> int:
    """The number of a checkpoint, from 1 on; 0 if the file's name is no checkpoint's."""
    found = re.fullmatch(r"checkpoint-(\d+)\.npz", path.name)
    return int(found[1]) if found else 0


def forget_checkpoints(folder: Path) -> None:
    """Removes all checkpoints of a folder, also what a write that was cut off has left."""
    for path in folder.glob("checkpoint-*.npz*"):
        path.unlink()


# ==================================================================================================
# Range test: which learning rates a network bears
# ==================================================================================================
# The rate climbs exponentially from one update to the next while the loss is watched (Smith 2017,
# arXiv 1506.01186): too low and nothing moves, too high and the loss explodes. Then the model is
# as it was before.

EXPLODED = 4.0  # times the lowest loss so far, where the test ends
BLUR = 0.03  # standard deviation of the smoothing, as a share of the updates
SUSPECT = 10.0  # a peak that is so many times the suggested one is worth a warning
MARGIN = 10.0  # from the rate of the lowest loss down to the suggested one


class RangeTest(NamedTuple):
    """The learning rates tried, and the training loss that each met [U]; all float64."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]


def run_range_test(
    model: keras.Model,
    batches: Iterable[Any],
    updates: int = 100,
    low: float = 1e-7,
    high: float = 10.0,
) -> RangeTest:
    """Trains a compiled model for so many updates, or until its loss explodes, and takes it back.

    Batches are (images, targets) or (images, targets, weights); fewer than needed end the test.
    """
    before, parts = capture_state(model), count_parts(model)
    rates, losses, stream = np.geomspace(low, high, updates), list[float](), iter(batches)
    smoothed = np.empty(0)
    try:
        for rate in rates:
            set_rates(model.optimizer, np.array([rate]))
            met = [train_once(model, batch) for _, batch in zip(range(parts), stream, strict=False)]
            if len(met) < parts or not np.isfinite(met).all():
                break
            losses.append(float(np.mean(met)))
            smoothed = smooth_losses(np.array(losses), BLUR * updates)
            if smoothed[-1] > EXPLODED * smoothed.min():
                break
    finally:
        restore_state(model, before)
    return RangeTest(rates[: len(losses)], np.array(losses), smoothed)


def show_range_test(
    model: keras.Model, batches: Iterable[Any], peak: float, folder: Path, report: Reporter
) -> None:
    """Runs the range test, leaves its figures and picture in a folder, and compares with a peak."""
    test = run_range_test(model, batches)
    try:
        rate = suggest_rate(test)
    except ValueError as error:
        report.warn(str(error))
        return
    np.savetxt(folder / "range-test.csv", np.transpose(test), delimiter=",", comments="",
               header="learning_rate,loss,smoothed")  # fmt: skip
    draw_range_test(test, folder / "range-test.png")
    report.say(f"  range test: {rate:.2g} is suggested, schedule.peak_lr is {peak:.2g}")
    if not rate / SUSPECT <= peak <= rate * SUSPECT:
        report.warn(
            f"schedule.peak_lr is {peak:.2g}, and the range test suggests {rate:.2g}: look at "
            f"{folder / 'range-test.png'}"
        )


def train_once(model: keras.Model, batch: Any) -> float:
    """The loss of one batch, on which the model then trains."""
    model.reset_metrics()  # else Keras gives the mean over all batches so far
    parts = [np.asarray(part) for part in batch]
    return float(model.train_on_batch(*parts, return_dict=True)["loss"])


def smooth_losses(losses: NDArray[np.float64], blur: float) -> NDArray[np.float64]:
    """Means over neighbours on both sides, weighed by a normal curve, so that nothing lags."""
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / max(blur, 1e-3)) ** 2)
    return np.asarray(weights @ losses / weights.sum(axis=1))


def suggest_rate(test: RangeTest) -> float:
    """A peak rate: a tenth of the one with the lowest loss.

    The loss has its lowest value just before the edge, far enough above where it falls steepest to
    be found under noise: on simulated classifiers this was within 3 times the best rate in most
    cases, the steepest fall often off by powers of ten. Where the last rate has the lowest loss,
    the range was too short. Raises ValueError for an empty test.
    """
    if not len(test.rates):
        raise ValueError(
            "the range test has no finite loss; set runtime.precision to float32, or begin lower"
        )
    return float(test.rates[test.smoothed.argmin()]) / MARGIN


def draw_range_test(test: RangeTest, path: Path) -> None:
    """Draws the losses over the rates, with the suggested one, as a PNG."""
    rate = suggest_rate(test)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, color="0.8", label="loss")
    axes.plot(test.rates, test.smoothed, label="smoothed")
    axes.axvline(rate, color="C3", linestyle="--", label=f"suggested: {rate:.2g}")
    lowest, first = test.smoothed.min(), test.smoothed[0]
    axes.set_ylim(lowest - 0.1 * abs(first - lowest) - 1e-9, first + 1.0 * abs(first - lowest))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Range test")
    axes.legend()
    figure.savefig(path, dpi=100)


# ==================================================================================================
# Pseudo-labels: test images of which a model is sure, as training images
# ==================================================================================================
# A label that a model made must be sure twice: nearly all views of the image agree on it, and it is
# as confident as answers whose truth is known and which were right nearly always. Each fold takes
# its labels from the one model that never saw its images, and thresholds from the other folds'
# truth, so that what validates it stays unseen. Whether it helps, two runs must show: a pseudo arm,
# and a control of as many updates.
#
# Shapes: K folds, V views, N images out of fold, T test images, C classes.

Z90 = 1.6448536269514722  # one-sided 95 % point of the normal distribution
EDGES = (0.5, 0.65, 0.8, 0.95, 1.0)  # of the bands in which precision is shown


class PseudoError(ValueError):
    """Test images cannot be labelled as asked."""


class Poll(NamedTuple):
    """What the views of some images say together."""

    labels: NDArray[np.int64]  # [N] likeliest class of the mean over views
    agreement: Doubles  # [N] share of views whose likeliest class it is
    confidence: Doubles  # [N] its mean probability

    def select(self, kept: NDArray[np.bool_]) -> "Poll":
        """Some of the images: a mask [N]."""
        return Poll(self.labels[kept], self.agreement[kept], self.confidence[kept])


class FoldPoll(NamedTuple):
    """What one fold's model says of images that it never saw."""

    own: Poll  # [N] those that validated it
    truth: NDArray[np.int64]  # [N] their classes
    test: Poll  # [T]


class Selection(NamedTuple):
    """The labels of test images for one fold, −1 for none, and how they came about."""

    labels: NDArray[np.int64]  # [T]
    thresholds: Doubles  # [C] of confidence; infinite for classes of which none is accepted
    sure: int  # images that agree and reach their class's threshold
    copies: int  # of these, too near to what validates the fold
    capped: int  # of the rest, more than the test part is expected to hold of their class


class Band(NamedTuple):
    """Images whose views agree to some degree, and how many of them were named rightly."""

    name: str
    n: int
    right: int


def poll_views(votes: NDArray[np.float32]) -> Poll:
    """Polls the probabilities of each view: [V, N, C]."""
    mean = votes.mean(axis=0, dtype=np.float64)
    labels = mean.argmax(axis=1)
    agreement = (votes.argmax(axis=2) == labels).mean(axis=0)
    return Poll(labels, agreement, np.take_along_axis(mean, labels[:, None], axis=1)[:, 0])


def join_polls(polls: Sequence[Poll]) -> Poll:
    """Lays polls end to end."""
    return Poll(*map(np.concatenate, zip(*polls, strict=True)))


def select_labels(
    polls: Sequence[FoldPoll],
    fold: int,
    banned: NDArray[np.bool_],
    classes: int,
    config: PseudoConfig,
) -> Selection:
    """Labels the test images of which one fold's model is sure; those banned [T] get none.

    Neither that fold's truth nor another fold's answers to the test part are looked at. Classes are
    capped at their shares of the test part, for where one alone is sure, it would crowd out the
    others.
    """
    others = [poll for number, poll in enumerate(polls) if number != fold]
    known, truth = join_polls([poll.own for poll in others]), [poll.truth for poll in others]
    right = known.labels == np.concatenate(truth)
    agreed = known.agreement >= config.agreement
    thresholds = find_thresholds(known.select(agreed), right[agreed], classes, config.precision)
    test = polls[fold].test
    sure = (test.agreement >= config.agreement) & (test.confidence >= thresholds[test.labels])
    free = sure & ~banned
    expected = expect_counts(known.labels, np.concatenate(truth), test.labels, classes)
    share = min(1.0, config.ratio * len(right) / len(test.labels))
    kept = keep_likeliest(test, free, np.floor(share * expected + 1e-9))
    counts = (int(one.sum()) for one in (sure, sure & banned, free & ~kept))
    return Selection(np.where(kept, test.labels, -1), thresholds, *counts)


def bound_share(right: NDArray[np.int64], n: NDArray[np.int64]) -> Doubles:
    """The one-sided lower 95 % bound of shares (Wilson 1927, JASA 22:209), n of 1 or more."""
    share, z2 = right / n, Z90**2
    centre = share + z2 / (2 * n)
    half = Z90 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return np.asarray((centre - half) / (1 + z2 / n))


def count_needed(precision: float) -> int:
    """The fewest answers of a class, all of them right, whose bound reaches a precision."""
    return int(np.ceil(Z90**2 * precision / (1 - precision) - 1e-9))


def find_thresholds(
    known: Poll, right: NDArray[np.bool_], classes: int, precision: float
) -> Doubles:
    """The lowest confidence of each class from which on answers are precise enough: [C].

    That is where the lower bound of their precision, on images whose truth is known, reaches
    `precision`; 0 where it does so for all answers, infinite where it does so nowhere. As only the
    order of confidences counts, to calibrate them before would change nothing.
    """
    thresholds = np.full(classes, np.inf)
    for label in np.unique(known.labels):
        of_class = known.labels == label
        order = np.argsort(-known.confidence[of_class])
        confidence, hits = (column[of_class][order] for column in (known.confidence, right))
        last = np.append(np.diff(confidence) != 0, True)  # equal ones stand or fall together
        bounds = bound_share(np.cumsum(hits), np.arange(1, len(hits) + 1))
        reached = np.flatnonzero(last & (bounds >= precision))
        if len(reached):
            whole = reached[-1] == len(confidence) - 1
            thresholds[label] = 0.0 if whole else confidence[reached[-1]]
    return thresholds


def expect_counts(
    predicted: NDArray[np.int64],
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    classes: int,
) -> Doubles:
    """How many images of each class the answers [T] stand for: [C], T in all.

    Each answer counts as the classes that it turned out to be out of fold. Shares of the training
    part would not follow a test part in which classes are more or less frequent.
    """
    joint = count_confusions(truth, predicted, classes)
    joint += np.diag(joint.sum(axis=0) == 0)  # what was never answered may be as it says
    return np.asarray(joint / joint.sum(axis=0) @ np.bincount(answers, minlength=classes))


def keep_likeliest(test: Poll, free: NDArray[np.bool_], limits: Doubles) -> NDArray[np.bool_]:
    """Of the free images [T], keeps the most confident of each class, up to its limit [C]."""
    order = np.lexsort((-test.confidence, test.labels, ~free))[: free.sum()]
    labels = test.labels[order]
    places = np.arange(len(labels)) - np.searchsorted(labels, labels)
    kept = np.zeros(len(free), np.bool_)
    kept[order[places < limits[labels]]] = True
    return kept


def ban_copies(
    pairs: Pairs | None, folds: NDArray[np.int64], images: int, count: int
) -> NDArray[np.bool_]:
    """Which of so many test images are nearly the same as one that validates a fold: [K, T].

    `folds` are those of the training images, which the first rows of the pairs mean.
    """
    banned = np.zeros((count, images), np.bool_)
    if pairs is not None:
        across = pairs.select(pairs.second >= len(folds))
        banned[folds[across.first], across.second - len(folds)] = True
    return banned


def ban_groups(
    groups: NDArray[np.object_], folds: NDArray[np.int64], asked: NDArray[np.object_], count: int
) -> NDArray[np.bool_]:
    """Which test images are of a group that validates a fold: [K, T]; empty text is no group."""
    held = [np.isin(asked.astype(str), groups[folds == fold].astype(str)) for fold in range(count)]
    return np.asarray(np.stack(held) & (asked != ""), np.bool_)


def count_bands(strength: Doubles, right: NDArray[np.bool_]) -> list[Band]:
    """How often answers are right by how strongly the views agree on them, or how confident they
    are: [N].
    """
    names = [f"below {EDGES[0]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in pairwise(EDGES)] + ["1"]
    places = np.searchsorted(EDGES, strength, side="right")
    n, hits = (np.bincount(one, minlength=len(names)).tolist() for one in (places, places[right]))
    return [Band(*band) for band in zip(names, n, hits, strict=True)]


# ==================================================================================================
# Fold data: what one fold trains on, and what validates it
# ==================================================================================================


class PseudoLabelled(NamedTuple):
    """Test images, and the label of each for each fold [K, T] int64, −1 for none."""

    images: Images
    labels: NDArray[np.int64]


class TrainingSet(NamedTuple):
    """The training images, the fold [N] int64 that validates each, and what is asked of them."""

    images: Images
    folds: NDArray[np.int64]
    task: Task
    pseudo: PseudoLabelled | None = None


class FoldData(NamedTuple):
    """The images of all folds but one, and of the fold that is left out to validate."""

    data: Labelled
    training: NDArray[np.int64]  # rows
    validated: NDArray[np.int64]  # rows
    task: Task
    batch_size: int
    seed: int
    spare: int = 0  # images that an epoch is longer by than there are to train on

    @property
    def pixels(self) -> Pixels:
        """The squares of all folds: [N, S, S, 3]."""
        return self.data.pixels

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return count_steps(len(self.training) + self.spare, self.batch_size)

    def check(self) -> None:
        """Raises PixelError if the pixels were scaled already: tf.data would cast them."""
        check_pixels(self.pixels[self.training[: self.batch_size]])

    def make_batches(self, host: Host | None, parts: int, start_step: int) -> tf.data.Dataset:
        """The training stream from an update on, each batch in parts."""
        cut = Cut(self.batch_size, parts)
        return make_train_batches(self.data, self.training, cut, self.seed, host, start_step)

    def encode(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The truth of some rows: [len(rows), C]."""
        return encode_targets(self.data.labels[rows], self.data.classes)

    def in_parts(self, parts: int) -> Self:
        """The same images, of which fewer go through a network at a time."""
        return self._replace(batch_size=self.batch_size // parts)

    def predict(self, model: keras.Model, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a model says of some rows: probabilities [len(rows), C]."""
        size, exclusive = self.batch_size, self.task.exclusive
        return predict_probs(model, self.pixels, rows, size, exclusive=exclusive)

    def mark(self, model: keras.Model) -> Marks:
        """How well a model answers the fold that is left out."""
        probs = self.predict(model, self.validated)
        return mark_probs(probs, self.encode(self.validated), self.task)


def take_fold(config: Config, given: TrainingSet, fold: int) -> FoldData:
    """Leaves one fold out, and adds the test images that have a label for it.

    The control arm does without these, in epochs of as many updates.
    """
    table, task = given.images.table, given.task
    labels, ids = table["label"].to_numpy(), table["id"].to_numpy(str)
    data = FoldData(
        Labelled(given.images.pixels, labels, len(task.classes), ids),
        np.flatnonzero(given.folds != fold),
        np.flatnonzero(given.folds == fold),
        task,
        config.pixels.batch_size,
        config.runtime.seed + fold,
    )
    if given.pseudo is None:
        return data
    if config.pseudo.arm == "control":
        return data._replace(spare=int((given.pseudo.labels[fold] >= 0).sum()))
    return add_pseudo(data, given.pseudo, fold)


def add_pseudo(fold: FoldData, pseudo: PseudoLabelled, number: int) -> FoldData:
    """Adds the test images that have a label for a fold to what it trains on."""
    data, labels = fold.data, pseudo.labels[number]
    ids = pseudo.images.table["id"].to_numpy(str)
    joined = data._replace(
        pixels=JoinedPixels(data.pixels, pseudo.images.pixels),
        labels=np.concatenate([data.labels, labels]),
        ids=ids if data.ids is None else np.concatenate([data.ids, ids]),
    )
    added = len(data.labels) + np.flatnonzero(labels >= 0)
    return fold._replace(data=joined, training=np.concatenate([fold.training, added]))


# ==================================================================================================
# Recalibrate: batch norm's statistics, taken anew
# ==================================================================================================
# In training batch norm normalises by the batch it sees, and afterwards by averages that it kept of
# such batches. Those lag where training was short, and are those of augmented images. Here they are
# counted anew with the weights as they are, over images of one's choice (PreciseBN: Wu and Johnson
# 2021, arXiv 2105.07576). No weight changes, and what was can be written back exactly.

CLEAN_IMAGES = 10_000  # more move a mean by less than a hundredth of a deviation


class Moments(NamedTuple):
    """The statistics of one batch norm, [channels] float32 each."""

    norm: keras.layers.BatchNormalization
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


def find_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Every batch norm that trains, at any depth. One that is frozen keeps what it has."""
    layers = dict.fromkeys(model._flatten_layers())
    kind = keras.layers.BatchNormalization
    return [layer for layer in layers if isinstance(layer, kind) and layer.trainable]


def read_statistics(model: keras.Model) -> list[Moments]:
    """The statistics as they are, copied."""
    return [copy_moments(norm) for norm in find_norms(model)]


def copy_moments(norm: keras.layers.BatchNormalization) -> Moments:
    """The statistics of one batch norm, in memory of their own."""
    values = (norm.moving_mean, norm.moving_variance)
    return Moments(norm, *(np.array(keras.ops.convert_to_numpy(value)) for value in values))


def write_statistics(moments: Sequence[Moments]) -> None:
    """Gives each batch norm its statistics; every model that shares the layer answers by them."""
    for norm, mean, variance in moments:
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)


@contextmanager
def lend_statistics(moments: Sequence[Moments]) -> Iterator[None]:
    """Lets models answer by these statistics inside the with statement alone."""
    kept = [copy_moments(norm) for norm, _, _ in moments]
    try:
        write_statistics(moments)
        yield
    finally:
        write_statistics(kept)


def draw_clean(
    pixels: Pixels, rows: NDArray[np.int64], batch_size: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Full batches [B, S, S, 3] of the rows as they are stored, shuffled, as many as are needed.

    Of several hosts each gives its part of them.
    """
    order, fed = order_epoch(rows, batch_size, seed, 0), own_part(batch_size)
    for batch in order[: max(1, CLEAN_IMAGES // batch_size)]:
        yield pixels[batch[fed]]


class Recalibrator:
    """Counts a model's statistics anew; it compiles once, and whatever is frozen later.

    Nothing is dropped out, unless `as_trained`: then all happens that does in training. Give it a
    model without augmentation (`strip_augmentation`) or with it, as the question is.
    """

    def __init__(self, model: keras.Model, *, as_trained: bool = False) -> None:
        self.model, self.as_trained = model, as_trained
        self.step = compile_function(self.run_batch)

    def estimate(self, batches: Iterable[NDArray[np.uint8]]) -> list[Moments]:
        """The statistics over batches [B, S, S, 3], all of one size; the model stays as it is.

        The variance is that within batches plus that of their means. Raises ValueError without
        a batch.
        """
        norms = find_norms(self.model)
        if not norms:  # a call as in training might move what is no batch norm of Keras's
            return []
        model, count = self.model, 0
        trainable, fixed = read_values(model.trainable_variables), forget_statistics(model, norms)
        means = squares = within = np.zeros(1)
        with hold_still(model, norms, noise=self.as_trained):
            for count, batch in enumerate(batches, start=1):  # noqa: B007
                mean, variance, fixed = self.step(trainable, fixed, share_batch(batch))
                wide = keras.ops.convert_to_numpy(mean).astype(np.float64)
                means, squares = means + wide, squares + wide**2
                within = within + keras.ops.convert_to_numpy(variance).astype(np.float64)
        if not count:
            raise ValueError("statistics cannot be taken of no images")
        mean = means / count
        variance = within / count + np.maximum(squares / count - mean**2, 0)
        return split_moments(norms, mean, variance)

    def run_batch(self, trainable: list[Any], fixed: list[Any], images: Any) -> tuple[Any, ...]:
        """Means and variances of one batch, laid end to end; and the state after it.

        Its seeds go on with the state, so that no two batches are augmented alike.
        """
        _, fixed = self.model.stateless_call(trainable, fixed, images, training=True)
        places = place_variables(self.model)
        norms = find_norms(self.model)
        mean = keras.ops.concatenate([fixed[places[id(norm.moving_mean)]] for norm in norms])
        variances = [fixed[places[id(norm.moving_variance)]] for norm in norms]
        return mean, keras.ops.concatenate(variances), fixed


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one program of the backend's."""
    compiled: Callable[..., Any]
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        import tensorflow as tf

        compiled = tf.function(function)
    return compiled


def read_values(variables: Sequence[keras.Variable]) -> list[Any]:
    """The variables' values, as the backend's tensors."""
    return [keras.ops.convert_to_tensor(variable) for variable in variables]


def place_variables(model: keras.Model) -> dict[int, int]:
    """Where each variable stands among those that do not train, by its identity."""
    return {id(one): place for place, one in enumerate(model.non_trainable_variables)}


def forget_statistics(
    model: keras.Model, norms: Sequence[keras.layers.BatchNormalization]
) -> list[Any]:
    """What does not train, with zeros for statistics: of an overflow not even 0 times is 0."""
    values, places = read_values(model.non_trainable_variables), place_variables(model)
    for norm in norms:
        for variable in (norm.moving_mean, norm.moving_variance):
            place = places[id(variable)]
            values[place] = keras.ops.zeros_like(values[place])
    return values


def share_batch(batch: NDArray[np.uint8]) -> Any:
    """A batch, split over the devices as training splits it."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return keras.ops.convert_to_tensor(batch)
    layout = distribution.get_data_layout(batch.shape)
    if count_hosts() == 1:
        return keras.distribution.distribute_tensor(batch, layout)
    import jax

    return jax.make_array_from_process_local_data(layout.backend_layout, batch)


@contextmanager
def hold_still(
    model: keras.Model, norms: Sequence[keras.layers.BatchNormalization], *, noise: bool
) -> Iterator[None]:
    """Sets momentum to 0, so that statistics are the last batch's, and without noise its rates.

    Both are read while a function is traced, and so must be as they were before any other is.
    """
    held = [(norm, "momentum") for norm in norms]
    if not noise:
        held += list_noise(model)
    kept = [(layer, name, getattr(layer, name)) for layer, name in held]
    try:
        for layer, name in held:
            setattr(layer, name, 0.0)
        yield
    finally:
        for layer, name, value in kept:
            setattr(layer, name, value)


def list_noise(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Every layer that drops or adds at random, and its attribute that says how much.

    Dropout is stochastic depth too, in the networks that have batch norm.
    """
    kinds = keras.layers
    dropping = (kinds.Dropout, kinds.GaussianDropout, kinds.AlphaDropout)
    for layer in dict.fromkeys(model._flatten_layers()):
        if isinstance(layer, dropping):
            yield layer, "rate"
        elif isinstance(layer, kinds.GaussianNoise):
            yield layer, "stddev"


def split_moments(
    norms: Sequence[keras.layers.BatchNormalization],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> list[Moments]:
    """Cuts what was laid end to end, [sum of channels], back into each batch norm's part."""
    ends = np.cumsum([norm.moving_mean.shape[0] for norm in norms])[:-1]
    parts = (np.split(one.astype(np.float32), ends) for one in (mean, variance))
    return [Moments(*three) for three in zip(norms, *parts, strict=True)]


# ==================================================================================================
# Truth: why a network answers new images worse than those it learned
# ==================================================================================================
# Between training and validation three things differ, and each has its own remedy. So validation is
# answered three times with the same weights: by batch norm's statistics as training left them (e),
# by statistics anew of images as training showed them (a), and of clean images (c); and training
# images once, by the latter (t). The differences add up: lag = a − e, shift = c − a, gap = t − c.

TRAINING_IMAGES = 1000  # that are answered for t: their accuracy is known to 1.6 points or better
# What is smaller is true but not worth a remedy, which costs more; and a network always knows its
# training images somewhat better than others.
USUAL_HARM, USUAL_GAP = 0.01, 0.05

Verdict = Literal["lag", "shift", "overfit", "none"]


class Anew(NamedTuple):
    """Statistics of clean images, and what they make of the validation images: probs [N, C]."""

    moments: list[Moments]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


class Finding(NamedTuple):
    """The verdict in words, and the four figures behind it, of one metric that rises."""

    verdict: Verdict
    words: str
    metric: str
    e: float
    a: float
    c: float
    t: float
    lag: float
    shift: float
    gap: float


class Examiner:
    """Examines one fold's model, as often as one likes: what it compiles it keeps.

    The model takes stored squares, and augments in training. It is left as it was.
    """

    def __init__(self, model: keras.Model, image_size: int, fold: FoldData) -> None:
        self.model, self.fold = model, fold
        self.clean = Recalibrator(strip_augmentation(model, image_size))
        self.trained = Recalibrator(model, as_trained=True)

    def recalibrate(self) -> Anew:
        """Takes the statistics of clean training images, and answers validation with and without.

        Without a batch norm that trains nothing changes.
        """
        fold = self.fold
        batches = draw_clean(fold.data.pixels, fold.training, fold.batch_size, fold.seed)
        moments = self.clean.estimate(batches)
        before = fold.predict(self.model, fold.validated)
        with lend_statistics(moments):
            after = fold.predict(self.model, fold.validated)
        return Anew(moments, before, after)

    def examine(self, anew: Anew, augmented: Iterable[NDArray[np.uint8]]) -> Finding:
        """Says what keeps validation below training.

        `augmented` are batches [B, S, S, 3] as training takes them; every one is read.
        """
        fold = self.fold
        shown = draw_shown(fold)
        with lend_statistics(anew.moments):
            learned = fold.predict(self.model, shown)
        with lend_statistics(self.trained.estimate(augmented)):
            likewise = fold.predict(self.model, fold.validated)
        judged = find_judge(fold.task)
        rule, truth = plain_rule(judged), fold.encode(fold.validated)
        e, a, c, t = (
            apply_rule(rule, probs) for probs in (anew.before, likewise, anew.after, learned)
        )
        scores = [score_answers(judged, truth, answers) for answers in (e, a, c)]
        scores.append(score_answers(judged, fold.encode(shown), t))
        harmed = compare_answers(judged, truth, e, c).adopted
        gap = knows_better(judged, (fold.encode(shown), t), (truth, c))
        verdict = judge(*scores, harmed=harmed, overfitted=gap)
        return describe(verdict, judged, scores, find_norms(self.model), fold.steps)


def draw_shown(fold: FoldData) -> NDArray[np.int64]:
    """The rows of the training images that are answered, the same ones each time."""
    return np.random.default_rng(fold.seed).permutation(fold.training)[:TRAINING_IMAGES]


def find_judge(task: Task) -> Task:
    """The task with a metric whose unit is known: accuracy in the place of log loss."""
    return task if METRICS[task.metric].higher_is_better else task._replace(metric="accuracy")


def knows_better(task: Task, learned: tuple[Truth, Answers], new: tuple[Truth, Answers]) -> bool:
    """Whether the metric is higher on images that were learned, and not by luck (95 %, one-sided).

    They are others, so that their bootstrap draws are too.
    """
    one, other = (
        bootstrap_scores(task, *pair, seed=seed) for seed, pair in enumerate((new, learned))
    )
    difference = score_answers(task, *learned) - score_answers(task, *new)
    return judge_draws(len(new[0]), difference, other - one).adopted


def judge(e: float, a: float, c: float, t: float, *, harmed: bool, overfitted: bool) -> Verdict:
    """The largest of the parts of t − e that are not luck.

    `harmed` says so of c − e, which lag and shift share, and `overfitted` of t − c.
    """
    parts = dict[Verdict, float]()
    if harmed and c - e > USUAL_HARM:
        parts = {"lag": a - e, "shift": c - a}
    if overfitted and t - c > USUAL_GAP:
        parts["overfit"] = t - c
    return max(parts, key=lambda name: parts[name], default="none")


def describe(
    verdict: Verdict,
    task: Task,
    scores: list[float],
    norms: list[keras.layers.BatchNormalization],
    steps: int,
) -> Finding:
    """The finding, with the words of the report."""
    e, a, c, t = scores
    title = METRICS[task.metric].title
    figures = f"validation {title} {e:.3f} as trained, {c:.3f} with statistics of clean images"
    words = {
        "lag": f"batch norm lags behind the weights: {figures}; {advise_momentum(norms, steps)}",
        "shift": f"augmentation shifts batch norm's statistics: {figures}, {a:.3f} of augmented "
        f"ones; let predict.recalibrate mend it, raise train.clean_epochs, or augment less",
        "overfit": f"the network knows training images better than others: {title} {t:.3f} "
        f"against {c:.3f} in validation, of which batch norm explains {c - e:+.3f}; augment more "
        f"(augment.policy), raise head.dropout or optimizer.weight_decay, or train fewer epochs",
        "none": f"nothing keeps validation down that can be told from luck: {title} {t:.3f} on "
        f"clean training images, {figures}",
    }[verdict]
    return Finding(verdict, words, task.metric, e, a, c, t, a - e, c - a, t - c)


def advise_momentum(norms: list[keras.layers.BatchNormalization], steps: int) -> str:
    """What to do about statistics that lag."""
    slowest, fitting = max(norm.momentum for norm in norms), fit_momentum(steps)
    lower = f"set model.bn_momentum to {fitting:g}, " if 0 < fitting < slowest else ""
    return (
        f"with momentum {slowest:g} they need {3 / (1 - slowest):.0f} updates to settle, and an "
        f"epoch has {steps}; {lower}train more epochs, or let predict.recalibrate mend it"
    )


class Gain(NamedTuple):
    """What a candidate gains on the competition metric, positive where it is better."""

    difference: float
    se: float  # standard error of the difference, image by image
    kept: bool


def measure_gain(task: Task, truth: Truth, before: Answers, after: Answers) -> Gain:
    """Compares two sets of probabilities [N, C]; the latter is kept beyond one standard error.

    One in six of candidates that change nothing passes, as they cost nothing.
    """
    rule = plain_rule(task)
    one, other = apply_rule(rule, before), apply_rule(rule, after)
    difference = compare_answers(task, truth, one, other).difference
    se = find_paired_error(task, truth, one, other)
    return Gain(difference, se, bool(difference > se))


def keep_if_better(fold: FoldData, anew: Anew) -> dict[str, Any]:
    """Leaves the model with the new statistics if validation gains by them; says what it gains."""
    gain = measure_gain(fold.task, fold.encode(fold.validated), anew.before, anew.after)
    if gain.kept:
        write_statistics(anew.moments)
    return gain._asdict()


# ==================================================================================================
# FixRes: larger images answer than were learned
# ==================================================================================================
# Where training sees a part of an image at a time, objects are larger in it than in the test part;
# and a network has more to say of a larger image. So the trained weights answer squares that are
# enlarged, with batch norm's statistics taken anew at that size (Touvron et al. 2019, arXiv
# 1906.06423). It stands only where validation gains by it.

RATIOS = (1.14, 1.28)
STEP = 8  # px, that sizes are multiples of


class Chosen(NamedTuple):
    """The model that answers, what it says of the validation images [N, C], and why."""

    model: keras.Model
    probs: NDArray[np.float32]
    record: dict[str, Any]


def list_sizes(image_size: int) -> list[int]:
    """The larger sizes to try, in px."""
    sizes = {STEP * round(ratio * image_size / STEP) for ratio in RATIOS}
    return sorted(size for size in sizes if size > image_size)


def enlarge(
    model: keras.Model, config: Config, start: Start, classes: int, size: int
) -> keras.Model:
    """A model of the same weights that cuts the same centre and answers it at `size` px.

    Takes the same stored squares; of Keras's own layers, as `strip_augmentation`'s is.
    """
    side, seen = model.input_shape[1], config.pixels.image_size
    squares = keras.Input((size, size, 3))
    start = start._replace(weights=None)  # the trained ones follow
    logits = add_body(squares, config, start, classes, config.runtime.seed)
    body = keras.Model(squares, logits, name="network")
    body.set_weights(strip_augmentation(model, seen).get_layer("network").get_weights())
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    centre = keras.layers.CenterCrop(seen, seen, dtype="float32", name="centre")(pixels)
    larger = keras.layers.Resizing(size, size, "bilinear", dtype="float32", name="enlarge")
    return keras.Model(pixels, body(larger(centre)), name="podium")


def choose_size(model: keras.Model, config: Config, start: Start, fold: FoldData) -> Chosen:
    """Tries larger sizes, and gives the model without augmentation that answers best.

    That is the one at image_size, unless another gains more than a standard error, the most of
    those that do. A SavedModel is one piece that cannot be built larger, and stays.
    """
    seen, truth = config.pixels.image_size, fold.encode(fold.validated)
    best = Chosen(strip_augmentation(model, seen), fold.predict(model, fold.validated), {})
    plain, tried, most = best.probs, list[dict[str, Any]](), 0.0
    for size in [] if start.module else list_sizes(seen):
        larger = enlarge(model, config, start, len(fold.task.classes), size)
        batches = draw_clean(fold.data.pixels, fold.training, fold.batch_size, fold.seed)
        write_statistics(Recalibrator(larger).estimate(batches))
        probs = fold.predict(larger, fold.validated)
        gain = measure_gain(fold.task, truth, plain, probs)
        tried.append({"size": size} | gain._asdict())
        if gain.kept and gain.difference > most:
            best, most = Chosen(larger, probs, {"size": size}), gain.difference
    return best._replace(record={"size": seen, **best.record, "tried": tried})


# ==================================================================================================
# Conclusion: how well a fold's network knows what it learned, and with what it answers
# ==================================================================================================
# Batch norm's statistics, and the size of the squares that answer, are changed after training only
# where validation gains by it more than its standard error.

# Epochs of everything after which clean and recalibrated figures are taken, and every fiftieth.
FOLLOWED = (1, 2, 3, 5, 10, 20, 30)


class Closer(NamedTuple):
    """The competition's metric after an epoch, beside that of training and validation."""

    clean: float  # of training images without augmentation, as the network answers
    recalibrated: float  # of validation, by statistics taken anew on clean training images


def is_followed(epoch: int) -> bool:
    """Is an epoch, counted from 1, one after which one looks closer?"""
    return epoch in FOLLOWED or epoch % 50 == 0


class Observer:
    """Looks at a fold's network as it learns, and concludes; what it compiles it keeps."""

    def __init__(self, config: Config, start: Start) -> None:
        self.config, self.start = config, start
        self.examiner: Examiner | None = None

    def find_examiner(self, model: keras.Model, fold: FoldData) -> Examiner:
        """The examiner of a network, which is another one when it was built anew."""
        if self.examiner is None or self.examiner.model is not model:
            self.examiner = Examiner(model, self.config.pixels.image_size, fold)
        return self.examiner

    def follow(self, model: keras.Model, fold: FoldData) -> Closer:
        """Looks closer at a network, and leaves it as it was."""
        shown = draw_shown(fold)
        clean = mark_probs(fold.predict(model, shown), fold.encode(shown), fold.task)
        anew = self.find_examiner(model, fold).recalibrate()
        after = mark_probs(anew.after, fold.encode(fold.validated), fold.task)
        return Closer(clean.metric, after.metric)

    def conclude(
        self, model: keras.Model, fold: FoldData, augmented: Iterable[tuple[Any, ...]]
    ) -> tuple[keras.Model, dict[str, Any]]:
        """The model that answers, without augmentation, and what truth.json says of it.

        `augmented` are the batches of the training stream. The record is empty where there was
        nothing to find out.
        """
        config, record = self.config, dict[str, Any]()
        if config.predict.recalibrate == "if-better" and find_norms(model):
            examiner = self.find_examiner(model, fold)
            anew = examiner.recalibrate()
            finding = examiner.examine(anew, take_images(augmented, fold.batch_size))
            record = finding._asdict() | keep_if_better(fold, anew)
        if config.predict.test_size == "if-better":
            chosen = choose_size(model, config, self.start, fold)
            return chosen.model, record | {"test_size": chosen.record}
        return strip_augmentation(model, config.pixels.image_size), record


def take_images(batches: Iterable[tuple[Any, ...]], size: int) -> Iterator[NDArray[np.uint8]]:
    """The images of as many batches as the diagnosis needs."""
    for images, *_ in islice(batches, max(1, TRAINING_IMAGES // size)):
        yield np.asarray(images)


# ==================================================================================================
# Budget: what still fits before the deadline
# ==================================================================================================
# A schedule that is cut off has not brought its learning rate down, so what does not fit is made
# shorter from the outset, and planned anew as costs are measured: after each epoch, and within
# one that falls behind. The first fold always ends with an answer; further folds are begun only
# if they fit, whole ones before shortened ones.

# What a plan leaves free, as shares: of all that is left, for updates are never all alike; and of
# the last check and answer, which cannot be made shorter once they prove slow.
SLACK, ENDING_SLACK = 0.03, 0.2
# An update of everything costs three of the head alone until it is measured: the backbone's forward
# pass, and backward about as much again for its activations and once more for its weights.
BACKWARD = 3.0
RECENT = 5  # stretches whose median is the cost of those to come: one that stalls is no trend
LEAST_SHARE = 0.5  # of a further fold's updates: with fewer its model would not earn its place

Done = tuple[int, int]  # updates of a fold so far, with the head alone and with everything


@dataclass(frozen=True)
class Budget:
    """The moment by which the run must be done, and the clock, both in seconds since 1970."""

    deadline: float
    now: Callable[[], float] = time.time

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.deadline - self.now()


class Course(NamedTuple):
    """Optimizer updates of one fold: with the head alone, with everything, and in one epoch."""

    head: int
    all: int
    steps: int

    @property
    def updates(self) -> int:
        """Of both phases together."""
        return self.head + self.all


class Costs(NamedTuple):
    """Seconds of the parts of a fold."""

    start: float  # to build and compile one phase
    head: float  # an update of the head alone
    all: float  # an update of everything
    check: float  # the validation after an epoch
    answer: float  # out-of-fold and test prediction, all views; saving, submission and report


class Pacer:
    """What the parts of a fold cost: guessed until measured, then the median of recent stretches.

    Until then `all` is as far off its guess as `head` was, and `answer` as `check`, but not below.
    """

    def __init__(self, guess: Costs) -> None:
        self.guess = guess
        self.measured = {part: deque[float](maxlen=RECENT) for part in Costs._fields}

    def note(self, part: str, seconds: float, count: int = 1) -> None:
        """Notes that so many of a part, a field of Costs, took so many seconds together."""
        self.measured[part].append(seconds / count)

    def costs(self) -> Costs:
        """The costs as they are known now."""
        return Costs(
            self.find("start"),
            self.find("head"),
            self.find("all", "head"),
            self.find("check"),
            self.find("answer", "check"),
        )

    def find(self, part: str, kin: str = "") -> float:
        """The cost of a part; if it has not been measured, from its guess and what its kin cost."""
        if self.measured[part]:
            return median(self.measured[part])
        guess, expected = getattr(self.guess, part), getattr(self.guess, kin, 0.0)
        off = self.find(kin) / expected if expected else 1.0
        return float(guess * (off if part == "all" else max(off, 1.0)))


def guess_costs(step: float, supply: float, start: float, checked: float, answered: float) -> Costs:
    """Costs before anything has trained.

    `step` is the device's seconds for an update of the head, `supply` those in which the input
    makes its batch, `start` those of the first update; `checked` and `answered` are the batches of
    a validation and of an answer, each as dear as the head's update, which is a forward pass too.
    """
    head = max(step, supply)
    return Costs(start, head, max(BACKWARD * step, supply), checked * head, answered * head)


def time_course(course: Course, costs: Costs, done: Done = (0, 0)) -> float:
    """Seconds of what is left of a fold after so many updates of each phase.

    Each phase that has not begun is compiled first. Each epoch, a short last one too, has a check.
    """
    seconds = costs.answer
    updates = (costs.head, costs.all)
    for whole, begun, update in zip(course[:2], done, updates, strict=True):
        if whole > begun:
            checks = math.ceil(whole / course.steps) - begun // course.steps
            start = 0.0 if begun else costs.start
            seconds += start + (whole - begun) * update + checks * costs.check
    return seconds


def shorten_course(course: Course, updates: int) -> Course:
    """The course with so many updates, both phases in proportion.

    From two epochs on, each phase has at least one, and whole ones if `updates` is of whole ones.
    """
    if updates >= course.updates:
        return course
    unit = course.steps if updates >= 2 * course.steps else 1
    head = unit * round(updates * course.head / course.updates / unit)
    least, most = min(course.head, unit), updates - min(course.all, unit)
    head = min(max(head, least), most)
    return Course(head, updates - head, course.steps)


def list_courses(course: Course, done: Done) -> Iterator[Course]:
    """The courses that a fold can still take, from the longest on, none shorter than what is done.

    Whole epochs down to the one in hand, then parts of that; the last one is to end at once, with
    one update if there has been none. A head phase that is over stays as long as it was.
    """
    head, begun = done
    rest = course._replace(head=0) if begun else course
    first = (begun // course.steps + 1) * course.steps
    yield Course(max(rest.head, head), max(rest.all, begun), course.steps)
    last = (rest.updates - 1) // course.steps * course.steps
    for updates in (
        *range(last, first - 1, -course.steps),
        *range(min(first, rest.updates) - 1, begun, -1),
    ):
        shorter = shorten_course(rest, updates)
        yield Course(max(shorter.head, head), max(shorter.all, begun), course.steps)
    if head or begun:
        yield Course(head, begun, course.steps)


def spare_ending(costs: Costs) -> float:
    """Seconds that are kept free: of the ending, and of one update, after which one can replan."""
    return ENDING_SLACK * (costs.check + costs.answer) + costs.all


def still_fits(seconds: float, course: Course, costs: Costs, done: Done) -> bool:
    """Whether what is left of a fold fits; if not, the rest of the epoch has to be planned anew."""
    return time_course(course, costs, done) + spare_ending(costs) <= seconds


def fit_course(seconds: float, course: Course, costs: Costs, done: Done = (0, 0)) -> Course:
    """The longest course of a fold that takes no longer, or the shortest there is."""
    shorter = course
    for shorter in list_courses(course, done):
        if time_course(shorter, costs, done) <= seconds:
            break
    return shorter


def plan_folds(
    seconds: float, course: Course, costs: Costs, folds: int, done: Done | None = (0, 0)
) -> tuple[Course, ...]:
    """The courses of the folds that fit, of those left; what has none is not to be begun.

    `done` are the updates of the fold in hand, which is the first of those left: it gets what fits
    of its course, and at least one update. None says that no fold is in hand and that none need be
    begun, since an earlier one has left an answer. Only the last course is ever shortened.
    """
    left = (1 - SLACK) * seconds - spare_ending(costs)
    plan = list[Course]()
    for fold in range(folds):
        begun = (done if fold == 0 else None) or (0, 0)
        chosen = fit_course(left, course, costs, begun)
        left -= time_course(chosen, costs, begun)
        in_hand = fold == 0 and done is not None
        if not in_hand and (left < 0 or chosen.updates < LEAST_SHARE * course.updates):
            break
        plan.append(chosen)
        if chosen != next(list_courses(course, begun)):
            break
    return tuple(plan)


def describe_plan(
    plan: Sequence[Course],
    course: Course,
    costs: Costs,
    folds: range,
    seconds: float,
    done: Done | None = (0, 0),
) -> str:
    """One line on what plan_folds made of the numbered folds that are left, and of the seconds."""
    further = (len(folds) - 1) * time_course(course, costs)
    need = format_hours(time_course(course, costs, done or (0, 0)) + further)
    shares = [name_epochs(one) for one in plan] + [""] * (len(folds) - len(plan))
    runs = groupby(zip(shares, folds, strict=True), key=itemgetter(0))
    verdict = ", ".join(name_folds([fold for _, fold in pairs], share) for share, pairs in runs)
    if tuple(plan) == (course,) * len(folds):
        verdict = "all fit"
    head, everything = (
        f"{course.steps * update + costs.check:.1f} s" for update in (costs.head, costs.all)
    )
    head = f"{head} with the head alone, " if course.head else ""
    return (
        f"{len(folds)} fold{'s' if len(folds) > 1 else ''} × {name_epochs(course)} need {need} of "
        f"the {format_hours(seconds)} left: {verdict} "
        f"(an epoch takes {head}{everything} with everything)"
    )


def name_epochs(course: Course) -> str:
    """A course's length in words: "9 epochs", "0.25 epochs"."""
    epochs = f"{course.updates / course.steps:.3g}"
    return f"{epochs} epoch{'' if epochs == '1' else 's'}"


def name_folds(folds: Sequence[int], share: str) -> str:
    """What neighbouring folds get, in words; no share is to be left out."""
    if len(folds) == 1:
        return f"fold {folds[0]} " + (f"gets {share}" if share else "is left out")
    names = f"folds {folds[0]} {'and' if len(folds) == 2 else 'to'} {folds[-1]}"
    return f"{names} " + (f"get {share}" if share else "are left out")


def format_hours(seconds: float) -> str:
    """Hours and minutes; seconds if there is no minute."""
    if seconds < 60:
        return f"{max(0, math.floor(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02}" if hours else f"{minutes} min"


# ==================================================================================================
# Stretch: some updates in one go, watched
# ==================================================================================================
# Keras's fit does the updates. After each one its callback list is asked, and this one stands in
# its place: Keras's own would wait for each batch's figures, and the device would wait for it.

# Why a stretch ended before its last update: the loss is no number, what is left takes more or less
# time than was planned, SIGTERM.
Ending = Literal["", "diverged", "replanned", "stopped"]


class Halt(NamedTuple):
    """Whether the run has been asked to end."""

    at_once: Callable[[], bool]
    soon: Callable[[], bool]  # after the epoch in hand, or at once


class Stretch(keras.callbacks.CallbackList):
    """Counts updates and their time, and asks after each whether to go on.

    Figures of an update are read when the next one is under way: that keeps the device busy, and a
    host from running far ahead of it.
    """

    def __init__(
        self,
        model: keras.Model,
        parts: int,
        after_update: Callable[["Stretch"], Ending],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(None, add_history=True, model=model)
        self.parts, self.after_update, self.now = parts, after_update, now
        self.updates = 0
        self.ending: Ending = ""
        self.started = self.ticked = now()
        self.first = 0.0  # seconds until the first update was done, or on JAX compiled
        self.times = list[float]()  # seconds of each update but the first two
        self.latest: Any = None
        self.read = {"log_loss": 0.0, "accuracy": 0.0}  # means over the updates before the last

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Nothing is told before a batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts an update once all parts of its batch went through."""
        if (batch + 1) % self.parts:
            return
        self.updates += 1
        previous, self.latest = self.latest, logs
        if previous is not None:
            self.read = read_figures(previous)
            if self.updates > 2:
                self.times.append(self.now() - self.ticked)
        else:
            self.first = self.now() - self.started
        self.ticked = self.now()
        if not math.isfinite(self.read["log_loss"]):
            self.ending = "diverged"
        else:
            self.ending = self.after_update(self)
        if self.ending:
            self.model.stop_training = True

    def figures(self) -> dict[str, float]:
        """Mean log loss and accuracy of all updates so far; waits for the last one."""
        if self.latest is not None:
            self.read = read_figures(self.latest)
        return self.read

    @property
    def seconds(self) -> float:
        """Since the stretch began."""
        return self.now() - self.started

    def synchronise(self) -> None:
        """Puts what was learned into the model's variables, where JAX does not keep it."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()


def read_figures(logs: dict[str, Any]) -> dict[str, float]:
    """The weighted metrics of a training step as numbers."""
    return {name: float(logs[name]) for name in ("log_loss", "accuracy")}


# ==================================================================================================
# Planner: what the run's parts cost, and how far each fold may go
# ==================================================================================================
# Of several hosts each measures its own costs, and all do as the first decides.

FIRST_UPDATES = 4  # timed before there is a plan


class Planner:
    """Measures the run as it goes, and plans what is left of it."""

    def __init__(
        self, budget: Budget, folds: int, batches: tuple[int, int], report: Reporter
    ) -> None:
        self.budget, self.folds, self.report = budget, folds, report
        self.checked, self.answered = batches  # of a validation, and of a fold's answers
        self.fold = 0  # in hand
        self.pacer: Pacer | None = None
        self.whole = Course(0, 0, 1)  # of a fold, as the settings have it
        self.timed = set[str]()  # phases
        self.plans = list[str]()  # what was said, in words
        self.planned: tuple[Course, ...] = ()
        self.learned = 0.0  # when the fold in hand had come to its course's end

    def now(self) -> float:
        """Seconds since 1970."""
        return self.budget.now()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.budget.left()

    def begin_fold(self, fold: int, whole: Course) -> None:
        """Takes a fold in hand; those before it are done with."""
        self.fold, self.whole, self.planned = fold, whole, ()

    def plan(self, done: tuple[int, int]) -> Course:
        """The course of the fold in hand, of which so many updates are done."""
        if self.pacer is None:
            return self.whole
        folds, costs = range(self.fold, self.folds), self.pacer.costs()
        plan = plan_folds(self.left(), self.whole, costs, len(folds), done)
        head, everything = (int(ask_first_host(updates)) for updates in plan[0][:2])
        plan = (plan[0]._replace(head=head, all=everything), *plan[1:])
        if plan != self.planned and (self.planned or self.fold == 0):
            text = describe_plan(plan, self.whole, costs, folds, self.left(), done)
            self.plans.append(text)
            self.report.say(f"  {text}")
        self.planned = plan
        self.tell(plan, costs, done)
        return plan[0]

    def tell(self, plan: Sequence[Course], costs: Costs, done: Done) -> None:
        """Emits what is planned: of each fold that is left, the share of its updates."""
        seconds = time_course(plan[0], costs, done)
        seconds += sum(time_course(course, costs) for course in plan[1:])
        shares = [one.updates / max(self.whole.updates, 1) for one in plan]
        self.report.emit(
            "plan_made",
            fold=self.fold,
            shares=[*shares, *[0.0] * (self.folds - self.fold - len(plan))],
            seconds=round(seconds, 1),
            left=round(self.left(), 1),
            words=self.plans[-1] if self.plans else "",
        )

    def is_late(self, course: Course, done: tuple[int, int]) -> bool:
        """Does what is left of the fold in hand no longer fit?"""
        costs = self.pacer.costs() if self.pacer else None
        late = costs is not None and not still_fits(self.left(), course, costs, done)
        return bool(ask_first_host(late))

    def fits_another(self) -> bool:
        """Is there time for a fold after the one in hand?"""
        if self.pacer is None:
            return True
        costs = self.pacer.costs()
        plan = plan_folds(self.left(), self.whole, costs, 1, done=None)
        return bool(ask_first_host(len(plan)))

    def spares_time(self) -> bool:
        """Is there time to look at what was learned before it answers, twice as long as that?"""
        costs = self.pacer.costs() if self.pacer else None
        return bool(ask_first_host(costs is None or self.left() > 3 * (costs.answer + costs.start)))

    def affords(self, seconds: float) -> bool:
        """Is there time for what takes so many seconds, and for a fifth more?"""
        return self.left() > (1 + ENDING_SLACK) * seconds

    def time_updates(self, phase: str, stretch: Stretch, done: tuple[int, int]) -> Course | None:
        """The course as planned anew once some updates of a phase were timed for the first time."""
        if phase in self.timed or len(stretch.times) < FIRST_UPDATES:
            return None
        self.timed.add(phase)
        pacer = self.pacer or self.open_pacer(phase, stretch)
        pacer.note(phase, median(stretch.times))
        return self.plan(done)

    def open_pacer(self, phase: str, stretch: Stretch) -> Pacer:
        """Guesses all costs from those of the first updates."""
        update = median(stretch.times or [stretch.first])
        step = update if phase == "head" else update / BACKWARD
        supply = 0.0  # an update that was timed has waited for its images
        self.pacer = Pacer(guess_costs(step, supply, stretch.first, self.checked, self.answered))
        return self.pacer

    def end_stretch(self, phase: str, stretch: Stretch, started: float | None) -> None:
        """Takes note of a stretch's updates, and of what came before the first one of a phase,
        which started then.
        """
        pacer = self.pacer or self.open_pacer(phase, stretch)
        if stretch.times:
            pacer.note(phase, sum(stretch.times), len(stretch.times))
        if started is not None:
            pacer.note("start", stretch.started - started + stretch.first)

    def end_check(self, seconds: float) -> None:
        """Takes note of the validation after an epoch."""
        if self.pacer:
            self.pacer.note("check", seconds)

    def end_course(self) -> None:
        """From here on the fold in hand is answering."""
        self.learned = self.now()

    def end_fold(self) -> None:
        """Takes note of what the answers took."""
        if self.pacer:
            self.pacer.note("answer", self.now() - self.learned)


# ==================================================================================================
# Epochs: how far a fold has got, and what comes next
# ==================================================================================================
# A fold's course is so many updates of its head alone, then so many of everything. Where it stands
# is told in updates too, so that a course may be shortened, and a killed run go on, anywhere.

SIZE_STAGES = 3  # of progressive resolution; each size is compiled anew


class Epoch(NamedTuple):
    """One epoch, or what is left of it."""

    phase: str  # "head" or "all"
    number: int  # from 1, over both phases
    total: int
    first: int  # update of the phase with which it begins, or goes on
    updates: int  # that are left of it
    size: int  # px, side of the squares that the network sees
    clean: bool  # without augmentation


@dataclass(frozen=True)
class Position:
    """How far a fold has got, and what its next update needs to know."""

    schedule: Schedule  # of the phase at hand
    end: int  # update of the phase, at which the schedule has come down
    phase: str  # "head" or "all"; "" before the first
    size: int  # px, side of the squares that the network sees
    parts: int  # in which each batch goes through the network
    head: int = 0  # updates done, the backbone frozen
    all: int = 0  # and everything training
    lowered: int = 0  # how often the loss was no number, and the rate was lowered
    loss: float = 0.0  # sums over the updates of the epoch at hand
    accuracy: float = 0.0
    summed: int = 0  # such updates

    @property
    def done(self) -> tuple[int, int]:
        """Updates of both phases."""
        return self.head, self.all

    @property
    def updates(self) -> int:
        """Updates since the fold began."""
        return self.head + self.all

    def move(self, phase: str, updates: int, loss: float, accuracy: float) -> Self:
        """The place after more updates of a phase, of that mean loss and accuracy."""
        if not updates:
            return self
        moved = replace(
            self,
            loss=self.loss + updates * loss,
            accuracy=self.accuracy + updates * accuracy,
            summed=self.summed + updates,
        )
        if phase == "head":
            return replace(moved, head=self.head + updates)
        return replace(moved, all=self.all + updates)

    def close_epoch(self) -> Self:
        """The place at the begin of the next epoch."""
        return replace(self, loss=0.0, accuracy=0.0, summed=0)

    def facts(self) -> dict[str, Any]:
        """The place as JSON holds it."""
        return asdict(self) | {"schedule": self.schedule._asdict()}


def read_position(facts: dict[str, Any]) -> Position:
    """Reads what `Position.facts` gave; raises KeyError or TypeError if it is no place."""
    return Position(**facts | {"schedule": Schedule(**facts["schedule"])})


def set_course(config: Config, steps: int) -> Course:
    """The course as the settings have it, of that many updates an epoch."""
    return Course(config.train.head_epochs * steps, config.train.epochs * steps, steps)


def start_position(config: Config, course: Course) -> Position:
    """Where a fold stands before its first update."""
    schedule = start_schedule(config, "head", course)
    parts = config.optimizer.accumulate
    return Position(schedule, course.head, "", find_size(config, 0.0), parts)


def start_schedule(config: Config, phase: str, course: Course) -> Schedule:
    """The schedule of a phase, as the settings have it."""
    head = phase == "head"
    peak = config.schedule.head_lr if head else config.schedule.peak_lr
    updates = course.head if head else course.all
    return make_schedule(config.schedule, peak or 0.0, max(updates, 1))


def enter_epoch(config: Config, course: Course, place: Position, epoch: Epoch) -> Position:
    """The position as an epoch needs it: a phase that begins has its own schedule, and one whose
    end has moved runs through the rest of it at another speed.
    """
    schedule, end = place.schedule, course.head if epoch.phase == "head" else course.all
    if epoch.phase != place.phase:
        schedule = start_schedule(config, epoch.phase, course)
    elif end != place.end:
        schedule = schedule.shorten(epoch.first, end - epoch.first)
    return replace(place, schedule=schedule, end=end, phase=epoch.phase, size=epoch.size)


def find_epoch(config: Config, course: Course, place: Position) -> Epoch | None:
    """The epoch that a place is in, or None at the end of the course."""
    heads, alls = -(-course.head // course.steps), -(-course.all // course.steps)
    if place.head < course.head:
        phase, done, end, before = "head", place.head, course.head, 0
    elif place.all < course.all:
        phase, done, end, before = "all", place.all, course.all, heads
    else:
        return None
    number = done // course.steps
    updates = min((number + 1) * course.steps, end) - done
    clean = round(config.train.clean_epochs * alls / config.train.epochs)
    return Epoch(
        phase,
        before + number + 1,
        heads + alls,
        done,
        updates,
        find_size(config, (number + 1 if phase == "all" else 0) / max(alls, 1)),
        clean=phase == "all" and number >= alls - clean,
    )


def find_size(config: Config, progress: float) -> int:
    """The side of the squares in the epoch that ends at a share of all: in equal steps up to
    image_size (Tan and Le 2021, EfficientNetV2, arXiv 2104.00298, section 4.2), in whole eights.
    """
    full, first = config.pixels.image_size, config.train.first_size
    stage = max(math.ceil(round(SIZE_STAGES * progress, 9)) - 1, 0)
    share = first + (1 - first) * stage / (SIZE_STAGES - 1)
    return full if share == 1 else max(8, round(full * share / 8) * 8)


# ==================================================================================================
# Diary: one row of figures for each epoch of a fold, as it goes
# ==================================================================================================

SPEAK_EVERY = 30.0  # seconds between lines inside a long epoch


def describe_epoch(
    epoch: Epoch, place: Position, marks: Marks, closer: Closer | None
) -> dict[str, Any]:
    """The figures of an epoch at whose end a fold stands there, all but the times."""
    return {
        "phase": epoch.phase,
        "epoch": epoch.number,
        "updates": place.updates,
        "train/loss": place.loss / place.summed,
        "train/accuracy": place.accuracy / place.summed,
        "valid/loss": marks.loss,
        "valid/accuracy": marks.accuracy,
        "valid/metric": marks.metric,
        "clean/metric": closer and closer.clean,
        "recalibrated/metric": closer and closer.recalibrated,
        "learning_rate": place.schedule.rate(place.done[epoch.phase == "all"] - 1),
        "image_size": epoch.size,
    }


class EpochWatch:
    """The time of one epoch, as far as this session did it."""

    def __init__(self, began: float) -> None:
        self.began, self.images, self.seconds = began, 0, 0.0

    def add(self, images: int, seconds: float) -> None:
        """Counts training images, and the time that they took."""
        self.images += images
        self.seconds += seconds

    def read(self, now: float) -> dict[str, float]:
        """Seconds of the whole epoch, and images per second of its training alone."""
        rate = self.images / max(self.seconds, 1e-9)
        return {"seconds": round(now - self.began, 3), "images_per_second": round(rate, 1)}


class Diary:
    """Writes history.csv, and says the same in log and events."""

    def __init__(self, folder: Path, fold: int, metric: str, report: Reporter) -> None:
        self.path = folder / "history.csv"
        self.fold, self.metric, self.report = fold, metric, report
        self.spoke = time.monotonic()
        self.torn = False  # a row could not be written

    def start_at(self, updates: int) -> None:
        """Forgets the epochs that ended after so many updates: they come again."""
        kept = [row for row in self.read() if int(float(row["updates"])) <= updates]
        if not kept:
            self.path.unlink(missing_ok=True)
            return
        write_whole(self.path, format_rows(kept, header=True).encode())

    def read(self) -> list[dict[str, str]]:
        """The rows so far, but for one that a killed process left torn."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [row for row in rows if None not in row.values()]

    def speak(self, epoch: int, step: int, steps: int) -> None:
        """Says now and then that a long epoch is alive."""
        if time.monotonic() - self.spoke > SPEAK_EVERY:
            self.spoke = time.monotonic()
            self.report.emit("step_reached", fold=self.fold, epoch=epoch, step=step, steps=steps)
            self.report.say(f"  fold {self.fold} epoch {epoch}: step {step} of {steps}")

    def add(self, row: dict[str, Any], epochs: int) -> None:
        """Writes the row of an epoch, says it in a line, and in an event."""
        self.spoke = time.monotonic()
        self.append(row)
        names = {"fold": self.fold, "epochs": epochs, "metric": self.metric}
        self.report.emit("epoch_ended", **names, **row)
        also = "" if self.metric in ("accuracy", "log_loss") else f"  {row['valid/metric']:.3f}"
        self.report.say(
            f"  fold {self.fold} epoch {row['epoch']:>2}/{epochs} {row['phase']:<4}  "
            f"loss {row['train/loss']:.3f} → {row['valid/loss']:.3f}  "
            f"accuracy {row['train/accuracy']:.3f} → {row['valid/accuracy']:.3f}{also}  "
            f"{row['images_per_second']:.0f} images/s  {row['seconds']:.1f} s"
        )

    def append(self, row: dict[str, Any]) -> None:
        """Appends a row; a full disk costs the rest of the file, not the run."""
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(format_rows([row], header=file.tell() == 0))
        except OSError as error:
            if not self.torn:
                self.report.warn(f"{self.path} cannot be written ({error.strerror})")
            self.torn = True


def format_rows(rows: list[dict[str, Any]], *, header: bool) -> str:
    """Rows of one kind as the text of a CSV file; what is no number is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if is_missing(value) else value for name, value in row.items()})
    return text.getvalue()


def is_missing(value: Any) -> bool:
    """Is this figure not there?"""
    return value is None or (isinstance(value, float) and math.isnan(value))


# ==================================================================================================
# Keeper: checkpoints of a fold, by the clock, and its model at the end
# ==================================================================================================
# A full disk costs these, not the run: what was kept before stays, and training goes on.


class Keeper:
    """Writes the checkpoints of a fold, and reads the newest that is whole."""

    def __init__(self, folder: Path, minutes: float, report: Reporter) -> None:
        self.folder, self.report, self.every = folder, report, 60 * minutes
        self.kept = time.monotonic()
        self.refused = False  # the disk took no checkpoint last time

    def is_due(self) -> bool:
        """Is it time for a checkpoint?"""
        return time.monotonic() - self.kept >= self.every

    def keep(self, model: keras.Model, place: Position) -> bool:
        """Keeps model and place; returns False if weights are no numbers, which is not kept."""
        state = capture_state(model)
        if not all(np.isfinite(values).all() for values in state.values() if is_real(values)):
            return False
        try:
            write_checkpoint(self.folder, Checkpoint(place.facts(), state))
        except OSError as error:
            if not self.refused:
                self.report.warn(
                    f"no checkpoint could be written to {self.folder} ({error.strerror}): training "
                    f"goes on, but a killed run would lose what comes now"
                )
            self.refused = True
        else:
            self.refused = False
        self.kept = time.monotonic()
        return True

    def latest(self) -> tuple[Position, dict[str, Any]] | None:
        """The newest place and state that are whole, or None; warns of those that are not."""
        checkpoint, notes = read_checkpoint(self.folder)
        for note in notes:
            self.report.warn(note)
        return (read_position(checkpoint.facts), checkpoint.state) if checkpoint else None


def is_real(values: Any) -> bool:
    """Are these floating-point numbers, of whatever width?"""
    return bool(np.issubdtype(values.dtype, np.floating)) or values.dtype.name == "bfloat16"


def write_truth(record: dict[str, Any], folder: Path, report: Reporter) -> None:
    """Writes truth.json, if there is anything to say."""
    try:
        if record:
            write_json(folder / "truth.json", record)
    except OSError as error:
        report.warn(f"{folder / 'truth.json'} cannot be written ({error.strerror})")


def write_model(answering: keras.Model, folder: Path, report: Reporter) -> None:
    """Writes model.keras, whole or not at all; what it answers does not need it."""
    half, path = folder / "half.keras", folder / "model.keras"
    try:
        answering.save(half)
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        report.warn(f"{path} cannot be written ({error.strerror}); the answers are not lost")


# ==================================================================================================
# Setbacks: what a fold does after too little memory, and after a loss that is no number
# ==================================================================================================
# Neither costs the run. Of images that do not fit on the device at once, fewer go through at a
# time, and as many make an update. From a loss that is no number, a fold goes back to its last
# checkpoint and on at a lower rate, twice at most; then the weights before it answer.

MOST_LOWERED = 2
LOWER = 0.5  # the rate then, as a share
ADVICE = "lower schedule.peak_lr, or set runtime.precision to float32"


class DivergedError(RuntimeError):
    """The loss was no number before there was anything to go back to."""


class OutOfMemoryError(RuntimeError):
    """Not even the smallest part of a batch fits on the device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Did the device run out of memory? TensorFlow and JAX say so in the same words."""
    return "RESOURCE_EXHAUSTED" in str(error) or type(error).__name__ == "ResourceExhaustedError"


def lower_rate(now: Position, saved: Position) -> Position | None:
    """The place to go on from, at a lower rate than there; None if that was tried often enough."""
    lowered = now.lowered + 1
    if lowered > MOST_LOWERED:
        return None
    share = LOWER ** (lowered - saved.lowered)
    return replace(saved, lowered=lowered, schedule=saved.schedule.scaled(share))


def halve_parts(place: Position, batch_size: int, devices: int) -> Position:
    """The place with half as many images at once; OutOfMemoryError if they cannot be fewer."""
    parts, images = 2 * place.parts, batch_size // place.parts
    if batch_size % (parts * devices):
        raise OutOfMemoryError(
            f"{images} images at once, of {batch_size} for an update, are too many for the memory "
            f"of {devices} device{'s' * (devices > 1)}, and cannot be halved; lower "
            f"pixels.image_size, or choose a smaller model.backbone"
        )
    return replace(place, parts=parts)


# ==================================================================================================
# Trainee: the network of a fold, built, frozen and compiled as its next epoch needs it
# ==================================================================================================


class Shape(NamedTuple):
    """What a network is built and compiled for."""

    phase: str
    size: int
    clean: bool
    parts: int


class Trainee:
    """One network through all epochs of a fold; weights and optimizer go with it."""

    def __init__(self, config: Config, start: Start, data: FoldData) -> None:
        self.config, self.start, self.data = config, start, data
        self.class_weights: NDArray[np.float64] | None = None
        if config.train.class_weights == "balanced":
            labels = data.data.labels[data.training]
            self.class_weights = weigh_classes(labels, data.data.classes)
        self.model: Any = None  # a keras.Model, once there is one
        self.shape: Shape | None = None

    def prepare(self, shape: Shape, updates: int) -> keras.Model:
        """The network in a shape, for so many updates at once; what it has learned goes with it.

        Another size is another network with the same weights and optimizer; another phase, or
        other parts, are another optimizer.
        """
        was = self.shape
        if self.model is None or was is None:
            self.build(shape)
            self.compile(shape, updates)
        elif shape != was:
            if shape.size != was.size:
                self.resize(was._replace(size=shape.size), updates)
            same = (shape.phase, shape.parts) == (was.phase, was.parts)
            self.compile(shape, updates, self.model.optimizer if same else None)
        self.shape = shape
        return self.model

    def resize(self, shape: Shape, updates: int) -> None:
        """Builds the network for squares of another size."""
        state = capture_state(self.model)
        self.build(shape)
        self.compile(shape, updates)
        restore_state(self.model, state)

    def build(self, shape: Shape) -> None:
        """Builds the network, with the weights that all start from."""
        reopen_session()  # else Keras numbers the layers on, and no weight finds its place
        classes, side = self.data.data.classes, self.data.pixels.shape[1]
        self.model = build_model(self.config, self.start, classes, side, self.data.seed, shape.size)

    def compile(
        self, shape: Shape, updates: int, optimizer: keras.optimizers.Optimizer | None = None
    ) -> None:
        """Freezes what does not train in a shape, and compiles what does.

        What is frozen, and whether images are augmented, is read when a model is compiled.
        """
        config, model = self.config, self.model
        freeze_backbone(model, config.model, frozen=shape.phase == "head")
        model.get_layer("augment").still = shape.clean
        if optimizer is None:
            shares = share_rates(model, config.schedule.layer_decay)
            in_parts = replace(config.optimizer, accumulate=shape.parts)
            optimizer = make_optimizer(in_parts, updates, shares)
        compile_model(
            model,
            optimizer,
            task=self.data.task,
            smoothing=config.train.label_smoothing or 0.0,
            class_weights=self.class_weights,
            jit=keras.backend.backend() == "jax",
        )

    def forget(self) -> None:
        """Drops the network: what is on the device may be lost, as after out-of-memory on JAX."""
        self.model, self.shape = None, None


# ==================================================================================================
# Training: one fold, in two phases, and through what may come between
# ==================================================================================================
# First the head alone, on the features of the frozen backbone, so that its first wild gradients do
# not spoil pretrained weights; then everything, at a lower rate. The last epoch's weights are kept:
# to pick the best epoch by validation would flatter the validation.
#
# What a killed run needs in order to go on lies in checkpoints: weights, optimizer, generators, and
# the place in the course. Everything else, the order of the images too, follows from the seed.


class Session(NamedTuple):
    """What all folds of a run share."""

    folder: Path
    devices: int
    report: Reporter
    planner: Planner
    halt: Halt


class Trained(NamedTuple):
    """A fold's network, as it answers."""

    model: keras.Model
    complete: bool  # or stopped before its course's end
    parts: int  # in which a batch fits on the device


def train_fold(
    config: Config, start: Start, data: TrainingSet, fold: int, session: Session
) -> Trained:
    """Trains on all folds but one and returns the model.

    Validates on the fold left out after each epoch. Writes history.csv, checkpoints and, at the
    end, model.keras into fold0 … of the session's folder; that model takes raw uint8 pixels and
    loads where there is only Keras, unless its backbone is a SavedModel. Goes on from a checkpoint
    if there is one. Raises PixelError if the pixels were scaled already, OutOfMemoryError and
    DivergedError if nothing helps.
    """
    return FoldTraining(config, start, data, fold, session).run()


class FoldTraining:
    """The training of one fold: what does not change, and how far it has got."""

    def __init__(
        self, config: Config, start: Start, data: TrainingSet, fold: int, session: Session
    ) -> None:
        self.config, self.fold, self.session = config, fold, session
        self.report, self.planner = session.report, session.planner
        self.folder = session.folder / f"fold{fold}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = take_fold(config, data, fold)
        self.course = set_course(config, self.data.steps)
        self.planner.begin_fold(fold, self.course)
        self.trainee, self.observer = Trainee(config, start, self.data), Observer(config, start)
        self.diary = Diary(self.folder, fold, self.data.task.metric, self.report)
        self.keeper = Keeper(self.folder, config.train.checkpoint_minutes, self.report)
        self.position = start_position(config, self.course)
        self.watch = EpochWatch(self.planner.now())
        self.over = False  # the course ends before its end
        self.supply = self.rate = 0.0  # images per second that the input gives, training takes

    # The way through the course.

    def run(self) -> Trained:
        """Goes through the course, and concludes it."""
        self.data.check()
        with Host(self.config, self.data.pixels, self.report) as host:
            self.resume()
            if self.fold == 0:
                self.supply = measure_rate(self.data.make_batches(host, self.position.parts, 0))
            complete = True
            while complete and (epoch := self.find_epoch()):
                complete = not self.is_ending() and self.run_epoch(epoch, host)
            self.planner.end_course()
            return self.finish(host) if complete else self.break_off()

    def find_epoch(self) -> Epoch | None:
        """What comes next, as far as time goes."""
        was = find_epoch(self.config, self.course, self.position)
        if was is None or self.over:
            return None  # more time does not help: the rate has come down
        self.course = self.planner.plan(self.position.done)
        epoch = find_epoch(self.config, self.course, self.position)
        if self.position.summed and (epoch is None or epoch.phase != was.phase):
            self.close_epoch(was)  # time was short, and its phase has ended within it
        return epoch

    def is_ending(self) -> bool:
        """Is the run to end where an epoch has ended? Then the place is kept."""
        between = self.position.updates > 0 and self.position.summed == 0
        if ends := between and bool(ask_first_host(self.session.halt.soon())):
            self.keeper.keep(self.prepare(), self.position)
        return ends

    def run_epoch(self, epoch: Epoch, host: Host) -> bool:
        """Does the updates of an epoch, or as many as can be; returns False to end the fold."""
        started = self.planner.now() if epoch.first == 0 else None
        try:
            self.enter(epoch, host)
            stretch = self.run_stretch(epoch, host)
            figures = stretch.figures()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.take_less(error)
            return True
        if stretch.ending == "diverged" or not math.isfinite(figures["log_loss"]):
            self.go_back(epoch)
            return True
        self.planner.end_stretch(epoch.phase, stretch, started)
        self.position = self.position_after(stretch, epoch)
        self.watch.add(stretch.updates * self.data.batch_size, stretch.seconds)
        if stretch.updates == epoch.updates:
            self.close_epoch(epoch)
        if stretch.ending == "stopped":
            self.keeper.keep(stretch.model, self.position)
            return False
        return True

    def enter(self, epoch: Epoch, host: Host) -> None:
        """Gives a phase its schedule when it begins, and a shorter one when time is short."""
        begins = epoch.phase != self.position.phase
        self.position = enter_epoch(self.config, self.course, self.position, epoch)
        model = self.prepare(clean=epoch.clean)
        if begins:
            self.keeper.keep(model, self.position)
            if epoch.phase == "all" and self.fold == 0:
                self.look_ahead(model, host)

    def look_ahead(self, model: keras.Model, host: Host) -> None:
        """Says what can be said of the settings before everything trains for the first time."""
        warn_of_slow_statistics(model, self.data.steps, self.report)
        if self.config.schedule.range_test:
            batches = self.data.make_batches(host, self.position.parts, 0)
            peak = self.position.schedule.peak
            show_range_test(model, batches, peak, self.folder, self.report)

    def run_stretch(self, epoch: Epoch, host: Host) -> Stretch:
        """The updates of an epoch by Keras's fit, which may end before the last of them."""
        place, model = self.position, self.prepare(clean=epoch.clean)
        set_rates(model.optimizer, place.schedule.rates(epoch.first, epoch.updates))
        batches = self.data.make_batches(None if epoch.clean else host, place.parts, place.updates)
        stretch = Stretch(model, place.parts, partial(self.look_up, epoch), self.planner.now)
        steps = epoch.updates * place.parts
        model.fit(batches, steps_per_epoch=steps, callbacks=stretch, verbose=0)
        return stretch

    def look_up(self, epoch: Epoch, stretch: Stretch) -> Ending:
        """After each update: speaks, keeps, and says whether the stretch must end here."""
        self.diary.speak(
            epoch.number, epoch.first % self.data.steps + stretch.updates, self.data.steps
        )
        done = self.position.move(epoch.phase, stretch.updates, 0.0, 0.0).done
        course = self.planner.time_updates(epoch.phase, stretch, done)
        if self.session.halt.at_once():
            return "stopped"
        if stretch.updates == epoch.updates:
            return ""
        if self.keeper.is_due():
            stretch.synchronise()
            if not self.keeper.keep(stretch.model, self.position_after(stretch, epoch)):
                return "diverged"
        changed = course not in (None, self.course)
        return "replanned" if changed or self.planner.is_late(self.course, done) else ""

    def close_epoch(self, epoch: Epoch) -> None:
        """Validates, lets the schedule know, and writes the epoch's row."""
        model, place, began = self.prepare(clean=epoch.clean), self.position, self.planner.now()
        swap_averages(model)
        data = self.data.in_parts(place.parts)
        marks, closer = data.mark(model), None
        self.planner.end_check(self.planner.now() - began)
        if self.is_followed(epoch) and self.planner.spares_time():
            closer = self.observer.follow(model, data)
        swap_averages(model)
        row = {
            **describe_epoch(epoch, place, marks, closer),
            **self.watch.read(self.planner.now()),
            "left": round(self.planner.left(), 1),
        }
        self.rate = row["images_per_second"]
        self.diary.add(row, epoch.total)
        self.watch = EpochWatch(self.planner.now())
        self.position = replace(place, schedule=place.schedule.check(marks.loss)).close_epoch()
        if self.keeper.is_due():
            self.keeper.keep(model, self.position)

    # What may come between.

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one."""
        kept = self.keeper.latest()
        self.diary.start_at(kept[0].updates if kept else 0)
        if kept:
            self.restore(*kept)
            done, whole = self.position.updates, self.course.head + self.course.all
            self.report.emit("fold_resumed", fold=self.fold, updates=done, of=whole)
            self.report.say(f"  fold {self.fold} goes on after {done} of {whole} updates")

    def restore(self, place: Position, state: Mapping[str, Any]) -> None:
        """Goes to a place, with a network in the state that was kept there."""
        self.trainee.forget()
        self.position = place
        restore_state(self.prepare(), state, accumulators=False)

    def go_back(self, epoch: Epoch) -> None:
        """After a loss that is no number: back to the last checkpoint, at a lower rate.

        Where that was tried often enough, the course ends there.
        """
        where = f"fold {self.fold} epoch {epoch.number}: the loss is no number any more"
        kept = self.keeper.latest()
        if kept is None:
            raise DivergedError(f"{where}, and there is no checkpoint to go back to; {ADVICE}")
        saved, state = kept
        lower = lower_rate(self.position, saved)
        if lower is None:
            self.report.warn(f"{where}, for the third time; the weights before it answer; {ADVICE}")
            self.restore(saved, state)
            self.over = True
            return
        share = LOWER**lower.lowered
        self.report.warn(
            f"{where}; back to update {saved.updates}, at {share:g} of the rate; {ADVICE}"
        )
        self.restore(lower, state)
        self.keeper.keep(self.prepare(), lower)

    def take_less(self, error: Exception) -> None:
        """After out-of-memory: half as many images at once, and as many for an update."""
        whole, was = self.data.batch_size, self.position
        place = halve_parts(was, whole, self.session.devices)
        self.report.warn(
            f"fold {self.fold}: {whole // was.parts} images at once are too many for the device's "
            f"memory; each batch of {whole} goes through in {place.parts} parts from now on, and "
            f"batch norm sees {whole // place.parts} images; optimizer.accumulate={place.parts} "
            f"does so from the start"
        )
        kept = self.keeper.latest()
        if kept:
            self.restore(replace(kept[0], parts=place.parts), kept[1])
        else:
            self.trainee.forget()
            self.position = place

    def break_off(self) -> Trained:
        """The network as it answers where it was stopped."""
        model = self.prepare()
        swap_averages(model)
        answering = strip_augmentation(model, self.config.pixels.image_size)
        return Trained(answering, False, self.position.parts)

    def finish(self, host: Host) -> Trained:
        """The network as it answers at the end of its course, kept and written."""
        model, config, parts = self.prepare(), self.config, self.position.parts
        self.keeper.keep(model, self.position)
        if self.supply and self.rate:
            self.report.say(f"  {describe_bottleneck(self.supply, self.rate)}")
        swap_averages(model)
        if self.planner.spares_time():
            stream = self.data.make_batches(host, parts, 0)
            data = self.data.in_parts(parts)
            answering, record = self.observer.conclude(model, data, stream)
        else:
            answering, record = strip_augmentation(model, config.pixels.image_size), {}
        write_truth(record, self.folder, self.report)
        if "words" in record:
            self.report.say(f"  fold {self.fold}: {record['words']}")
        write_model(answering, self.folder, self.report)
        return Trained(answering, True, parts)

    def prepare(self, *, clean: bool = False) -> keras.Model:
        """The network as the place needs it."""
        shape = Shape(self.position.phase, self.position.size, clean, self.position.parts)
        return self.trainee.prepare(shape, self.data.steps)

    def is_followed(self, epoch: Epoch) -> bool:
        """Is this an epoch after which one looks closer? That of the first fold speaks for all."""
        number = epoch.first // self.data.steps + 1
        wanted = self.fold == 0 and self.config.predict.recalibrate != "no"
        return wanted and epoch.phase == "all" and is_followed(number)

    def position_after(self, stretch: Stretch, epoch: Epoch) -> Position:
        """Where the fold stands after what a stretch has done so far."""
        loss, accuracy = (stretch.figures()[name] for name in ("log_loss", "accuracy"))
        return self.position.move(epoch.phase, stretch.updates, loss, accuracy)


# ==================================================================================================
# Looks: what a fold's model says of the same images, seen in several ways
# ==================================================================================================
# A look is a view by name, or as many drawn views as each image needs. What a model says of its
# own part, by which looks are judged, lies in the fold's views.npz; what it says of the test part
# in test-views.npz, and only of looks that are used.
#
# Shapes: V looks, N images, C classes.

ADAPTIVE = "adaptive-"  # the look that takes drawn views, before their largest number


class Looks(NamedTuple):
    """What one model says of each image in each look, what that took, and what it left open."""

    ids: NDArray[np.str_]  # [N]
    names: tuple[str, ...]  # [V]
    probs: NDArray[np.float32]  # [V, N, C]
    seconds: NDArray[np.float64]  # [V], an image
    taken: NDArray[np.float64]  # [V], views an image
    undecided: NDArray[np.bool_]  # [N], after the last view that adaptive may take


def list_looks(config: PredictConfig) -> tuple[str, ...]:
    """The looks that are asked for, the image as it is first; () where there are none.

    Raises SettingsError if predict.views names what is no view.
    """
    names = find_views(config.views)
    if config.most_views == 0:
        return names if len(names) > 1 else ()
    return (*(names or (IDENTITY.name,)), f"{ADAPTIVE}{config.most_views}")


def count_looks(config: PredictConfig) -> float:
    """The forward passes that all looks at an image take beside the first, as far as one knows.

    Of the most views that it may take adaptively an image needs a third on average.
    """
    return max(len(find_views(config.views)) - 1, 0) + config.most_views / 3


class NoTimeError(RuntimeError):
    """There is no time for another view, or the run has been asked to end."""


class Viewer:
    """Has models look at images, as long as there is time, and knows what a look costs.

    `goes_on` says whether so many seconds are left, `now` is a clock; `flip` lets drawn views be
    mirrored, which they may be where training was.
    """

    def __init__(
        self,
        batch_size: int,
        goes_on: Callable[[float], bool],
        now: Callable[[], float],
        *,
        exclusive: bool,
        flip: bool,
    ) -> None:
        self.batch_size, self.goes_on, self.now = batch_size, goes_on, now
        self.exclusive, self.flip = exclusive, flip
        self.pace = 0.0  # seconds that one view of an image took last

    def check(self, images: float) -> None:
        """Raises NoTimeError unless there is time for one view of so many images."""
        if not self.goes_on(self.pace * images):
            raise NoTimeError(
                f"{images:.0f} views take {self.pace * images:.3g} s, which are not left"
            )

    def look(
        self,
        model: keras.Model,
        images: Images,
        chosen: NDArray[np.bool_] | None,
        names: tuple[str, ...],
    ) -> Looks:
        """What a model says of the chosen rows of a table, or of all; raises NoTimeError."""
        rows = np.arange(len(images.table)) if chosen is None else np.flatnonzero(chosen)
        ids, undecided = images.table["id"].to_numpy(str)[rows], np.zeros(len(rows), np.bool_)
        probs, seconds, taken = list[NDArray[np.float32]](), list[float](), list[float]()
        for name in names:
            began = self.now()
            if name.startswith(ADAPTIVE):
                most = int(name[len(ADAPTIVE) :])
                answers, views, undecided = self.look_closer(model, images, rows, most)
                taken.append(float(views.mean()))
            else:
                answers = self.ask(model, images, rows, VIEWS[name])
                taken.append(1.0)
            probs.append(answers)
            seconds.append((self.now() - began) / len(rows))
            self.pace = seconds[-1] / taken[-1]
        figures = np.array(seconds), np.array(taken)
        return Looks(ids, names, np.stack(probs), *figures, undecided)

    def look_closer(
        self, model: keras.Model, images: Images, rows: NDArray[np.int64], most: int
    ) -> Gathered:
        """What drawn views say, of which undecided images take the most; raises NoTimeError."""

        def answer(index: int, some: NDArray[np.int64]) -> NDArray[np.float32]:
            return self.ask(model, images, some, draw_view(index, flip=self.flip))

        return gather_views(answer, rows, most, exclusive=self.exclusive)

    def ask(
        self, model: keras.Model, images: Images, rows: NDArray[np.int64], view: View
    ) -> NDArray[np.float32]:
        """What a model says of one view of some rows; raises NoTimeError."""
        self.check(len(rows))
        seen = Seen(images.pixels, view)
        return predict_probs(model, seen, rows, self.batch_size, exclusive=self.exclusive)


def write_looks(looks: Looks, path: Path) -> None:
    """Writes an .npz file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **looks._asdict())
    write_whole(path, buffer.getvalue())


def read_looks(path: Path, names: tuple[str, ...], ids: NDArray[np.str_]) -> Looks | None:
    """Reads these looks at these images; None if the file does not hold them, or is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            kept = Looks(**arrays)
            told = tuple(arrays["names"].tolist())
    except Exception:  # NumPy and zipfile raise many kinds on what is torn
        return None
    same = told == names and kept.ids.tolist() == ids.tolist()
    return kept._replace(names=names) if same else None


def join_looks(parts: Sequence[Looks]) -> Looks:
    """Lays the same looks at different images end to end; costs are the mean over images."""
    sizes = [len(part.ids) for part in parts]
    seconds, taken = (
        np.average([getattr(part, name) for part in parts], axis=0, weights=sizes)
        for name in ("seconds", "taken")
    )
    ids, undecided = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "undecided")
    )
    probs = np.concatenate([part.probs for part in parts], axis=1)
    return Looks(ids, parts[0].names, probs, seconds, taken, undecided)


class Use(NamedTuple):
    """The looks that a run uses, and how they become one answer."""

    names: tuple[str, ...]
    blend: Blend
    views: float  # of an image, in all looks but that at the image as it is
    flip: bool  # may drawn views be mirrored?

    @property
    def extra(self) -> tuple[str, ...]:
        """The looks beside the image as it is, of which there is an answer anyway."""
        return tuple(name for name in self.names if name != IDENTITY.name)

    def answer(self, plain: Predictions, looks: Looks | None, *, exclusive: bool) -> Predictions:
        """One model's answer out of that to the images as they are and of its other looks."""
        others = iter(looks.probs if looks else ())
        members = [
            select_probs(plain, looks.ids if looks else plain.ids)
            if name == IDENTITY.name
            else next(others)
            for name in self.names
        ]
        probs = apply_blend(self.blend, np.stack(members), exclusive=exclusive)
        return Predictions(looks.ids if looks else plain.ids, probs)


def read_use(summary: Mapping[str, Any], task: Task) -> Use | None:
    """The looks that a run's summary.json says it uses; None without, or of another metric."""
    kept = summary.get("views")
    if not kept or summary.get("metric") != task.metric:
        return None
    blend = Blend(**{**kept["blend"], "weights": tuple(kept["blend"]["weights"])})
    return Use(tuple(kept["names"]), blend, kept["views"], kept["flip"])


def use_fields(use: Use) -> dict[str, Any]:
    """What `read_use` reads, as JSON holds it."""
    return use._asdict() | {"blend": use.blend._asdict()}


# ==================================================================================================
# Inference: the models of an earlier run answer a competition's test part
# ==================================================================================================
# For code competitions, whose hidden test images are there only while a script without internet
# runs: a first script trains, and its output is attached to a second one, which is the same script
# with predict.run set.

RUN_DEPTH = 4  # folders below /kaggle/input in which an attached run is looked for


def find_trained_run(
    name: str, inputs: Path = KAGGLE_INPUT, *, setting: str = "predict.run"
) -> Path:
    """The folder of the run: the one that a setting names, or the one that is attached.

    Raises CompetitionError if there is none, or if several are attached.
    """
    if name != "attached":
        found = [Path(name)] if list(Path(name).glob("fold*/model.keras")) else []
        looked = name
    else:
        found, looked = sorted(list_runs(inputs)), str(inputs)
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise CompetitionError(
            f"{setting} is {name}: looked under {looked} for one run with fold0/model.keras and "
            f"found {names}; attach the training kernel's output, or name its folder"
        )
    return found[0]


def list_runs(inputs: Path) -> set[Path]:
    """The folders below that hold a fold with its model."""
    runs = set()
    for folder, below, files in os.walk(inputs):
        if len(Path(folder).relative_to(inputs).parts) > RUN_DEPTH:
            below.clear()
        if "model.keras" in files and Path(folder).name.startswith("fold"):
            runs.add(Path(folder).parent)
    return runs


def answer_with_run(
    config: Config, run: Path, competition: Competition, runtime: Runtime, report: Reporter
) -> Predictions:
    """Predicts the test images with every fold's model: their average, by image id.

    Raises CompetitionError if the models were trained for other classes or cannot be loaded.
    """
    check_classes(run, competition)
    paths = sorted(run.glob("fold*/model.keras"), key=lambda path: int(path.parent.name[4:]))
    asker = Asker(config, read_summary(run), competition, runtime, report)
    answers, test = list[Predictions](), None
    for place, path in enumerate(paths):
        open_session(runtime.precision, len(runtime.devices))
        model = load_trained(path)
        if test is None:  # all folds see the same pixels
            side = model.input_shape[1]
            test = read_images(competition.test, side, "test", config.pixels, report)
        answers.append(asker.ask(model, test, len(paths) - place))
        del model  # the next one needs the room that it takes on the device
        report.say(f"  {path.parent.name}: {len(answers[-1].ids)} images predicted")
    return average_predictions(answers)


class Asker:
    """Asks models as the run that trained them does, by several looks if it uses them."""

    def __init__(
        self,
        config: Config,
        summary: Mapping[str, Any],
        competition: Competition,
        runtime: Runtime,
        report: Reporter,
    ) -> None:
        self.use, self.report = read_use(summary, competition.task), report
        self.exclusive = competition.task.exclusive
        self.viewer = Viewer(
            config.pixels.batch_size,
            lambda seconds: bool(ask_first_host(time.time() + seconds < runtime.deadline)),
            time.time,
            exclusive=self.exclusive,
            flip=self.use is not None and self.use.flip,
        )

    def ask(self, model: keras.Model, images: Images, models: int) -> Predictions:
        """What a model says of all images; it is the first of so many that are left.

        Where time is too short for all looks, it and those after it answer by one.
        """
        size, exclusive = self.viewer.batch_size, self.exclusive
        began = time.time()
        plain = predict_images(model, images, None, size, exclusive=exclusive)
        if self.use is None:
            return plain
        self.viewer.pace = (time.time() - began) / len(plain.ids)
        looks = None
        try:
            if self.use.extra:
                self.viewer.check(models * len(plain.ids) * self.use.views)
                looks = self.viewer.look(model, images, None, self.use.extra)
        except NoTimeError as error:
            self.report.warn(f"the run's views are not used from here on: {error}")
            self.use = None
            return plain
        return self.use.answer(plain, looks, exclusive=exclusive)


def read_run_rule(run: Path, task: Task) -> Rule:
    """How the run's own out-of-fold answers were decided; the plain rule if that metric differs."""
    return find_rule(read_summary(run), task)


def read_summary(run: Path) -> dict[str, Any]:
    """What a run's summary.json says."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary


def check_classes(run: Path, competition: Competition) -> None:
    """Raises CompetitionError unless the run was trained for these classes in this order."""
    try:
        trained = read_summary(run)["classes"]
    except (OSError, ValueError, KeyError) as error:
        raise CompetitionError(
            f"{run / 'summary.json'} does not tell the run's classes ({describe_error(error)}); "
            f"it is written with the first fold's answers: attach a run that got so far"
        ) from error
    if trained != list(competition.classes):
        raise CompetitionError(
            f"the run in {run} knows {len(trained)} classes ({', '.join(trained[:5])}…), the "
            f"competition has {len(competition.classes)} "
            f"({', '.join(competition.classes[:5])}…); attach the run that was trained for it"
        )


def load_trained(path: Path) -> keras.Model:
    """Loads a fold's model; raises CompetitionError if that fails."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        raise CompetitionError(
            f"{path} cannot be loaded ({describe_error(error)}); a model around a SavedModel needs "
            f"that module in the place where it was"
        ) from error


# ==================================================================================================
# Pupil: what a run that learns from pseudo-labels keeps of them, and says
# ==================================================================================================
# Shapes: K folds, N images out of fold, T test images, C classes.

LABELS_FILE, RECORD_FILE = "pseudo.csv", "pseudo.json"
RULE_RISK = (
    "some competitions forbid labels made by models, or hand labelling, of the test part: read the "
    "rules"
)


class Found(NamedTuple):
    """What the teacher said, and what came of it, fold by fold."""

    config: PseudoConfig
    views: int
    classes: Sequence[str]  # [C]
    polls: Sequence[FoldPoll]  # [K]
    chosen: Sequence[Selection]  # [K]

    def bands(self) -> list[Band]:
        """How often the teacher is right out of fold, by how many views agree."""
        known, truth = join_polls([poll.own for poll in self.polls]), [p.truth for p in self.polls]
        return count_bands(known.agreement, known.labels == np.concatenate(truth))

    def count_accepted(self, fold: int) -> dict[str, int]:
        """The accepted images of each class."""
        labels = self.chosen[fold].labels
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


def describe_bands(bands: Sequence[Band], views: int) -> str:
    """Precision by agreement, in words."""
    shares = [f"{band.name}: {band.right / band.n:.1%} of {band.n}" for band in bands if band.n]
    return (
        f"out of fold, the teacher is right by the share of its {views} views that agree: "
        f"{', '.join(shares)}"
    )


def describe_found(found: Found) -> list[str]:
    """Precision by agreement, and a line for each fold."""
    lines = [describe_bands(found.bands(), found.views)]
    for fold, one in enumerate(found.chosen):
        counts = found.count_accepted(fold)
        held = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        lines.append(
            f"fold {fold}: {sum(counts.values())} of {len(one.labels)} test images are labelled"
            f"{f' ({held})' if held else ''}; {one.sure} are sure, {one.copies} of them near to "
            f"validation, {one.capped} beyond the share of their class"
        )
    return lines


def describe_none(config: PseudoConfig, most: int) -> str:
    """Why no test image has a label, where the largest class has so many images."""
    return (
        f"no test image is labelled, so that both arms train as without pseudo.run: for "
        f"pseudo.precision {config.precision:g} a class takes at least "
        f"{count_needed(config.precision)} answers out of fold, all of them right, and the largest "
        f"class has {most} images in all folds; lower pseudo.precision, or unset pseudo.run"
    )


def keep_found(found: Found, ids: Sequence[str], folder: Path) -> None:
    """Writes the accepted of the test images [T] for each fold, and pseudo.json."""
    for fold, (one, poll) in enumerate(zip(found.chosen, found.polls, strict=True)):
        rows = np.flatnonzero(one.labels >= 0)
        columns: dict[str, Any] = {
            "id": [ids[row] for row in rows],
            "label": [found.classes[label] for label in one.labels[rows]],
            "agreement": poll.test.agreement[rows],
            "confidence": poll.test.confidence[rows],
        }
        place = folder / f"fold{fold}" / LABELS_FILE
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, pd.DataFrame(columns).to_csv(index=False).encode())
    write_json(folder / RECORD_FILE, found_fields(found))


def found_fields(found: Found) -> dict[str, Any]:
    """What pseudo.json says; a class without a threshold has null."""
    folds = []
    for fold, one in enumerate(found.chosen):
        levels = [level if np.isfinite(level) else None for level in one.thresholds.tolist()]
        counts = found.count_accepted(fold)
        folds.append(
            {
                "accepted": sum(counts.values()),
                "of": len(one.labels),
                "sure": one.sure,
                "near_validation": one.copies,
                "beyond_share": one.capped,
                "classes": counts,
                "thresholds": dict(zip(found.classes, levels, strict=True)),
            }
        )
    return {
        "run": found.config.run,
        "arm": found.config.arm,
        "rule_risk": RULE_RISK,
        "views": found.views,
        "bands": [band._asdict() for band in found.bands()],
        "folds": folds,
    }


def recall_found(
    folder: Path, count: int, ids: Sequence[str], classes: Sequence[str]
) -> NDArray[np.int64] | None:
    """The labels [K, T] with which an unfinished run was begun; None where a fold has none."""
    rows = {image: row for row, image in enumerate(ids)}
    places = {name: place for place, name in enumerate(classes)}
    labels = np.full((count, len(ids)), -1)
    for fold, of_fold in enumerate(labels):
        path = folder / f"fold{fold}" / LABELS_FILE
        if not path.is_file():
            return None
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        of_fold[[rows[image] for image in table["id"]]] = [places[one] for one in table["label"]]
    return labels


# ==================================================================================================
# Teacher: a finished run of the same images and folds labels test images
# ==================================================================================================
# Its model of a fold answers, through many small changes of each image, what it never saw: the
# images that validated it, which show how far it can be trusted, and the test part. What is found
# is kept in the run folder, so that a run which goes on trains on the same labels.
#
# Shapes: K folds, V views, N images out of fold, T test images, C classes.

VIEWS_POLLED = 16


class Lesson(NamedTuple):
    """What a run has, to be taught with."""

    config: Config
    runtime: Runtime
    competition: Competition
    data: TrainingSet
    test: Images
    pairs: Pairs | None  # of nearly the same images, where they were looked for


def find_teacher(config: Config) -> Config:
    """The settings with the teacher's folder in pseudo.run, and its folds as folds.file.

    As they are without pseudo.run. Raises CompetitionError if there is no such run.
    """
    if config.pseudo.run is None:
        return config
    run = find_trained_run(config.pseudo.run, setting="pseudo.run")
    folds = replace(config.folds, file=config.folds.file or str(run))
    return replace(config, pseudo=replace(config.pseudo, run=str(run)), folds=folds)


def label_test_part(lesson: Lesson, report: Reporter) -> TrainingSet:
    """The training set with the labels of test images that each fold takes from the teacher.

    Writes pseudo.json, and pseudo.csv into the folder of each fold; reads these where the run goes
    on. Raises PseudoError if the task is another, or the teacher is not one of these folds.
    """
    config, folder = lesson.config, lesson.runtime.folder
    report.say(f"Pseudo-labels: the {config.pseudo.arm} arm")
    report.warn(f"pseudo.run is set: {RULE_RISK}")
    ids, classes = lesson.test.table["id"].tolist(), lesson.competition.classes
    labels = recall_found(folder, config.folds.count, ids, classes)
    if labels is None:
        check_teacher(lesson)
        polls = [poll_fold(lesson, fold, report) for fold in range(config.folds.count)]
        found = Found(config.pseudo, VIEWS_POLLED, classes, polls, select_all(lesson, polls))
        keep_found(found, ids, folder)
        labels = np.stack([one.labels for one in found.chosen])
        for line in describe_found(found):
            report.say(f"  {line}")
    if (labels < 0).all():
        most = int(lesson.data.images.table["label"].value_counts().max())
        report.warn(describe_none(config.pseudo, most))
    return lesson.data._replace(pseudo=PseudoLabelled(lesson.test, labels))


def check_teacher(lesson: Lesson) -> None:
    """Raises PseudoError unless the teacher's models can label for these folds."""
    config, run = lesson.config, Path(str(lesson.config.pseudo.run))
    if not lesson.competition.task.exclusive:
        raise PseudoError(
            "pseudo.run is set, but images of this competition may have several labels, and only "
            "one can be agreed on; unset pseudo.run"
        )
    check_classes(run, lesson.competition)
    ids, known = lesson.data.images.table["id"].tolist(), read_folds(str(run))
    folds = dict(zip(known["id"], known["fold"], strict=True))
    if [folds.get(image) for image in ids] != lesson.data.folds.tolist() or len(folds) != len(ids):
        raise PseudoError(
            f"pseudo.run is {run}, whose {find_folds(str(run)).name} deals {len(folds)} images "
            f"otherwise than this run its {len(ids)}, so that its models have seen what is to "
            f"validate; use the same images (data.*), and leave folds.file to pseudo.run"
        )
    lacking = [
        str(fold)
        for fold in range(config.folds.count)
        if not (run / f"fold{fold}" / "model.keras").is_file()
    ]
    if lacking:
        raise PseudoError(
            f"pseudo.run is {run}, which has no model of fold {', '.join(lacking)}; go on with "
            f"that run until all folds are trained (runtime.resume)"
        )


def poll_fold(lesson: Lesson, fold: int, report: Reporter) -> FoldPoll:
    """What the teacher's model of one fold says of that fold and of the test part."""
    config, runtime, data = lesson.config, lesson.runtime, lesson.data
    open_session(runtime.precision, len(runtime.devices))
    model = load_trained(Path(str(config.pseudo.run)) / f"fold{fold}" / "model.keras")
    rows = np.flatnonzero(data.folds == fold)

    def poll(images: Images, rows: NDArray[np.int64], part: str) -> Poll:
        if images.pixels.shape[1] != model.input_shape[1]:
            images = read_images(images.table, model.input_shape[1], part, config.pixels, report)
        views = (Seen(images.pixels, draw_view(at, flip=False)) for at in range(VIEWS_POLLED))
        size = config.pixels.batch_size
        return poll_views(np.stack([predict_probs(model, one, rows, size) for one in views]))

    truth = data.images.table["label"].to_numpy(np.int64)[rows]
    own = poll(data.images, rows, "training")
    return FoldPoll(own, truth, poll(lesson.test, np.arange(len(lesson.test.table)), "test"))


def select_all(lesson: Lesson, polls: list[FoldPoll]) -> list[Selection]:
    """The labels for each fold."""
    data, test, count = lesson.data, lesson.test, lesson.config.folds.count
    banned = ban_copies(lesson.pairs, data.folds, len(test.table), count)
    groups = find_test_groups(lesson)
    if groups is not None:
        given = data.images.table["group"].to_numpy(np.object_)
        banned |= ban_groups(given, data.folds, groups, count)
    classes, config = len(lesson.competition.classes), lesson.config.pseudo
    return [select_labels(polls, fold, banned[fold], classes, config) for fold in range(count)]


def find_test_groups(lesson: Lesson) -> NDArray[np.object_] | None:
    """The group of each test image, where the column that groups training images has it: [T]."""
    table, others = lesson.data.images.table, lesson.competition.others
    if "group" not in table or others is None:
        return None
    train, test = (one[~one.index.duplicated()] for one in others)
    for name in train.columns.intersection(test.columns):
        cells = train[name].reindex(table["id"].tolist()).fillna("")
        if (cells.to_numpy() == table["group"].to_numpy()).all():
            asked = test[name].reindex(lesson.test.table["id"].tolist()).fillna("")
            return asked.to_numpy(np.object_)
    return None


# ==================================================================================================
# Validation: what Kaggle would refuse is refused before, and what looks wrong is said
# ==================================================================================================
# Columns, order and ids must be the sample's, and every cell an answer of the kind that is asked.

SUM_TOLERANCE = 1e-3  # how far from one a row of probabilities may sum
SURPRISE = 1e-3  # how improbable by chance a submission is that is worth a warning
SHIFT = 0.1  # total variation between two shares of classes that is worth one


class SubmissionError(RuntimeError):
    """The submission would be refused, or cannot be written."""


def check_submission(
    submission: pd.DataFrame,
    competition: Competition,
    out_of_fold: NDArray[np.float32] | None = None,
) -> list[str]:
    """Raises SubmissionError, naming column and id, if the submission does not fit the sample.

    Returns warnings, against out-of-fold answers [N, C] as well where they are given: decisions or
    probabilities, as they would be submitted.
    """
    check_rows(submission, competition.sample)
    task = competition.task
    answers = submission.set_index(submission.columns[0])
    if task.answer in ("probability", "probabilities"):
        check_probabilities(answers, whole=task.answer == "probabilities" and task.exclusive)
    else:
        check_labels(answers.iloc[:, 0], task)
    given = read_answers(answers, task)
    predicted = given[competition.test["path"].notna().to_numpy()]
    warnings = warn_of_one_answer(predicted, competition)
    return warnings + ([] if out_of_fold is None else warn_of_shift(predicted, out_of_fold, task))


def check_rows(submission: pd.DataFrame, sample: pd.DataFrame) -> None:
    """Raises SubmissionError if columns, count or ids are not the sample's, in its order."""
    if submission.columns.tolist() != sample.columns.tolist():
        columns = (", ".join(map(str, table.columns)) for table in (submission, sample))
        raise SubmissionError("the columns are {}, but the sample's are {}".format(*columns))
    if len(submission) != len(sample):
        raise SubmissionError(f"there are {len(submission)} rows, but {len(sample)} in the sample")
    ids, wanted = submission.iloc[:, 0], sample.iloc[:, 0]
    for row in np.flatnonzero(ids.to_numpy() != wanted.to_numpy())[:1]:
        raise SubmissionError(f"row {row} has id {ids[row]!r}, but {wanted[row]!r} in the sample")


def check_labels(answers: "pd.Series[str]", task: Task) -> None:
    """Raises SubmissionError if a cell is not one class, or a list of as many as are asked."""
    known = set(task.classes)
    for image_id, cell in answers.items():
        labels = [cell] if task.answer == "label" else cell.split()
        for label in labels:
            if label not in known:
                raise SubmissionError(
                    f"id {image_id!r} has label {label!r}, which is no training label"
                )
        if len(set(labels)) < len(labels):
            raise SubmissionError(f"id {image_id!r} has a label twice: {cell!r}")
        if not labels or (task.answer == "ranking" and len(labels) != task.ranks):
            wanted = task.ranks if task.answer == "ranking" else "at least 1"
            raise SubmissionError(f"id {image_id!r} has {len(labels)} labels and not {wanted}")


def check_probabilities(answers: pd.DataFrame, whole: bool) -> None:
    """Raises SubmissionError if a cell is no probability, or a row is not whole where asked."""
    probs = answers.apply(pd.to_numeric, errors="coerce")
    for name in probs:
        for image_id in probs.index[~probs[name].between(0, 1)][:1]:
            value = answers.at[image_id, name]
            raise SubmissionError(f"id {image_id!r} has {value!r} in {name!r}: no probability")
    sums = probs.sum(axis=1)
    for image_id in sums.index[whole & ((sums - 1).abs() > SUM_TOLERANCE)][:1]:
        raise SubmissionError(f"the probabilities of id {image_id!r} sum to {sums[image_id]:.4f}")


def read_answers(answers: pd.DataFrame, task: Task) -> NDArray[np.float32]:
    """A valid submission's cells as probabilities or decisions: [T, C]; of a ranking the first."""
    if task.answer in ("probability", "probabilities"):
        probs = answers.to_numpy(np.float32)
        return probs if task.answer == "probabilities" else np.hstack([1 - probs, probs])
    rows = {name: row for row, name in enumerate(task.classes)}
    labels = [(cell,) if task.answer == "label" else cell.split() for cell in answers.iloc[:, 0]]
    kept = 1 if task.answer == "ranking" else len(rows)
    return encode_targets(
        [tuple(rows[label] for label in one[:kept]) for one in labels], len(rows)
    ).astype(np.float32)


def class_prior(competition: Competition) -> NDArray[np.float32]:
    """Each class's share of the training images: [C]."""
    labels = competition.train["label"].tolist()
    targets = encode_targets(labels, len(competition.classes))
    return np.asarray(targets.mean(axis=0), np.float32)


def warn_of_one_answer(answers: NDArray[np.float32], competition: Competition) -> list[str]:
    """Warns if all answers are the same, and chance would hardly make them so.

    Chance is that of as many images of the training part all showing what its labels show.
    """
    labels = competition.train["label"].value_counts(normalize=True)
    chance = float((labels.to_numpy() ** len(answers)).sum())
    if len(answers) == 0 or chance >= SURPRISE or not (answers == answers[0]).all():
        return []
    name = competition.classes[int(answers[0].argmax())]
    return [
        f"all {len(answers)} predicted answers are the same, {name!r} first: look at the curves"
    ]


def warn_of_shift(
    answers: NDArray[np.float32], out_of_fold: NDArray[np.float32], task: Task
) -> list[str]:
    """Warns if the classes that are predicted differ between test and out-of-fold images.

    A chi-square test of the predicted classes' counts, the detector BBSDh of Rabanser, Günnemann
    and Lipton 2019 (Failing Loudly, NeurIPS); and as among many images it detects what does not
    matter, the shares must also be a tenth apart (total variation).
    """
    counts = np.stack(
        [find_named(task, part).sum(axis=0, dtype=np.int64) for part in (answers, out_of_fold)]
    )
    counts = counts[:, counts.sum(axis=0) > 0]
    if not counts.sum(axis=1).all() or counts.shape[1] < 2:
        return []
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    p_value = float(chi2_contingency(counts, correction=False)[1])
    if distance < SHIFT or p_value >= SURPRISE:
        return []
    warning = (
        f"the predicted classes of test and out-of-fold images differ: their shares are "
        f"{distance:.0%} apart (chi-square, p = {p_value:.1g}); the test images may be others than "
        f"the training images, or read in another way"
    )
    return [warning]


# ==================================================================================================
# Submission: answers laid out as the sample is
# ==================================================================================================
# An image that could not be predicted gets the prior: each class's share of the training images.


def make_submission(competition: Competition, predictions: Predictions) -> pd.DataFrame:
    """Lays answers out as the sample is; all cells are text.

    They are probabilities [T, C], or what a rule has decided by them: ones and zeros. Where several
    labels may be given, those of at least a half are, and the first of all if none is.
    """
    ids, task = competition.sample.iloc[:, 0], competition.task
    prior = class_prior(competition)
    answers = np.tile(prior, (len(ids), 1))
    predicted = ids.isin(predictions.ids.tolist()).to_numpy()
    answers[predicted] = select_probs(predictions, ids[predicted].tolist())
    submission = competition.sample.copy()
    if task.answer in ("probability", "probabilities"):
        lay_probabilities(submission, answers, task)
    else:
        submission.isetitem(1, list_labels(answers, prior, task))
    return submission


def lay_probabilities(submission: pd.DataFrame, answers: NDArray[np.float32], task: Task) -> None:
    """Writes the columns of probabilities: of the last of two classes, or of each."""
    probs = answers[:, -1:] if task.answer == "probability" else answers
    if task.answer == "probabilities" and task.exclusive:  # a rule may have clipped them
        probs = probs / probs.sum(axis=1, keepdims=True)
    for column in range(probs.shape[1]):
        submission.isetitem(column + 1, [f"{prob:.8f}" for prob in probs[:, column]])


def list_labels(answers: NDArray[np.float32], prior: NDArray[np.float32], task: Task) -> list[str]:
    """The cells of labels: the first, all of at least a half, or the first few in their order.

    Of equals the more frequent class goes first.
    """
    frequent = np.argsort(-prior, kind="stable")
    ranks = task.ranks if task.answer == "ranking" else 1
    chosen = list(frequent[rank_classes(answers[:, frequent], ranks)])
    if task.answer == "labels":
        passed = (np.flatnonzero(row >= 0.5) for row in answers)
        chosen = [row if len(row) else first for row, first in zip(passed, chosen, strict=True)]
    return [" ".join(task.classes[label] for label in row) for row in chosen]


def write_submission(submission: pd.DataFrame, path: Path) -> None:
    """Writes the CSV, or raises SubmissionError and leaves an earlier one untouched."""
    content = submission.to_csv(index=False, lineterminator="\n").encode()
    try:
        write_whole(path, content)
    except OSError as error:
        earlier = "the earlier one is untouched" if path.exists() else "there is none yet"
        raise SubmissionError(
            f"{path} ({len(content):,} bytes) could not be written: {error.strerror}; {earlier}, "
            f"and test.npz beside it may hold the predictions; free some space, or set "
            f"runtime.folder to a larger disk"
        ) from error


# ==================================================================================================
# Card: the run at a glance, as a phone shows it
# ==================================================================================================
# A card is folded from the events, one after the other, so it can be made again from the record at
# any time. Few events are news that should ring: the start, a warning, a better best, a fold's end,
# the finish, a crash.

LIGHTS = {"running": "🟢", "warned": "🟡", "finished": "🏁", "failed": "🔴", "stopped": "🟠"}
BAR_WIDTH = 12
BEST_EVERY = 1800.0  # seconds between two news of a better best
TRACE_LINES = 12
ENDINGS = ("run_finished", "run_failed", "run_stopped")


@dataclass(frozen=True)
class Card:
    """What is known of a run from its events so far."""

    state: str = "running"  # a key of LIGHTS
    title: str = "Podium"
    machine: str = ""
    folds: int = 0
    epochs: int = 0  # of one fold
    fold: int = 0
    epoch: int = 0
    step: str = ""  # inside a long epoch
    accuracy: float | None = None
    best: float | None = None  # of this fold
    best_epoch: int = 0
    best_told: float = 0.0  # when a better best was last news, seconds since 1970
    loss: float | None = None
    valid_loss: float | None = None
    rate: float | None = None  # images per second
    done: int = 0  # epochs, over all folds
    spent: float = 0.0  # seconds in them
    scores: tuple[float | None, ...] = ()  # of the folds that ended
    started: float = 0.0
    deadline: float | None = None
    now: float = 0.0  # of the last event
    note: str = ""  # the last warning, the result, or what stopped the run

    @property
    def headline(self) -> str:
        """The title, with a light for the state."""
        return f"{LIGHTS[self.state]} {self.title}"


class News(NamedTuple):
    """A message of its own, which rings."""

    kind: str  # "started", "alert", "best", "fold", "finished", "failed"
    text: str

    @property
    def shows_curves(self) -> bool:
        """Is there a new picture to go with it?"""
        return self.kind in ("fold", "finished")


def update_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """The card after an event, and the news if it is some; one that cannot be read is passed over.

    So an event that was too long, or that a later version wrote, costs only itself.
    """
    readers = {
        "run_started": start_card,
        "step_reached": read_step,
        "epoch_ended": read_epoch,
        "fold_ended": read_fold,
        "warning_raised": read_warning,
        "run_finished": finish_card,
        "run_failed": fail_card,
        "run_stopped": stop_card,
    }
    read = readers.get(str(event["event"]))
    try:
        card = replace(card, now=float(event["time"]))
        return read(card, event) if read else (card, None)
    except Exception:  # whatever is wrong with it, the events after it are shown
        return card, None


def start_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """A run, or a session that goes on with one."""
    settings = event.get("settings") or {}
    card = Card(
        title=f"{settings.get('model.backbone', 'Podium')}, "
        f"{settings.get('pixels.image_size', '?')} px",
        machine=f"{event.get('devices', '?')} × {event.get('accelerator', '?')}",
        folds=int(settings.get("folds.count") or 0),
        epochs=int(settings.get("train.head_epochs") or 0) + int(settings.get("train.epochs") or 0),
        started=card.now,
        deadline=event.get("deadline"),
        now=card.now,
    )
    plan = f"{card.folds} folds of {card.epochs} epochs"
    if settings.get("predict.run"):
        card, plan = replace(card, folds=0), "the models of an earlier run answer"
    return card, News("started", f"started on {card.machine}: {plan}")


def read_step(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """A sign of life inside a long epoch."""
    step = f"step {event['step']} of {event['steps']}"
    return replace(enter_fold(card, int(event["fold"])), epoch=int(event["epoch"]), step=step), None


def enter_fold(card: Card, fold: int) -> Card:
    """The card in a fold; in another than before, nothing is the best yet."""
    return card if fold == card.fold else replace(card, fold=fold, best=None, best_epoch=0)


def read_epoch(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """An epoch's figures; news if they are the best of the fold and none was told for long."""
    fold, epoch = int(event["fold"]), int(event["epoch"])
    accuracy = event.get("valid/accuracy")
    card = replace(
        enter_fold(card, fold),
        epoch=epoch,
        step="",
        accuracy=accuracy,
        loss=event.get("train/loss"),
        valid_loss=event.get("valid/loss"),
        rate=event.get("images_per_second"),
        done=card.done + 1,
        spent=card.spent + float(event.get("seconds") or 0),
    )
    if accuracy is None or (card.best is not None and accuracy <= card.best):
        return card, None
    first = card.best is None
    card = replace(card, best=accuracy, best_epoch=epoch)
    if first or card.now - max(card.best_told, card.started) < BEST_EVERY:
        return card, None
    text = f"new best: accuracy {accuracy:.4f} in fold {fold}, epoch {epoch}"
    return replace(card, best_told=card.now), News("best", text)


def read_fold(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """A fold's score."""
    score = event.get("value")
    card = replace(card, scores=(*card.scores, score))
    text = f"fold {event.get('fold', '?')} ended: {name_metric(event)} {format_accuracy(score)}"
    return card, News("fold", text)


def read_warning(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """Something that a person should look at."""
    text = clean_text(event["text"], 300)
    return replace(card, state="warned", note=text), News("alert", text)


def finish_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """The result."""
    text = f"submission.csv has {event.get('rows', '?')} rows"
    if "value" in event:  # an inference has none
        low, high = map(format_accuracy, event.get("interval") or (None, None))
        score = f"{name_metric(event)} {format_accuracy(event['value'])} (95 %: {low} to {high})"
        text = f"out-of-fold {score}; {text}"
    return replace(card, state="finished", note=text), News("finished", f"finished: {text}")


def fail_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """What the run died of: the last lines of its traceback."""
    reason = event.get("reason") or event.get("error") or "for a reason too long to tell"
    lines = clean_text(reason, 4000).strip().splitlines()
    note = lines[-1] if lines else "?"
    text = "\n".join(["crashed:", *lines[-TRACE_LINES:]])
    return replace(card, state="failed", note=note), News("failed", text)


def stop_card(card: Card, event: Mapping[str, Any]) -> tuple[Card, News | None]:
    """The session was ended from outside, or the run by a command."""
    cause = "as asked" if event.get("command") else f"by {event.get('signal', '?')}"
    text = f"stopped {cause}; what was finished before is in the run folder"
    return replace(card, state="stopped", note=text), News("failed", text)


def list_lines(card: Card) -> list[str]:
    """The card's lines below its title."""
    total = card.folds * card.epochs
    share = min(1.0, card.done / total) if total else 0.0
    filled = round(share * BAR_WIDTH)
    bar = "█" * filled + "░" * (BAR_WIDTH - filled)
    done = f"{bar} {share:.0%}, {len(card.scores)} of {card.folds} folds done"
    lines = [done] if card.folds else []
    if card.epoch:
        step = f", {card.step}" if card.step else ""
        lines.append(f"fold {card.fold}, epoch {card.epoch} of {card.epochs}{step}")
    if card.accuracy is not None and card.best is not None:
        best = f"best {card.best:.4f} in epoch {card.best_epoch}"
        lines.append(f"accuracy {card.accuracy:.4f} ({best})")
    if card.epoch:
        losses = f"{format_loss(card.loss)} → {format_loss(card.valid_loss)}"
        lines.append(f"loss {losses}, {card.rate or 0:.0f} images/s")
    if card.scores:
        lines.append("folds " + " ".join(map(format_accuracy, card.scores)))
    lines += [describe_time(card, total)] if card.started else []
    return lines + ([card.note] if card.note else [])


def describe_time(card: Card, total: int) -> str:
    """What is left of the session, and what the epochs to come will need of it."""
    if card.deadline is None or card.state in ("finished", "failed", "stopped"):
        return f"took {format_hours(card.now - card.started)}"
    left = card.deadline - card.now
    text = f"left {format_hours(left)} of {format_hours(card.deadline - card.started)}"
    if not card.done or card.done >= total:
        return text
    need = (total - card.done) * card.spent / card.done
    return f"{text}, training needs {format_hours(need)}" + ("" if need < left else ": TOO LONG")


def format_loss(loss: float | None) -> str:
    """A loss, or what stands for one that is no number."""
    return "not a number" if loss is None else f"{loss:.3f}"


def name_metric(event: Mapping[str, Any]) -> str:
    """The metric of a score, in words."""
    return clean_text(event.get("metric") or "score", 40).replace("_", " ")


def format_accuracy(figure: float | None) -> str:
    """A score, or what stands for one that is no number."""
    return "?" if figure is None else f"{figure:.4f}"


def clean_text(text: object, most: int) -> str:
    """Text without control and direction marks, its end kept where it is too long."""
    shown = "".join(one for one in str(text) if one.isprintable() or one == "\n")
    return shown if len(shown) <= most else f"…{shown[1 - most :]}"


# ==================================================================================================
# Post: one request to a webhook, within a hard limit
# ==================================================================================================
# The address of a webhook is a secret: whoever has it can post. So nothing that a library says of a
# request leaves this section; what is said of a failure is its kind alone.

ATTEMPT_SECONDS = 10.0  # hard, for a server that drips or a name server that is silent
WAITS = (3.05, 7.0)  # seconds for a connection, and between two bytes
LONGEST_ANSWER = 65_536  # bytes
LONGEST_WAIT = 3600.0  # seconds; no server may ask for more
HANGING = 2  # requests that may still hang when the next is sent


class Request(NamedTuple):
    """What is sent: the body is JSON, a form, bytes, or a form with files."""

    method: str
    url: str
    json: Any = None
    data: bytes | Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None  # name, content, media type
    headers: Mapping[str, str] | None = None


class Answer(NamedTuple):
    """What came back; the body is its content as JSON, or None."""

    status: int
    headers: Mapping[str, str]
    body: Any
    content: bytes = b""


class NoAnswerError(Exception):
    """No connection, no answer in time, or too many requests that still hang."""


class RefusedError(Exception):
    """The server answered, but not with success; says the status alone."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer

    @property
    def code(self) -> int:
        """The service's own error code, as Discord and ntfy give it; 0 if there is none."""
        body = self.answer.body
        code = body.get("code", 0) if isinstance(body, dict) else 0
        return code if isinstance(code, int) else 0

    @property
    def words(self) -> str:
        """What Telegram has in place of codes; "" if there is nothing of it."""
        body = self.answer.body
        return str(body.get("description", "")) if isinstance(body, dict) else ""

    @property
    def is_of_content(self) -> bool:
        """Is it what was sent that is not taken, and not who sent it, or when?"""
        return self.answer.status in (400, 413, 415, 422)


class GoneError(RefusedError):
    """The refusal of an address under which there is nobody, whatever the status says."""

    @property
    def is_of_content(self) -> bool:
        """No: nothing else would be taken either."""
        return False


class Post:
    """Sends requests one by one; at most two may be left hanging."""

    def __init__(self) -> None:
        self.slots = threading.Semaphore(HANGING)
        logging.getLogger("urllib3.connectionpool").addFilter(hide_requests)

    def __call__(self, request: Request) -> Answer:
        """Returns the answer if it is a success; raises RefusedError or NoAnswerError."""
        try:
            answer: Answer = call_in_time(lambda: self.send(request), ATTEMPT_SECONDS)
        except NoAnswerError:
            raise
        except Exception as error:  # whatever a library raises, its words may hold the address
            raise NoAnswerError(type(error).__name__) from None
        if not 200 <= answer.status < 300:
            raise RefusedError(answer)
        return answer

    def send(self, request: Request) -> Answer:
        """Sends in the thread that takes the slot, so that a thread that never ran holds none."""
        if not self.slots.acquire(blocking=False):
            raise NoAnswerError("earlier requests still hang")
        try:
            return send_request(request)
        finally:
            self.slots.release()


def hide_requests(record: logging.LogRecord) -> bool:
    """Keeps urllib3's lines about requests, which show the address's path, out of all logs."""
    return not record.name.startswith("urllib3")


def send_request(request: Request) -> Answer:
    """Sends and reads a limited answer. Redirects are not followed: they would show the path."""
    with requests.request(
        request.method,
        request.url,
        json=request.json,
        data=request.data,
        files=request.files,
        headers=request.headers,
        timeout=WAITS,
        stream=True,
        allow_redirects=False,
    ) as response:
        content = response.raw.read(LONGEST_ANSWER, decode_content=True)
        return Answer(response.status_code, response.headers, read_json(content), content)


def read_json(content: bytes) -> Any:
    """The JSON of an answer, or None if it is something else."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def read_wait(answer: Answer) -> float:
    """The seconds that a server asks to wait: in a header, or in the body as Discord and Telegram.

    Never more than an hour; 0 if it does not ask.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    parameters = body.get("parameters")
    asked = [answer.headers.get("Retry-After"), body.get("retry_after")]
    asked += [parameters.get("retry_after")] if isinstance(parameters, dict) else []
    return min(LONGEST_WAIT, max(0.0, *map(read_seconds, asked)))


def read_seconds(value: Any) -> float:
    """Seconds from a number, or from a date (RFC 9110, 10.2.3); 0 if it is neither."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = email.utils.parsedate_to_datetime(str(value)).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return seconds if math.isfinite(seconds) else (0.0 if math.isnan(seconds) else LONGEST_WAIT)


# ==================================================================================================
# Signing: who may speak, and what may be obeyed
# ==================================================================================================
# A secret that both ends hold signs what is sent, as Standard Webhooks has it, and with it the
# commands that come back.


def sign(secret: str, name: str, moment: int, body: bytes) -> str:
    """The signature of a body, as Standard Webhooks has it (standardwebhooks.com, 2023).

    `secret` is "whsec_" and a key in base64, `name` the message's id, `moment` seconds since 1970.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{name}.{moment}.".encode() + body
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def is_signed(signatures: str, secret: str, name: str, moment: int, body: bytes) -> bool:
    """Is one of the signatures, which are set apart by blanks, the secret's? In constant time."""
    right = sign(secret, name, moment, body).encode()
    return any(hmac.compare_digest(one.encode(), right) for one in signatures.split(" "))


# ==================================================================================================
# Commands: what whoever watches may ask of a run
# ==================================================================================================
# Nobody can reach a run, so a command comes in the reply to what it sends. It is obeyed if the
# webhook's secret has signed it for this run and this session, and if it has not expired.

MOST_COMMANDS = 20  # of one reply


class Obey(Protocol):
    """Takes what a reply says, and the secret that signs commands."""

    def __call__(self, reply: Any, secret: str) -> None:  # noqa: D102
        ...


def ignore(reply: Any, secret: str) -> None:
    """Takes no commands."""


class Commands:
    """Reads commands from replies; the one to end the run holds for good.

    A command is {"id", "op": "stop", "run", "session", "expires", "signature"}: seconds since 1970,
    and the signature of "stop", run and session, set apart by blanks, under id and expiry.
    """

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.stop = ""  # the id of the command that asked the run to end after its epoch
        self.refused = False  # one was, which is said once

    def obey(self, reply: Any, secret: str) -> None:
        """Takes the commands of a reply, {"commands": […]}; whatever else it says is nothing."""
        commands = reply.get("commands") if isinstance(reply, Mapping) else None
        for command in commands[:MOST_COMMANDS] if isinstance(commands, list) else []:
            if isinstance(command, Mapping) and self.is_ours(command):
                self.take(command, secret)

    def is_ours(self, command: Mapping[str, Any]) -> bool:
        """Is it a command to this session that has not been taken?"""
        key = (command.get("op"), command.get("run"), command.get("session"))
        return key == ("stop", self.report.run, self.report.session) and not self.stop

    def take(self, command: Mapping[str, Any], secret: str) -> None:
        """Obeys a command, or says why it is not obeyed."""
        name, expires = command.get("id"), command.get("expires")
        if not isinstance(name, str) or not isinstance(expires, int) or isinstance(expires, bool):
            self.refuse("it is not as Podium writes it")
        elif not secret:
            self.refuse("the webhook's address has no #whsec_ secret that could have signed it")
        elif not is_signed(
            str(command.get("signature")),
            secret,
            name,
            expires,
            f"stop {self.report.run} {self.report.session}".encode(),
        ):
            self.refuse("its signature is not that of the webhook's secret")
        elif expires < time.time():
            self.refuse("it has expired")
        else:
            self.stop = name
            self.report.emit("command_taken", command=name, op="stop")
            self.report.say("  asked to stop: the run ends after this epoch, with a submission")

    def refuse(self, reason: str) -> None:
        """Says, once, that a command to stop is not obeyed."""
        if not self.refused:
            self.refused = True
            self.report.warn(f"a command to stop is not obeyed: {reason}")


# ==================================================================================================
# Sinks: who is told of the run, and in which words
# ==================================================================================================
# Programs get every event, in batches; people get one card that is edited in place, and a message
# of its own for what should ring.

Event = Mapping[str, Any]
Memory = dict[str, Any]  # what a sink must know after a restart; it is kept as JSON
CURVES_FILE = "curves.png"  # in the run folder, drawn when a fold has ended


class Send(Protocol):
    """Sends a request and returns the answer; raises RefusedError or NoAnswerError."""

    def __call__(self, request: Request) -> Answer:  # noqa: D102
        ...


class Sink(Protocol):
    """Where events go, one delivery after the other; nothing of one is repeated for another."""

    name: str  # for the log, where the address may not stand
    pause: float  # least seconds between two deliveries
    largest: int  # events that are looked at for one delivery
    rings: bool  # may events be urgent? They are then looked at during a pause

    @property
    def is_behind(self) -> bool:
        """Is there something to deliver although no event is pending?"""
        ...

    def choose(self, events: Sequence[Event]) -> slice:
        """Which of the next events make the next delivery; those before them need none."""
        ...

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """Do the events that were chosen wait for no pause?"""
        ...

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Makes one delivery, of the chosen events or of what is behind; raises as `send` does."""
        ...

    def note(self, events: Sequence[Event]) -> None:
        """Takes note of events that are done with: delivered, left out, or in need of neither."""
        ...


class EventSink:
    """What the sinks for programs share: a second of pause, in which events gather."""

    name, pause, largest, rings, is_behind = "events", 1.0, 200, False, False

    def choose(self, events: Sequence[Event]) -> slice:
        """All of them."""
        return slice(0, len(events))

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """They can wait."""
        return False

    def note(self, events: Sequence[Event]) -> None:
        """There is nothing to remember."""


class JsonSink(EventSink):
    """Posts batches as JSON, {"events": [...]}, signed if there is a secret; obeys the reply."""

    name = "json"

    def __init__(self, url: str, secret: str = "", obey: Obey = ignore) -> None:
        self.url, self.secret, self.obey = url, secret, obey

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Posts all at once. A retry bears the same id and a new time."""
        body = json.dumps({"events": list(events)}, allow_nan=False).encode()
        first, last = events[0], events[-1]
        name = "{}-{}-{}".format(first["run"], first["session"], first["seq"])
        name += "-{}-{}".format(last["session"], last["seq"])
        moment = int(time.time())
        headers = {"content-type": "application/json", "webhook-id": name}
        headers["webhook-timestamp"] = str(moment)
        if self.secret:
            headers["webhook-signature"] = sign(self.secret, name, moment, body)
        answer = send(Request("POST", self.url, data=body, headers=headers))
        self.obey(answer.body, self.secret)


class KerasSink(EventSink):
    """Speaks as keras.callbacks.RemoteMonitor does: one post for each epoch, form or JSON."""

    name, pause = "keras", 0.0

    def __init__(self, url: str, *, form: bool = True) -> None:
        self.url, self.form = url, form

    def choose(self, events: Sequence[Event]) -> slice:
        """The next epoch."""
        epochs = (place for place, one in enumerate(events) if one["event"] == "epoch_ended")
        return choose_one(events, next(epochs, None))

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Posts the epoch."""
        for logs in map(read_logs, events):
            if self.form:
                send(Request("POST", self.url, data={"data": json.dumps(logs)}))
            else:
                send(Request("POST", self.url, json=logs))


def choose_one(events: Sequence[Event], place: int | None) -> slice:
    """The one event at a place; without a place none, and all need no delivery."""
    return slice(len(events), len(events)) if place is None else slice(place, place + 1)


def read_logs(event: Event) -> dict[str, Any]:
    """An epoch under Keras's names, counted from 0 as Keras counts."""
    logs = {"epoch": event["epoch"] - 1}
    for name, value in event.items():
        part, slash, figure = name.partition("/")
        if slash:
            logs[("val_" if part == "valid" else "") + figure] = value
    return {**logs, "learning_rate": event.get("learning_rate"), "fold": event.get("fold")}


class CardSink:
    """What the sinks for people share: news that ring, one by one, and a card that follows."""

    name, pause, largest, rings = "card", 15.0, 200, True

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.curves = url, folder / CURVES_FILE
        self.card = self.shown = Card()  # after the events so far; as people see it

    @property
    def is_behind(self) -> bool:
        """Has the card changed since it was shown?"""
        return self.card != self.shown

    def choose(self, events: Sequence[Event]) -> slice:
        """The first event that is news: others change only the card."""
        card = self.card
        for place, event in enumerate(events):
            card, news = update_card(card, event)
            if news:
                return choose_one(events, place)
        return choose_one(events, None)

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """News ring at once; the card waits for its pause."""
        return bool(events)

    def note(self, events: Sequence[Event]) -> None:
        """Makes the card what it is after the events; after none, what was delivered was it."""
        self.card = reduce(lambda card, event: update_card(card, event)[0], events, self.card)
        if not events:
            self.shown = self.card

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Tells the news that an event is, or shows the card."""
        for event in events:
            card, news = update_card(self.card, event)
            if news:
                self.tell_news(news, card, memory, send)
        if not events:
            self.show_card(self.card, memory, send)

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """Sends a message that rings."""
        raise NotImplementedError

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Sends the card, or changes the one that was sent before."""
        raise NotImplementedError

    def read_curves(self) -> bytes | None:
        """The picture of the curves, or None if there is none yet."""
        try:
            return self.curves.read_bytes()
        except OSError:
            return None


def send_with_picture(
    write: Callable[[bytes | None], Request], picture: bytes | None, send: Send
) -> Answer:
    """Sends a message with its picture, or without one where it is the picture that is refused."""
    try:
        return send(write(picture))
    except RefusedError as refusal:
        if picture is None or not refusal.is_of_content:
            raise
        return send(write(None))


# ==================================================================================================
# Chat: the card on Discord, Slack, Telegram and ntfy, within their limits
# ==================================================================================================
# The limits are those of each service's documents: Discord, "Webhook Resource" and "Message";
# Slack, "Incoming webhooks" and "Block Kit"; Telegram, "Bot API"; ntfy, "Publishing".

COLOURS = {"running": 0x0072B2, "warned": 0xE69F00, "finished": 0x009E73}
FAILED_COLOUR = 0xD55E00
UNKNOWN_MESSAGE = 10008  # Discord: somebody deleted it
TOO_MANY_EDITS = 30046  # Discord: of a message older than an hour
SLOW_PAUSE = 60.0  # seconds between edits of such a message
SLACK_EVERY = 900.0


class DiscordSink(CardSink):
    """One message whose embed is edited in place, the curves attached; news as messages."""

    name = "discord"

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        super().__init__(parts._replace(path=parts.path.rstrip("/"), query="").geturl(), folder)
        self.query = dict(parse_qsl(parts.query))  # of a thread, perhaps

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A message, with the curves if there are new ones."""
        text = clean_text(news.text, 1900)
        if news.kind == "failed":
            text = f"```\n{text.replace('`', 'ʼ')}\n```"
        content = {"content": f"**{clean_text(card.title, 80)}** {text}"}
        picture = self.read_curves() if news.shows_curves else None
        send_with_picture(partial(self.write, content, ""), picture, send)

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Edits the message, or posts one if there is none or it was deleted."""
        if "message" in memory:
            self.pause = SLOW_PAUSE if card.now - memory["posted"] > 3600 else CardSink.pause
            try:
                draw = partial(self.draw, card, memory["message"])
                send_with_picture(draw, self.read_curves(), send)
            except RefusedError as refusal:
                if refusal.code not in (UNKNOWN_MESSAGE, TOO_MANY_EDITS):
                    raise
                memory.pop("message")
                if refusal.code == TOO_MANY_EDITS:
                    raise  # with the wait it asks for; the next card is a new message
            else:
                return
        answer = send_with_picture(partial(self.draw, card, ""), self.read_curves(), send)
        if isinstance(answer.body, dict) and "id" in answer.body:
            memory.update(message=str(answer.body["id"]), posted=card.now)

    def draw(self, card: Card, message: str, picture: bytes | None) -> Request:
        """The embed, with the picture: an edit drops files that do not come with it again."""
        embed: dict[str, Any] = {
            "title": clean_text(card.headline, 256),
            "description": clean_text("\n".join(list_lines(card)), 4096),
            "color": COLOURS.get(card.state, FAILED_COLOUR),
        }
        if picture is not None:
            embed["image"] = {"url": f"attachment://{CURVES_FILE}"}
        return self.write({"embeds": [embed]}, message, picture)

    def write(self, content: dict[str, Any], message: str, picture: bytes | None) -> Request:
        """A new message or an edit, perhaps with the picture, by which nobody is mentioned."""
        method, path = ("PATCH", f"/messages/{message}") if message else ("POST", "")
        # Discord tells a new message's id only to who waits for it.
        query = urlencode(self.query if message else {**self.query, "wait": "true"})
        url = f"{self.url}{path}?{query}".rstrip("?")
        content = {**content, "allowed_mentions": {"parse": []}}
        if picture is None:
            return Request(method, url, json=content)
        content["attachments"] = [
            {"id": 0, "filename": CURVES_FILE, "description": "Learning curves of all folds"}
        ]
        files = {
            "payload_json": ("", json.dumps(content).encode(), "application/json"),
            "files[0]": (CURVES_FILE, picture, "image/png"),
        }
        return Request(method, url, files=files)


class SlackSink(CardSink):
    """Milestones only: a Slack webhook cannot edit what it posted."""

    name, pause = "slack", 2.0

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A message with the card's lines below; what may wait and comes soon is left out."""
        soon = card.now - float(memory.get("spoke", 0)) < SLACK_EVERY
        if soon and news.kind in ("alert", "best", "fold"):
            return
        title = escape_slack(f"{card.headline}: {news.text}", 2900)
        lines = escape_slack("\n".join(list_lines(card)), 2900)
        blocks = [
            {"type": "section", "text": {"type": "mrkdwn", "text": title}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": lines}]},
        ]
        send(Request("POST", self.url, json={"text": title, "blocks": blocks}))
        memory["spoke"] = card.now

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Nothing: there is no card to edit."""


def escape_slack(text: str, most: int) -> str:
    """Text for Slack's mrkdwn, where three characters are control characters."""
    shown = clean_text(text, most // 5)  # an & becomes five characters
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class TelegramSink(CardSink):
    """One message that is edited; news as messages, with the curves as a photo."""

    name, pause = "telegram", 20.0

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        super().__init__(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", folder)
        self.chat = parse_qs(parts.query)["chat_id"][0]

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A message, or a photo with a caption; without markup nothing needs escaping."""
        text, picture = f"{card.title}\n{news.text}", None
        if news.shows_curves:
            picture = self.read_curves()

        def write(picture: bytes | None) -> Request:
            if picture is None:
                return self.write("sendMessage", {"text": cut_utf16(text, 4096)})
            form = {"chat_id": self.chat, "caption": cut_utf16(text, 1024)}
            photo = {"photo": (CURVES_FILE, picture, "image/png")}
            return Request("POST", f"{self.url}/sendPhoto", data=form, files=photo)

        send_with_picture(write, picture, lambda request: self.ask(request, send))

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """Edits the message; that it is as it was is no failure.

        One that cannot be edited, since it was deleted or is too old, is sent anew.
        """
        text = cut_utf16("\n".join([card.headline, *list_lines(card)]), 4096)
        if "message" in memory:
            try:
                edit = {"message_id": memory["message"], "text": text}
                self.ask(self.write("editMessageText", edit), send)
            except RefusedError as refusal:
                if "message is not modified" in refusal.words:
                    return
                if not refusal.is_of_content:
                    raise
                memory.pop("message")
            else:
                return
        quiet = {"text": text, "disable_notification": True}
        answer = self.ask(self.write("sendMessage", quiet), send).body
        if isinstance(answer, dict) and "result" in answer:
            memory["message"] = answer["result"]["message_id"]

    def write(self, method: str, content: dict[str, Any]) -> Request:
        """The call of a method of the bot for our chat."""
        return Request("POST", f"{self.url}/{method}", json={"chat_id": self.chat, **content})

    def ask(self, request: Request, send: Send) -> Answer:
        """Sends; a chat that is not there, or not for this bot, is a 400 like any odd message."""
        try:
            return send(request)
        except RefusedError as refusal:
            if refusal.answer.status == 400 and "chat" in refusal.words:
                raise GoneError(refusal.answer) from None
            raise


def cut_utf16(text: str, most: int) -> str:
    """Cleaned text of at most so many UTF-16 units, as Telegram counts; the end is kept."""
    text = clean_text(text, most)
    while len(text.encode("utf-16-le")) // 2 > most:
        text = f"…{text[max(2, len(text) // 50) :]}"
    return text


class NtfySink(CardSink):
    """A notification that is updated in place (server 2.16 or newer), and louder ones for news.

    A public server allows 250 messages a day, so the card changes each five minutes at most.
    """

    name = "ntfy"
    pause = 300.0

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        super().__init__(f"{parts.scheme}://{host}", folder)
        self.topic = parts.path.strip("/")
        self.headers = {"Authorization": f"Bearer {parts.password}"} if parts.password else None

    def tell_news(self, news: News, card: Card, memory: Memory, send: Send) -> None:
        """A notification of its own, urgent if the run failed; then the curves, tried once.

        The text is remembered before, and so not sent again for the sake of the picture.
        """
        sent = [card.now, news.kind]
        if memory.get("sent") == sent:
            return
        loud = {"failed": 5, "alert": 4, "finished": 4}.get(news.kind, 3)
        self.publish(card, news.text, {"priority": loud}, send)
        memory["sent"] = sent
        picture = self.read_curves() if news.shows_curves else None
        if picture is not None:
            self.attach(picture, card, send)

    def attach(self, picture: bytes, card: Card, send: Send) -> None:
        """The curves, which are dropped if they are not taken; only a wait is passed on."""
        headers = {"Filename": CURVES_FILE, "Title": encode_header(card.title), "Priority": "2"}
        headers |= self.headers or {}
        try:
            send(Request("PUT", f"{self.url}/{self.topic}", data=picture, headers=headers))
        except RefusedError as refusal:
            if refusal.answer.status == 429:
                raise

    def show_card(self, card: Card, memory: Memory, send: Send) -> None:
        """The card, quietly, under one sequence id."""
        name = hashlib.sha256(f"{card.title}{card.started}".encode()).hexdigest()[:16]
        quiet = {"priority": 2, "sequence_id": memory.setdefault("message", name)}
        self.publish(card, "\n".join(list_lines(card)), quiet, send)

    def publish(self, card: Card, text: str, more: dict[str, Any], send: Send) -> None:
        """Publishes as JSON, which takes any letters."""
        title, text = clean_text(card.headline, 200), clean_text(text, 1000)
        content = {"topic": self.topic, "title": title, "message": text, **more}
        send(Request("POST", self.url, json=content, headers=self.headers))


def encode_header(text: str) -> str:
    """Any text as an HTTP header (RFC 2047)."""
    return f"=?UTF-8?B?{base64.b64encode(clean_text(text, 200).encode()).decode()}?="


# ==================================================================================================
# Relay: events through an ntfy topic, sealed
# ==================================================================================================
# For a dashboard that no address leads to: the run publishes, the dashboard subscribes, and who
# holds the topic between them can read nothing. The limits are those of ntfy's documents
# ("Publishing") and of its source (server.go, visitor.go): a text of less than 4,096 bytes, or a
# file is made of it, which is a message too and is kept three hours, not twelve; 250 messages a day
# for an address, counted until midnight UTC; and who goes on sending while refused is banned.

LONGEST_TOPIC = 60  # letters; ntfy's 64, less those of "-ctl"
LONGEST_PACKED = 3_200  # bytes, compressed: with nonce, tag and base 85, below 4,096
LONGEST_UNPACKED = 4_000_000  # bytes of what a message may become
NONCE = 12  # bytes
RELAY_QUOTA = 250  # messages a day
RELAY_RESERVE = 50  # of them, for what may not wait; the rest is then told more rarely
RELAY_PAUSE = 180.0  # seconds
SLOW_RELAY_PAUSE = 600.0  # less than a command is valid
DAY = 86_400
NOT_RELAYED = ("line_said", "image_shown")  # they would fill the day's messages
PASSING = ("heartbeat", "step_reached", "plan_made")  # of these the last says it all
QUIET = {"Priority": "1", "Firebase": "no"}  # a message that wakes no phone
URGENT = ("run_started", "fold_ended", "warning_raised", *ENDINGS)


class SealError(ValueError):
    """A text that was not sealed with this secret for this topic, or is not what it should be."""


class Seal:
    """Seals JSON for a topic: zlib, AES-256-GCM with the topic as associated data, base 85.

    The key is derived from the signing secret and used for nothing else. Raises ImportError where
    the package cryptography is missing.
    """

    def __init__(self, secret: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = base64.b64decode(secret.removeprefix("whsec_"))
        self.cipher = AESGCM(hmac.new(key, b"podium relay", hashlib.sha256).digest())

    def close(self, topic: str, content: Any) -> bytes:
        """The sealed text, in letters that JSON need not escape."""
        nonce = os.urandom(NONCE)
        return base64.b85encode(nonce + self.cipher.encrypt(nonce, pack(content), topic.encode()))

    def open(self, topic: str, text: str | bytes) -> Any:
        """The content; raises SealError."""
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.b85decode(text)
            packed = self.cipher.decrypt(sealed[:NONCE], sealed[NONCE:], topic.encode())
            return json.loads(zlib.decompressobj().decompress(packed, LONGEST_UNPACKED))
        except (ValueError, InvalidTag, zlib.error, RecursionError):
            raise SealError("it was not sealed with this secret for this topic") from None


def pack(content: Any) -> bytes:
    """JSON, compressed."""
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)


class RelaySink(EventSink):
    """Publishes sealed messages, as few as the day's quota asks, and hears commands after each.

    A message names the events that it answers for, from `first` to `last` of a session: those that
    it leaves out are not missing. One event that is too long for a text goes as a file.
    """

    name, pause, largest, rings = "relay", RELAY_PAUSE, 1000, True

    def __init__(self, url: str, secret: str, obey: Obey = ignore) -> None:
        self.url, self.secret, self.obey = url, secret, obey
        self.seal = Seal(secret)
        self.topic = url.rpartition("/")[2]
        self.told = ("", 0)  # the session, and the first event that no message has answered for
        self.sent = 0  # messages today
        self.has_more = False  # is there more than one message to send?

    def choose(self, events: Sequence[Event]) -> slice:
        """As many of a session as fit into a message; one that does not fit is alone in it."""
        start = next((place for place, one in enumerate(events) if is_relayed(one)), len(events))
        rest = events[start:]
        session = list(takewhile(lambda one: one["session"] == rest[0]["session"], rest))

        def is_too_long(count: int) -> bool:
            return len(pack(self.write(session[:count]))) > LONGEST_PACKED

        count = len(session)
        if count and is_too_long(count):
            count = 1 + bisect_left(range(2, count), True, key=is_too_long)
        self.has_more = start + count < len(events)
        return slice(start, start + count)

    def is_urgent(self, events: Sequence[Event]) -> bool:
        """Does one ring, or is there more than a message? Not once the quota is used up."""
        rings = any(one["event"] in URGENT for one in events)
        return bool(events) and (rings or self.has_more) and self.sent < RELAY_QUOTA

    def note(self, events: Sequence[Event]) -> None:
        """What is left out is answered for by the next message; what was refused, by none."""
        for one in events:
            if one["session"] != self.told[0]:
                self.told = (one["session"], one["seq"])
            if is_relayed(one):
                self.told = (one["session"], one["seq"] + 1)

    def write(self, events: Sequence[Event]) -> dict[str, Any]:
        """The content of a message."""
        first, last = events[0], events[-1]
        session, seq = self.told
        return {
            "run": first["run"],
            "session": first["session"],
            "first": seq if session == first["session"] else first["seq"],
            "last": last["seq"],
            "time": round(time.time(), 3),
            "sent": self.sent,
            "pause": self.pause,
            "events": thin_out(events),
        }

    def deliver(self, events: Sequence[Event], memory: Memory, send: Send) -> None:
        """Publishes a message, which wakes no phone, and hears what commands there are."""
        today = int(time.time() // DAY)
        if memory.get("day") != today:
            memory.update(day=today, sent=0)
        self.sent = memory["sent"] + 1
        slow = self.sent > RELAY_QUOTA - RELAY_RESERVE
        self.pause = SLOW_RELAY_PAUSE if slow else RELAY_PAUSE
        text = self.seal.close(self.topic, self.write(events))
        send(Request("POST", self.url, data=text, headers=QUIET))
        memory["sent"] = self.sent
        if not self.has_more:
            self.hear(send)

    def hear(self, send: Send) -> None:
        """Obeys the commands of the last quarter of an hour, as long as one is valid.

        Reading is no message. What is not heard now is heard the next time: what was told need not
        be told again for it.
        """
        try:
            answer = send(Request("GET", f"{self.url}-ctl/json?poll=1&since=15m"))
        except (RefusedError, NoAnswerError):
            return
        for text in list_texts(answer):
            with suppress(SealError):  # whoever knows the topic can write there
                self.obey(self.seal.open(f"{self.topic}-ctl", text), self.secret)


def is_relayed(event: Event) -> bool:
    """Is it an event that a message is sent for?"""
    return event["event"] not in NOT_RELAYED


def thin_out(events: Sequence[Event]) -> list[Event]:
    """The events of a message: of those that say how things stand, the last."""
    last = {one["event"]: one["seq"] for one in events}
    return [
        one
        for one in events
        if is_relayed(one) and (one["event"] not in PASSING or one["seq"] == last[one["event"]])
    ]


def list_texts(answer: Answer) -> list[str]:
    """The messages of a topic, as /json lists them, a line each."""
    lines = [read_json(line) for line in answer.content.splitlines()]
    return [str(one["message"]) for one in lines if isinstance(one, dict) and "message" in one]


# ==================================================================================================
# Delivery: from the record to a sink, at least once
# ==================================================================================================
# One daemon thread for each sink reads events.jsonl from where it stopped, delivers, and writes
# down how far it came. So nothing waits for a network, a killed run goes on where it was, and a
# receiver that keys events by (run, session, seq) has each exactly once.

LONGEST_BACKOFF = 60.0  # seconds
PARKED_FOR = 600.0  # seconds between two tries of a webhook that is gone or forbidden
QUOTA_USED_UP = 42908  # ntfy: all messages of the day are sent


class Pending(NamedTuple):
    """The events of the next delivery, and the byte of the record where the last of them ends."""

    events: Sequence[Event]
    end: int


class Delivery(threading.Thread):
    """Delivers the events of a reporter to one sink until it is closed. Never raises."""

    def __init__(self, sink: Sink, report: Reporter, place: Path) -> None:
        super().__init__(name=f"podium-{sink.name}", daemon=True)
        self.sink, self.report, self.place, self.post = sink, report, place, Post()
        self.memory: Memory = read_memory(place)
        self.room = sink.largest  # events in the next delivery
        self.failures, self.parked, self.skipped = 0, False, 0
        self.trouble = ""  # what went wrong last, without the address
        self.limited = 0  # answers 429
        self.acked: float | None = None  # when something was taken last, seconds since 1970
        self.next_try = self.next_turn = 0.0  # after a failure; out of politeness
        # Its own: what a run draws must not depend on a network.
        self.dice = random.Random()  # noqa: S311
        self.asked = 0.0  # the part of `next_try` that the server asked for
        self.end, self.hurried = math.inf, False  # when it ends at the latest, once it is closed
        self.done = False  # closed, and nothing is left
        self.closing, self.woken = threading.Event(), threading.Event()
        report.listeners.append(self.woken)

    def run(self) -> None:
        """Delivers what is pending, waits for more, ends when it is closed and all is delivered."""
        self.recall()
        while self.go_on():
            pass

    def go_on(self) -> bool:
        """Makes a delivery, or waits for what it lacks; False if that was all."""
        self.woken.clear()
        # Asked before reading: what was said before the end was set is then read for certain.
        last = self.closing.is_set()
        if last:
            self.hurry()
        if self.next_try > self.end:
            return False
        # Nothing is read while nothing may be sent: each event of a busy run wakes this thread.
        if not self.has_come(self.next_try if last or self.sink.rings else self.find_turn()):
            return True
        pending = self.read_pending()
        if not pending.events and not self.sink.is_behind:
            if last:
                self.done = True
                return False
            self.woken.wait()
        elif last or self.sink.is_urgent(pending.events) or self.has_come(self.find_turn()):
            self.try_delivery(pending)
        return True

    def hurry(self) -> None:
        """At the end jitter is waived, once; what the server asked for is not."""
        if not self.hurried:
            self.hurried, self.failures, self.next_try = True, 0, self.asked

    def find_turn(self) -> float:
        """When a delivery that does not ring may be made."""
        return max(self.next_try, self.next_turn)

    def has_come(self, due: float) -> bool:
        """Says whether a time has come; if not, waits for it or until something new is said."""
        wait = due - time.monotonic()
        if wait > 0:
            self.woken.wait(wait)
        return wait <= 0

    def end_by(self, moment: float) -> None:
        """Closes it; what is not delivered by then (as time.monotonic counts) stays in the record.

        It ends before, if it may not try again in time.
        """
        self.end = moment
        self.closing.set()
        self.woken.set()

    def close(self, seconds: float) -> None:
        """Gives the rest so many seconds, and waits for it."""
        self.end_by(time.monotonic() + seconds)
        self.join(seconds)

    def recall(self) -> None:
        """Takes note of what an earlier session delivered."""
        place = 0
        while part := list(read_record(self.report.path, place)):
            self.sink.note([event for event, end in part if end <= self.memory["offset"]])
            place = part[-1][1]

    def read_pending(self) -> Pending:
        """The events of the next delivery; those before it, which need none, are done with."""
        while True:
            start = self.memory["offset"]
            part = list(islice(read_record(self.report.path, start), self.room))
            events, ends = [event for event, _ in part], [start, *(end for _, end in part)]
            chosen = self.sink.choose(events)
            if chosen.start:
                self.sink.note(events[: chosen.start])
                self.memory["offset"] = ends[chosen.start]
            if events[chosen] or not events:
                return Pending(events[chosen], ends[chosen.stop])

    def try_delivery(self, pending: Pending) -> None:
        """One delivery; its outcome decides when the next is tried and what it holds."""
        urgent = self.sink.is_urgent(pending.events)
        try:
            self.sink.deliver(pending.events, self.memory, self.post)
        except NoAnswerError as error:
            self.trouble = str(error)
            self.back_off(0.0)
        except RefusedError as refusal:
            self.trouble = str(refusal)
            self.handle_refusal(refusal, pending)
        except Exception as error:  # one odd event must not silence the run
            self.trouble = type(error).__name__
            self.narrow(pending)
        else:
            self.acked = time.time()
            self.accept(pending)
            if not urgent:
                self.next_turn = time.monotonic() + self.sink.pause
        self.remember()

    def accept(self, pending: Pending) -> None:
        """What was pending is done with."""
        self.sink.note(pending.events)
        self.memory["offset"] = pending.end
        self.failures, self.parked, self.room = 0, False, self.sink.largest

    def handle_refusal(self, refusal: RefusedError, pending: Pending) -> None:
        """Waits, parks, or looks for the one event that is never taken."""
        status = refusal.answer.status
        self.limited += status == 429
        if status == 429 or status >= 500:
            used_up = refusal.code == QUOTA_USED_UP
            self.back_off(PARKED_FOR if used_up else read_wait(refusal.answer))
        elif refusal.is_of_content:
            self.narrow(pending)
        else:
            self.park(status)

    def back_off(self, asked: float) -> None:
        """Full jitter, doubled with each failure (Brooker 2015), but no less than was asked."""
        self.failures += 1
        longest = min(LONGEST_BACKOFF, 0.5 * 2 ** min(self.failures, 10))
        self.asked = time.monotonic() + asked
        self.next_try = max(self.asked, time.monotonic() + self.dice.uniform(0, longest))

    def park(self, status: int) -> None:
        """A webhook that is gone or forbidden is said once and tried now and then."""
        if not self.parked:
            self.report.print(
                f"! the {self.sink.name} webhook refuses with status {status}; its address may be "
                f"wrong or revoked. It is tried each {PARKED_FOR / 60:.0f} minutes, and nothing is "
                f"lost: events.jsonl has it all"
            )
        self.parked = True
        self.next_try = time.monotonic() + PARKED_FOR

    def narrow(self, pending: Pending) -> None:
        """Halves a delivery that is not taken, down to the one event at fault, and leaves that out.

        A card that is not taken is given up until it has changed.
        """
        if len(pending.events) > 1:
            self.room = len(pending.events) // 2
            return
        if not self.skipped:
            self.report.print(
                f"! the {self.sink.name} webhook does not take an event ({self.trouble})"
            )
        self.skipped += 1
        self.accept(pending)

    def describe(self) -> dict[str, Any]:
        """How it stands, for a heartbeat: bytes of the record unsent, seconds since 1970."""
        try:
            size = self.report.path.stat().st_size
        except OSError:
            size = 0
        return {
            "name": self.sink.name,
            "unsent": max(0, size - int(self.memory["offset"])),
            "acked": self.acked,
            "refused": self.limited,
            "skipped": self.skipped,
            "parked": self.parked,
            "trouble": self.trouble,
        }

    def remember(self) -> None:
        """Keeps how far the sink came. On a full disk it may be told twice, which it can bear."""
        with contextlib.suppress(OSError):
            write_whole(self.place, json.dumps(self.memory).encode())


def read_memory(place: Path) -> dict[str, Any]:
    """What the sink knew when the last session ended."""
    try:
        memory = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        memory = {}
    return {"offset": 0, **(memory if isinstance(memory, dict) else {})}


# ==================================================================================================
# Pulse: a sign of life each minute, from a thread of its own
# ==================================================================================================
# Whoever watches can tell a long epoch from a run that is gone, and what has not reached them yet.
# It comes in the reply to such signs that a command reaches a run in good time.

PULSE_SECONDS = 60.0


class Pulse(threading.Thread):
    """Emits a heartbeat each minute until it is closed."""

    def __init__(self, report: Reporter, deliveries: Sequence[Delivery]) -> None:
        super().__init__(name="podium-pulse", daemon=True)
        self.report, self.deliveries = report, deliveries
        self.closing = threading.Event()

    def run(self) -> None:
        """One after another."""
        while not self.closing.wait(PULSE_SECONDS):
            self.beat()

    def beat(self) -> None:
        """Emits what is free, in bytes, and how each delivery stands."""
        try:
            disk_free: int | None = shutil.disk_usage(self.report.folder).free
        except OSError:  # the folder is gone; the run will notice by itself
            disk_free = None
        self.report.emit(
            "heartbeat",
            memory_free=measure_memory() or None,
            disk_free=disk_free,
            deliveries=[one.describe() for one in self.deliveries],
        )

    def close(self) -> None:
        """Ends it."""
        self.closing.set()


# ==================================================================================================
# Address: which sink an address stands for
# ==================================================================================================
# The kind follows from the exact host, or from a word before the scheme:
#
#     https://discord.com/api/webhooks/1/token         also ptb. and canary.
#     https://hooks.slack.com/services/T/B/token
#     https://api.telegram.org/bot1:token?chat_id=2    or tgram://1:token/2
#     https://ntfy.sh/topic                            or ntfys://host/topic, ntfy:// for http
#     keras+http://host:9000/publish/epoch/end/        keras-json+ for JSON in place of a form
#     relay+https://ntfy.sh/topic#whsec_secret         sealed, for a dashboard that reads the topic
#     https://host/path#whsec_secret                   any other: JSON, signed with the secret

KERAS_PATH = "/publish/epoch/end/"
SINK_HOSTS = {
    "discord.com": "discord",
    "discordapp.com": "discord",
    "ptb.discord.com": "discord",
    "canary.discord.com": "discord",
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "api.telegram.org": "telegram",
    "ntfy.sh": "ntfy",
}
SINK_KINDS = ("discord", "slack", "telegram", "ntfy", "keras", "keras-json", "relay", "json")
SHORTEST_TOPIC = 16  # letters of a relay's: it is all that keeps others from writing there
SHORTEST_KEY = 24  # bytes, as Standard Webhooks asks; what a relay seals is there for all to try


class WebhookError(ValueError):
    """An address that cannot be used; the message does not repeat it."""


def split_address(word: str) -> tuple[str, SplitResult]:
    """An address's kind and its parts; raises WebhookError if it has no known kind."""
    scheme, _, rest = word.partition("://")
    kind, _, inner = scheme.rpartition("+")
    if scheme in ("ntfy", "ntfys"):
        kind, inner = "ntfy", "http" + scheme.removeprefix("ntfy")
    elif scheme == "tgram":
        token, _, chat = rest.rstrip("/").partition("/")
        kind, inner, rest = "telegram", "https", f"api.telegram.org/bot{token}?chat_id={chat}"
    try:
        parts = urlsplit(f"{inner}://{rest}")
        host = parts.hostname or ""
    except ValueError:
        raise WebhookError("it is no address") from None
    if not kind and parts.path.endswith(KERAS_PATH):
        kind = "keras"
    return kind or SINK_HOSTS.get(host, "json"), parts


def read_webhook(word: str, folder: Path, obey: Obey = ignore) -> Sink:
    """The sink that an address stands for, whose replies may command; raises WebhookError."""
    kind, parts = split_address(word)
    if kind not in SINK_KINDS:
        raise WebhookError(f"its kind is none of {', '.join(SINK_KINDS)}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebhookError("it must begin with https:// and a host")
    if parts.scheme == "http" and not is_near(parts.hostname):
        raise WebhookError("over http anybody on the way can read it; write https://")
    if kind == "telegram" and "chat_id" not in parse_qs(parts.query):
        raise WebhookError("a Telegram address needs ?chat_id=…, the chat to write to")
    if kind == "ntfy" and not parts.path.strip("/"):
        raise WebhookError("an ntfy address needs a topic: https://ntfy.sh/topic")
    if kind == "relay":
        check_relay(parts)
    return make_sink(kind, parts, folder, obey)


def check_relay(parts: SplitResult) -> None:
    """Raises WebhookError if an address lacks what a relay needs."""
    letters = f"[-_A-Za-z0-9]{{{SHORTEST_TOPIC},{LONGEST_TOPIC}}}"
    if parts.query or not re.fullmatch(f"/{letters}", parts.path):
        raise WebhookError(
            f"a relay's address needs a topic of {SHORTEST_TOPIC} to {LONGEST_TOPIC} letters, "
            "digits, - or _: relay+https://ntfy.sh/topic#whsec_…"
        )
    if not is_secret(parts.fragment, SHORTEST_KEY):
        raise WebhookError(
            f"a relay's address needs # and whsec_ and a key of {SHORTEST_KEY} bytes or more in "
            "base64, by which its messages are sealed"
        )


def make_sink(kind: str, parts: SplitResult, folder: Path, obey: Obey) -> Sink:
    """The sink of a kind."""
    url = parts._replace(fragment="").geturl()
    people: dict[str, type[CardSink]] = {"discord": DiscordSink, "slack": SlackSink}
    people |= {"telegram": TelegramSink, "ntfy": NtfySink}
    if kind in people:
        return people[kind](url, folder)
    if kind.startswith("keras"):
        return KerasSink(url, form=kind == "keras")
    if kind == "relay":
        try:
            return RelaySink(url, parts.fragment, obey)
        except ImportError:
            raise WebhookError(
                "a relay's messages are sealed by the package cryptography, which is not installed"
            ) from None
    if parts.fragment and not is_secret(parts.fragment):
        raise WebhookError("what follows # must be whsec_ and a key in base64")
    return JsonSink(url, parts.fragment, obey)


def is_secret(text: str, least: int = 1) -> bool:
    """Is this a signing secret as Standard Webhooks writes it, of so many bytes at least?"""
    try:
        return text.startswith("whsec_") and len(base64.b64decode(text[6:], validate=True)) >= least
    except ValueError:
        return False


def is_near(host: str) -> bool:
    """Is the host this machine, or one of a private network?"""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def list_secrets(word: str) -> list[str]:
    """The parts of an address that give it away: what follows the host."""
    try:
        parts = split_address(word)[1]
    except WebhookError:
        return []
    found = [parts.path.strip("/"), parts.query, parts.fragment, parts.password or ""]
    found.append(parts.fragment.removeprefix("whsec_"))
    pieces = [piece for part in found for piece in (part, *part.split("/"))]
    return [piece for piece in pieces if len(piece) >= 16]


# ==================================================================================================
# Webhook: finds where the run is to be told, and tells it there
# ==================================================================================================
# The addresses are a secret. They come from the environment (PODIUM_WEBHOOK), else from the private
# dataset that `make webhook-setup` writes, else from a Kaggle Secret of that name. Several are set
# apart by blanks.

SECRET_NAME = "PODIUM_WEBHOOK"  # noqa: S105
SECRET_FILE = "podium-webhook.txt"  # noqa: S105
SECRET_SECONDS = 2.0  # for Kaggle's service of secrets, which is out of reach without internet
CLOSING_SECONDS = 10.0


class Watch:
    """Who is told of a run, and what SIGTERM does to it, from here to `close`."""

    def __init__(self, report: Reporter, on_stop: Callable[[], None] = lambda: None) -> None:
        self.report, self.on_stop, self.process = report, on_stop, os.getpid()
        self.deliveries: list[Delivery] = []
        self.commands = Commands(report)
        self.pulse = Pulse(report, self.deliveries)
        self.opened = False
        self.patient = False  # SIGTERM only asks to end, once
        self.asked = 0  # the signal that did
        self.farewell = threading.Thread(target=lambda: None, daemon=True)
        if threading.current_thread() is threading.main_thread():
            self.on_sigterm = signal.signal(signal.SIGTERM, self.stop)

    def open(self, environ: Mapping[str, str] = os.environ) -> None:
        """Finds the run's webhooks, says which, and tells them all from the first event on.

        None, or addresses that cannot be used, is no error: nothing of a webhook stops a run.
        After this no line of the reporter can hold an address.
        """
        self.opened = True
        if not self.report.leader:
            return
        self.pulse.start()
        try:
            source, text = find_secret(environ)
            self.report.hidden += [
                part for one in text.split() for part in (one, *list_secrets(one))
            ]
            for place, word in enumerate(text.split()):
                self.open_one(word, place, source)
        except Exception as error:  # its words may hold an address
            self.report.warn(
                f"no webhook is used: its address cannot be read ({type(error).__name__})"
            )
            return
        names = ", ".join(one.sink.name for one in self.deliveries)
        shown = f"{names}, from {source}" if names else f"none; {SECRET_NAME} would name one"
        self.report.print(f"  webhook     {shown}")

    def open_one(self, word: str, place: int, source: str) -> None:
        """Opens the delivery to one address, or says why there is none."""
        try:
            sink = read_webhook(word, self.report.folder, self.commands.obey)
            memory = self.report.folder / f"webhook-{sink.name}{place or ''}.json"
            delivery = Delivery(sink, self.report, memory)
            delivery.start()
        except Exception as error:
            reason = str(error) if isinstance(error, WebhookError) else type(error).__name__
            self.report.warn(f"webhook {place + 1} of {source} is not used: {reason}")
        else:
            self.deliveries.append(delivery)

    def close(self) -> None:
        """Delivers the rest; SIGTERM then does what it did before."""
        if signal.getsignal(signal.SIGTERM) == self.stop:
            signal.signal(signal.SIGTERM, self.on_sigterm or signal.SIG_DFL)
        self.pulse.close()
        self.deliver_rest()

    def deliver_rest(self) -> None:
        """Delivers the rest, for ten seconds at most; in a forked process there is nobody to."""
        end = time.monotonic() + CLOSING_SECONDS
        deliveries = self.deliveries if os.getpid() == self.process else []
        for delivery in deliveries:
            delivery.end_by(end)
        for delivery in deliveries:
            delivery.join(max(0.0, end - time.monotonic()))

    def say_stopped(self, number: int) -> None:
        """The run's last status and event, and their delivery."""
        self.on_stop()
        self.report.emit("run_stopped", signal=signal.Signals(number).name, command=None)
        if not self.opened:
            self.open()
        self.deliver_rest()

    def is_asked(self) -> bool:
        """Has the session been ended from outside? What the run does until then is its affair."""
        return self.asked != 0

    def is_ending(self) -> bool:
        """Is the run to end after its epoch at the latest, as a command or the session has it?"""
        return self.is_asked() or self.commands.stop != ""

    def stop(self, number: int, frame: types.FrameType | None) -> None:
        """Says that the session was ended, unless it had, then does what SIGTERM did before.

        A run that can end by itself is only asked to, and what there is to say is said meanwhile; a
        second SIGTERM ends it at once.
        """
        if self.patient and not self.asked and os.getpid() == self.process:
            self.asked = number
            self.farewell = threading.Thread(target=self.say_quietly, args=[number], daemon=True)
            self.farewell.start()
            return
        self.end(number, frame)

    def say_quietly(self, number: int) -> None:
        """Says that the session was ended; whatever goes wrong."""
        with contextlib.suppress(Exception):
            self.say_stopped(number)

    def leave(self) -> None:
        """Ends a run that was asked to end, and has done what it could."""
        self.farewell.join(CLOSING_SECONDS + 2)
        self.on_stop()
        self.end(self.asked, None)

    def end(self, number: int, frame: types.FrameType | None) -> None:
        """The last words, and the end."""
        if os.getpid() == self.process and self.report.last not in ENDINGS:
            # In a thread of its own, with a limit: the signal may have come while the main thread
            # held a lock that is needed for it.
            with contextlib.suppress(Exception):
                call_in_time(lambda: self.say_stopped(number), CLOSING_SECONDS + 2)
        signal.signal(number, self.on_sigterm or signal.SIG_DFL)
        if callable(self.on_sigterm):
            self.on_sigterm(number, frame)
        elif self.on_sigterm != signal.SIG_IGN:
            os.kill(os.getpid(), number)


def find_secret(
    environ: Mapping[str, str] = os.environ, inputs: Path = KAGGLE_INPUT
) -> tuple[str, str]:
    """Where the addresses were found, in words, and the addresses; "" and "" if nowhere."""
    if environ.get(SECRET_NAME):
        return "the environment", environ[SECRET_NAME]
    for pattern in (f"*/{SECRET_FILE}", f"datasets/*/*/{SECRET_FILE}"):
        for path in sorted(inputs.glob(pattern)):
            return "the private dataset", path.read_text(encoding="utf-8")
    if environ.get("KAGGLE_USER_SECRETS_TOKEN"):
        try:
            return "Kaggle Secrets", str(call_in_time(ask_kaggle, SECRET_SECONDS))
        except Exception:  # not attached, no network, or not in time: there is no webhook then
            return "", ""
    return "", ""


def ask_kaggle() -> str:
    """Asks Kaggle's service of secrets."""
    from kaggle_secrets import UserSecretsClient

    return str(UserSecretsClient().get_secret(SECRET_NAME))


# ==================================================================================================
# Histories: what each fold wrote down of its epochs
# ==================================================================================================
# A table of one row an epoch, as far as the run has got; what an older run did not write is empty.

HISTORY_COLUMNS = [
    *("phase", "epoch", "updates", "train/loss", "train/accuracy", "valid/loss", "valid/accuracy"),
    *("valid/metric", "clean/metric", "recalibrated/metric"),
    *("learning_rate", "image_size", "seconds", "images_per_second", "left"),
]
# How a column is drawn, by the part of the data before its slash; marks stand where batch norm
# was examined. Blue and vermilion differ for every eye, and so do line, dashes and shapes.
TRACES = {
    "train": {"color": "#d55e00", "linestyle": "--", "label": "training"},
    "valid": {"color": "#0072b2", "linestyle": "-", "label": "validation"},
    "clean": {"color": "#d55e00", "linestyle": "", "marker": "s", "label": "training, clean"},
    "recalibrated": {"color": "#0072b2", "linestyle": "", "marker": "D", "label": "recalibrated"},
}
MARKS = ("clean/metric", "recalibrated/metric")


class Followed(NamedTuple):
    """A figure that is followed over the epochs, by its name, and the columns that hold it."""

    name: str
    columns: tuple[str, ...]


def read_histories(folder: Path) -> dict[int, pd.DataFrame]:
    """The table of each fold that has ended an epoch, in the order of folds."""
    tables = {
        int(path.parent.name[4:]): read_history(path)
        for path in folder.glob("fold*/history.csv")
        if path.parent.name[4:].isdecimal()
    }
    return {fold: tables[fold] for fold in sorted(tables) if len(tables[fold])}


def read_history(path: Path) -> pd.DataFrame:
    """A fold's table: HISTORY_COLUMNS; what is no finite number is empty.

    It has no rows where the file cannot be read, which an epoch that ends just now may cause.
    """
    try:
        table = pd.read_csv(path).reindex(columns=HISTORY_COLUMNS)
    except (OSError, ValueError):
        return pd.DataFrame(columns=HISTORY_COLUMNS)
    numbers = table.drop(columns="phase").apply(pd.to_numeric, errors="coerce")
    table = numbers.replace([np.inf, -np.inf], np.nan).assign(phase=table["phase"])
    whole: pd.DataFrame = table.dropna(subset="epoch")[HISTORY_COLUMNS].reset_index(drop=True)
    return whole.astype({"epoch": np.int64})


def has_values(histories: Mapping[int, pd.DataFrame], column: str) -> bool:
    """Does any fold hold a number in that column?"""
    return any(bool(history[column].notna().any()) for history in histories.values())


def list_followed(
    histories: Mapping[int, pd.DataFrame], metric: MetricName | None
) -> tuple[Followed, Followed]:
    """Loss, and the metric; accuracy where the folds hold none, or where it is the loss itself.

    Without its name the metric is called so. Training has it only where it is accuracy.
    """
    loss = Followed("loss", ("train/loss", "valid/loss"))
    accuracy = Followed("accuracy", ("train/accuracy", "valid/accuracy"))
    if not any(has_values(histories, column) for column in ("valid/metric", *MARKS)):
        return loss, accuracy
    if metric == "log_loss":
        return loss._replace(columns=loss.columns + MARKS), accuracy
    trained = ("train/accuracy",) if metric == "accuracy" else ()
    name = METRICS[metric].title if metric else "metric"
    return loss, Followed(name, (*trained, "valid/metric", *MARKS))


def list_changes(history: pd.DataFrame, column: str, axis: str = "epoch") -> list[float]:
    """Where a column's value changes, on the axis "epoch" or "updates": between two epochs."""
    values = history[column]
    changed = (values != values.shift()) & values.notna() & values.shift().notna()
    middle = 0.5 if axis == "epoch" else 0.0
    return [float(history[axis].iloc[row - 1]) + middle for row in np.flatnonzero(changed)]


# ==================================================================================================
# Curves: one picture of all folds so far, for a phone
# ==================================================================================================


def write_curves(folder: Path, metric: MetricName | None = None) -> None:
    """Draws loss and the metric of every fold in the run folder into curves.png.

    The newest fold is in front, the others are pale. Dotted lines are where everything trains, and
    where the size of images changes.
    """
    histories = read_histories(folder)
    figure = Figure(figsize=(5.2, 2.6), dpi=140, layout="constrained")
    panels = figure.subplots(1, 2)
    last = max((history["epoch"].max() for history in histories.values()), default=1)
    for panel, followed in zip(panels, list_followed(histories, metric), strict=True):
        panel.set(title=followed.name, xlabel="epoch", xlim=(0.5, last + 0.5))
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        panel.grid(alpha=0.3)
        for fold, history in histories.items():
            draw_fold(panel, followed.columns, history, fold, newest=fold == max(histories))
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=7)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(folder / CURVES_FILE, drawn.getvalue())


def draw_fold(
    panel: Any, columns: Sequence[str], history: pd.DataFrame, fold: int, *, newest: bool
) -> None:
    """Draws a fold into one panel: in front with all there is, or as pale lines."""
    look: dict[str, Any] = {"markersize": 4, "alpha": 0.35, "linewidth": 1.0}
    if newest:
        look |= {"alpha": 1.0, "linewidth": 1.8}
        for place in (*list_changes(history, "phase"), *list_changes(history, "image_size")):
            panel.axvline(place, color="#5c6675", linestyle=":", linewidth=0.8)
    for column in columns:
        style = dict(TRACES[column.split("/")[0]])
        style["label"] = f"{style['label']}, fold {fold}" if newest else ""
        if "marker" in style:
            style["markerfacecolor"] = "none"
        elif len(history) == 1:
            style["marker"] = "o"  # a line of one point would not be seen
        if history[column].notna().any() and (newest or style["linestyle"]):
            panel.plot(history["epoch"], history[column], **look | style)


# ==================================================================================================
# Summary: the run in figures
# ==================================================================================================
# summary.json is for programs: what was found, what was reached, how long it took and with what.

VALUES_SHOWN = 12  # of a rule


def find_targets(task: Task, table: pd.DataFrame, ids: NDArray[np.str_]) -> NDArray[np.uint8]:
    """The truth of some ids of a labelled table: [len(ids), C]."""
    labels = table.set_index("id")["label"].loc[ids.tolist()]
    return encode_targets(labels.to_numpy(), len(task.classes))


def score_images(task: Task, rule: Rule, table: pd.DataFrame, predictions: Predictions) -> Score:
    """Scores predictions, decided by a rule, against the labels of a table that holds their ids."""
    targets = find_targets(task, table, predictions.ids)
    answers = apply_rule(rule, predictions.probs)
    return score_predictions(task, targets, answers, predictions.probs)


def score_single_models(
    task: Task, rule: Rule, table: pd.DataFrame, answers: Sequence[Predictions]
) -> Score:
    """The mean score of each member by itself on one table: what out-of-fold figures foretell.

    The interval is the mean of the members' own: they answer the same images, which are no more
    for being answered several times.
    """
    scores = [score_images(task, rule, table, member) for member in answers]
    low, high = np.mean([score.interval for score in scores], axis=0).tolist()
    value = float(np.mean([score.value for score in scores]))
    loss = float(np.mean([score.log_loss for score in scores]))
    return scores[0]._replace(value=value, interval=(low, high), log_loss=loss)


def score_fields(score: Score) -> dict[str, Any]:
    """A score as JSON holds it."""
    return {**score._asdict(), "interval": list(score.interval)}


def format_score(score: Mapping[str, Any]) -> str:
    """A score's fields as a line of the log shows them."""
    low, high = score["interval"]
    sure = f"{score['value']:.4f} (95 %: {low:.4f} to {high:.4f})"
    also = "" if score["metric"] == "log_loss" else f", log loss {score['log_loss']:.4f}"
    return f"{METRICS[score['metric']].title} {sure}{also}"


def summarise_run(
    config: Config, runtime: Runtime, competition: Competition, report: Reporter, state: str
) -> dict[str, Any]:
    """What summary.json says of the run itself; its state is "running" or "complete"."""
    return {
        "run": {
            "state": state,
            "backend": runtime.backend,
            "accelerator": runtime.accelerator,
            "devices": len(runtime.devices),
            "source": SOURCE,
            "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(runtime.started)),
            "versions": read_versions(),
        },
        "metric": competition.task.metric,
        "answer": competition.task.answer,
        "classes": list(competition.classes),
        "counts": {
            "train": len(competition.train),
            "test": len(competition.test),
            "classes": len(competition.classes),
            "folds": config.folds.count,
        },
        "seconds": {"total": round(time.time() - runtime.started, 1)},
        "warnings": report.warnings,
    }


def decide_answers(task: Task, table: pd.DataFrame, oof: Sequence[Predictions]) -> Decision:
    """Decides the folds so far, laid end to end, each by a rule that was fitted without it."""
    whole = join_predictions(oof)
    folds = np.repeat(np.arange(len(oof)), [len(part.ids) for part in oof])
    return fit_nested(task, find_targets(task, table, whole.ids), whole.probs, folds)


def describe_decision(task: Task, decision: Decision) -> str:
    """What the evidence says of a fitted rule, in words."""
    evidence = decision.comparison
    return (
        f"{METRICS[task.metric].title} {decision.plain:.4f} by the plain rule, "
        f"{decision.nested:.4f} by rules fitted on the other folds: gain "
        f"{evidence.difference:+.4f}, one-sided 95 % bound {evidence.low:+.4f}, p "
        f"{evidence.p:.3g}; the {'fitted' if evidence.adopted else 'plain'} rule is used"
    )


def ask_rule(task: Task, decision: Decision) -> Question:
    """The decision as a question; it has one option where fitted rules answer as the plain one."""
    gain, rule = decision.comparison, decision.rule
    options = [Option("plain rule", decision.plain)]
    if gain.detectable > 0:
        options += [Option("fitted rule", decision.nested, gain, None, *decision.flips)]
    values = ", ".join(f"{value:.4g}" for value in rule.values[:VALUES_SHOWN])
    return Question(
        "answers",
        "How do probabilities become answers?",
        answer_rule(METRICS[task.metric].title, decision),
        task.metric,
        options[gain.adopted].name,
        tuple(options),
        notes=(f"In use: {rule.kind}" + (f" ({values})" if values else ""),),
    )


def answer_rule(metric: str, decision: Decision) -> str:
    """What the evidence says of a fitted rule, to a person."""
    gain = decision.comparison
    if gain.adopted:
        return (
            f"By a rule that was fitted to {metric}: on folds that it had not seen, "
            f"{decision.plain:.4f} became {decision.nested:.4f}."
        )
    if not gain.detectable > 0:
        return f"By the plain rule: none that was fitted to {metric} answers otherwise."
    return (
        f"By the plain rule: fitted ones are not shown to gain {metric} on folds that they had not "
        f"seen, where {gain.detectable:.4f} would be shown four times in five."
    )


def decision_fields(task: Task, decision: Decision) -> dict[str, Any]:
    """A decision as JSON holds it, without its answers."""
    words = describe_decision(task, decision)
    scores = {"words": words, "plain": decision.plain, "nested": decision.nested}
    return {"rule": decision.rule._asdict(), **scores, **decision.comparison._asdict()}


def summarise_scores(
    task: Task,
    train: Images,
    test: Images,
    oof: Sequence[Predictions],
    answers: Sequence[Predictions],
    decision: Decision,
) -> dict[str, Any]:
    """What summary.json says of the metric, out of fold and, where the truth is known, on test.

    Out of fold, an image is decided by a rule that was fitted without its fold. "test" is the
    average of all folds' models, which is submitted; "test_single" their mean score.
    """
    known, rule = "label" in test.table, decision.rule
    blended = average_predictions(answers)
    ends = np.cumsum([0, *(len(part.ids) for part in oof)])
    folds = [
        score_predictions(
            task,
            find_targets(task, train.table, part.ids),
            decision.answers[start:end],
            part.probs,
        )
        for part, start, end in zip(oof, ends, ends[1:], strict=False)
    ]
    whole = join_predictions(oof)
    targets = find_targets(task, train.table, whole.ids)
    score = score_predictions(task, targets, decision.answers, whole.probs)
    single = score_single_models(task, rule, test.table, answers) if known else None
    return {
        "out_of_fold": score_fields(score),
        "decision": decision_fields(task, decision),
        "test": score_fields(score_images(task, rule, test.table, blended)) if known else None,
        "test_single": score_fields(single) if single else None,
        "folds": [{"fold": fold, **score_fields(score)} for fold, score in enumerate(folds)],
        "unreadable": {"training": train.unreadable, "test": test.unreadable},
    }


# ==================================================================================================
# Results: what a run leaves in its folder, and what it must not leave of another
# ==================================================================================================
# What is written here is whole or not there. status.json says how the run stands, for whoever finds
# the folder: Kaggle keeps it, `make pull` repeats it.

# What a run writes, but for the record, which goes on, and the webhooks' memories.
ANSWER_FILES = ("status.json", "submission.csv", "test.npz")
TRAINING_FILES = (
    *("config.json", "curves.png", "folds.csv", "oof.npz", "report.html", "summary.json"),
    QUESTIONS_FILE,
    *("fold*/model.keras", "fold*/history.csv", "fold*/oof.npz", "fold*/test.npz"),
    *("fold*/range-test.png", "fold*/range-test.csv", "fold*/truth.json"),
    *("fold*/checkpoint-*.npz*", "run.json", "pseudo.json", "fold*/pseudo.csv"),
    *("fold*/*views.npz", "undecided.csv"),
)


def forget_results(folder: Path, config: Config) -> None:
    """Removes what an earlier run left in the folder, so that nothing passes for this run's.

    The folder of the run that is to answer (predict.run) keeps its models and what was said of
    them; folds.csv stays where folds.file, a file or a folder, says that it is to be used again.
    Raises PseudoError if that earlier run is the one that is to label test images (pseudo.run).
    """
    answering, teacher, folds = config.predict.run, config.pseudo.run, config.folds.file
    if teacher is not None and Path(teacher).resolve() == folder.resolve():
        raise PseudoError(
            f"pseudo.run is {teacher}, which is the run folder, where this run would take its "
            f"teacher's place; set runtime.folder to another"
        )
    kept = None if folds is None else find_folds(folds).resolve()
    keeps = answering is not None and Path(answering).resolve() == folder.resolve()
    for pattern in ANSWER_FILES if keeps else ANSWER_FILES + TRAINING_FILES:
        for path in folder.glob(pattern):
            if path.resolve() != kept:
                path.unlink()


def write_status(folder: Path, state: str, error: str | None = None) -> None:
    """Writes status.json: how the run stands, and whether there is a submission."""
    submission = (folder / "submission.csv").is_file()
    status = {"state": state, "error": error, "submission": submission, "source": SOURCE}
    try:
        write_json(folder / "status.json", status)
    except OSError as fault:
        print(f"! status.json could not be written ({fault.strerror})", file=sys.stderr)


def describe_files(folder: Path) -> dict[str, Any]:
    """The files of a run with their bytes, the largest first, and the submission's sha256."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    submission = folder / "submission.csv"
    return {
        "files": [
            {"name": name, "bytes": size} for name, size in sorted(sizes, key=lambda one: -one[1])
        ],
        "submission": hashlib.sha256(submission.read_bytes()).hexdigest()
        if submission.is_file()
        else None,
    }


def write_fold_answers(folder: Path, oof: Predictions, test: Predictions) -> None:
    """Writes what one fold answers; test.npz comes last, and says that the fold is done with."""
    write_predictions(oof, folder / "oof.npz")
    write_predictions(test, folder / "test.npz")


def read_fold_answers(folder: Path) -> tuple[Predictions, Predictions] | None:
    """What `write_fold_answers` wrote; None if a file is damaged, or the fold was not done with."""
    try:
        return read_predictions(folder / "oof.npz"), read_predictions(folder / "test.npz")
    except Exception:  # NumPy and zipfile raise many kinds on what is torn
        return None


def write_answers(
    competition: Competition,
    oof: list[Predictions],
    answers: list[Predictions],
    decision: Decision,
    folder: Path,
) -> list[str]:
    """Writes the predictions of the folds so far, and the submission that their average makes.

    Returns what is odd about it, in words.
    """
    write_predictions(join_predictions(oof), folder / "oof.npz")
    blended = average_predictions(answers)
    return write_submission_of(competition, blended, decision.rule, folder, decision.answers)


def write_submission_of(
    competition: Competition,
    answers: Predictions,
    rule: Rule,
    folder: Path,
    out_of_fold: NDArray[np.float32] | None = None,
) -> list[str]:
    """Writes predictions of the test part and the submission that they make, once it is valid.

    Returns what is odd about it, against out-of-fold answers [N, C] where they are given.
    """
    write_predictions(answers, folder / "test.npz")
    decided = Predictions(answers.ids, apply_rule(rule, answers.probs))
    submission = make_submission(competition, decided)
    warnings = check_submission(submission, competition, out_of_fold)
    write_submission(submission, folder / "submission.csv")
    return warnings


def write_undecided(
    parts: Sequence[tuple[str, NDArray[np.str_]]], folder: Path, report: Reporter
) -> None:
    """Writes undecided.csv: images that stayed open after the most views, and for how many models.

    Takes each model's ids with the name of their part, "training" or "test".
    """
    rows = [(part, image_id) for part, ids in parts for image_id in ids.tolist()]
    table = pd.DataFrame(rows, columns=["part", "id"]).value_counts().rename("models").reset_index()
    table = table.sort_values(["part", "models", "id"], ascending=[False, False, True])
    try:
        write_whole(folder / "undecided.csv", table.to_csv(index=False).encode())
    except OSError as error:
        report.warn(f"undecided.csv cannot be written ({error.strerror})")


# ==================================================================================================
# Resume: a run that was cut off goes on where it was
# ==================================================================================================
# A folder holds an unfinished run if there is run.json, something that was learned (a finished
# fold or a checkpoint), and either fewer finished folds than were asked for or no "finished" in
# status.json. run.json says what a later session must find equal, so that no fold is trained or
# judged otherwise than those before it.

RUN_FILE = "run.json"

# Settings that may change between two sessions of a run: where things lie and on what machine they
# are computed, how long a session lasts, what is only shown, and what trained folds are asked.
# Backend and precision are compared as they were settled.
FREE_SETTINGS = frozenset({
    *("runtime.accelerator", "runtime.devices", "runtime.folder", "runtime.session_hours"),
    *("runtime.reserve_minutes", "runtime.resume", "runtime.failure_exit"),
    *("data.folder", "data.sample_submission", "data.solution"),
    *("pixels.cache", "pixels.cache_share", "augment.workers"),
    *("schedule.range_test", "train.checkpoint_minutes", "predict.run"),
    *("predict.views", "predict.most_views"),
})  # fmt: skip


class ResumeError(RuntimeError):
    """A run cannot go on as it was."""


def describe_run(config: Config, runtime: Runtime, competition: Competition) -> dict[str, Any]:
    """What run.json says of a run, fit for JSON: settings, files and machine.

    Files count by what is in them, not by where they lie.
    """
    settings = {k: v for k, v in list_settings(config).items() if k not in FREE_SETTINGS}
    settings |= {"runtime.backend": runtime.backend, "runtime.precision": runtime.precision}
    if config.folds.file is not None:
        table = read_folds(config.folds.file).to_csv().encode()
        settings["folds.file"] = f"a file of digest {digest_parts([table])}"
    if config.pseudo.run is not None:
        answers = (Path(config.pseudo.run) / name for name in ("folds.csv", "oof.npz"))
        content = digest_parts(path.read_bytes() for path in answers if path.is_file())
        settings["pseudo.run"] = f"a run of digest {content}"
    task = json.dumps(competition.task._asdict())
    return {
        "settings": settings,
        "files": {
            "the training images' ids, labels and groups": digest_table(competition.train),
            "the test images' ids": digest_table(competition.test[["id"]]),
            "the classes and what is asked": digest_parts([task.encode()]),
        },
        "devices": len(runtime.devices),
        "source": SOURCE,
    }


def digest_table(table: pd.DataFrame) -> str:
    """A digest of what a table says of each image, but for where its file lies."""
    rows = table[[name for name in ("id", "label", "group") if name in table]]
    return digest_parts(f"{row}\n".encode() for row in rows.astype(str).itertuples(index=False))


def digest_parts(parts: Iterable[bytes]) -> str:
    """16 hex digits."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def write_run(description: dict[str, Any], folder: Path) -> None:
    """Writes run.json: from here on the folder's folds and checkpoints are this run's."""
    write_json(folder / RUN_FILE, description)


def read_run(folder: Path) -> dict[str, Any]:
    """Reads run.json; raises ResumeError if it is not what a run writes."""
    try:
        told = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        return {name: told[name] for name in ("settings", "files", "devices", "source")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(
            f"{folder / RUN_FILE} does not tell how that run was begun ({describe_error(error)}); "
            f"set runtime.resume to no to start anew, which loses what is in a run folder"
        ) from error


def check_same_run(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Says in words what differs between two sessions of a run and may: machine and script.

    Raises ResumeError naming all that differs and may not. A setting that one of two versions of
    the script does not know is not compared.
    """
    changed = name_changes(was["settings"], now["settings"])
    if changed:
        raise ResumeError(
            f"the unfinished run was begun with other settings: {'; '.join(changed)}; set "
            f"{'them' if len(changed) > 1 else 'it'} back, or runtime.resume to no to start anew"
        )
    files = [name for name, digest in now["files"].items() if was["files"].get(name) != digest]
    if files:
        raise ResumeError(
            f"the unfinished run is of other files: {' and '.join(files)} differ; attach the files "
            f"that it was begun with (data.folder), or set runtime.resume to no to start anew"
        )
    notes = []
    if was["devices"] != now["devices"]:
        notes.append(
            f"the run was begun on {was['devices']} devices and goes on on {now['devices']}: sums "
            f"are taken in another order, so the last digits differ from a run in one piece"
        )
    if was["source"] != now["source"]:
        notes.append(
            f"the run was begun by another version of the script ({was['source'][:12]}, now "
            f"{now['source'][:12]}): its folds are of one recipe only if none of that changed"
        )
    return notes


def name_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, with both values, in words."""
    words = {"None": "none", "True": "yes", "False": "no"}
    changed = [name for name in now if name in was and was[name] != now[name]]
    values = [[words.get(str(one[name]), one[name]) for one in (was, now)] for name in changed]
    return [f"{name} was {a} and is {b}" for name, (a, b) in zip(changed, values, strict=True)]


def find_unfinished(config: Config, folder: Path, inputs: Path = KAGGLE_INPUT) -> Path | None:
    """The folder of the run to go on with, as runtime.resume says; None starts anew.

    auto prefers the run folder to what is attached; a run that is there for its folds (folds.file)
    is none to go on with, and who predicts with one (predict.run) trains none. Raises ResumeError
    if the folder named holds no unfinished run, or if several are attached.
    """
    resume = config.runtime.resume
    if config.predict.run is not None or resume == "no":
        return None
    if resume != "auto":
        if not is_unfinished(Path(resume)):
            raise ResumeError(
                f"runtime.resume is {resume}, which holds no unfinished run ({RUN_FILE} beside a "
                f"finished fold or a checkpoint, and folds still to train); name its folder, or "
                f"set runtime.resume to auto"
            )
        return Path(resume)
    used = config.folds.file and find_folds(config.folds.file).resolve().parent
    if is_unfinished(folder) and folder.resolve() != used:
        return folder
    found = sorted(path for path in list_attached(inputs) if path.resolve() != used)
    if len(found) > 1:
        raise ResumeError(
            f"runtime.resume is auto, and several unfinished runs are attached: "
            f"{', '.join(map(str, found))}; set runtime.resume to one of them, or to no"
        )
    return found[0] if found else None


def list_attached(inputs: Path) -> Iterator[Path]:
    """Yields the folders below that hold an unfinished run."""
    for top, below, files in os.walk(inputs):
        folder = Path(top)
        if len(folder.relative_to(inputs).parts) >= RUN_DEPTH:
            below.clear()
        if RUN_FILE in files and is_unfinished(folder):
            yield folder


def is_unfinished(folder: Path) -> bool:
    """Does a folder hold a run that has learned something and has folds or answers left to do?

    Raises ResumeError if its run.json cannot be read.
    """
    learned = (folder.glob(f"fold[0-9]*/{name}") for name in ("test.npz", "checkpoint-*.npz"))
    if not (folder / RUN_FILE).is_file() or not any(map(any, learned)):
        return False
    count = read_run(folder)["settings"]["folds.count"]
    return read_state(folder) != "finished" or len(list_finished_folds(folder, count)) < count


def read_state(folder: Path) -> str:
    """How a run stands by its status.json; empty if that cannot be read."""
    try:
        return str(json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def list_finished_folds(folder: Path, count: int) -> list[int]:
    """The folds, of 0 … count − 1, whose answers are there and can be read."""
    return [fold for fold in range(count) if read_fold_answers(folder / f"fold{fold}")]


def adopt_run(source: Path, folder: Path) -> None:
    """Copies what a run needs to go on, from where it can only be read, into the run folder.

    Folds that are there already are removed. run.json goes first and comes last, so that a copy
    which is cut off is no run. Raises ResumeError if there is no room.
    """
    if source.resolve() == folder.resolve():
        return
    (folder / RUN_FILE).unlink(missing_ok=True)
    sync_folder(folder)
    for path in list_files(folder):
        path.unlink()
    try:
        for path in [*list_files(source), source / "folds.csv", source / RUN_FILE]:
            copy_whole(path, folder / path.relative_to(source))
    except OSError as error:
        raise ResumeError(
            f"the unfinished run in {source} cannot be copied to {folder} "
            f"({describe_error(error)}); free room there, or set runtime.folder to a larger disk"
        ) from error


def list_files(folder: Path) -> list[Path]:
    """The files of a run's folds, but for what a write that was cut off has left."""
    paths = folder.glob("fold[0-9]*/*")
    return sorted(path for path in paths if path.is_file() and path.suffix != ".half")


def copy_whole(source: Path, target: Path) -> None:
    """Copies the content of a file, whole or not at all, and not that it can only be read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as content, open_whole(target) as file:
        shutil.copyfileobj(content, file, 1 << 20)


# ==================================================================================================
# Record: what a run folder holds, as far as the run has got
# ==================================================================================================


class RunRecord(NamedTuple):
    """What a run folder holds, as far as the run has got."""

    summary: dict[str, Any]  # {} until the run has written one
    settings: dict[str, Any]  # dotted names
    folds: dict[str, int]  # image id → fold
    curves: dict[int, pd.DataFrame]  # fold → one row an epoch
    truths: dict[int, dict[str, Any]]  # fold → what was found of batch norm
    questions: list[Question]  # what was decided, and why
    task: Task
    oof: Predictions  # [N], [N, C]
    targets: NDArray[np.uint8]  # [N, C], the truth of oof
    answers: NDArray[np.float32]  # [N, C], what the run's rule makes of oof

    def part(self, name: str) -> dict[str, Any]:
        """One part of the summary, empty where the summary has none."""
        return self.summary.get(name) or {}


def read_run_record(folder: Path, competition: Competition) -> RunRecord:
    """Reads what there is; what is not there yet is empty."""
    settings, summary = (read_fields(folder / f"{name}.json") for name in ("config", "summary"))
    folds = dict[str, int]()
    if (folder / "folds.csv").is_file():
        table = pd.read_csv(folder / "folds.csv", dtype={"id": str}, keep_default_na=False)
        folds = dict(zip(table["id"], table["fold"].astype(int), strict=True))
    task = competition.task
    oof = Predictions(np.array([], np.str_), np.zeros((0, len(task.classes)), np.float32))
    if (folder / "oof.npz").is_file():
        oof = read_predictions(folder / "oof.npz")
    labels = competition.train.set_index("id")["label"].reindex(oof.ids.tolist())
    known = labels.notna().to_numpy()
    oof = Predictions(oof.ids[known], oof.probs[known])
    targets = encode_targets(labels[known].tolist(), len(task.classes))
    answers = apply_rule(find_rule(summary, task), oof.probs)
    curves, truths = read_histories(folder), read_truths(folder)
    questions = list[Question]()
    with suppress(ValueError):  # half a report is better than none
        questions = read_questions(folder)
    return RunRecord(
        summary, settings, folds, curves, truths, questions, task, oof, targets, answers
    )


def read_fields(path: Path) -> dict[str, Any]:
    """What a JSON file says by name; nothing where there is no file."""
    fields: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return fields


def read_truths(folder: Path) -> dict[int, dict[str, Any]]:
    """What was found of batch norm in each fold that examined it, in the order of folds."""
    found = dict[int, dict[str, Any]]()
    for path in folder.glob("fold*/truth.json"):
        with suppress(OSError, ValueError):  # half a report is better than none
            truth = json.loads(path.read_text(encoding="utf-8"))
            if path.parent.name[4:].isdecimal() and isinstance(truth, dict):
                found[int(path.parent.name[4:])] = truth
    return dict(sorted(found.items()))


def score_record(run: RunRecord, chosen: NDArray[np.bool_] | None = None) -> Score:
    """The score of the out-of-fold probabilities so far, or of the chosen ones."""
    rows = np.arange(len(run.oof.ids)) if chosen is None else np.flatnonzero(chosen)
    return score_predictions(run.task, run.targets[rows], run.answers[rows], run.oof.probs[rows])


def measure_folds(run: RunRecord) -> dict[int, dict[str, Any]]:
    """The summary's figures for each fold, or those of the out-of-fold probabilities so far."""
    scores = {
        int(row["fold"]): dict(row) for row in run.summary.get("folds") or [] if "fold" in row
    }
    if scores:
        return scores
    fold_of = np.array([run.folds.get(image_id, -1) for image_id in run.oof.ids.tolist()])
    return {
        int(fold): score_record(run, fold_of == fold)._asdict()
        for fold in np.unique(fold_of[fold_of >= 0])
    }


# ==================================================================================================
# Test-time augmentation: whether several views of an image answer better than one
# ==================================================================================================
# Of views by themselves one learns little: each may be worse than the image as it is, and their
# mean better. So means are judged, by the metric, on images that their models have not seen, and
# only one that is shown to gain is used. A view in which a class is no longer found (a mirrored
# digit) is shown, and left out of every mean.
#
# Shapes: V looks, N images, C classes; members [V, N, C].

PLAIN = "one view"
WARMED = ", temperature"  # what the name of a blend with a fitted temperature ends with
COST_UNIT = "s/image"


class Judgement(NamedTuple):
    """What the evidence says of looks: the choice, and the questions that it answers."""

    choice: Choice
    names: tuple[str, ...]  # [V]
    questions: tuple[Question, Question]  # tta, views

    @property
    def used(self) -> tuple[str, ...]:
        """The looks that count in the choice."""
        weights = self.choice.blend.weights
        return tuple(name for name, weight in zip(self.names, weights, strict=True) if weight)


def judge_looks(task: Task, targets: Truth, looks: Looks, folds: NDArray[np.int64]) -> Judgement:
    """Judges what models say of images that they have not learned, of which the folds are [N].

    The first look is the image as it is. A temperature alone has its own gate, so that what it
    gains is not credited to views.
    """
    plain = {PLAIN: fit_alone(0)}
    if is_tempered(task):
        plain[PLAIN + WARMED] = warm(plain[PLAIN])
    alone = choose_blend(task, targets, looks.probs, folds, plain)
    fits = {alone.name: plain[alone.name], **list_candidates(task, looks.names)}
    choice = choose_blend(task, targets, looks.probs, folds, fits)
    if alone.name == PLAIN:
        choice = choice._replace(options=(*alone.options, *choice.options[1:]))
    else:  # what others gain is over it
        choice = choice._replace(options=(*choice.options, alone.options[0]))
    questions = (
        ask_tta(task, targets, looks, choice, plain | fits),
        ask_views(task, targets, looks, choice),
    )
    return Judgement(choice, looks.names, questions)


def is_tempered(task: Task) -> bool:
    """Can a temperature change the metric? It keeps what is likeliest, and so what is decided."""
    return METRICS[task.metric].takes != "decisions"


def list_candidates(task: Task, names: Sequence[str]) -> dict[str, Fit]:
    """The ways to put looks together: of the views by name, each also with a temperature."""
    count = sum(not name.startswith(ADAPTIVE) for name in names)
    chosen = {"mean": "uniform", "geometric mean": "geometric mean", "greedy": "greedy"}
    fits = {name: among_sound(FITS[fit], count) for name, fit in chosen.items() if count > 1}
    fits |= {name: fit_alone(place) for place, name in enumerate(names) if place >= count}
    warmed = {name + WARMED: warm(fit) for name, fit in fits.items()}
    return fits | (warmed if is_tempered(task) else {})


def fit_alone(place: int) -> Fit:
    """One look by itself."""

    def fit(_: Task, __: Truth, members: Members) -> Blend:
        return Blend("mean", tuple(np.eye(len(members))[place].tolist()))

    return fit


def warm(fit: Fit) -> Fit:
    """A fit, and after it a temperature of its answers."""

    def warmed(task: Task, targets: Truth, members: Members) -> Blend:
        blend = fit(task, targets, members)
        probs = apply_blend(blend, members, exclusive=task.exclusive)
        return blend._replace(power=blend.power * fit_power(task, targets, probs))

    return warmed


def among_sound(fit: Fit, count: int) -> Fit:
    """A fit over those of the first looks, so many, that break no class of the images it sees."""

    def chosen(task: Task, targets: Truth, members: Members) -> Blend:
        first, weights = members[0], np.zeros(len(members))
        sound = [
            place
            for place in range(count)
            if place == 0 or not find_broken(task, targets, first, members[place])
        ]
        blend = fit(task, targets, members[sound])
        weights[sound] = blend.weights
        return blend._replace(weights=tuple(weights.tolist()))

    return chosen


def find_broken(task: Task, targets: Truth, plain: Answers, view: Answers) -> dict[int, float]:
    """Classes of which a view loses more than half that was found without it, and which share.

    By McNemar's test of each class's images, at 5 % for all classes together (Bonferroni).
    """
    before, after = (targets * find_named(task, probs) for probs in (plain, view))
    found = before.sum(axis=0, dtype=np.int64)
    lost, won = ((one > other).sum(axis=0) for one, other in ((before, after), (after, before)))
    p = binom.sf(lost - 1, lost + won, 0.5)
    broken = (2 * (lost - won) > found) & (p < DOUBT / len(found))
    return {int(at): float((lost - won)[at] / found[at]) for at in np.flatnonzero(broken)}


def ask_tta(
    task: Task, targets: Truth, looks: Looks, choice: Choice, fits: Mapping[str, Fit]
) -> Question:
    """The question whether to take several looks, and what each way to do so gains and costs."""
    options = []
    for option in choice.options:
        blend = fits[option.name](task, targets, looks.probs)
        seconds = float(looks.seconds[np.array(blend.weights) > 0].sum())
        options.append(option._replace(cost=seconds))
    return Question(
        "tta",
        "Is test-time augmentation worth it?",
        describe_choice(task, looks, choice),
        task.metric,
        choice.name,
        tuple(options),
        COST_UNIT,
        (*describe_warmth(task, choice.options), *describe_adaptive(looks)),
    )


def describe_choice(task: Task, looks: Looks, choice: Choice) -> str:
    """What the evidence says of several looks, in words."""
    gain, title = choice.comparison, METRICS[task.metric].title
    if not gain.adopted:
        alone = "" if choice.name == PLAIN else "; a temperature alone is, and is used"
        return (
            f"no: what does best on other folds gains {gain.difference:+.4f} {title} "
            f"(one-sided 95 % bound {gain.low:+.4f}, p {gain.p:.2g}), and {gain.n} images would "
            f"show a gain of {gain.detectable:.4f}{alone}"
        )
    weights = np.array(choice.blend.weights)
    times = looks.seconds[weights > 0].sum() / max(looks.seconds[0], 1e-9)
    return (
        f"yes: {choice.name} of {int((weights > 0).sum())} gains {gain.difference:+.4f} {title} "
        f"(one-sided 95 % bound {gain.low:+.4f}, p {gain.p:.2g}) for {times:.1f} times the "
        f"prediction's time"
    )


def describe_warmth(task: Task, options: Sequence[Option]) -> list[str]:
    """What a temperature makes of one view, where that is what the others are compared with."""
    title, before, after = METRICS[task.metric].title, options[-1].score, options[0].score
    words = f"a temperature alone takes {title} of one view from {before:.4f} to {after:.4f}"
    return [] if options[0].name == PLAIN else [f"{words}; the others are compared with that"]


def describe_adaptive(looks: Looks) -> list[str]:
    """How many views an image took, and what stayed open."""
    return [
        f"{name} took {views:.1f} views an image, and left {int(looks.undecided.sum())} of "
        f"{len(looks.ids)} images undecided"
        for name, views in zip(looks.names, looks.taken.tolist(), strict=True)
        if name.startswith(ADAPTIVE)
    ]


def ask_views(task: Task, targets: Truth, looks: Looks, choice: Choice) -> Question:
    """The question which views: each by itself, and those that are used together."""
    answers = [apply_rule(plain_rule(task), probs) for probs in looks.probs]
    options = list[Option]()
    for name, answer, cost in zip(looks.names, answers, looks.seconds.tolist(), strict=True):
        score = score_answers(task, targets, answer)
        if not options:
            options.append(Option(name, score, cost=cost))
            continue
        gain = compare_answers(task, targets, answers[0], answer)
        flips = count_flips(task, targets, answers[0], answer)
        options.append(Option(name, score, gain, cost, *flips))
    weights = np.array(choice.blend.weights)
    used = [name for name, weight in zip(looks.names, weights, strict=True) if weight]
    chosen = " + ".join(used)
    if len(used) > 1:
        together = apply_rule(plain_rule(task), choice.probs)
        gain = compare_answers(task, targets, answers[0], together)
        flips = count_flips(task, targets, answers[0], together)
        score, cost = score_answers(task, targets, together), looks.seconds[weights > 0].sum()
        options.append(Option(chosen, score, gain, float(cost), *flips))
    words = f"{chosen}, {choice.name}" if len(used) > 1 else f"{chosen} alone"
    notes = describe_broken(task, targets, looks) + describe_colour(task, options)
    return Question(
        "views", "Which views?", words, task.metric, chosen, tuple(options), COST_UNIT, tuple(notes)
    )


def describe_broken(task: Task, targets: Truth, looks: Looks) -> list[str]:
    """Which views break which classes."""
    notes = []
    for name, probs in zip(looks.names[1:], looks.probs[1:], strict=True):
        broken = find_broken(task, targets, looks.probs[0], probs)
        worst = sorted(broken, key=lambda at: broken[at], reverse=True)[:3]
        told = ", ".join(f"{task.classes[at]} ({broken[at]:.0%} lost)" for at in worst)
        if broken:
            number = f"{len(broken)} class{'es' if len(broken) > 1 else ''}"
            notes.append(f"{name} breaks {number} and is not used: {told}")
    return notes


def describe_colour(task: Task, options: Sequence[Option]) -> list[str]:
    """How much the network relies on colour, if that was looked at."""
    return [
        f"without colour {METRICS[task.metric].title} is {option.score:.4f} instead of "
        f"{options[0].score:.4f}: so much the network relies on it"
        for option in options
        if option.name == "grey"
    ]


def withdraw(question: Question, why: str) -> Question:
    """The question where what was shown to help cannot be used."""
    answer = f"{question.answer}; not used: {why}"
    plain = PLAIN if question.name == "tta" else IDENTITY.name
    return question._replace(answer=answer, chosen=plain)


# ==================================================================================================
# Adoption: several views of the test part, where they are shown to help
# ==================================================================================================
# Each fold's model sees its own part in all ways that are asked for, which costs little, and what
# it says of them is kept. The test part it sees only in those that all folds together show to gain,
# when there is a submission; that one stands if time, models or room are missing.

OWN_FILE, TEST_FILE = "views.npz", "test-views.npz"


class Plan(NamedTuple):
    """What all folds of a run have in common."""

    config: Config
    runtime: Runtime
    competition: Competition
    start: Start
    data: TrainingSet
    test: Images
    leaks: list[Leak]


class Part(NamedTuple):
    """Images that a fold's model looks at, how, and the file that keeps it."""

    file: str
    names: tuple[str, ...]
    images: Images
    chosen: NDArray[np.bool_] | None  # None is all

    @property
    def ids(self) -> NDArray[np.str_]:
        """Of the images: [N]."""
        ids: NDArray[np.str_] = self.images.table["id"].to_numpy(str)
        return ids if self.chosen is None else ids[self.chosen]


class Adopted(NamedTuple):
    """Each fold's answers, own part and test part, by the looks that are used."""

    oof: list[Predictions]
    answers: list[Predictions]
    fields: dict[str, Any]  # for the summary, by which a later session answers likewise


def open_viewer(plan: Plan, session: Session) -> Viewer:
    """Who looks, until time is short or the run is asked to end."""

    def goes_on(seconds: float) -> bool:
        return bool(ask_first_host(session.planner.affords(seconds) and not session.halt.soon()))

    return Viewer(
        plan.config.pixels.batch_size,
        goes_on,
        session.planner.now,
        exclusive=plan.competition.task.exclusive,
        flip=plan.config.augment.flip == "yes",
    )


def find_own(plan: Plan, fold: int) -> Part:
    """A fold's own part, which judges the looks that are asked for."""
    names = list_looks(plan.config.predict)
    return Part(OWN_FILE, names, plan.data.images, plan.data.folds == fold)


def look_at_own(
    plan: Plan, model: keras.Model, fold: int, viewer: Viewer, report: Reporter
) -> None:
    """Has a fold's model look at its own part while it is at hand.

    What there is no time for is left to `adopt_looks`, or to a run that goes on with this one.
    """
    part = find_own(plan, fold)
    if part.names:
        with suppress(NoTimeError):
            viewer.check(len(part.ids) * len(part.names))
            look(plan, fold, part, viewer, report, model)


def look(
    plan: Plan,
    fold: int,
    part: Part,
    viewer: Viewer,
    report: Reporter,
    model: keras.Model | None = None,
) -> Looks:
    """What a fold's model says of a part; read where it was kept, else asked and kept.

    Raises NoTimeError, or CompetitionError if the model is needed and cannot be loaded.
    """
    folder = plan.runtime.folder / f"fold{fold}"
    kept = read_looks(folder / part.file, part.names, part.ids)
    if kept is not None:
        viewer.pace = float((kept.seconds / kept.taken)[-1])
        return kept
    if model is None:
        open_session(plan.runtime.precision, len(plan.runtime.devices))
        model = load_trained(folder / "model.keras")
    looks = viewer.look(model, part.images, part.chosen, part.names)
    try:
        write_looks(looks, folder / part.file)
    except OSError as error:
        report.warn(f"{folder / part.file} cannot be written ({error.strerror}); nothing is lost")
    return looks


def adopt_looks(
    plan: Plan,
    oof: Sequence[Predictions],
    answers: Sequence[Predictions],
    viewer: Viewer,
    report: Reporter,
) -> Adopted | None:
    """Judges the looks on all folds; their answers where they are shown to gain, else None.

    Keeps the questions, and says what the evidence says. What is missing is warned of.
    """
    if not list_looks(plan.config.predict):
        return None
    if len(oof) < 2:
        report.say("Test-time augmentation is not tried: it is judged on two folds or more")
        return None
    try:
        own = [look(plan, fold, find_own(plan, fold), viewer, report) for fold in range(len(oof))]
    except (NoTimeError, CompetitionError) as error:
        report.warn(f"test-time augmentation is not tried: {error}")
        return None
    verdict, task = judge_own(plan, own), plan.competition.task
    use = find_use(verdict, own, viewer)
    test, why = list[Looks | None](), ""
    try:
        test = list(look_at_test(plan, len(oof), use, viewer, report))
    except (NoTimeError, CompetitionError) as error:
        why = str(error)
        report.warn(f"views are shown to help, and are not used: {why}")
    keep_verdict(plan, verdict, why, report)
    if any(name.startswith(ADAPTIVE) for name in verdict.names):
        list_undecided(plan, own, test, report)
    if why or use is None:
        return None
    ends = np.cumsum([len(one.ids) for one in own])[:-1]
    nested = np.split(verdict.choice.probs, ends)
    return Adopted(
        [Predictions(one.ids, probs) for one, probs in zip(own, nested, strict=True)],
        [
            use.answer(plain, looks, exclusive=task.exclusive)
            for plain, looks in zip(answers, test, strict=True)
        ],
        use_fields(use),
    )


def list_undecided(
    plan: Plan, own: Sequence[Looks], test: Sequence[Looks | None], report: Reporter
) -> None:
    """Lists the images of both parts that stayed open after the most views."""
    parts = [("training", one) for one in own] + [("test", one) for one in test if one]
    undecided = [(part, one.ids[one.undecided]) for part, one in parts]
    write_undecided(undecided, plan.runtime.folder, report)


def judge_own(plan: Plan, own: Sequence[Looks]) -> Judgement:
    """What the folds' looks at their own parts say, all together."""
    looks, task = join_looks(own), plan.competition.task
    folds = np.repeat(np.arange(len(own)), [len(one.ids) for one in own])
    return judge_looks(task, find_targets(task, plan.data.images.table, looks.ids), looks, folds)


def find_use(verdict: Judgement, own: Sequence[Looks], viewer: Viewer) -> Use | None:
    """The looks that are used; None where that is the image as it is, and nothing else is done."""
    blend = verdict.choice.blend
    counted = [place for place, weight in enumerate(blend.weights) if weight]
    further = [place for place in counted if verdict.names[place] != IDENTITY.name]
    views = float(join_looks(own).taken[further].sum())
    blend = blend._replace(weights=tuple(blend.weights[place] for place in counted))
    use = Use(tuple(verdict.names[place] for place in counted), blend, views, viewer.flip)
    return use if further or blend.power != 1 else None


def look_at_test(
    plan: Plan, folds: int, use: Use | None, viewer: Viewer, report: Reporter
) -> Iterator[Looks | None]:
    """Each fold's looks at the test part beside the image as it is; None where none are used.

    Raises NoTimeError before the first look if there is no time for all, and CompetitionError.
    """
    if use is None or not use.extra:
        yield from [None] * folds
        return
    part = Part(TEST_FILE, use.extra, plan.test, None)
    for fold in range(folds):
        viewer.check((folds - fold) * len(part.ids) * use.views)
        yield look(plan, fold, part, viewer, report)


def keep_verdict(plan: Plan, verdict: Judgement, why: str, report: Reporter) -> None:
    """Keeps the questions and says their answers; `why` is the reason not to do as they say."""
    questions = [withdraw(one, why) if why else one for one in verdict.questions]
    report.say("Test-time augmentation")
    for question in questions:
        report.say(f"  {question.asks} {question.answer}")
        for note in question.notes:
            report.say(f"  {note}")
    try:
        keep_questions(plan.runtime.folder, questions)
    except (OSError, ValueError) as error:
        report.warn(f"decisions.json cannot be kept ({describe_error(error)})")


# ==================================================================================================
# Page: the pieces that the report is made of
# ==================================================================================================
# Style, charts, tables and thumbnails as text, with nothing to fetch and no script to run. Charts
# are drawn in the page's own colours, so they follow a reader's dark mode.

THUMBNAIL_SIDE = 96  # px
# The colours that charts are drawn in, and the page's own that take their place, light or dark.
CHART_COLOURS = {"#0072b2": "valid", "#d55e00": "train", "#5c6675": "soft", "#dfe3e9": "line"}
CHART_STYLE = {"text.color": "#5c6675", "axes.labelcolor": "#5c6675", "axes.edgecolor": "#dfe3e9"}
CHART_STYLE |= {"xtick.color": "#5c6675", "ytick.color": "#5c6675", "grid.color": "#dfe3e9"}
CHART_STYLE |= {"svg.fonttype": "none", "svg.hashsalt": "podium"}
REPORT_CSS = """
:root{color-scheme:light dark;--page:#f3f5f8;--card:#fff;--ink:#18202c;--soft:#5c6675;
--line:#dfe3e9;--valid:#0072b2;--train:#d55e00;--hit:0 114 178;--miss:213 94 0;--warn:#fff4dd}
@media(prefers-color-scheme:dark){:root{--page:#0f1319;--card:#181e27;--ink:#e7ebf1;--soft:#9ba7b7;
--line:#2d3643;--valid:#56b4e9;--train:#f0934a;--hit:26 122 186;--miss:205 92 10;--warn:#2e2613}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:72rem;margin:auto;padding:clamp(.75rem,3vw,2.5rem);overflow-wrap:break-word}
h1{font-size:2.4rem;line-height:1.1;margin:0;letter-spacing:-.02em}h2{font-size:1.15rem;margin:0}
h1 span{font-size:.85rem;letter-spacing:0;padding:.3em .8em;border-radius:2em;vertical-align:middle;
background:rgb(var(--hit)/.14);color:var(--valid);display:inline-block}ul{margin:0;padding-left:1.2em}
small,p,summary{color:var(--soft);font-size:.85rem}p{margin:.1rem 0 1rem}summary{padding:.6rem 0}
section,.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:clamp(.8rem,2.5vw,1.5rem)}section{margin-top:1rem}
.warn{background:var(--warn);border-color:#e69f00}.grid{display:grid;gap:.75rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--w)),1fr))}.tiles{--w:11.6rem}
.tile{padding:.8rem 1rem;display:flex;flex-direction:column;min-width:0}.tile b{font-size:1.4rem;
line-height:1.25}.tile:first-child{grid-column:span 2}.tile:first-child b{font-size:2.2rem;
color:var(--valid)}@media(max-width:40rem){.tiles{--w:8.3rem}.tile b{font-size:1.15rem}}
.chart{width:100%;height:auto;display:block}.chart *{stroke-linejoin:round}
.chart text{font-family:inherit!important}.wide{overflow:auto;max-height:44rem}
table{border-collapse:collapse;width:100%}th{color:var(--soft);font-size:.85rem}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line)}
td{white-space:nowrap}td:first-child,.words td{white-space:normal;overflow-wrap:anywhere;
min-width:4.2rem}.last :last-child{text-align:left}
tr>:first-child,.words *{text-align:left}.heat{width:auto}
.heat *{padding:0;border:0;text-align:center;min-width:0!important}.heat i{display:grid;
place-items:center;height:1.9rem;width:clamp(1.55rem,3vw,2.3rem);margin:1px;border-radius:6px;
font-size:.8rem}.heat b{font-weight:500;color:var(--ink);display:block;max-width:7.5rem;
max-height:7.5rem;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;padding:.2rem .35rem}
.heat th{vertical-align:bottom}.heat td:first-child b{text-align:left}
.heat .tall{writing-mode:vertical-rl;text-align:right;margin:auto}
@media(max-width:40rem){.heat b{max-width:5.5rem}th,td{padding:.35rem .25rem}}
.hit,.miss{font-style:normal;background:rgb(var(--c)/var(--a))}
.hit{--c:var(--hit)}.miss{--c:var(--miss)}.on{color:#fff}.bar{display:block;border-radius:4px;
background:linear-gradient(90deg,rgb(var(--hit)/.3) var(--w),#0000 0);padding:0 .4em;
text-align:left;min-width:5.5em}.pair{display:flex;flex-wrap:wrap;gap:.5rem 3rem;align-items:center}
.pair>.wide{max-width:100%}.pair ul{flex:1 1 16rem}
figure{margin:0;font-size:.85rem;line-height:1.35;text-align:center}.thumb{width:96px;height:96px;
margin:0 auto .3rem;object-fit:contain;border-radius:8px;display:grid;place-items:center;
background:var(--page);color:var(--soft)}.pixels{image-rendering:pixelated}
"""


def render_section(title: str, hint: str, body: str) -> str:
    """A card with a heading and a line on how to read it; nothing if the body is empty."""
    hint = f'<p class="hint">{hint}</p>'
    return f"<section><h2>{title}</h2>{hint}{body}</section>\n" if body else ""


def render_list(lines: Iterable[object] | Mapping[str, object]) -> str:
    """A list of plain texts, or of the names and values of a mapping."""
    if isinstance(lines, Mapping):
        lines = [f"{name} {value}" for name, value in lines.items()]
    items = "".join(f"<li>{html.escape(str(line))}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already; a narrow screen scrolls it."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f'<div class="wide"><table class="{kind}"><tr>{top}\n{body}</table></div>'


def format_figure(value: object, style: str) -> str:
    """Formats a number: style is a format such as ".4f" or ".1%", or "s" for seconds."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if style == "s":
        hours, minutes = divmod(round(value / 60), 60)
        long = f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
        return long if value >= 90 else f"{value:.1f} s"
    return f"{value:{style}}"


def export_chart(figure: Figure, prefix: str, label: str) -> str:
    """Turns a figure into inline SVG in the page's colours; its ids start with the prefix."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<svg) | (width|height)="[\d.]+pt"', " ", svg)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg.replace("xlink:href", "href"))
    for colour, name in CHART_COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{label}"', 1)


def render_heatmap(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Counts [C, C] as a table: blue by share of the row, orange by share of the worst mistake."""
    worst = max(1, int((counts - np.diag(np.diag(counts))).max()))
    rows = []
    for truth, row in enumerate(counts.tolist()):
        cells = [f"<b>{classes[truth]}</b>"]
        for guess, count in enumerate(row):
            share = count / max(1, sum(row)) if guess == truth else 0.15 + 0.75 * count / worst
            kind = ("hit" if guess == truth else "miss") + (" on" if share > 0.5 else "")
            shade = f' class="{kind}" style="--a:{share:.2f}"' if count else ""
            cells.append(f"<i{shade}>{count or ''}</i>")
        rows.append(cells)
    tall = ' class="tall"' if max(map(len, classes)) > 2 else ""
    return render_table(["", *(f"<b{tall}>{name}</b>" for name in classes)], rows, "heat")


def draw_thumbnail(path: object) -> Image.Image | None:
    """An image upright, on white and at most 96 px a side; None if it cannot be read."""
    try:
        with Image.open(str(path)) as file:
            file.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":  # 16-bit and float: from darkest to brightest
                grey = np.asarray(image, np.float64)
                grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-9) * 255
                image = Image.fromarray(grey.astype(np.uint8))
            image = image.convert("RGBA")
    except Exception:  # a broken file may raise anything, and one image must not cost the page
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def render_thumbnail(path: object) -> str:
    """An image as a data URI, or a placeholder."""
    flat = draw_thumbnail(path)
    if flat is None:
        return '<div class="thumb">unreadable</div>'
    tiny = max(flat.size) <= THUMBNAIL_SIDE // 2
    data = io.BytesIO()
    flat.save(data, "PNG" if tiny else "JPEG")
    kind, text = "png" if tiny else "jpeg", base64.b64encode(data.getvalue()).decode()
    style = "thumb pixels" if tiny else "thumb"
    return f'<img class="{style}" alt="" src="data:image/{kind};base64,{text}">'


# ==================================================================================================
# Panels: how each fold learned, drawn one below the other
# ==================================================================================================
# Loss, the metric, speed and what was left of the session against epochs; the learning rate against
# updates. All folds have the same panels on the same scales, so that they can be compared.

Limits = tuple[float, float]
DECADES = 100.0  # largest over smallest value from which an axis is logarithmic
DEEPEST = 1e-4  # of the largest value, the smallest that such an axis shows
MARKED = 25  # epochs from which validation is a line without dots
MINUTES = 2 * 3600.0  # seconds up to which time is shown in minutes


class Panel(NamedTuple):
    """One of a fold's panels: its name, what it draws, and its scale, which all folds share."""

    name: str
    columns: tuple[str, ...]
    limits: Limits
    height: float = 1.0
    axis: str = "epoch"  # or "updates"
    span: Limits = (0.5, 1.5)  # of that axis
    log: bool = False
    unit: float = 1.0  # that the columns are divided by


def render_curves(curves: Mapping[int, pd.DataFrame], metric: MetricName | None) -> str:
    """A chart for each fold, side by side; nothing where no epoch has ended."""
    if not curves:
        return ""
    panels = list_panels(curves, metric)
    charts = "".join(plot_fold(fold, history, panels) for fold, history in curves.items())
    hint = (
        "Dashed: training images, augmented. Solid: validation images. The dotted line is where "
        "the whole network joins the head. A widening gap is overfitting."
    )
    if has_values(curves, "clean/metric"):
        hint += " Squares: training images as the test part is seen."
    if has_values(curves, "recalibrated/metric"):
        hint += " Diamonds: validation with batch norm's statistics taken anew."
    return render_section(
        "Learning curves", hint, f'<div class="grid" style="--w:18.5rem">{charts}</div>'
    )


def list_panels(curves: Mapping[int, pd.DataFrame], metric: MetricName | None) -> list[Panel]:
    """The panels that these folds have values for, with scales that hold all of them."""
    loss, score = list_followed(curves, metric)
    whole = pd.concat([one.dropna(axis=1, how="all") for one in curves.values()])
    epochs = (0.5, float(whole["epoch"].max()) + 0.5)
    panels = [
        Panel(*loss, find_limits(whole, loss.columns), 3, span=epochs),
        Panel(*score, limit_score(whole, score.columns, metric), 3, span=epochs),
    ]
    if has_values(curves, "images_per_second"):
        columns = ("images_per_second",)
        panels += [Panel("images/s", columns, find_limits(whole, columns), 1.1, span=epochs)]
    if has_values(curves, "left"):
        short = whole["left"].max() < MINUTES
        unit, name = (60.0, "min left") if short else (3600.0, "h left")
        low, high = (bound / unit for bound in find_limits(whole, ("left",)))
        low = min(low, -0.3 * high)  # the deadline is named below its line
        panels += [Panel(name, ("left",), (low, high), 1.4, span=epochs, unit=unit)]
    if has_values(curves, "learning_rate"):
        panels += [make_rate_panel(whole, epochs, updates=has_values(curves, "updates"))]
    return panels


def make_rate_panel(whole: pd.DataFrame, epochs: Limits, *, updates: bool) -> Panel:
    """The learning rate, against epochs where an older run did not count updates.

    Its scale is logarithmic where it spans decades.
    """
    rates = whole["learning_rate"][whole["learning_rate"] > 0]
    log = bool(len(rates)) and rates.max() > DECADES * rates.min()
    limits = find_limits(whole, ("learning_rate",))
    if log:
        limits = (max(rates.min() / 1.5, rates.max() * DEEPEST), rates.max() * 1.5)
    axis, span = "epoch", epochs
    if updates:
        axis, span = "updates", (0.0, 1.02 * float(whole["updates"].max()))
    return Panel("rate", ("learning_rate",), limits, 1.4, axis, span, log)


def find_limits(whole: pd.DataFrame, columns: Iterable[str]) -> Limits:
    """From zero, or below it, to a little above the largest value."""
    values = whole.reindex(columns=list(columns))
    low, high = float(values.min().min()), float(values.max().max())
    return min(0.0, 1.05 * low if low < 0 else 0.0), 1.05 * high if high > 0 else 1.0


def limit_score(whole: pd.DataFrame, columns: Iterable[str], metric: MetricName | None) -> Limits:
    """From a little below the smallest value to the best that the metric can be."""
    best = METRICS[metric].perfect if metric and metric != "log_loss" else 1.0
    low = float(whole.reindex(columns=list(columns)).min().min())
    return (low - 0.05 * (best - low) if low < best else best - 0.1), best + 0.01


def plot_fold(fold: int, history: pd.DataFrame, panels: Sequence[Panel]) -> str:
    """One fold's panels as inline SVG."""
    heights = [panel.height for panel in panels]
    with mpl.rc_context(CHART_STYLE | {"font.size": 9.0, "axes.grid": True}):
        figure = Figure(figsize=(3.7, 0.62 * sum(heights)), layout="constrained")
        places = figure.subplots(len(panels), 1, height_ratios=heights)
        for place, panel in zip(places, panels, strict=True):
            draw_panel(place, panel, history)
        last = [panel.axis for panel in panels].count("epoch") - 1
        for place in places[:last]:
            place.tick_params(labelbottom=False)
        if panels[last].name != "rate":
            places[last].set_xlabel("epoch")
        places[0].set_title(f"Fold {fold}", loc="left", fontweight="bold")
        draw_legends(places[0], places[1])
        figure.align_ylabels()
        return export_chart(figure, f"fold{fold}", f"Learning curves of fold {fold}")


def draw_panel(place: Any, panel: Panel, history: pd.DataFrame) -> None:
    """Draws one panel: its scale, where training changes, its values."""
    place.set(ylabel=panel.name, ylim=panel.limits, xlim=panel.span)
    place.spines[["top", "right"]].set_visible(False)
    place.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    if panel.log:
        place.set_yscale("log")
        place.yaxis.set_minor_formatter(NullFormatter())
    elif panel.height < 2:
        place.yaxis.set_major_locator(MaxNLocator(2))
        place.yaxis.set_major_formatter("{x:g}")
    if panel.name == "rate":
        place.set_xlabel(f"{panel.axis} (rate: the learning rate)")
    mark_changes(place, panel, history)
    for column in panel.columns:
        style = TRACES.get(column.split("/")[0], {"color": "#5c6675", "label": ""})
        look = {"markersize": 3.0 if "/" in column else 2.0} | style
        if "marker" in style:
            look |= {"markersize": 4.5, "markerfacecolor": "none"}
        elif (len(history) < MARKED and not column.startswith("train/")) or len(history) == 1:
            look["marker"] = "o"
        if history[column].notna().any():
            place.plot(history[panel.axis], history[column] / panel.unit, **look)


def mark_changes(place: Any, panel: Panel, history: pd.DataFrame) -> None:
    """Dotted lines where a phase ends or the size of images changes, and the deadline as one."""
    above: dict[str, Any] = {"transform": place.get_xaxis_transform(), "fontsize": 8}
    dotted: dict[str, Any] = {"color": "#5c6675", "linestyle": ":", "linewidth": 1}
    borders = list_changes(history, "phase", panel.axis)
    sizes = list_changes(history, "image_size", panel.axis)
    for border in {*borders, *sizes}:
        place.axvline(border, **dotted)
    if borders and panel.height == 3 and panel.name != "loss":
        place.text(borders[0], 1.02, "head\u00a0", ha="right", **above)
        place.text(borders[0], 1.02, "\u00a0all", **above)
    if sizes and panel.name == "images/s":
        sides = history["image_size"].dropna().astype(int).tolist()
        place.text(panel.span[0], 1.04, f"{sides[0]} px", **above)
        place.text(panel.span[1], 1.04, f"{sides[-1]} px", ha="right", **above)
    if panel.name.endswith("left"):
        place.axhline(0, color="#d55e00", linewidth=1)
        place.text(panel.span[0], 0, "\u00a0deadline", color="#d55e00", va="top", fontsize=8)


def draw_legends(loss: Any, score: Any) -> None:
    """Names the lines above the loss, and the marks inside the panel that has them."""
    for place in (loss, score):
        handles, labels = place.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))
        marks = {name: one for name, one in named.items() if one.get_linestyle() == "None"}
        if marks:
            box = {"loc": "best", "fontsize": 7.5, "handletextpad": 0.2, "frameon": False}
            place.add_artist(place.legend(marks.values(), marks.keys(), **box))
        lines = {name: one for name, one in named.items() if name not in marks}
        if place is loss and lines:
            above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2, "frameon": False}
            place.legend(lines.values(), lines.keys(), **above)


# ==================================================================================================
# Proofs: the evidence page, one block a question
# ==================================================================================================
# The question, the answer in words, and what it rests on: each option's score, what it gains over
# the first with its bounds, how many images it mends and breaks, and what it costs; drawn and as
# figures. It is for showing to a team.

NAME_SHOWN = 24  # characters of an option's name in a chart
MANY = 6  # options, of which a narrow screen shows no more at once
EDGE = 4.0  # times the middle option's reach: what lies farther is drawn at the chart's edge
LEAST_P = 0.00101  # what a thousand draws can tell
USED, WORSE, OTHER = "#0072b2", "#d55e00", "#5c6675"
PROOF_CSS = """
.proof{border-top:1px solid var(--line);margin-top:1.3rem;padding-top:1.1rem}
.proof h3{font-size:1.05rem;margin:0;display:flex;flex-wrap:wrap;gap:.3rem .7rem;align-items:center}
.proof h3+p{color:var(--ink);font-size:.95rem;margin:.25rem 0 .9rem;max-width:52rem}
.used{font:600 .78rem system-ui,sans-serif;padding:.15em .7em;border-radius:1em;
background:rgb(var(--hit)/.14);color:var(--valid)}.stays{background:var(--page);color:var(--soft)}
.sides{display:grid;gap:1rem 1.5rem;grid-template-columns:minmax(0,18.5rem) minmax(0,1fr);
align-items:start}.proof .sides+ul{margin-top:.8rem;color:var(--soft);font-size:.85rem}
.proof .wide{max-height:none}.options{font-size:.9rem;line-height:1.4}
.options :is(td,th){padding:.35rem .4rem}.options small{display:block;white-space:nowrap}
.options .used{margin-left:.3em}.options td:first-child{overflow-wrap:break-word;min-width:7.5rem}
@media(max-width:62rem){.sides{grid-template-columns:minmax(0,1fr)}.sides .chart{max-width:27rem}}
@media(max-width:40rem){.options,.options tbody{display:block}.options tr{display:grid;
grid-template-columns:repeat(4,minmax(0,1fr));gap:.3rem .5rem;padding:.6rem 0;
border-bottom:1px solid var(--line)}.options tr:first-child,.options .none{display:none}
.options td{border:0;padding:0;text-align:left;white-space:normal}
.options td:first-child{grid-column:1/-1;font-weight:600}.proof .many{max-height:26rem}
.options td:not(:first-child)::before{content:attr(data-name);display:block;color:var(--soft);
font-size:.7rem;line-height:1.3;white-space:nowrap;letter-spacing:-.01em}
.options td:nth-child(3){grid-column:span 2}}
"""


def render_evidence(questions: Sequence[Question]) -> str:
    """A block for each question between options; nothing where there is none."""
    asked = [question for question in questions if len(question.options) > 1]
    blocks = "".join(render_question(place, one) for place, one in enumerate(asked))
    hint = (
        "Each option against the first of its question, on images that it was not fitted to. Lines "
        "and small figures are the gain's one-sided 95 % bounds: what lies right of zero is better "
        "by more than luck, but once in twenty times. Detectable is the true gain that would be "
        "shown four times in five. Blue is used; orange is shown to be worse."
    )
    return render_section("Evidence", hint, blocks)


def render_question(place: int, question: Question) -> str:
    """One question: its answer in words, the options drawn and in figures, and what else counts."""
    chosen = html.escape(question.chosen)
    plain = question.chosen == question.options[0].name
    badge = f'<span class="used{" stays" if plain else ""}">{chosen}</span>'
    return (
        f'<div class="proof"><h3>{html.escape(question.asks)} {badge}</h3>'
        f"<p>{html.escape(question.answer)}</p>"
        f'<div class="sides">{plot_gains(place, question)}{render_options(question)}</div>'
        f"{render_list(question.notes)}</div>\n"
    )


def render_options(question: Question) -> str:
    """A row for each option; figures that none of them has are left out."""
    rows = [list_figures(question, option) for option in question.options]
    shown = [name for name in rows[0] if any(row[name] for row in rows)]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("option", *shown))
    body = "\n".join(
        f"<tr><td>{name_option(question, option)}</td>{render_cells(row, shown)}"
        for option, row in zip(question.options, rows, strict=True)
    )
    kind = "wide many" if len(question.options) > MANY else "wide"
    return f'<div class="{kind}"><table class="options"><tr>{head}\n{body}</table></div>'


def render_cells(row: dict[str, str], shown: Sequence[str]) -> str:
    """Cells that know their column's name, which a narrow screen shows above each."""
    cells = []
    for name in shown:
        kind = "" if row[name] else ' class="none"'
        cells.append(f'<td{kind} data-name="{html.escape(name)}">{row[name] or "–"}</td>')
    return "".join(cells)


def name_option(question: Question, option: Option) -> str:
    """An option's name, marked where it is the one in use."""
    mark = ' <span class="used">used</span>' if option.name == question.chosen else ""
    return html.escape(option.name) + mark


def list_figures(question: Question, option: Option) -> dict[str, str]:
    """An option's figures by the name of their column, "" where it has none."""
    gain, flips = option.gain, (option.fixed, option.broken)
    cost = "cost" if question.unit == "s" else question.unit
    style = "s" if question.unit == "s" else ".3g"
    figures = {"score": format_figure(option.score, ".4f")}
    figures |= dict.fromkeys(("gain", "p", "fixed/broken", cost, "detectable"), "")
    if gain:
        low, high = (format_figure(bound, "+.4f") for bound in (gain.low, gain.high))
        figures["gain"] = (
            f"<b>{format_figure(gain.difference, '+.4f')}</b> <small>{low} to {high}</small>"
        )
        figures["p"] = "≤ 0.001" if gain.p < LEAST_P else format_figure(gain.p, ".2g")
        figures["detectable"] = format_figure(gain.detectable, ".4f")
    if None not in flips:
        figures["fixed/broken"] = f"{option.fixed} / {option.broken}"
    if option.cost is not None:
        figures[cost] = format_figure(option.cost, style)
    return figures


def plot_gains(place: int, question: Question) -> str:
    """A forest plot as inline SVG: an option a row, its gain and bounds around zero."""
    gains = [find_gain(question, option) for option in question.options]
    rows, reach = len(gains), find_reach(gains)
    metric = METRICS[question.metric]
    with mpl.rc_context(CHART_STYLE | {"font.size": 9.0}):
        figure = Figure(figsize=(3.7, 0.62 + 0.25 * rows), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=OTHER, linewidth=1)
        for row, (option, gain) in enumerate(zip(question.options, gains, strict=True)):
            draw_gain(axes, row, gain, reach, used=option.name == question.chosen)
        axes.set(xlim=(-1.06 * reach, 1.06 * reach), ylim=(rows - 0.4, -0.6))
        axes.set_yticks(range(rows), [shorten(option.name) for option in question.options])
        axes.set_xlabel(f"gain in {metric.title}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "0")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        label = html.escape(f"Gain of each option: {question.asks}")
        return export_chart(figure, f"proof{place}", label)


def find_gain(question: Question, option: Option) -> tuple[float, float, float]:
    """What to draw: gain, low and high; bounds are NaN where the option was not tested."""
    if option.gain:
        return option.gain.difference, option.gain.low, option.gain.high
    sign = 1 if METRICS[question.metric].higher_is_better else -1
    return sign * (option.score - question.options[0].score), math.nan, math.nan


def find_reach(gains: Sequence[tuple[float, float, float]]) -> float:
    """How far from zero the chart goes: to the farthest bound, unless few are that far."""
    ends = np.array(
        [max((abs(end) for end in gain if math.isfinite(end)), default=0.0) for gain in gains]
    )
    ends = ends[ends > 0]
    return float(min(ends.max(), EDGE * np.median(ends))) if len(ends) else 1.0


def draw_gain(
    axes: Any, row: int, gain: tuple[float, float, float], reach: float, *, used: bool
) -> None:
    """Draws one option: a line between its bounds, and a mark, hollow where it was not tested."""
    middle, low, high = gain
    colour = USED if used else WORSE if high < 0 else OTHER
    look: dict[str, Any] = {"color": colour, "markersize": 7 if used else 5}
    if math.isfinite(low):
        axes.plot(np.clip([low, high], -reach, reach), [row, row], color=colour, linewidth=2)
    elif row and not used:
        look["markerfacecolor"] = "none"
    mark = "D" if used else "o"
    if abs(middle) > reach:
        mark = "<" if middle < 0 else ">"
    if math.isfinite(middle):
        axes.plot(np.clip(middle, -reach, reach), row, mark, **look)


def shorten(name: str) -> str:
    """A name that fits beside a chart, and means nothing to whoever sets it."""
    name = name if len(name) <= NAME_SHOWN else name[: NAME_SHOWN - 1] + "…"
    return name.replace("$", r"\$")


# ==================================================================================================
# Findings: what a run mixes up, and the images it got most wrong
# ==================================================================================================
# Of the out-of-fold answers so far. The report shows them, and events tell whoever watches.

MOST_TOLD = 20  # pairs of classes, and weak classes, in an event
IMAGES_TOLD, IMAGE_QUALITY = 8, 60  # of JPEG: any 96 px then fit into an event's longest text


class Mix(NamedTuple):
    """Images of one class that were taken for another."""

    truth: int
    guess: int
    images: int


class Recall(NamedTuple):
    """How many of a class's images were recognised."""

    label: int
    images: int
    right: int


def count_mixes(run: RunRecord) -> list[Mix]:
    """The classes that are taken for one another, most images first; one label an image only."""
    if not run.task.exclusive or not len(run.targets):
        return []
    labels, answers = run.targets.argmax(axis=1), run.answers.argmax(axis=1)
    wrong = answers != labels
    pairs, counts = np.unique(
        np.stack([labels[wrong], answers[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    rows = np.column_stack([pairs, counts])[order].tolist()
    return [Mix(truth, guess, images) for truth, guess, images in rows]


def rank_recalls(run: RunRecord) -> list[Recall]:
    """Each class that has images, the weakest first."""
    found = find_named(run.task, run.answers)
    images = run.targets.sum(axis=0, dtype=np.int64)
    right = (run.targets * found).sum(axis=0, dtype=np.int64)
    present = np.flatnonzero(images)
    order = present[np.argsort(right[present] / images[present], kind="stable")]
    return [Recall(int(one), int(images[one]), int(right[one])) for one in order]


def rank_worst(run: RunRecord) -> NDArray[np.int64]:
    """Rows of the out-of-fold answers, the highest loss first."""
    losses = tally_surprise(run.task, run.targets, run.oof.probs).ravel()
    return np.argsort(-losses, kind="stable")


def tell_findings(folder: Path, competition: Competition, report: Reporter) -> None:
    """Emits what the run of a folder has found so far, for a page that is elsewhere."""
    run, classes = read_run_record(folder, competition), competition.classes
    wrong = (run.targets != find_named(run.task, run.answers)).any(axis=1)
    report.emit(
        "mistakes_counted",
        wrong=int(wrong.sum()),
        of=len(wrong),
        pairs=[(classes[a], classes[b], n) for a, b, n in count_mixes(run)[:MOST_TOLD]],
        weakest=[(classes[label], *counts) for label, *counts in rank_recalls(run)[:MOST_TOLD]],
    )
    for question in run.questions:
        report.emit("question_answered", **question_fields(question))
    tell_worst(run, competition, report)


def tell_worst(run: RunRecord, competition: Competition, report: Reporter) -> None:
    """Emits the images that were got most wrong, as small JPEGs."""
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    found, classes = find_named(run.task, run.answers), competition.classes
    for place, row in enumerate(rank_worst(run)[:IMAGES_TOLD]):
        image = draw_thumbnail(paths[str(run.oof.ids[row])])
        if image is None:
            continue
        guesses = np.flatnonzero(found[row])
        data = io.BytesIO()
        image.save(data, "JPEG", quality=IMAGE_QUALITY)
        report.emit(
            "image_shown",
            place=place,
            folds=len(run.part("folds")),
            id=run.oof.ids[row],
            truth=", ".join(classes[one] for one in np.flatnonzero(run.targets[row])),
            guess=", ".join(classes[one] for one in guesses),
            prob=float(run.oof.probs[row][guesses].max(initial=0.0)),
            jpeg=base64.b64encode(data.getvalue()).decode(),
        )


# ==================================================================================================
# Mistakes: which classes a run mixes up, and the images it got most wrong
# ==================================================================================================
# Looking at those is where the next idea comes from.

HEATMAP_CLASSES = 30  # more classes than this do not fit a screen
WORST_IMAGES, RECALL_ROWS, PAIRS, CLASSES_SHOWN = 24, 200, 12, 5


def render_confusion(run: RunRecord, classes: Sequence[str]) -> str:
    """The pairs of classes most often confused, and for few classes every count as a heat map."""
    if not run.task.exclusive or not len(run.targets):
        return ""
    mixes = count_mixes(run)
    wrong = sum(mix.images for mix in mixes)
    lines = [
        f"<li>true {classes[mix.truth]} → predicted {classes[mix.guess]}: "
        f"{mix.images} image{'s' if mix.images > 1 else ''}</li>"
        for mix in mixes[:PAIRS]
    ]
    words = f"<ul>{''.join(lines)}</ul>" if lines else "No mistakes."
    heat = ""
    if len(classes) <= HEATMAP_CLASSES:
        labels, answers = run.targets.argmax(axis=1), run.answers.argmax(axis=1)
        heat = render_heatmap(count_confusions(labels, answers, len(classes)), classes)
    hint = f"{wrong} of {len(run.targets)} images are wrong. "
    if heat:
        hint += "Rows: the truth; columns: the prediction. Blue: right. Orange: wrong."
    return render_section("Confusion", hint, f'<div class="pair">{heat}{words}</div>')


def render_recall(run: RunRecord, classes: Sequence[str]) -> str:
    """Of each class's images, the share that was recognised; the weakest classes first."""
    rows = []
    for label, images, right in rank_recalls(run)[:RECALL_ROWS]:
        share = format_figure(right / images, ".2%")
        bar = f'<span class="bar" style="--w:{right / images:.1%}">{share}</span>'
        rows.append([classes[label], str(images), str(right), bar])
    hint = "Weakest first: the share of a class's images that was recognised."
    table = render_table(["class", "images", "right", "recall"], rows, "last")
    return render_section("Recall by class", hint, table if rows else "")


def render_worst(run: RunRecord, competition: Competition, classes: Sequence[str]) -> str:
    """The images with the highest out-of-fold loss: wrong labels, odd images, hard cases."""
    paths = dict(zip(competition.train["id"], competition.train["path"], strict=True))
    found = find_named(run.task, run.answers)
    cards = []
    for row in rank_worst(run)[:WORST_IMAGES]:
        image_id, probs = str(run.oof.ids[row]), run.oof.probs[row]
        truth = name_classes(run.targets[row], classes)
        guess = name_classes(found[row], classes, probs)
        cards.append(
            f"<figure>{render_thumbnail(paths[image_id])}<figcaption>"
            f"true {truth}<br>predicted {guess}"
            f"<br><small>{html.escape(image_id)}</small></figcaption></figure>"
        )
    grid = f'<div class="grid" style="--w:7.2rem">{"".join(cards)}</div>' if cards else ""
    hint = "The highest losses. Look for wrong labels, odd crops, and what the classes share."
    return render_section("Worst images", hint, grid)


def name_classes(
    chosen: NDArray[np.uint8], classes: Sequence[str], probs: NDArray[np.float32] | None = None
) -> str:
    """The chosen classes of one image, a few of them, each with its probability if given."""
    places = np.flatnonzero(chosen)
    sure = {} if probs is None else {place: f" {probs[place]:.2%}" for place in places}
    names = [f"<b>{classes[place]}</b>{sure.get(place, '')}" for place in places[:CLASSES_SHOWN]]
    more = [] if len(places) <= CLASSES_SHOWN else ["…"]
    return ", ".join([*names, *more]) or "nothing"


# ==================================================================================================
# Report: one page that shows the run
# ==================================================================================================
# Everything worth a look in one file, report.html: how good the model is and how sure that figure
# is, how each fold learned, which classes it mixes up, and the images it got most wrong, because
# looking at those is where the next idea comes from. It shows half a run as well as a whole one.

IDS_SHOWN = 200
TRUTH_COLUMNS = ("moving", "anew", "augmented", "training", "lag", "shift", "gap", "± se", "kept")


def write_report(
    folder: Path, competition: Competition, questions: Sequence[Question] = ()
) -> Path:
    """Writes report.html for a whole or half-finished run folder, whole or not at all.

    Questions that other folders answered are shown behind the run's own.
    """
    run = read_run_record(folder, competition)
    classes = [html.escape(str(name)) for name in competition.classes]
    body = [
        render_headline(run, competition),
        render_warnings(run),
        render_evidence([*run.questions, *questions]),
        render_lines(run, "plan", "Plan", "What fits before the deadline."),
        render_curves(run.curves, run.task.metric),
        render_truths(run.truths),
        render_section("Folds", "Each fold scores images it never saw.", render_folds(run)),
        render_leaks(run),
        render_confusion(run, classes),
        render_recall(run, classes),
        render_worst(run, competition, classes),
        render_settings(run.settings),
        render_section("Versions", "", render_list(run.part("run").get("versions") or {})),
        render_section("What was understood of the files", "", render_list(competition.notes)),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Podium run</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{REPORT_CSS}{PROOF_CSS}</style>\n<main>\n{''.join(body)}</main></html>\n"
    )
    path = folder / "report.html"
    write_whole(path, page.encode(errors="replace"))
    return path


def render_headline(run: RunRecord, competition: Competition) -> str:
    """Title, state, and the figures that matter as tiles; a figure that is not known has none."""
    about, counts, seconds = run.part("run"), run.part("counts"), run.part("seconds")
    score = run.part("out_of_fold")
    if not score and len(run.targets):
        score = score_record(run)._asdict()
    metric = METRICS[competition.task.metric].title
    scored, folds = len(measure_folds(run)), counts.get("folds", len(set(run.folds.values())))
    tests = f"{counts.get('test', len(competition.test))} test images"
    trained = f"training {format_figure(seconds['train'], 's')}" if "train" in seconds else ""
    machine = f"{about.get('devices', '')} × {about.get('accelerator', '')}".strip(" ×")
    tiles = [
        render_score_tile(f"out-of-fold {metric}", score),
        *([] if metric == "log loss" else [render_loss_tile(score)]),
        render_score_tile(f"test {metric}, one model", run.part("test_single")),
        render_score_tile(f"test {metric}, all averaged", run.part("test")),
        (counts.get("train", len(competition.train)), "training images", tests),
        (len(competition.classes), "classes", ""),
        (f"{scored} of {folds}" if folds else "–", "folds scored", ""),
        (format_figure(seconds.get("total"), "s"), "in all", trained),
        (run.settings.get("model.backbone", "–"), "backbone", ""),
        (about.get("backend", "–"), "Keras backend", machine),
    ]
    facts = {"started": about.get("started"), "source": str(about.get("source") or "")[:12]}
    line = " · ".join(f"{name} {html.escape(str(fact))}" for name, fact in facts.items() if fact)
    cells = "".join(
        f'<div class="tile"><b>{html.escape(str(figure))}</b>{name}<small>{detail}</small></div>'
        for figure, name, detail in tiles
        if figure != "–"
    )
    state = html.escape(str(about.get("state", "not finished")))
    return (
        f"<h1>Podium run <span>{state}</span></h1><p>{line}</p>\n"
        f'<div class="grid tiles">{cells}</div>\n'
    )


def render_score_tile(name: str, score: Mapping[str, Any]) -> tuple[str, str, str]:
    """A score, its name, and how sure it is."""
    low, high = (format_figure(end, ".4f") for end in score.get("interval") or (None, None))
    images = f"{score['n']} images" if "n" in score else ""
    return (
        format_figure(score.get("value"), ".4f"),
        name,
        f"95% interval {low} to {high}, {images}",
    )


def render_loss_tile(score: Mapping[str, Any]) -> tuple[str, str, str]:
    """The loss that training minimises."""
    return format_figure(score.get("log_loss"), ".4f"), "out-of-fold log loss", "lower is better"


def render_warnings(run: RunRecord) -> str:
    """What went wrong without ending the run, where nobody can overlook it."""
    lines = [str(line) for line in run.summary.get("warnings") or []]
    for part, ids in run.part("unreadable").items():
        shown = ", ".join(map(str, ids[:IDS_SHOWN])) + (" …" if len(ids) > IDS_SHOWN else "")
        lines += [f"{len(ids)} unreadable {part} images: {shown}"] if ids else []
    box = render_section("Warnings", "", render_list(lines))
    return box.replace("<section>", '<section class="warn">', 1)


def render_lines(run: RunRecord, part: str, title: str, hint: str) -> str:
    """A list of words that the summary holds; nothing where it has none."""
    lines = run.summary.get(part)
    return render_section(title, hint, render_list(lines if isinstance(lines, list) else []))


def render_truths(truths: Mapping[int, Mapping[str, Any]]) -> str:
    """What batch norm does to each fold's validation: its parts as differences of the metric."""
    words, rows = list[str](), list[list[str]]()
    for fold, truth in truths.items():
        words += [f"Fold {fold}: {truth['words']}"] if truth.get("words") else []
        kept = "–" if truth.get("kept") is None else "yes" if truth["kept"] else "no"
        figures = [format_figure(truth.get(name), ".4f") for name in ("e", "c", "a", "t")]
        parts = [format_figure(truth.get(name), "+.4f") for name in ("lag", "shift", "gap")]
        error = format_figure(truth.get("se"), ".4f")
        cells = [html.escape(str(truth.get("verdict", "–"))), *figures, *parts, error, kept]
        rows.append([str(fold), *cells])
    head = ["fold", "verdict", *TRUTH_COLUMNS]
    hint = (
        "The metric on validation images with the moving statistics, with statistics taken anew on "
        "clean and on augmented training images, and on clean training images. Lag is anew minus "
        "moving, shift clean minus augmented, gap training minus anew."
    )
    table = render_table(head, rows) if rows else ""
    return render_section("Batch norm", hint, render_list(words) + table)


def render_folds(run: RunRecord) -> str:
    """Every fold's figures, and their mean ± standard deviation over the folds."""
    scores, rows = measure_folds(run), []
    figures = {"value": METRICS[run.task.metric].title}
    figures |= {} if run.task.metric == "log_loss" else {"log_loss": "log loss"}
    for fold in sorted(scores.keys() | run.curves.keys()):
        score, history = scores.get(fold, {}), run.curves.get(fold)
        cells = [str(fold), format_figure(score.get("n"), "d")]
        cells += [format_figure(score.get(column), ".4f") for column in figures]
        cells += ["–", "–"] if history is None else [str(len(history))]
        cells += [] if history is None else [format_figure(float(history["seconds"].sum()), "s")]
        rows.append(cells)
    if len(scores) > 1:
        table = pd.DataFrame(list(scores.values())).reindex(columns=list(figures))
        for name, row in (("mean", table.mean()), ("± sd", table.std(ddof=1))):
            cells = [f"<b>{format_figure(row[column], '.4f')}</b>" for column in figures]
            rows.append([f"<b>{name}</b>", "", *cells, "", ""])
    head = ["fold", "images", *figures.values(), "epochs", "time"]
    return render_table(head, rows) if rows else ""


def render_leaks(run: RunRecord) -> str:
    """What the audit found that may make the score look better than the network is."""
    rows = [
        [
            html.escape(str(leak.get("check"))),
            html.escape(str(leak.get("text"))),
            "to be looked at" if leak.get("serious") else "to know",
        ]
        for leak in run.summary.get("leaks") or []
    ]
    table = render_table(["looked for", "found", ""], rows, "words") if rows else ""
    return render_section("Leak audit", "What may flatter the out-of-fold score.", table)


def render_settings(settings: Mapping[str, Any]) -> str:
    """Settings that differ from their default, then, folded away, the others."""
    known = {knob.name: knob for knob in list_knobs()}
    changed, usual = list[list[str]](), list[list[str]]()
    for name, value in settings.items():
        default = known[name].default if name in known else None
        cells = [
            html.escape("none" if cell is None else str(cell)) for cell in (name, value, default)
        ]
        cells[0] = f"<code>{cells[0]}</code>"
        (changed if value != default else usual).append(cells)
    head = ["setting", "value", "default"]
    table = render_table(head, changed, "words") if changed else ""
    if usual:
        more = render_table(head, usual, "words")
        table += (
            f"<details><summary>{len(usual)} settings at their default</summary>{more}</details>"
        )
    return render_section("Settings", "Changed from the default:" if changed else "", table)


# ==================================================================================================
# Cross-validation: fold by fold, each trained on the others
# ==================================================================================================
# After each fold there is a submission, of all models so far, and a report; the next fold only
# makes them better. A fold that was done with before a run was killed is read, not trained again.


class Shown(NamedTuple):
    """The results so far, and what is to be said of them when they are the last."""

    summary: dict[str, Any]
    decision: Decision
    warnings: list[str]  # of the submission


def cross_validate(plan: Plan, report: Reporter, halt: Halt) -> dict[str, Any]:
    """Trains and answers as many folds as fit before the deadline; returns the summary.

    Told to stop at once, or to end after the epoch in hand, it leaves a checkpoint and, if there is
    none yet, a submission.
    """
    config, runtime, count = plan.config, plan.runtime, plan.config.folds.count
    planner = Planner(Budget(runtime.deadline), count, count_batches(plan), report)
    session = Session(runtime.folder, len(runtime.devices), report, planner, halt)
    viewer = open_viewer(plan, session)
    oof, answers, shown = list[Predictions](), list[Predictions](), None
    for fold in range(count):
        pair, trained = recall_fold(runtime.folder / f"fold{fold}"), None
        if pair is None and (fold == 0 or has_room(fold, count, session)):
            open_session(runtime.precision, len(runtime.devices))
            trained = train_fold(config, plan.start, plan.data, fold, session)
            pair = answer_fold(plan, trained, fold, report)
        if pair is None:
            break
        oof.append(pair[0])
        answers.append(pair[1])
        shown = show_results(plan, oof, answers, planner, report)
        report_fold(shown.summary["folds"][-1], runtime.folder, report)
        if trained:
            viewer.batch_size = config.pixels.batch_size // trained.parts
            look_at_own(plan, trained.model, fold, viewer, report)
        planner.end_fold()
    if shown is None or halt.at_once() or (len(oof) < count and ask_first_host(halt.soon())):
        return shown.summary if shown else {}
    adopted = adopt_looks(plan, oof, answers, viewer, report)
    if adopted:
        shown = show_results(plan, adopted.oof, adopted.answers, planner, report, adopted.fields)
    elif list_looks(config.predict):
        show_summary(plan, shown.summary, report)  # and what was said since
    if len(oof) == count:
        say_decision(plan.competition.task, shown.decision, shown.warnings, report)
    return shown.summary


def recall_fold(folder: Path) -> tuple[Predictions, Predictions] | None:
    """The answers of a fold that was done with, or None; it needs no checkpoint any more."""
    pair = read_fold_answers(folder)
    if pair is not None:
        forget_checkpoints(folder)
    return pair


def has_room(fold: int, count: int, session: Session) -> bool:
    """May another fold be begun, where those before it have answered?"""
    if ask_first_host(session.halt.soon()):
        return False
    fits = session.planner.fits_another()
    if not fits:
        session.report.warn(
            f"there is no time for more than {fold} of {count} folds; a run that goes on with this "
            f"one trains the rest"
        )
    return fits


def count_batches(plan: Plan) -> tuple[int, int]:
    """Batches of a validation, and of all that a fold answers, its looks at its own part too."""
    size, count = plan.config.pixels.batch_size, plan.config.folds.count
    checked = -(-len(plan.data.images.table) // (count * size))
    looks = 1 + math.ceil(count_looks(plan.config.predict))
    return checked, looks * checked + -(-len(plan.test.table) // size)


def answer_fold(
    plan: Plan, trained: Trained, fold: int, report: Reporter
) -> tuple[Predictions, Predictions] | None:
    """What a fold's model answers to its own part and to the test part, kept in its folder.

    A model that was stopped answers the test part alone, and only where nothing else has.
    """
    config, task, folder = plan.config, plan.competition.task, plan.runtime.folder
    size = config.pixels.batch_size // trained.parts
    predict = partial(predict_images, batch_size=size, exclusive=task.exclusive)
    if not trained.complete:
        if fold == 0:
            answers = predict(trained.model, plan.test, None)
            write_submission_of(plan.competition, answers, plain_rule(task), folder)
        return None
    own = predict(trained.model, plan.data.images, plan.data.folds == fold)
    pair = own, predict(trained.model, plan.test, None)
    keep_answers(folder / f"fold{fold}", pair, report)
    return pair


def keep_answers(folder: Path, pair: tuple[Predictions, Predictions], report: Reporter) -> None:
    """Writes what a fold answers, after which it needs no checkpoint; on a full disk before it."""
    try:
        write_fold_answers(folder, *pair)
    except OSError as error:
        report.warn(
            f"{folder} has no room for its answers ({error.strerror}); its checkpoints make some"
        )
        forget_checkpoints(folder)
        write_fold_answers(folder, *pair)
    forget_checkpoints(folder)


def show_results(
    plan: Plan,
    oof: list[Predictions],
    answers: list[Predictions],
    planner: Planner,
    report: Reporter,
    views: dict[str, Any] | None = None,
) -> Shown:
    """Scores the folds so far, writes the submission of their average, and shows both.

    `views` says by which looks they have answered, if not by the images as they are.
    """
    config, competition, folder = plan.config, plan.competition, plan.runtime.folder
    task, images = competition.task, plan.data.images
    decision = decide_answers(task, images.table, oof)
    warnings = write_answers(competition, oof, answers, decision, folder)
    scores = summarise_scores(task, images, plan.test, oof, answers, decision)
    state = "complete" if len(oof) == config.folds.count else "running"
    summary = summarise_run(config, plan.runtime, competition, report, state) | scores
    summary["plan"] = planner.plans
    summary["leaks"] = [leak._asdict() for leak in plan.leaks]
    summary["views"] = views
    keep_questions(folder, [ask_rule(task, decision)])
    show_summary(plan, summary, report)
    return Shown(summary, decision, warnings)


def show_summary(plan: Plan, summary: dict[str, Any], report: Reporter) -> None:
    """Writes summary and report as far as the run has got: one that is cut off has them too."""
    folder, competition = plan.runtime.folder, plan.competition
    write_json(folder / "summary.json", summary)
    try:
        write_report(folder, competition)
    except Exception as error:  # a page must not cost the folds to come, nor a finished run
        report.warn(f"the report could not be written ({describe_error(error)})")
    try:
        tell_findings(folder, competition, report)
    except Exception as error:  # nor must a page that is elsewhere
        report.warn(f"what was found could not be told ({describe_error(error)})")


def say_decision(task: Task, decision: Decision, warnings: list[str], report: Reporter) -> None:
    """Says how probabilities became answers, and what is odd about the submission."""
    if decision.comparison.difference:
        report.say(f"Answers\n  {describe_decision(task, decision)}")
    for warning in warnings:
        report.warn(warning)


def report_fold(score: dict[str, Any], folder: Path, report: Reporter) -> None:
    """Draws the curves and says how a fold went."""
    try:
        write_curves(folder, score["metric"])
    except Exception as error:  # a picture must not cost the folds to come
        report.warn(f"the curves could not be drawn ({describe_error(error)})")
    report.emit("fold_ended", **score)
    report.say(f"  fold {score['fold']}: {format_score(score)}; submission.csv is up to date")


# ==================================================================================================
# The run: the stages in order
# ==================================================================================================

# Errors whose message says what to do; the rest are bugs and keep their traceback.
EXPECTED_ERRORS = (
    BackboneError,
    CheckpointError,
    CompetitionError,
    DeviceError,
    DivergedError,
    FoldError,
    OutOfMemoryError,
    PixelError,
    PseudoError,
    ResumeError,
    SettingsError,
    SubmissionError,
)


def main(config: Config | SettingsError) -> int:
    """Runs Podium with the given settings; returns the exit code, 0 if all went well."""
    started = time.time()
    try:
        if isinstance(config, SettingsError):
            raise config
        runtime = open_runtime(config, keras.backend.backend(), started)
        report = Reporter(runtime.folder, leader=is_first_host(runtime.backend))
    except Exception as error:
        return end_early(error)
    report.say(f"Podium, built from {SOURCE[:12]}\n{describe_runtime(runtime)}")
    stopped = partial(write_status, runtime.folder, "stopped", "ended from outside")
    with closing(Watch(report, stopped)) as watch:
        return run_reported(config, runtime, report, watch)


def end_early(error: Exception) -> int:
    """Tells what stopped a run that had no folder yet: on Kaggle as of any run; a line at home."""
    if not is_on_kaggle():
        print(describe_failure(error), file=sys.stderr)
        return 1
    report = Reporter(KAGGLE_WORKING)
    with closing(Watch(report)) as watch:
        watch.open()
        return end_failed(error, KAGGLE_WORKING, report)


def run_reported(config: Config, runtime: Runtime, report: Reporter, watch: Watch) -> int:
    """Runs the stages between a first and a last event; returns the exit code."""
    report.emit(
        "run_started",
        folder=runtime.folder.name,
        source=SOURCE,
        accelerator=runtime.accelerator,
        devices=len(runtime.devices),
        deadline=runtime.deadline,
        settings=list_settings(config),
    )
    try:
        run_stages(config, runtime, report, watch)
    except BaseException as error:
        code = end_failed(error, runtime.folder, report, config.runtime.failure_exit)
        if not isinstance(error, Exception):
            raise
        return code
    if watch.is_asked():
        watch.leave()
        return 128 + watch.asked
    if report.last != "run_stopped":
        write_status(runtime.folder, "finished")
    return 0


def end_stopped(command: str, folder: Path, report: Reporter) -> None:
    """Says that a command has ended the run, which another session may go on with."""
    report.say(f"Stopped as asked; {folder / 'submission.csv'} is of what was trained till then")
    report.emit("files_listed", **describe_files(folder))
    report.emit("run_stopped", signal=None, command=command)
    write_status(folder, "stopped", "by whoever watches, after an epoch")


def end_failed(
    error: BaseException, folder: Path, report: Reporter, failure_exit: str = "auto"
) -> int:
    """Makes what stopped a run its last event, and says it; returns the exit code.

    On Kaggle that is 0 as well, if nothing else is set, since Kaggle may drop what a run that ends
    otherwise has written; status.json tells the two apart.
    """
    reason = "".join(traceback.format_exception(error))
    report.emit("run_failed", error=type(error).__name__, reason=reason)
    write_status(folder, "failed", report.hide(f"{type(error).__name__}: {error}"))
    print(report.hide(describe_failure(error)), file=sys.stderr, flush=True)
    zero = is_on_kaggle() if failure_exit == "auto" else failure_exit == "zero"
    return 0 if zero else 1


def describe_failure(error: BaseException) -> str:
    """The words of an error that says what to do, the traceback of any other."""
    if isinstance(error, EXPECTED_ERRORS):
        return f"Stopped: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def run_stages(config: Config, runtime: Runtime, report: Reporter, watch: Watch) -> None:
    """The competition; then training, or the answer of a run that was trained before."""
    try:
        unfinished = find_unfinished(config, runtime.folder)
        if unfinished != runtime.folder:
            forget_results(runtime.folder, config)
        write_status(runtime.folder, "running")
        wait_for_inputs(config.data, report)
    finally:  # the webhook's address may lie in an input that was mounted late
        watch.open()
    write_json(runtime.folder / "config.json", list_settings(config))
    list_looks(config.predict)  # raises if a view is none, before images are read
    open_session(runtime.precision, devices=1)
    check_backbone(config.model, find_size(config, 0.0))  # the smallest that it will see
    competition = read_competition(config.data, config.runtime.seed)
    report.say("Competition\n" + "\n".join(f"  {note}" for note in competition.notes))
    if config.predict.run:
        infer(config, runtime, competition, report)
        return
    config = find_teacher(config)
    go_on(unfinished, describe_run(config, runtime, competition), runtime.folder, report)
    if unfinished and (runtime.folder / "folds.csv").is_file():
        # Not dealt again: a library that reads images otherwise might find other copies.
        folds = replace(config.folds, file=str(runtime.folder / "folds.csv"))
        config = replace(config, folds=folds)
    train(config, runtime, competition, report, watch)


def go_on(
    unfinished: Path | None, description: dict[str, Any], folder: Path, report: Reporter
) -> None:
    """Takes over what an unfinished run has learned, if there is one, and it is the same run."""
    if unfinished:
        notes = check_same_run(read_run(unfinished), description)
        adopt_run(unfinished, folder)
        report.emit("run_resumed", folder=str(unfinished))
        report.say(f"Resume\n  the run in {unfinished} goes on")
        for note in notes:
            report.warn(note)
    write_run(description, folder)


def infer(config: Config, runtime: Runtime, competition: Competition, report: Reporter) -> None:
    """Answers with the models of an earlier run."""
    run = find_trained_run(config.predict.run or "attached")
    report.say(f"Inference\n  models of {run}")
    answers = answer_with_run(config, run, competition, runtime, report)
    rule = read_run_rule(run, competition.task)
    for warning in write_submission_of(competition, answers, rule, runtime.folder):
        report.warn(warning)
    summary = summarise_run(config, runtime, competition, report, "complete")
    write_json(runtime.folder / "summary.json", summary)
    seconds = round(time.time() - runtime.started, 1)
    report.emit("files_listed", **describe_files(runtime.folder))
    report.say(f"Submission  {runtime.folder / 'submission.csv'}")
    report.emit("run_finished", seconds=seconds, rows=len(competition.test))


def train(
    config: Config, runtime: Runtime, competition: Competition, report: Reporter, watch: Watch
) -> None:
    """Pixels and folds; then training, prediction, submission and report, fold by fold."""
    augment = settle_augmentation(
        config.augment, competition.classes, config.pixels.image_size, report
    )
    config = replace(config, augment=augment)
    report.say("Backbone")
    start = prepare_backbone(config.model, config.pixels.image_size, runtime.folder, report)
    family, task = start.backbone.family, competition.task
    config = settle_recipe(config, family, task.metric, exclusive=task.exclusive)
    report.say(f"  recipe: {describe_recipe(config, family)}")

    report.say("Pixels")
    side = config.pixels.image_size + crop_margin(config.augment, config.pixels.image_size)
    images = read_images(competition.train, side, "training", config.pixels, report)
    test = read_images(competition.test, side, "test", config.pixels, report)

    report.say("Folds")
    folds, leaks, pairs = split_images(config, competition.others, images, test, report)
    write_folds(images.table, folds, runtime.folder / "folds.csv")
    data = TrainingSet(images, folds, competition.task)
    if config.pseudo.run:
        data = label_test_part(Lesson(config, runtime, competition, data, test, pairs), report)

    report.say("Training: loss and accuracy, training → validation")
    plan = Plan(config, runtime, competition, start, data, test, leaks)
    watch.patient = True
    summary = cross_validate(plan, report, Halt(watch.is_asked, watch.is_ending))
    if watch.is_asked():
        return
    if watch.commands.stop and summary.get("run", {}).get("state") != "complete":
        end_stopped(watch.commands.stop, runtime.folder, report)
        return
    report.emit("files_listed", **describe_files(runtime.folder))
    figures = {"rows": len(competition.test), **summary["out_of_fold"]}
    places = (runtime.folder / name for name in ("submission.csv", "report.html"))
    report.say("Submission  {}\nReport      {}".format(*places))
    report.emit("run_finished", seconds=round(time.time() - runtime.started, 1), **figures)


if __name__ == "__main__":
    sys.exit(leave_hosts(main(CONFIG)))
