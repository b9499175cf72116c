"""Checkpoint: all that a fold has learned so far, in one file

The state is every variable of the model and its optimizer: weights, statistics, moments,
averages, counters and the states of the random generators. What has been trained for k steps,
captured and restored into a new model trains on as if it had never stopped, to the bit where the
device computes the same thing twice. A checkpoint is an .npz file with a digest of all its bytes
at its end, so that one that is cut short or damaged is never taken for a whole one.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.optimizers import find_inner
from podium.storage import open_whole

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
