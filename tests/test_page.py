import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from podium.page import (
    CHART_COLOURS,
    REPORT_CSS,
    format_figure,
    render_heatmap,
    render_list,
    render_section,
    render_table,
    render_thumbnail,
)


class Reader(HTMLParser):
    """The tags of a page in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.lists(st.text(min_size=1)))
def test_a_list_shows_any_text_as_it_is_and_lets_no_tag_through(lines: list[str]):
    page = Reader(render_list(lines))
    assert page.tags == (["ul"] + ["li"] * len(lines) if lines else [])
    assert page.text == "".join(lines)


def test_a_list_of_a_mapping_has_names_and_values():
    assert Reader(render_list({"<keras>": "3.13", "numpy": None})).text == "<keras> 3.13numpy None"


def test_a_section_without_a_body_is_left_out():
    assert render_section("Folds", "How to read it.", "") == ""
    assert "<h2>Folds</h2>" in render_section("Folds", "How to read it.", "<ul></ul>")


def test_a_table_has_a_cell_for_every_cell():
    page = Reader(render_table(["a", "b"], [["1", "2"], ["3", "4"]], "words"))
    assert page.tags == ["div", "table", *["tr", "th", "th"], *["tr", "td", "td"] * 2]
    assert page.text.split() == ["ab", "12", "34"]


@pytest.mark.parametrize("value", ["0.5", [], None, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("style", [".2%", ".4f", "s"])
def test_what_is_no_finite_number_is_a_dash(value: object, style: str):
    assert format_figure(value, style) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (89.94, "89.9 s"), (90, "2 min"), (3599, "1 h 00 min"), (3600, "1 h 00 min")],
)
def test_times_are_in_the_unit_that_a_person_would_choose(seconds: float, text: str):
    assert format_figure(seconds, "s") == text


def test_every_colour_of_the_charts_is_known_to_the_page_in_light_and_dark():
    for name in CHART_COLOURS.values():
        assert REPORT_CSS.count(f"--{name}:#") == 2


def test_the_worst_mistake_is_the_strongest_and_what_never_happened_has_no_colour():
    heat = render_heatmap(np.array([[8, 2], [1, 9]]), ["a", "b"])
    assert re.findall(r'class="([\w ]+)" style="--a:([\d.]+)"', heat) == [
        ("hit on", "0.80"),
        ("miss on", "0.90"),
        ("miss on", "0.53"),
        ("hit on", "0.90"),
    ]
    empty = render_heatmap(np.zeros((2, 2), np.int64), ["a", "b"])
    assert Reader(empty).tags.count("i") == 4
    assert "style" not in empty


@pytest.mark.parametrize(
    "content",
    [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 20],
    ids=["missing", "empty", "text", "cut off", "zeros"],
)
def test_a_file_that_is_no_image_has_a_placeholder(content: bytes | None, tmp_path: Path):
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    assert render_thumbnail(path) == '<div class="thumb">unreadable</div>'
    assert render_thumbnail(None) == '<div class="thumb">unreadable</div>'


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (48, 48), (49, 49)])
def test_images_of_any_shape_have_a_thumbnail_and_small_ones_show_their_pixels(
    size: tuple[int, int], tmp_path: Path
):
    Image.new("RGB", size, "green").save(tmp_path / "image.png")
    page = render_thumbnail(tmp_path / "image.png")
    assert Reader(page).tags == ["img"]
    assert ('class="thumb pixels"' in page) == (max(size) <= 48)
    assert ("image/png" in page) == (max(size) <= 48)


def test_a_floating_point_image_of_one_value_is_black(tmp_path: Path):
    Image.fromarray(np.full((5, 5), 0.25, np.float32)).save(tmp_path / "image.tiff")
    data = re.search(r"base64,([^\"]*)", render_thumbnail(tmp_path / "image.tiff"))
    assert data
    assert not np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1])))).any()
