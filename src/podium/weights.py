"""Weights: what the backbone starts from

They are looked for once, before the folds: among the attached inputs, then in Keras's cache, then
by download; a Hub module's are ported. They are kept as backbone.weights.h5 in the run folder,
which every fold reads, with what was measured beside them in backbone.json.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import keras

from podium.attempt import call_in_time, describe_error
from podium.backbones import Backbone, find_backbone
from podium.events import Reporter
from podium.handles import BackboneError, find_module, find_weights_file
from podium.hub_module import find_side
from podium.learning import ModelConfig
from podium.network import Start, build_architecture, check_backbone
from podium.port import UnportableModule, port_module, read_module
from podium.storage import write_whole

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
