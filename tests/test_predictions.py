import gc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from podium.predictions import (
    Predictions,
    average_predictions,
    join_predictions,
    read_predictions,
    select_probs,
    write_predictions,
)


def make_predictions(ids: list[str], seed: int = 0) -> Predictions:
    probs = np.random.default_rng(seed).dirichlet(np.ones(3), len(ids)).astype(np.float32)
    return Predictions(np.array(ids), probs)


def test_rows_are_found_by_id_not_by_position():
    predictions = make_predictions(["a", "b", "c"])
    probs = select_probs(predictions, ["c", "a"])
    np.testing.assert_array_equal(probs, predictions.probs[[2, 0]])


def test_ids_without_a_prediction_are_named():
    with pytest.raises(ValueError, match="2 ids have no prediction, e.g. x, y"):
        select_probs(make_predictions(["a"]), ["x", "a", "y"])


def test_members_are_averaged_whatever_their_order():
    first, second = make_predictions(["a", "b"]), make_predictions(["a", "b"], seed=1)
    turned = Predictions(second.ids[::-1], second.probs[::-1])
    blended = average_predictions([first, turned])
    np.testing.assert_allclose(blended.probs, (first.probs + second.probs) / 2, rtol=1e-6)
    assert blended.ids.tolist() == ["a", "b"]


@given(arrays(np.float32, (4, 5, 3), elements=st.floats(0.125, 1, width=32)))
def test_an_average_of_probabilities_is_a_probability(raw: np.ndarray):
    ids = np.array(list("abcde"))
    members = [Predictions(ids, one / one.sum(axis=1, keepdims=True)) for one in raw]
    np.testing.assert_allclose(average_predictions(members).probs.sum(axis=1), 1, atol=1e-5)


def test_parts_are_joined_end_to_end():
    joined = join_predictions([make_predictions(["a"]), make_predictions(["bb", "c"])])
    assert joined.ids.tolist() == ["a", "bb", "c"]
    assert joined.probs.shape == (3, 3)


def test_what_is_written_is_read_again(tmp_path: Path):
    written = make_predictions(["ä.png", "b"])
    write_predictions(written, tmp_path / "oof.npz")
    read = read_predictions(tmp_path / "oof.npz")
    assert read.ids.tolist() == written.ids.tolist()
    np.testing.assert_array_equal(read.probs, written.probs)
    assert [path.name for path in tmp_path.iterdir()] == ["oof.npz"]


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path):
    write_predictions(make_predictions(["a"]), tmp_path / "oof.npz")
    (tmp_path / "oof.npz.half").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_predictions(make_predictions(["b"]), tmp_path / "oof.npz")
    assert read_predictions(tmp_path / "oof.npz").ids.tolist() == ["a"]


def test_a_file_that_is_no_archive_is_refused_and_left_closed(tmp_path: Path):
    (tmp_path / "half.npz").write_bytes(b"PK\3\4half")
    with pytest.raises(zipfile.BadZipFile):
        read_predictions(tmp_path / "half.npz")
    (tmp_path / "half.npz").unlink()
    gc.collect()  # what was left open is told now
