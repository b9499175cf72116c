import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.budget import Course
from podium.config import Config, PixelsConfig
from podium.epochs import Position, find_epoch, find_size, read_position, set_course
from podium.learning import ScheduleConfig, TrainConfig
from podium.schedule import make_schedule

CONFIG = replace(Config(), train=TrainConfig(head_epochs=1, epochs=4))
START = Position(make_schedule(ScheduleConfig(), 0.1, 10), 10, "", 224, 1)


def walk(config: Config, course: Course) -> list:
    """All epochs of a course, one after the other."""
    place, epochs = START, []
    while epoch := find_epoch(config, course, place):
        epochs.append(epoch)
        place = place.move(epoch.phase, epoch.updates, 1.0, 0.5).close_epoch()
    return epochs


@given(
    st.integers(0, 40), st.integers(0, 90), st.integers(1, 20), st.integers(0, 5),
)  # fmt: skip
def test_a_course_of_any_length_is_walked_once_and_whole(
    head: int, everything: int, steps: int, clean: int
):
    config = replace(CONFIG, train=TrainConfig(epochs=5, clean_epochs=clean))
    epochs = walk(config, Course(head, everything, steps))
    done = {name: [one for one in epochs if one.phase == name] for name in ("head", "all")}
    for name, updates in (("head", head), ("all", everything)):
        assert sum(one.updates for one in done[name]) == updates
        assert [one.first for one in done[name]] == list(range(0, updates, steps))
    assert [one.number for one in epochs] == list(range(1, len(epochs) + 1))
    assert all(one.total == len(epochs) for one in epochs)
    assert not any(one.clean for one in done["head"])
    cleaned = [one.clean for one in done["all"]]
    assert cleaned == sorted(cleaned)


def test_an_epoch_that_was_left_in_its_midst_goes_on_there():
    course = set_course(CONFIG, 10)
    place = START.move("head", 10, 1.0, 1.0).move("all", 13, 1.0, 1.0)
    epoch = find_epoch(CONFIG, course, place)
    assert epoch is not None
    assert (epoch.phase, epoch.number, epoch.first, epoch.updates) == ("all", 3, 13, 7)


def test_the_last_epochs_are_clean_and_in_proportion_where_the_course_is_short():
    config = replace(CONFIG, train=TrainConfig(head_epochs=0, epochs=10, clean_epochs=2))
    for epochs, clean in ((10, 2), (5, 1), (2, 0)):
        found = [one.clean for one in walk(config, Course(0, 7 * epochs, 7))]
        assert found == [False] * (epochs - clean) + [True] * clean


def test_squares_grow_in_three_steps_to_full_size():
    config = replace(
        CONFIG, pixels=PixelsConfig(image_size=96), train=replace(CONFIG.train, first_size=0.5)
    )
    sizes = [one.size for one in walk(config, Course(10, 60, 10))]
    assert sizes == [48, 48, 48, 72, 72, 96, 96]
    assert [one.size for one in walk(config, Course(0, 5, 10))] == [96]  # the last is always full
    assert [find_size(CONFIG, share) for share in (0.0, 0.5, 1.0)] == [224] * 3


def test_a_position_survives_json():
    place = START.move("all", 3, 0.7, 0.25)
    assert read_position(json.loads(json.dumps(place.facts()))) == place


def test_figures_of_an_epoch_are_summed_over_its_stretches():
    place = START.move("all", 3, 0.6, 0.5).move("all", 1, 0.2, 1.0).move("all", 0, 9.0, 9.0)
    assert place.loss / place.summed == pytest.approx(0.5)
    assert place.accuracy / place.summed == pytest.approx(0.625)
    assert (place.close_epoch().summed, place.close_epoch().all) == (0, 4)
