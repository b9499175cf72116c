"""kernel-metadata.json: the sources that the script's backbone needs attached.

Kaggle mounts a Hub module for a session without internet if the metadata names its version.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podium.backbones import find_backbone
from podium.override import read_config

PATH = Path(__file__).resolve().parents[2] / "kernel-metadata.json"


def main(argv: Sequence[str]) -> int:
    """Writes the metadata, or with --check says whether it is stale; returns the exit code."""
    parser = argparse.ArgumentParser("kernel_metadata", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the file is stale")
    check = parser.parse_args(argv).check
    present = json.loads(PATH.read_text(encoding="utf-8"))
    wanted = attach_models(present, read_config([]).model.backbone)
    if check and wanted != present:
        print(f"{PATH.name} is stale: model_sources must be {wanted['model_sources']}; make build")
        return 1
    if wanted != present:
        PATH.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    return 0


def attach_models(metadata: dict[str, Any], backbone: str) -> dict[str, Any]:
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
