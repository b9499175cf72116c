"""Handles: where pretrained weights lie

An input attached to the session comes first, then a folder on this machine, then a download,
which has a time limit: where a session has no internet, kagglehub may wait for ever. What was
looked for stands in the error.

A handle is what Kaggle Models calls a module: owner/model/framework/variation/version.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from podium.attempt import call_in_time, describe_error
from podium.runtime import KAGGLE_INPUT

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
