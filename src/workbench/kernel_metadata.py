"""kernel-metadata.json: tells Kaggle what to run, on what machine, with what attached.

The client ignores silently what it does not know, so everything is checked here: keys, machine
shapes, the title, and what an accelerator or a code competition forbids.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from podium.backbones import find_backbone
from podium.override import read_config
from workbench.competition_file import SLUG_LIMIT, CompetitionFile

PATH = Path(__file__).resolve().parents[2] / "kernel-metadata.json"
PLACEHOLDER = "YOUR-KAGGLE-NAME"
MACHINE_SHAPES = {"gpu": "NvidiaTeslaT4", "tpu": "TpuV5E8", "cpu": None}
# What Kaggle's documents name; some are for certain competitions only. Retired ones are
# replaced by the server without a word: P100 by T4, v3-8 by v5e-8, and v2 by a CPU.
KNOWN_SHAPES = (
    *("NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaTeslaA100", "NvidiaL4", "NvidiaL4X1"),
    *("NvidiaH100", "NvidiaRtxPro6000", "TpuV5E8", "TpuV6E8"),
)
KEYS = (
    *("id", "id_no", "title", "code_file", "language", "kernel_type", "is_private", "enable_gpu"),
    *("enable_tpu", "enable_internet", "machine_shape", "competition_sources", "dataset_sources"),
    *("kernel_sources", "model_sources", "keywords", "docker_image", "docker_image_pinning_type"),
)
SECRET_DATASET = "podium-webhook"  # noqa: S105, its name is no secret


def main(argv: Sequence[str]) -> int:
    """Writes the metadata, or with --check says whether it is stale; returns the exit code."""
    parser = argparse.ArgumentParser("kernel_metadata", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the file is stale or wrong")
    check = parser.parse_args(argv).check
    present = json.loads(PATH.read_text(encoding="utf-8"))
    wanted = attach_models(present, read_config([]).model.backbone)
    if check and wanted != present:
        print(f"{PATH.name} is stale: model_sources must be {wanted['model_sources']}; make build")
        return 1
    if mistakes := list_metadata_mistakes(wanted):
        print("\n".join(f"{PATH.name}: {mistake}" for mistake in mistakes))
        return 1
    if wanted != present:
        PATH.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    return 0


def derive_metadata(competition: CompetitionFile, code_file: str) -> dict[str, Any]:
    """The metadata of a competition's kernel."""
    shape = MACHINE_SHAPES[competition.accelerator]
    secret = [f"{competition.owner}/{SECRET_DATASET}"] if competition.webhook else []
    metadata = {
        "id": competition.kernel,
        "title": competition.slug,  # any other title may not resolve to the id
        "code_file": code_file,
        "language": "python",
        "kernel_type": "script",
        "is_private": competition.private,
        "enable_gpu": competition.accelerator == "gpu",
        "enable_tpu": competition.accelerator == "tpu",
        "enable_internet": competition.internet,
        "competition_sources": [competition.competition],
        "dataset_sources": [*competition.datasets, *secret],
        "kernel_sources": list(competition.kernels),
    }
    if shape:
        metadata["machine_shape"] = shape
    return attach_models(metadata, competition.config.model.backbone)


def list_metadata_mistakes(metadata: Mapping[str, Any]) -> list[str]:
    """What the client would pass on without a word, each with its remedy."""
    mistakes = [f"unknown key {name!r}, which Kaggle ignores" for name in metadata.keys() - {*KEYS}]
    shape = metadata.get("machine_shape")
    if shape and shape not in KNOWN_SHAPES:
        mistakes.append(f"machine_shape {shape!r} is none of {', '.join(KNOWN_SHAPES)}")
    title, slug = str(metadata.get("title", "")), str(metadata.get("id", "/")).partition("/")[2]
    if not 5 <= len(title) <= SLUG_LIMIT or make_slug(title) != slug:
        mistakes.append(
            f"title {title!r} must have 5 to {SLUG_LIMIT} letters and resolve to the id's slug "
            f"{slug!r}; other titles lead to conflicts later"
        )
    tpu = bool(metadata.get("enable_tpu")) or str(shape).startswith("Tpu")
    if tpu and metadata.get("docker_image"):
        mistakes.append("docker_image must go: with one, Kaggle runs a TPU kernel on a CPU")
    for flag, start in (("enable_gpu", "Nvidia"), ("enable_tpu", "Tpu")):
        if bool(metadata.get(flag)) != str(shape).startswith(start):
            mistakes.append(f"{flag} and machine_shape contradict each other")
    public = not metadata.get("is_private", True)
    if public and any(SECRET_DATASET in one for one in metadata.get("dataset_sources", [])):
        mistakes.append(
            f"a public kernel must not attach {SECRET_DATASET}; set private to true, "
            f"or webhook to false"
        )
    return mistakes


def make_slug(title: str) -> str:
    """The slug that Kaggle makes of a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def attach_models(metadata: Mapping[str, Any], backbone: str) -> dict[str, Any]:
    """The metadata with the backbone's module as its model sources; raises BackboneError."""
    return {**metadata, "model_sources": list_model_sources(backbone)}


def list_model_sources(backbone: str) -> list[str]:
    """Owner/model/framework/variation/version, if the backbone is a module of Kaggle Models."""
    row = find_backbone(backbone)
    attached = row.name.startswith("hub:") and row.weights.count("/tensorFlow2/") == 1
    if attached and row.weights.count("/") != 4:
        raise ValueError(f"{backbone}: Kaggle wants a version, as in {row.weights}/1")
    return [row.weights] if attached else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
