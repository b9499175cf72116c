"""Miniature replicas of real competitions: their files as their pages describe them.

Twenty training images and a few test images each, with all that lies beside them. What a page says
of the metric is written out here once more, by scikit-learn or in plain code.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from folders import write_csv, write_images
from sklearn.metrics import (
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    log_loss,
    roc_auc_score,
)
from sklearn.preprocessing import MultiLabelBinarizer

Truth = dict[str, tuple[str, ...]]  # what each image shows, by the id that its table has
Grader = Callable[[pd.DataFrame, Truth], float]
N, T = 20, 6


class Parts(NamedTuple):
    """What training and test images show."""

    train: Truth
    test: Truth


class Replica(NamedTuple):
    """A competition as its page describes it; `write` makes its files."""

    write: Callable[[Path], Parts]
    metric: str
    grade: Grader
    answer: str
    classes: Sequence[str]
    exclusive: bool = True
    groups: str | None = None
    card: Sequence[str] = ()  # lines that must be in the card


def show(ids: Sequence[str], classes: Sequence[str]) -> Truth:
    """Each image shows the next class."""
    return {one: (classes[row % len(classes)],) for row, one in enumerate(ids)}


def name_images(count: int, suffix: str = "", start: int = 0) -> list[str]:
    """Names as hashes are, in no order."""
    return [f"{(row + 1) * 2654435761 % 2**32:08x}{suffix}" for row in range(start, start + count)]


def place(folder: Path, names: Sequence[str], suffix: str = "") -> None:
    write_images(folder, [f"{name}{suffix}" for name in names])


def make_twins(folder: Path, names: Sequence[str]) -> None:
    """Files that are there and cannot be read."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not to be read")


def firsts(truth: Truth) -> list[str]:
    return [names[0] for names in truth.values()]


def lists(truth: Truth) -> list[str]:
    return [" ".join(names) for names in truth.values()]


def one_hot(truth: Truth, classes: Sequence[str]) -> dict[str, list[int]]:
    return {name: [int(name in names) for names in truth.values()] for name in classes}


# Graders: a submission as pandas reads it by default, as Kaggle's own metrics do.


def grade_labels(score: Callable[..., float], **options: object) -> Grader:
    return lambda table, truth: score(firsts(truth), table.iloc[:, 1].astype(str), **options)


def grade_numbers(score: Callable[..., float], **options: object) -> Grader:
    return lambda table, truth: score(
        [int(name) for name in firsts(truth)], table.iloc[:, 1].astype(int), **options
    )


def grade_accuracy(table: pd.DataFrame, truth: Truth) -> float:
    return float(np.mean(table.iloc[:, 1].astype(str).to_numpy() == np.array(firsts(truth))))


def grade_lists(average: str) -> Grader:
    def grade(table: pd.DataFrame, truth: Truth) -> float:
        given = [str(cell).split() for cell in table.iloc[:, 1]]
        coder = MultiLabelBinarizer().fit([*given, *truth.values()])
        return f1_score(coder.transform(truth.values()), coder.transform(given), average=average)

    return grade


def grade_one_auc(table: pd.DataFrame, truth: Truth) -> float:
    return roc_auc_score([name == "1" for name in firsts(truth)], table.iloc[:, 1])


def grade_mean_auc(table: pd.DataFrame, truth: Truth) -> float:
    columns = table.columns[1:]
    return float(
        np.mean(
            [
                roc_auc_score([name in one for one in truth.values()], table[name])
                for name in columns
            ]
        )
    )


def grade_log_loss(table: pd.DataFrame, truth: Truth) -> float:
    """Kaggle's log loss of several classes divides each row by its sum."""
    probs = table.iloc[:, 1:].div(table.iloc[:, 1:].sum(axis=1), axis=0)
    return -log_loss(firsts(truth), probs, labels=list(probs.columns))


def grade_dogs(table: pd.DataFrame, truth: Truth) -> float:
    return -log_loss([name == "dog" for name in firsts(truth)], table["label"])


def grade_map5(table: pd.DataFrame, truth: Truth) -> float:
    """One label is right: the mean of one over its place among the first five."""
    total = 0.0
    for name, cell in zip(firsts(truth), table.iloc[:, 1], strict=True):
        places = str(cell).split()[:5]
        assert len(set(places)) == 5
        total += 1 / (places.index(name) + 1) if name in places else 0
    return total / len(truth)


# The competitions, in the order of the list of layouts.


def write_cassava(folder: Path) -> Parts:
    train, test = name_images(N, ".jpg"), name_images(T, ".jpg", N)
    parts = Parts(show(train, "01234"), show(test, "01234"))
    place(folder / "train_images", train)
    place(folder / "test_images", test)
    make_twins(folder, ["train_tfrecords/ld_train00-20.tfrec", "test_tfrecords/ld_test00-6.tfrec"])
    names = {str(label): f"Disease {label}" for label in range(5)}
    (folder / "label_num_to_disease_map.json").write_text(json.dumps(names))
    write_csv(folder / "train.csv", {"image_id": train, "label": firsts(parts.train)})
    write_csv(folder / "sample_submission.csv", {"image_id": test, "label": [4] * T})
    return parts


PADDY = ("bacterial_leaf_blight", "blast", "hispa", "normal")


def write_paddy(folder: Path) -> Parts:
    train = [f"{100330 + row}.jpg" for row in range(N)]
    test = [f"{200001 + row}.jpg" for row in range(T)]
    parts = Parts(show(train, PADDY), show(test, PADDY))
    place(folder / "train_images", [f"{label}/{name}" for name, (label,) in parts.train.items()])
    place(folder / "test_images", test)
    more = {"variety": ["ADT45", "KarnatakaPonni"] * 10, "age": [45 + row % 3 for row in range(N)]}
    write_csv(folder / "train.csv", {"image_id": train, "label": firsts(parts.train), **more})
    write_csv(folder / "sample_submission.csv", {"image_id": test, "label": [""] * T})
    return parts


APPLES = ("complex", "frog_eye_leaf_spot", "healthy", "rust", "scab")
APPLE_LISTS = [("scab",), ("healthy",), ("scab", "frog_eye_leaf_spot", "complex"), ("rust",)]
APPLE_LISTS += [("frog_eye_leaf_spot",), ("complex",), ("rust", "frog_eye_leaf_spot")]


def write_apples_2021(folder: Path) -> Parts:
    train, test = name_images(N, ".jpg"), name_images(T, ".jpg", N)
    shown = {name: APPLE_LISTS[row % 7] for row, name in enumerate([*train, *test])}
    parts = Parts({name: shown[name] for name in train}, {name: shown[name] for name in test})
    place(folder / "train_images", train)
    place(folder / "test_images", test)
    write_csv(folder / "train.csv", {"image": train, "labels": lists(parts.train)})
    write_csv(folder / "sample_submission.csv", {"image": test, " labels": ["healthy"] * T})
    return parts


LEAVES = ("healthy", "multiple_diseases", "rust", "scab")


def write_apples_2020(folder: Path) -> Parts:
    train, test = ([f"{part}_{row}" for row in range(N)] for part in ("Train", "Test"))
    parts = Parts(show(train, LEAVES), show(test, LEAVES))
    place(folder / "images", [*train, *test], ".jpg")
    write_csv(folder / "train.csv", {"image_id": train, **one_hot(parts.train, LEAVES)})
    write_csv(folder / "test.csv", {"image_id": test})
    write_csv(
        folder / "sample_submission.csv", {"image_id": test} | dict.fromkeys(LEAVES, [0.25] * N)
    )
    return parts


def write_aptos(folder: Path) -> Parts:
    train, test = name_images(N), name_images(T, "", N)
    parts = Parts(show(train, "02143"), show(test, "02143"))
    place(folder / "train_images", train, ".png")
    place(folder / "test_images", test, ".png")
    write_csv(folder / "train.csv", {"id_code": train, "diagnosis": firsts(parts.train)})
    write_csv(folder / "test.csv", {"id_code": test})
    write_csv(folder / "sample_submission.csv", {"id_code": test, "diagnosis": [0] * T})
    return parts


def write_melanoma(folder: Path) -> Parts:
    train, test = ([f"ISIC_{part}{row:06d}" for row in range(N)] for part in (0, 9))
    parts = Parts(show(train, "0010"), show(test, "01"))
    for part, names in (("train", train), ("test", test)):
        place(folder / "jpeg" / part, names, ".jpg")
        make_twins(folder / part, [f"{name}.dcm" for name in names])
        make_twins(folder / "tfrecords", [f"{part}00-{len(names)}.tfrec"])
    known = {
        "patient_id": [f"IP_{row // 2:07d}" for row in range(N)],
        "sex": ["male", "female"] * 10,
        "age_approx": [45.0] * N,
        "anatom_site_general_challenge": [f"site {row // 2}" for row in range(N)],
    }
    later = {
        "diagnosis": ["nevus", "unknown"] * 10,
        "benign_malignant": [("benign", "malignant")[int(one)] for one in firsts(parts.train)],
        "target": firsts(parts.train),
    }
    write_csv(folder / "train.csv", {"image_name": train, **known, **later})
    write_csv(folder / "test.csv", {"image_name": test, **known})
    write_csv(folder / "sample_submission.csv", {"image_name": test, "target": [0] * N})
    return parts


BREEDS = tuple(
    f"{size}_{kind}" for size in ("giant", "toy") for kind in ("collie", "poodle", "pug")
)


def write_breeds(folder: Path) -> Parts:
    train, test = name_images(N), name_images(T, "", N)
    parts = Parts(show(train, BREEDS[::-1]), show(test, BREEDS))
    place(folder / "train", train, ".jpg")
    place(folder / "test", test, ".jpg")
    write_csv(folder / "labels.csv", {"id": train, "breed": firsts(parts.train)})
    asked = dict.fromkeys(BREEDS, [1 / len(BREEDS)] * T)
    write_csv(folder / "sample_submission.csv", {"id": test, **asked})
    return parts


SEEDLINGS = ("Black-grass", "Common Chickweed", "Loose Silky-bent", "Sugar beet")


def write_seedlings(folder: Path) -> Parts:
    train, test = name_images(N, ".png"), name_images(T, ".png", N)
    parts = Parts(show(train, SEEDLINGS), show(test, SEEDLINGS))
    place(folder / "train", [f"{label}/{name}" for name, (label,) in parts.train.items()])
    place(folder / "test", test)
    sample = {"file": test, "species": ["Sugar beet"] * T}
    write_csv(folder / "sample_submission.csv", sample)
    paths = {f"train/{label}/{name}": (label,) for name, (label,) in parts.train.items()}
    return parts._replace(train=paths)


def write_dogs(folder: Path) -> Parts:
    train = [f"{kind}.{row}.jpg" for kind in ("cat", "dog") for row in range(N // 2)]
    test = [str(row) for row in range(1, 13)]
    place(folder / "train", train)
    place(folder / "test", test, ".jpg")
    write_csv(folder / "sample_submission.csv", {"id": test, "label": [0.5] * 12})
    return Parts({f"train/{name}": (name[:3],) for name in train}, show(test, ("dog", "cat")))


def write_cancer(folder: Path) -> Parts:
    train, test = name_images(N), name_images(T, "", N)
    parts = Parts(show(train, "01"), show(test, "01"))
    place(folder / "train", train, ".tif")
    place(folder / "test", test, ".tif")
    write_csv(folder / "train_labels.csv", {"id": train, "label": firsts(parts.train)})
    write_csv(folder / "sample_submission.csv", {"id": test, "label": [0] * T})
    return parts


def write_cactus(folder: Path) -> Parts:
    train, test = name_images(N, ".jpg"), name_images(T, ".jpg", N)
    parts = Parts(show(train, "101"), show(test, "01"))
    for part, names in (("train", train), ("test", test)):
        place(folder / part, names)
        shutil.make_archive(str(folder / part), "zip", folder, part)
        shutil.rmtree(folder / part)
    write_csv(folder / "train.csv", {"id": train, "has_cactus": firsts(parts.train)})
    write_csv(folder / "sample_submission.csv", {"id": test, "has_cactus": [0.5] * T})
    return parts


def write_wild(folder: Path) -> Parts:
    train, test = name_images(N), name_images(T, "", N)
    parts = Parts(show(train, ("0", "19", "3", "11")), show(test, ("0", "19", "3", "11")))
    tables = {}
    for part, names in (("train", train), ("test", test)):
        place(folder / f"{part}_images", names, ".jpg")
        count = len(names)
        tables[part] = {
            "date_captured": ["2011-05-13 23:43:18"] * count,
            "file_name": [f"{name}.jpg" for name in names],
            "frame_num": [row % 2 + 1 for row in range(count)],
            "id": names,
            "location": [row // 4 for row in range(count)],
            "seq_id": [names[row // 2 * 2] for row in range(count)],
            "seq_num_frames": [2] * count,
            "width": [8] * count,
            "height": [8] * count,
        }
    labelled = {"category_id": firsts(parts.train), **tables["train"]}
    write_csv(folder / "train.csv", labelled)
    write_csv(folder / "test.csv", tables["test"])
    write_csv(folder / "sample_submission.csv", {"Id": test, "Predicted": [0] * T})
    return parts


def write_herbarium(folder: Path) -> Parts:
    files = [f"images/000/{row // 10:02d}/{row}.jpg" for row in range(N)]
    # Both parts are numbered alike, as their metadata has it: 12 numbers are in both.
    parts = Parts(show(files, ("1", "60", "104")), show([*map(str, range(12))], ("1", "60", "104")))
    place(folder / "train", files)
    place(folder / "test" / "images" / "000", list(parts.test), ".jpg")
    images = [{"id": row, "file_name": name, "license": 1} for row, name in enumerate(files)]
    categories = [{"id": 1, "name": "Rosa"}, {"id": 60, "name": "Acer"}, {"id": 104, "name": "Zea"}]
    annotations = [
        {"id": row, "image_id": row, "category_id": int(label), "region_id": 0}
        for row, label in enumerate(firsts(parts.train))
    ]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "train" / "metadata.json").write_text(json.dumps(content))
    tests = [{"id": row, "file_name": f"images/000/{row}.jpg", "license": 1} for row in range(12)]
    (folder / "test" / "metadata.json").write_text(json.dumps({"info": {}, "images": tests}))
    write_csv(folder / "sample_submission.csv", {"Id": list(range(12)), "Predicted": [0] * 12})
    return parts


def write_museum(folder: Path) -> Parts:
    train, test = name_images(N), name_images(T, "", N)
    shown = [("0", "2"), ("1",), ("1", "5", "12"), ("12",), ("2", "5")]
    everything = {name: shown[row % 5] for row, name in enumerate([*train, *test])}
    parts = Parts(*({name: everything[name] for name in part} for part in (train, test)))
    place(folder / "train", train, ".png")
    place(folder / "test", test, ".png")
    names = {"attribute_id": list(range(20)), "attribute_name": [f"tags::{n}" for n in range(20)]}
    write_csv(folder / "labels.csv", names)
    write_csv(folder / "train.csv", {"id": train, "attribute_ids": lists(parts.train)})
    write_csv(folder / "sample_submission.csv", {"id": test, "attribute_ids": ["0 1 2"] * T})
    return parts


LINES = (
    "ETT - Abnormal",
    "ETT - Normal",
    "NGT - Incompletely Imaged",
    "Swan Ganz Catheter Present",
)


def write_catheters(folder: Path) -> Parts:
    train, test = (
        [f"1.2.826.0.1.3680043.8.498.{part}{row:03d}" for row in range(N)] for part in (26, 46)
    )
    shown = [LINES[:1], LINES[1:3], (), LINES[2:], (LINES[0], LINES[3])]
    everything = {name: shown[row % 5] for row, name in enumerate([*train, *test])}
    parts = Parts(*({name: everything[name] for name in part} for part in (train, test)))
    for part, names in (("train", train), ("test", test)):
        place(folder / part, names, ".jpg")
        make_twins(folder / f"{part}_tfrecords", [f"00-{N}.tfrec"])
    patients = [f"{row // 2:08x}c" for row in range(N)]
    columns = one_hot(parts.train, LINES)
    table = {"StudyInstanceUID": train, **columns, "PatientID": patients}
    write_csv(folder / "train.csv", table)
    drawn = {"StudyInstanceUID": train[:3] * 2, "label": [LINES[0]] * 6, "data": ["[[1 2]]"] * 6}
    write_csv(folder / "train_annotations.csv", drawn)
    asked = dict.fromkeys(LINES, [0] * N)
    write_csv(folder / "sample_submission.csv", {"StudyInstanceUID": test, **asked})
    return parts


HOTELS = ("1129", "18807", "36363", "53586", "60181", "64314", "7")


def write_hotels(folder: Path) -> Parts:
    train, test = name_images(N, ".jpg"), name_images(T, ".jpg", N)
    parts = Parts(show(train, HOTELS), show(test, HOTELS))
    chains = [row % 3 for row in range(N)]
    place(
        folder / "train_images",
        [f"{chain}/{name}" for chain, name in zip(chains, train, strict=True)],
    )
    place(folder / "test_images", test)
    table = {"image": train, "chain": chains, "hotel_id": firsts(parts.train)}
    write_csv(folder / "train.csv", {**table, "timestamp": ["2019-07-01 12:00:00"] * N})
    asked = ["36363 53586 18807 64314 60181"] * T
    write_csv(folder / "sample_submission.csv", {"image": test, "hotel_id": asked})
    return parts


WHALES = ("new_whale", "w_1287fbc", "w_1eafe46", "w_7554f44", "w_98baff9", "w_ffdab7a")


def write_whales(folder: Path) -> Parts:
    train, test = name_images(N, ".jpg"), name_images(T, ".jpg", N)
    parts = Parts(show(train, WHALES), show(test, WHALES))
    place(folder / "train", train)
    place(folder / "test", test)
    write_csv(folder / "train.csv", {"Image": train, "Id": firsts(parts.train)})
    asked = ["new_whale w_1287fbc w_98baff9 w_7554f44 w_1eafe46"] * T
    write_csv(folder / "sample_submission.csv", {"Image": test, "Id": asked})
    return parts


OVARY = ("CC", "EC", "HGSC", "LGSC", "MC")


def write_ovary(folder: Path) -> Parts:
    train, test = ([str(row * 7 + start) for row in range(N)] for start in (4, 4100))
    parts = Parts(show(train, OVARY), show(test, OVARY))
    for part, names in (("train", train), ("test", test)):
        place(folder / f"{part}_images", names, ".png")
        place(folder / f"{part}_thumbnails", [f"{name}_thumbnail" for name in names], ".png")
    size = {"image_width": [23785] * N, "image_height": [20008] * N}
    table = {"image_id": train, "label": firsts(parts.train), **size, "is_tma": ["False"] * N}
    write_csv(folder / "train.csv", table)
    write_csv(folder / "test.csv", {"image_id": test, **size})
    write_csv(folder / "sample_submission.csv", {"image_id": test, "label": ["HGSC"] * N})
    return parts


def write_breasts(folder: Path) -> None:
    """Answers are asked for each breast of a patient, of which there are several DICOM images."""
    patients = [str(10006 + row // 4) for row in range(N)]
    images = [str(462822612 + row) for row in range(N)]
    table = {
        "site_id": [2] * N,
        "patient_id": patients,
        "image_id": images,
        "laterality": ["L", "L", "R", "R"] * 5,
        "view": ["CC", "MLO"] * 10,
        "age": [61.0] * N,
    }
    keys = [f"{one}_{side}" for one, side in zip(patients, table["laterality"], strict=True)]
    write_csv(folder / "train.csv", {**table, "cancer": [0, 0, 1, 1] * 5})
    write_csv(folder / "test.csv", {**table, "prediction_id": keys})
    for part in ("train_images", "test_images"):
        files = [f"{one}/{image}.dcm" for one, image in zip(patients, images, strict=True)]
        make_twins(folder / part, files)
    asked = list(dict.fromkeys(keys))
    sample = {"prediction_id": asked, "cancer": [0.021168] * len(asked)}
    write_csv(folder / "sample_submission.csv", sample)


PATIENT_NOTE = "groups: column 'patient_id' of train.csv, for its name: 10 of them"
REPLICAS = {
    "cassava-leaf-disease-classification": Replica(
        write_cassava, "accuracy", grade_numbers(lambda *pair: float(np.mean(np.equal(*pair)))),
        "label", "01234", card=["not used: 2 .tfrec files, as there are images"],
    ),
    "paddy-disease-classification": Replica(
        write_paddy, "accuracy", grade_accuracy, "label", PADDY
    ),
    "plant-pathology-2021-fgvc8": Replica(
        write_apples_2021, "samples_f1", grade_lists("samples"), "labels", APPLES, exclusive=False
    ),
    "plant-pathology-2020-fgvc7": Replica(
        write_apples_2020, "auc", grade_mean_auc, "probabilities", LEAVES
    ),
    "aptos2019-blindness-detection": Replica(
        write_aptos, "qwk", grade_numbers(cohen_kappa_score, weights="quadratic"), "label", "01234"
    ),
    "siim-isic-melanoma-classification": Replica(
        write_melanoma, "auc", grade_one_auc, "probability", "01", groups="patient_id",
        card=[
            "known of training images alone: diagnosis, benign_malignant; nothing but the image",
            "not used: 40 .dcm, 2 .tfrec files, as there are images",
        ],
    ),
    "dog-breed-identification": Replica(
        write_breeds, "log_loss", grade_log_loss, "probabilities", BREEDS
    ),
    "plant-seedlings-classification": Replica(
        write_seedlings, "micro_f1", grade_labels(f1_score, average="micro"), "label", SEEDLINGS
    ),
    "dogs-vs-cats-redux-kernels-edition": Replica(
        write_dogs, "log_loss", grade_dogs, "probability", ("cat", "dog"),
        card=["the probability is that of 'dog', and not of 'cat'"],
    ),
    "histopathologic-cancer-detection": Replica(
        write_cancer, "auc", grade_one_auc, "probability", "01"
    ),
    "aerial-cactus-identification": Replica(
        write_cactus, "auc", grade_one_auc, "probability", "01",
        card=["26 images unpacked from 2 .zip files"],
    ),
    "iwildcam-2019-fgvc6": Replica(
        write_wild, "macro_f1", grade_numbers(f1_score, average="macro"), "label",
        ("0", "3", "11", "19"), groups="location",
    ),
    "herbarium-2021-fgvc8": Replica(
        write_herbarium, "macro_f1", grade_numbers(f1_score, average="macro"), "label",
        ("1", "60", "104"),
    ),
    "imet-2020-fgvc7": Replica(
        write_museum, "micro_f1", grade_lists("micro"), "labels", ("0", "1", "2", "5", "12"),
        exclusive=False,
    ),
    "ranzcr-clip-catheter-line-classification": Replica(
        write_catheters, "auc", grade_mean_auc, "probabilities", LINES, exclusive=False,
        groups="PatientID",
    ),
    "hotel-id-2021-fgvc8": Replica(
        write_hotels, "map", grade_map5, "ranking", sorted(HOTELS, key=int)
    ),
    "whale-categorization-playground": Replica(
        write_whales, "map", grade_map5, "ranking", WHALES
    ),
    "UBC-OCEAN": Replica(
        write_ovary, "balanced_accuracy", grade_labels(balanced_accuracy_score), "label", OVARY,
        card=["not used: 40 images that are neither labelled nor asked for"],
    ),
}  # fmt: skip
