import errno
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from podium import keeper as keeper_room
from podium.checkpoint import list_checkpoints, restore_state
from podium.epochs import Position
from podium.events import Reporter
from podium.keeper import Keeper
from podium.learning import ScheduleConfig
from podium.schedule import make_schedule

PLACE = Position(make_schedule(ScheduleConfig(), 0.1, 10), 10, "all", 64, 1, all=3)


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path, 5.0, Reporter(tmp_path))


def make_model() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def test_what_is_kept_is_found_again(keeper: Keeper):
    model, other = make_model(), make_model()
    assert keeper.latest() is None
    assert keeper.keep(model, PLACE)
    kept = keeper.latest()
    assert kept is not None
    place, state = kept
    assert place == PLACE
    state = {name.replace("sequential", other.name): value for name, value in state.items()}
    state = dict(zip(capture_names(other), state.values(), strict=True))
    restore_state(other, state)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def capture_names(model: keras.Model) -> list[str]:
    from podium.checkpoint import capture_state

    return list(capture_state(model))


def test_checkpoints_come_by_the_clock(keeper: Keeper):
    assert not keeper.is_due()
    keeper.kept -= 301
    assert keeper.is_due()
    keeper.keep(make_model(), PLACE)
    assert not keeper.is_due()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_not_kept(keeper: Keeper, bad: float):
    model = make_model()
    assert keeper.keep(model, PLACE)
    model.set_weights([np.full_like(weights, bad) for weights in model.get_weights()])
    assert not keeper.keep(model, PLACE)
    assert len(list_checkpoints(keeper.folder)) == 1


def test_a_full_disk_is_told_once_and_again_after_it_had_room(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model = make_model()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(keeper_room, "write_checkpoint", refuse)
            assert keeper.keep(model, PLACE)
            assert keeper.keep(model, PLACE)
        assert keeper.keep(model, PLACE)
    assert len(keeper.report.warnings) == 2
    assert "(No space left on device): training goes on, but" in keeper.report.warnings[0]


def test_of_a_corrupt_checkpoint_the_one_before_is_used_and_it_is_said(keeper: Keeper):
    model = make_model()
    keeper.keep(model, PLACE)
    keeper.keep(model, PLACE.move("all", 1, 0.0, 0.0))
    newest = list_checkpoints(keeper.folder)[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    kept = keeper.latest()
    assert kept is not None
    assert kept[0] == PLACE
    (warning,) = keeper.report.warnings
    assert newest.name in warning
