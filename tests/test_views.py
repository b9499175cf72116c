import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.override import SettingsError
from podium.views import SHARE_MOVED, VIEWS, Seen, View, draw_view, find_views

pytestmark = pytest.mark.either

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 36, 36, 3), dtype=np.uint8)
ROWS = np.array([3, 0, 3])
STEP = round(36 * SHARE_MOVED)  # px


def see(name: str, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return Seen(pixels, VIEWS[name])[np.arange(len(pixels))]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_keeps_shape_and_type_and_is_the_same_whenever_it_is_asked_for(name: str):
    seen = Seen(PIXELS, VIEWS[name])
    assert (len(seen), seen.shape) == (5, (5, 36, 36, 3))
    squares = seen[ROWS]
    assert (squares.shape, squares.dtype) == ((3, 36, 36, 3), np.uint8)
    np.testing.assert_array_equal(squares[0], squares[2])
    np.testing.assert_array_equal(squares[1], seen[0])
    np.testing.assert_array_equal(seen[:2], see(name)[:2])
    assert seen[ROWS[:0]].shape == (0, 36, 36, 3)


def test_views_are_other_images_but_for_the_identity():
    np.testing.assert_array_equal(see("identity"), PIXELS)
    for name in set(VIEWS) - {"identity"}:
        assert (see(name) != PIXELS).mean() > 0.5, name


def test_what_is_stored_stays_as_it_is():
    before = PIXELS.copy()
    for view in VIEWS.values():
        Seen(PIXELS, view)[ROWS][:] = 0
        assert (Seen(PIXELS, view)[ROWS] > 0).any()
    np.testing.assert_array_equal(PIXELS, before)


@pytest.mark.parametrize("side", [17, 36])
def test_a_mirror_is_exact_and_twice_is_the_image(side: int):
    pixels = PIXELS[:, :side, :side]
    once = see("flip", pixels)
    np.testing.assert_array_equal(once, pixels[:, :, ::-1])
    np.testing.assert_array_equal(see("flip", once), pixels)


@pytest.mark.parametrize(
    ("name", "kept", "found"),
    [
        ("shift-left", np.s_[:, :, :-STEP], np.s_[:, :, STEP:]),
        ("shift-right", np.s_[:, :, STEP:], np.s_[:, :, :-STEP]),
        ("shift-up", np.s_[:, :-STEP], np.s_[:, STEP:]),
        ("shift-down", np.s_[:, STEP:], np.s_[:, :-STEP]),
    ],
)
def test_a_shift_is_a_slice_of_the_image_and_repeats_its_edge(name: str, kept: tuple, found: tuple):
    seen = see(name)
    np.testing.assert_array_equal(seen[kept], PIXELS[found])
    axis = 2 if len(kept) == 3 else 1
    last = -1 if name in ("shift-left", "shift-up") else 0
    edge = np.take(PIXELS, [last], axis=axis)
    strip = np.take(seen, np.arange(STEP) if last == 0 else -1 - np.arange(STEP), axis=axis)
    np.testing.assert_array_equal(strip, np.repeat(edge, STEP, axis=axis))


def test_a_shift_stays_within_the_usual_margin_of_what_the_model_cuts():
    centre = np.s_[:, 2:34, 2:34]  # 32 px, and an eighth of it as margin
    np.testing.assert_array_equal(see("shift-left")[centre], PIXELS[:, 2:34, 4:])
    np.testing.assert_array_equal(see("shift-down")[centre], PIXELS[:, :32, 2:34])


def test_a_turn_is_against_the_clock_and_a_zoom_about_the_centre():
    quarter = Seen(PIXELS, View("quarter", turn=90))[ROWS]
    np.testing.assert_array_equal(quarter, np.rot90(PIXELS[ROWS], axes=(1, 2)))
    spot = np.zeros((1, 37, 37, 3), np.uint8)
    spot[0, 18, 28] = 255  # ten to the right of the centre
    doubled = Seen(spot, View("double", zoom=2.0))[0]
    assert np.argwhere(doubled.max(axis=2) == 255).tolist() == []  # 20 to the right is outside
    spot[0, 18, 23] = 255
    doubled = Seen(spot, View("double", zoom=2.0))[0]
    assert np.argwhere(doubled.max(axis=2) == 255).tolist() == [[18, 28]]


@pytest.mark.parametrize(
    ("name", "corner"),
    [
        ("crop-top-left", (0, 0)),
        ("crop-top-right", (0, 1)),
        ("crop-bottom-left", (1, 0)),
        ("crop-bottom-right", (1, 1)),
    ],
)
def test_a_crop_enlarges_its_corner_of_what_the_model_sees(name: str, corner: tuple[int, int]):
    ramp = np.zeros((1, 90, 90, 3), np.uint8)
    ramp[0, ..., 0], ramp[0, ..., 1] = np.mgrid[:90, :90]  # row and column of each pixel
    seen = see(name, ramp)[0, 5:85, 5:85].astype(int)  # what the model cuts, of 80 px
    for axis, far in enumerate(corner):
        values = seen[..., axis]
        assert values.max() - values.min() == pytest.approx(70, abs=1.5)
        edge = values.max() if far else values.min()
        assert edge == pytest.approx(84 if far else 5, abs=1.5)


def test_light_and_colour_change_and_overflow_nothing():
    white = np.full((1, 4, 4, 3), 250, np.uint8)
    assert (see("brighter", white) == 255).all()
    assert (see("darker", white) == 200).all()
    grey = see("grey")
    assert (grey == grey[..., :1]).all()
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    assert (see("grey", red) == 60).all()


def test_drawn_views_are_the_same_for_the_same_number_and_mirrored_only_where_that_is_allowed():
    drawn = [draw_view(index, flip=True) for index in range(200)]
    assert drawn[0] == VIEWS["identity"]
    assert len(set(drawn)) == 200
    assert drawn == [draw_view(index, flip=True) for index in range(200)]
    assert sum(view.flip for view in drawn) == 100
    assert not any(draw_view(index, flip=False).flip for index in range(200))
    assert max(abs(view.turn) for view in drawn) <= 8
    assert max(abs(view.right) for view in drawn) <= SHARE_MOVED
    assert 1 / 1.1 <= min(view.zoom for view in drawn) < max(view.zoom for view in drawn) <= 1.1


def test_views_are_asked_for_by_name_once_each_after_the_image_as_it_is():
    assert find_views("none") == ()
    assert find_views("flip  zoom-in flip identity") == ("identity", "flip", "zoom-in")
    assert find_views(" ".join(VIEWS)) == tuple(VIEWS)


def test_a_view_that_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(SettingsError, match="of identity, flip, .* not 'flip shift'") as caught:
        find_views("flip shift")
    assert "did you mean 'shift-" in str(caught.value)
    with pytest.raises(SettingsError, match="apart by spaces"):
        find_views("none flip")


@given(st.text())
def test_whatever_is_asked_for_is_views_or_refused(names: str):
    try:
        assert set(find_views(names)) <= set(VIEWS)
    except SettingsError:
        assert names.split() != ["none"]
