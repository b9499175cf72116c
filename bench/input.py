"""Images per second that a pipeline delivers, of Podium, its peers and the bare limit.

    python bench/input.py --images folder                 or --json; --plot file.png
    python bench/input.py --images folder --only limit_cold podium_cold --side 128

All run on the same files and cores in one process, in turns; a ratio is the median of the ratios of
each round, so that a machine that slows down slows both sides. One round is one pass over the
images, the first is not counted. `_cold` decodes files; `_cached` starts from decoded squares,
and makes four passes. Albumentations does the same in all that use it (`make_policy`). What the
device does is no part of a pipeline: under flip-crop it cuts and mirrors, and `_on_cpu` is with a
CPU in its place. PyTorch is used if it is installed:

    python -m venv torch-venv
    torch-venv/bin/pip install -r requirements/kaggle-image.txt torch==2.13.0
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A  # noqa: N812, its documents' own name
import cv2
import numpy as np

from podium.policies import POLICIES

COLOUR = "PODIUM_BENCH_COLOUR"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Job(NamedTuple):
    """What every pipeline is given."""

    folder: Path  # a folder for each class, of links to the images
    paths: list[str]  # [N]
    side: int  # of what a network is fed
    stored: int  # of the squares that Podium keeps, which a crop is cut from
    batch: int


Run = Callable[[], int]  # one pass over the images; tells how many came out


def main() -> None:
    """Times the pipelines in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="searched with its subfolders")
    parser.add_argument("--count", type=int, default=500, help="images used")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PIPELINES, default=list(PIPELINES))
    parser.add_argument("--colour", choices=("hsv", "jitter"), default="hsv", help="of the policy")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    os.environ[COLOUR] = options.colour  # the processes of all pipelines see it
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        job = lay_out_job(Path(name), options)
        rates = time_pipelines(job, options.only, options.rounds)
        memory = {kind: measure_apart(job, kind) for kind in CACHES}
    result = {
        "cores": CORES,
        "colour": options.colour,
        "images": len(job.paths),
        "side": job.side,
        "images_per_second": {name: statistics.median(rate) for name, rate in rates.items()},
        "ratios": compare(rates),
        "memory": memory,
    }
    print(json.dumps(result) if options.json else describe(result))
    if options.plot:
        draw(result, options.plot)


def lay_out_job(folder: Path, options: argparse.Namespace) -> Job:
    """Links evenly spread images into one folder of a class, as the peers want them."""
    found = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in SUFFIXES)
    chosen = found[:: max(len(found) // options.count, 1)][: options.count]
    if not chosen:
        raise SystemExit(f"no images in {options.images}")
    (folder / "class").mkdir()
    paths = []
    for number, path in enumerate(chosen):
        link = folder / "class" / f"{number:06d}{path.suffix}"
        link.symlink_to(path.resolve())
        paths.append(str(link))
    stored = options.side + -(-options.side // 8)  # as augment.margin has it
    return Job(folder, paths, options.side, stored, options.batch)


def time_pipelines(job: Job, names: Iterable[str], rounds: int) -> dict[str, list[float]]:
    """Images per second of each pipeline in each round."""
    runs: dict[str, Run] = {}
    for name in names:
        if name.startswith("torch") and not importlib.util.find_spec("torch"):
            print(f"{name}: skipped, PyTorch is not installed", file=sys.stderr)
            continue
        cv2.setNumThreads(-1)  # as it comes; a pipeline that wants another number sets it
        runs[name] = PIPELINES[name](job)
        runs[name]()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(0.3)  # what another has made ahead of its time is done
            begun = time.perf_counter()
            images = run()
            rates[name].append(images / (time.perf_counter() - begun))
    return rates


def compare(rates: dict[str, list[float]]) -> dict[str, float]:
    """Each ratio of RATIOS whose two pipelines ran: the median over the rounds."""
    return {
        name: statistics.median(
            one / max(others) for one, *others in zip(*(rates[part] for part in parts), strict=True)
        )
        for name, parts in RATIOS.items()
        if rates.keys() >= set(parts)
    }


def make_policy(side: int) -> A.Compose:
    """The albumentations policy that all run: [H, W, 3] uint8 to [side, side, 3] uint8.

    Of HueSaturationValue's 1.2 ms an image, OpenCV 4.13 takes 1.1 ms to add a whole number to a
    channel, so that it is most of what `--colour hsv` measures; `jitter` does without.
    """
    colour = {
        "hsv": [A.RandomBrightnessContrast(p=0.5), A.HueSaturationValue(p=0.5)],
        "jitter": [A.ColorJitter(0.2, 0.2, 0.2, 0.05, p=0.5)],
    }
    return A.Compose(
        [
            A.RandomResizedCrop(size=(side, side), scale=(0.5, 1.0)),
            A.HorizontalFlip(p=0.5),
            *colour[os.environ.get(COLOUR, "hsv")],
            A.Affine(translate_percent=0.0625, scale=(0.9, 1.1), rotate=(-45, 45), p=0.5),
        ],
        seed=0,
    )


def read_rgb(path: str) -> np.ndarray:
    """One image, decoded at its full size by OpenCV."""
    return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


# --- from files --------------------------------------------------------------------------------


def limit_cold(job: Job) -> Run:
    """OpenCV's decode at the scale that Podium uses, and its area resize, on all cores."""
    flags = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flags |= {2: cv2.IMREAD_REDUCED_COLOR_2, 1: cv2.IMREAD_COLOR}
    sizes = [min(cv2.imread(path).shape[:2]) for path in job.paths]
    scales = [next(s for s in flags if size // s >= job.stored or s == 1) for size in sizes]

    def decode(path: str, scale: int) -> None:
        image = cv2.imread(path, flags[scale])
        height, width = image.shape[:2]
        shorter = min(height, width)
        top, left = (height - shorter) // 2, (width - shorter) // 2
        square = image[top : top + shorter, left : left + shorter]
        cv2.resize(square, (job.stored, job.stored), interpolation=cv2.INTER_AREA)

    def run() -> int:
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(CORES) as pool:
            return sum(1 for _ in pool.map(decode, job.paths, scales))

    return run


def podium_cold(job: Job) -> Run:
    """What a run does before its first fold: every file into the array of squares."""
    import pandas as pd

    from podium.config import PixelsConfig
    from podium.events import Reporter
    from podium.pixels import read_images

    report = Reporter(job.folder)
    report.say = lambda *_: None
    table = pd.DataFrame({"id": job.paths, "path": job.paths})
    return lambda: len(read_images(table, job.stored, "training", PixelsConfig(), report).table)


def keras_directory(job: Job) -> Run:
    """keras.utils.image_dataset_from_directory, without augmentation."""
    import keras

    dataset = keras.utils.image_dataset_from_directory(
        job.folder,
        labels=None,
        batch_size=job.batch,
        image_size=(job.side, job.side),
        crop_to_aspect_ratio=True,
        verbose=False,
    )
    return lambda: sum(len(batch) for batch in dataset.as_numpy_iterator())


def keras_generator_albumentations(job: Job) -> Run:
    """Keras's ImageDataGenerator with albumentations as its preprocessing function."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    policy = make_policy(job.side)
    augment = ImageDataGenerator(
        preprocessing_function=lambda image: policy(image=image.astype(np.uint8))["image"]
    )
    with contextlib.redirect_stdout(sys.stderr):  # it says what it found
        batches = augment.flow_from_directory(
            job.folder, (job.side, job.side), class_mode=None, batch_size=job.batch
        )
    return lambda: sum(len(batches[number]) for number in range(len(batches)))


def tf_data_albumentations(job: Job) -> Run:
    """tf.data decoding at full size, albumentations in numpy_function."""
    import tensorflow as tf

    policy = make_policy(job.side)

    def load(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.numpy_function(lambda array: policy(image=array)["image"], [image], tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(job.paths).map(load, tf.data.AUTOTUNE)
    dataset = dataset.map(lambda image: tf.ensure_shape(image, (job.side, job.side, 3)))
    batches = dataset.batch(job.batch).prefetch(tf.data.AUTOTUNE)
    return lambda: sum(len(batch) for batch in batches.as_numpy_iterator())


class Photos:
    """A torch Dataset in all but name: OpenCV, then albumentations; pickled into the workers."""

    def __init__(self, paths: list[str], side: int) -> None:
        self.paths, self.policy = paths, make_policy(side)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        cv2.setNumThreads(0)
        return self.policy(image=read_rgb(self.paths[row]))["image"]


def torch_albumentations(job: Job) -> Run:
    """PyTorch's DataLoader, a worker for each core, OpenCV and albumentations."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        Photos(job.paths, job.side),
        job.batch,
        shuffle=True,
        num_workers=CORES,
        persistent_workers=True,
        multiprocessing_context="spawn",  # TensorFlow's threads do not survive a fork
    )
    return lambda: sum(len(batch) for batch in loader)


# --- from decoded squares ----------------------------------------------------------------------

PASSES = 4


def decode_squares(job: Job, side: int) -> np.ndarray:
    """The images as Podium keeps them: [N, side, side, 3] uint8."""
    from podium.decode import decode_image

    return np.stack([decode_image(path, side) for path in job.paths])


def augment_squares(file: str, side: int, line: Connection) -> None:
    """A process of the limit: augments the rows that it is told, and keeps nothing."""
    cv2.setNumThreads(0)
    squares, policy = np.load(file), make_policy(side)
    with suppress(EOFError):  # the benchmark has ended
        while rows := line.recv():
            for row in rows:
                policy(image=squares[row])
            line.send(len(rows))


def limit_cached_processes(job: Job) -> Run:
    """Bare albumentations, a process for each core that has all the squares in its memory."""
    file = str(job.folder / "squares.npy")
    np.save(file, decode_squares(job, job.side))
    spawn, lines = multiprocessing.get_context("spawn"), []
    for _ in range(CORES):
        ours, theirs = multiprocessing.Pipe()
        spawn.Process(target=augment_squares, args=(file, job.side, theirs), daemon=True).start()
        lines.append(ours)
    rows = list(range(len(job.paths))) * PASSES

    def run() -> int:
        for number, line in enumerate(lines):
            line.send(rows[number :: len(lines)])
        return sum(line.recv() for line in lines)

    return run


def limit_cached_threads(job: Job) -> Run:
    """Bare albumentations, a thread for each core."""
    squares = decode_squares(job, job.side)
    policies = [make_policy(job.side) for _ in range(CORES)]
    rows = list(range(len(job.paths))) * PASSES

    def augment(number: int) -> int:
        mine = rows[number::CORES]
        for row in mine:
            policies[number](image=squares[row])
        return len(mine)

    def run() -> int:
        cv2.setNumThreads(0)
        with ThreadPoolExecutor(CORES) as pool:
            return sum(pool.map(augment, range(CORES)))

    return run


def podium_cached(policy: str, job: Job, *, layer: bool = False) -> Run:
    """What training takes after the first epoch; with the layer, what the network takes."""
    from podium.augment import crop_margin, make_augmentation
    from podium.batches import Cut, Host, Labelled, count_steps, make_train_batches
    from podium.config import AugmentConfig, Config, PixelsConfig
    from podium.events import Reporter

    augment = AugmentConfig(policy)
    config = replace(Config(), augment=augment, pixels=PixelsConfig(job.side, job.batch))
    squares = decode_squares(job, job.side + crop_margin(augment, job.side))
    data = Labelled(squares, np.arange(len(squares)) % 10, 10)
    host = Host(config, squares, Reporter(job.folder))  # its processes end with this one
    rows = np.arange(len(squares))
    stream = iter(make_train_batches(data, rows, Cut(job.batch), 0, host))
    steps = PASSES * count_steps(len(squares), job.batch)
    device = make_augmentation(augment, job.side, seed=0)

    def run() -> int:
        for _ in range(6):  # made before the clock started
            next(stream)
        for _ in range(steps):
            pixels, _ = next(stream)
            if layer:
                device(pixels, training=True)
        return steps * job.batch

    return run


def podium_cached_albumentations(job: Job) -> Run:
    """The policy that all run, as a function of the user's own."""
    (job.folder / "own_policy.py").write_text(
        f"from input import make_policy\ndef make():\n    return make_policy({job.side})\n"
    )
    sys.path += [str(job.folder), str(Path(__file__).parent)]
    return podium_cached("own_policy:make", job)


PIPELINES: dict[str, Callable[[Job], Run]] = {
    "limit_cold": limit_cold,
    "podium_cold": podium_cold,
    "keras_directory": keras_directory,
    "keras_generator_albumentations": keras_generator_albumentations,
    "tf_data_albumentations": tf_data_albumentations,
    "torch_albumentations": torch_albumentations,
    "limit_cached_processes": limit_cached_processes,
    "limit_cached_threads": limit_cached_threads,
    "podium_cached_albumentations": podium_cached_albumentations,
    **{f"podium_cached_{name}": partial(podium_cached, name) for name in POLICIES},
    "podium_cached_flip-crop_on_cpu": partial(podium_cached, "flip-crop", layer=True),
}

# Name: this pipeline, divided by the best of those.
CACHED = "podium_cached_albumentations"
RATIOS = {
    "cold_vs_limit": ("podium_cold", "limit_cold"),
    "cold_vs_keras_directory": ("podium_cold", "keras_directory"),
    "cached_albumentations_vs_limit": (CACHED, "limit_cached_processes", "limit_cached_threads"),
    "cached_albumentations_vs_torch": (CACHED, "torch_albumentations"),
    "cached_albumentations_vs_keras_generator": (CACHED, "keras_generator_albumentations"),
    "cached_albumentations_vs_tf_data": (CACHED, "tf_data_albumentations"),
    "cached_flip_crop_vs_torch": ("podium_cached_flip-crop", "torch_albumentations"),
}


# --- memory ------------------------------------------------------------------------------------

CACHES = ("memory", "disk", "none")


def measure_apart(job: Job, kind: str) -> dict[str, float]:
    """`measure_memory` in a process of its own, where nothing else has taken memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_memory, job, kind).result()


def measure_memory(job: Job, kind: str) -> dict[str, float]:
    """Most MB taken by decoding and an epoch of batches: the process's own, and shared memory.

    The squares are the budget; beside them a run needs an image for each core and some batches.
    """
    import pandas as pd

    from podium.batches import Cut, Labelled, make_train_batches
    from podium.config import PixelsConfig
    from podium.events import Reporter
    from podium.pixels import read_images

    report, rows = Reporter(job.folder), np.arange(len(job.paths))
    report.say = lambda *_: None
    table = pd.DataFrame({"id": job.paths, "path": job.paths})
    warm = Labelled(np.zeros((job.batch, 8, 8, 3), np.uint8), np.zeros(job.batch, int), 2)
    next(iter(make_train_batches(warm, np.arange(job.batch), Cut(job.batch), 0)))
    taken, done = [read_status()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            taken.append(read_status())

    watcher = threading.Thread(target=watch)
    watcher.start()
    config = PixelsConfig(cache=kind)
    pixels = read_images(table, job.stored, "training", config, report).pixels
    data = Labelled(pixels, np.zeros(len(rows), int), 2)
    for _ in make_train_batches(data, rows, Cut(job.batch), 0).take(len(rows) // job.batch):
        pass
    done.set()
    watcher.join()
    private, shared = (np.max(taken, axis=0) - taken[0]) / 1e6
    squares = len(rows) * job.stored**2 * 3 / 1e6
    return {"squares": squares, "private": float(private), "shared": float(shared)}


def read_status() -> tuple[int, int]:
    """Bytes that Linux counts as this process's own, and as shared memory."""
    status = Path("/proc/self/status").read_text()
    own, shared = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("RssAnon", "RssShmem"))
    return int(own[1]) * 1024, int(shared[1]) * 1024


# --- what is shown -----------------------------------------------------------------------------


def describe(result: dict) -> str:
    """The figures as a Markdown table, and the ratios."""
    lines = [f"{result['images']} images, {result['side']} px, {result['cores']} cores", ""]
    lines += ["| pipeline | images/s |", "|---|---|"]
    lines += [f"| {name} | {rate:,.0f} |" for name, rate in result["images_per_second"].items()]
    lines += ["", "| ratio | |", "|---|---|"]
    lines += [f"| {name} | {ratio:.2f} |" for name, ratio in result["ratios"].items()]
    lines += ["", "| cache | squares, MB | own memory, MB | shared, MB |", "|---|---|---|---|"]
    for kind, row in result["memory"].items():
        lines.append(f"| {kind} | {' | '.join(f'{value:,.0f}' for value in row.values())} |")
    return "\n".join(lines)


def draw(result: dict, path: Path) -> None:
    """Writes a bar for each pipeline, slowest first, on a logarithmic axis."""
    from matplotlib.figure import Figure

    rates = sorted(result["images_per_second"].items(), key=lambda item: item[1])
    figure = Figure((8, 1 + 0.35 * len(rates)), dpi=150, layout="constrained")
    axes = figure.subplots()
    colours = ["#2b6cb0" if name.startswith("podium") else "#a0aec0" for name, _ in rates]
    bars = axes.barh([name for name, _ in rates], [rate for _, rate in rates], color=colours)
    axes.bar_label(bars, [f" {rate:,.0f}" for _, rate in rates])
    axes.set_xscale("log")
    axes.set_xlabel(f"images per second at {result['side']} px on {result['cores']} cores")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
