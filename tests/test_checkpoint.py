import errno
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.backbones import find_backbone
from podium.checkpoint import (
    Checkpoint,
    CheckpointError,
    capture_state,
    forget_checkpoints,
    list_checkpoints,
    read_checkpoint,
    restore_state,
    write_checkpoint,
)
from podium.config import AugmentConfig, Config, PixelsConfig
from podium.freezing import freeze_backbone
from podium.learning import HeadConfig, ModelConfig
from podium.model import build_model, open_session
from podium.network import Start
from podium.objective import compile_model
from podium.task import Task

# On the script the dry runs show this: they train, are killed and go on.
pytestmark = pytest.mark.modules

ON_JAX = keras.backend.backend() == "jax"
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 20, 20, 3), dtype=np.uint8)
TARGETS = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 64)]
TASK = Task("label", ("a", "b", "c"))
CONFIG = replace(
    Config(),
    model=ModelConfig("tiny", "random"),
    head=HeadConfig(dropout=0.3),
    pixels=PixelsConfig(16, 16),
    augment=AugmentConfig("flip-crop", margin=0.25, flip="yes"),
)


@pytest.fixture(autouse=True)
def own_distribution():
    yield
    keras.distribution.set_distribution(None)


def make_model(seed: int, **options: Any) -> keras.Model:
    """A net with augmentation, dropout, batch norm and AdamW, over all devices there are."""
    open_session("float32", 8)
    row = find_backbone("tiny")
    model = build_model(CONFIG, Start(row, row.scaling), 3, 20, seed)
    freeze_backbone(model, CONFIG.model, frozen=False)
    scaled = options.pop("scaled", False)
    optimizer = keras.optimizers.AdamW(1e-2, **options)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    compile_model(model, optimizer, task=TASK, jit=ON_JAX)
    return model


def train(model: keras.Model, first: int = 0, last: int = 64) -> None:
    rows = slice(first, last)
    model.fit(PIXELS[rows], TARGETS[rows], batch_size=16, shuffle=False, verbose=0)


def assert_equal_states(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def make_checkpoint(number: int = 0) -> Checkpoint:
    state = {
        "model/0000 podium/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) + number,
        "model/0001 seed": np.array([1, 2**32 - 1], np.uint32),
        "optimizer/0000 iteration": np.array(number, np.int64),
    }
    return Checkpoint({"fold": 0, "updates": number, "losses": [0.5, 0.25]}, state)


def write_some(folder: Path, count: int) -> None:
    for number in range(1, count + 1):
        write_checkpoint(folder, make_checkpoint(number))


def test_a_new_model_trains_on_as_if_training_had_never_stopped(tmp_path: Path):
    model = make_model(0)
    train(model, 0, 32)
    write_checkpoint(tmp_path, Checkpoint({}, capture_state(model)))
    train(model, 32, 64)
    found, notes = read_checkpoint(tmp_path)
    assert notes == []
    other = make_model(1)
    restore_state(other, found.state)
    train(other, 32, 64)
    assert_equal_states(capture_state(other), capture_state(model))


@pytest.mark.either
@pytest.mark.parametrize(
    "left_out", ["kernel", "moving_mean", "seed_generator_state", "momentum", "iteration"]
)
def test_training_ends_elsewhere_if_any_part_of_the_state_is_left_out(left_out: str):
    model = make_model(0)
    train(model, 0, 32)
    whole = capture_state(model)
    other = make_model(1)
    ours = capture_state(other)
    part = {name: ours[name] if name.endswith(left_out) else whole[name] for name in whole}
    restore_state(other, part)
    for one in (model, other):
        train(one, 32, 64)
    theirs = capture_state(other)
    assert any((value != theirs[name]).any() for name, value in capture_state(model).items())


@pytest.mark.parametrize("options", [{}, {"scaled": True}])
def test_averages_accumulators_and_the_scale_of_the_loss_are_part_of_the_state(options: Any):
    model = make_model(0, use_ema=True, gradient_accumulation_steps=3, **options)
    train(model, 0, 32)  # two thirds of an update
    state = capture_state(model)
    other = make_model(1, use_ema=True, gradient_accumulation_steps=3, **options)
    restore_state(other, state)
    assert_equal_states(capture_state(other), state)
    kinds = {"average", "gradient_accumulator", "momentum", "velocity"}
    kinds |= {"dynamic_scale", "step_counter"} if options else set()
    assert all(any(name.endswith(kind) for name in state) for kind in kinds)
    assert any(value.any() for name, value in state.items() if name.endswith("accumulator"))


@pytest.mark.either
def test_names_do_not_tell_how_many_optimizers_there_were_nor_when_they_were_built():
    model = make_model(0)
    never_trained = capture_state(model)
    train(model, 0, 32)
    assert list(capture_state(model)) == list(never_trained)
    compile_model(model, keras.optimizers.AdamW(1e-2), task=TASK, jit=ON_JAX)
    train(model, 0, 32)
    assert list(capture_state(model)) == list(never_trained)


@pytest.mark.parametrize(("before", "after"), [(None, 2), (2, 4), (4, 2), (2, None)])
def test_with_other_accumulation_as_many_updates_are_counted_and_nothing_is_summed_up(
    before: int | None, after: int | None
):
    model = make_model(0, gradient_accumulation_steps=before)
    train(model)
    state = capture_state(model)
    other = make_model(1, gradient_accumulation_steps=after)
    with pytest.raises(CheckpointError, match=f"sums the gradients of {before or 1} batches for"):
        restore_state(other, state)
    restore_state(other, state, accumulators=False)
    assert int(other.optimizer.iterations) == int(model.optimizer.iterations) > 0
    restored = capture_state(other)
    for name, value in restored.items():
        if name.endswith("gradient_accumulator"):
            assert not value.any()
        elif "iteration" not in name and name != "accumulator/parts":
            np.testing.assert_array_equal(value, state[name])
    train(other)


def change(state: dict[str, Any], kind: str) -> dict[str, Any]:
    name = next(name for name in state if name.endswith("head/kernel"))
    value = state.pop(name)
    return (
        state
        | {
            "lacks": {},
            "foreign": {name: value, "model/9999 podium/other": value},
            "shape": {name: value[:, :2]},
            "type": {name: value.astype(np.float16)},
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lacks", r"the checkpoint lacks model/\d{4} head/kernel; the checkpoint is of another"),
        ("foreign", r"the model lacks the checkpoint's model/9999 podium/other; the checkpoint is"),
        (
            "shape",
            r"head/kernel is float32 of shape \(\d+, 2\) in the checkpoint, float32 of shape",
        ),
        ("type", r"head/kernel is float16 of shape .* in the checkpoint, float32 of shape"),
    ],
)
def test_of_a_state_that_does_not_fit_nothing_is_restored(kind: str, message: str):
    state = {name: value + 1 for name, value in capture_state(make_model(0)).items()}
    state["accumulator/parts"] = np.array(1)
    model = make_model(1)
    before = capture_state(model)
    with pytest.raises(CheckpointError, match=message):
        restore_state(model, change(state, kind))
    assert_equal_states(capture_state(model), before)


def test_what_was_captured_or_restored_stays_as_it_is_while_the_model_trains():
    model = make_model(0)
    state = capture_state(model)
    copies = {name: value.copy() for name, value in state.items()}
    train(model)
    assert_equal_states(state, copies)
    restore_state(model, state)
    train(model)
    assert_equal_states(state, copies)


@pytest.mark.skipif(not ON_JAX, reason="TensorFlow has no layouts")
def test_restored_variables_lie_on_all_devices():
    model = make_model(0)
    train(model)
    restore_state(model, capture_state(model))
    for variable in [*model.variables, *model.optimizer.variables]:
        assert len(variable.value.sharding.device_set) == 8, variable.path


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path):
    bfloat16 = np.array(keras.ops.convert_to_numpy(keras.ops.cast([1.5, -2.0], "bfloat16")))
    facts = {"loss": float("nan"), "words": "α ≥ β", "nested": [{"epoch": 1}]}
    state = make_checkpoint(7).state | {
        "half": np.array(0.5, np.float16),
        "brain": bfloat16,
        "yes": np.array([True, False]),
        "none": np.zeros((0, 3), np.float32),
        "columns": np.arange(6.0).reshape(2, 3).T,
    }
    path = write_checkpoint(tmp_path, Checkpoint(facts, state))
    found, notes = read_checkpoint(tmp_path)
    assert path == tmp_path / "checkpoint-1.npz"
    assert notes == []
    assert json.dumps(found.facts) == json.dumps(facts)
    assert_equal_states(found.state, state)
    assert [one.dtype for one in found.state.values()] == [one.dtype for one in state.values()]
    with np.load(path) as opened:  # NumPy alone opens it as well
        np.testing.assert_array_equal(opened["columns"], state["columns"])


def test_the_two_newest_are_kept(tmp_path: Path):
    assert read_checkpoint(tmp_path) == (None, [])
    write_some(tmp_path, 11)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10.npz", "checkpoint-11.npz"]
    assert read_checkpoint(tmp_path)[0].facts["updates"] == 11


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_some(folder, 2)
    return folder


@given(data=st.data())
def test_any_changed_byte_is_found_and_the_one_before_is_used(written: Path, data: Any):
    path = written / "checkpoint-2.npz"
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[place] ^ data.draw(st.integers(1, 255))])
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    rest = {"flip": flipped + whole[place + 1 :], "cut": b"", "insert": flipped + whole[place:]}
    try:
        path.write_bytes(whole + flipped if kind == "append" else whole[:place] + rest[kind])
        found, notes = read_checkpoint(written)
    finally:
        path.write_bytes(whole)
    assert found.facts["updates"] == 1
    assert len(notes) == 1
    assert notes[0].startswith("checkpoint-2.npz is not used: it is ")


def test_what_is_not_whole_is_named(tmp_path: Path):
    write_some(tmp_path, 2)
    (tmp_path / "checkpoint-2.npz").write_bytes(b"")
    (tmp_path / "checkpoint-3.npz").write_bytes(b"no archive" * 100)
    (tmp_path / "checkpoint-4.npz").mkdir()
    (tmp_path / "checkpoint-5.npz.half").write_bytes(b"PK")
    (tmp_path / "checkpoint-best.npz").write_bytes(b"of somebody else")
    found, notes = read_checkpoint(tmp_path)
    assert found.facts["updates"] == 1
    assert notes == [
        "checkpoint-5.npz.half was cut off while it was written",
        f"checkpoint-4.npz is not used: [Errno 21] Is a directory: '{tmp_path}/checkpoint-4.npz'",
        "checkpoint-3.npz is not used: it is cut short or damaged, as its digest does not fit",
        "checkpoint-2.npz is not used: it is empty, or nearly so",
    ]


def test_a_full_disk_is_told_and_leaves_the_earlier_ones(tmp_path: Path):
    write_some(tmp_path, 2)
    (tmp_path / "checkpoint-3.npz.half").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_checkpoint(tmp_path, make_checkpoint(3))
    assert caught.value.errno == errno.ENOSPC
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1.npz", "checkpoint-2.npz"]
    assert read_checkpoint(tmp_path)[0].facts["updates"] == 2


def test_facts_that_are_not_json_leave_no_trace(tmp_path: Path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_checkpoint(tmp_path, make_checkpoint()._replace(facts={"loss": np.float32(1)}))
    assert os.listdir(tmp_path) == []


def test_a_file_is_not_held_in_memory_while_it_is_written(tmp_path: Path):
    state = {"kernel": np.ones(1 << 24, np.float32)}
    tracemalloc.start()
    write_checkpoint(tmp_path, Checkpoint({}, state))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < state["kernel"].nbytes


def test_forgotten_checkpoints_leave_what_else_a_fold_has(tmp_path: Path):
    write_some(tmp_path, 3)
    (tmp_path / "checkpoint-4.npz.half").touch()
    (tmp_path / "oof.npz").touch()
    forget_checkpoints(tmp_path)
    assert os.listdir(tmp_path) == ["oof.npz"]
    forget_checkpoints(tmp_path / "not-there")


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import numpy as np
from podium.checkpoint import Checkpoint, write_checkpoint
for turn in range(1, 10**9):
    state = {"a": np.full(500_000, turn), "b": np.full(500_000, turn)}
    write_checkpoint(Path(sys.argv[1]), Checkpoint({"turn": turn}, state))
    print(turn, flush=True)
"""


@pytest.mark.either
def test_a_writer_killed_in_the_middle_leaves_a_whole_checkpoint(tmp_path: Path):
    source = Path(__file__).resolve().parents[1] / "src"
    for turns in (1, 2, 4):
        folder = tmp_path / str(turns)
        folder.mkdir()
        words = [sys.executable, "-c", WRITER, str(folder), str(source)]
        writer = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(turns):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        found, _ = read_checkpoint(folder)
        assert found.facts["turn"] >= turns
        assert all((value == found.facts["turn"]).all() for value in found.state.values())
        assert len(list_checkpoints(folder)) <= 3
