import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from podium.policies import POLICIES, Policy, find_policy
from workbench import exhibits, gallery_page
from workbench.exhibits import PAGE_LIMIT, VERSIONS, Gallery, Original, Shown, Version
from workbench.gallery_page import (
    describe_policy,
    encode_picture,
    render_gallery,
    show_plain,
    show_targets,
)
from workbench.gallery_text import HINTS
from workbench.preview import Preview

NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
HOSTILE = "<img src=x onerror=\"alert('1')\">&\u202egnp"


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [values for name, values in self.tags if name == tag]


def make_page(
    *,
    policy: str = "light",
    images: int = 2,
    name: str = "cat",
    steps: tuple[str, ...] = ("grey",),
    pixels: np.ndarray = NOISE,
    policies: int = 1,
    flip: bool = True,
    asymmetric: bool = False,
    unreadable: tuple[str, ...] = (),
) -> Reader:
    return Reader(
        render_gallery(
            make_shown(policy, images, name, steps, pixels, policies, flip, asymmetric, unreadable)
        )
    )


def make_shown(policy, images, name, steps, pixels, policies, flip, asymmetric, unreadable):
    original = Original(f"{name}.jpg", (name,), pixels, pixels)
    version = Version(Preview(pixels, steps, 0.62, 0.001), ((name, 0.62), ("dog", 0.38)))
    rows = [[version] * VERSIONS] * images
    found = find_policy(policy)
    shown = [
        Shown(policy, found, flip, asymmetric, 1.234 + place, rows) for place in range(policies)
    ]
    return Gallery(224, 7, 3, list(unreadable), [original] * images, shown)


def test_every_policy_of_the_table_says_what_to_look_for():
    assert set(HINTS) == set(POLICIES)


def test_names_of_others_are_text_and_no_tags():
    plain = make_page()
    page = make_page(name=HOSTILE, unreadable=(HOSTILE,), steps=(HOSTILE,))
    assert [tag for tag, _ in page.tags if tag not in ("ul", "li", "section", "h2", "p")] == [
        tag for tag, _ in plain.tags if tag not in ("ul", "li", "section", "h2", "p")
    ]
    assert not any(key.startswith("on") for _, values in page.tags for key in values)
    assert "\u202e" not in page.text.replace(HOSTILE, "")
    assert all(values["src"].startswith("data:image/webp;base64,") for values in page.find("img"))


def test_nothing_is_fetched_and_no_script_is_there():
    page = make_page()
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    policy = next(one["content"] for one in page.find("meta") if one.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert all(one["href"].startswith("#") for one in page.find("a"))


def test_each_image_can_be_picked_and_every_picture_has_a_text_of_its_own():
    page = make_page(images=3)
    assert [one["id"] for one in page.find("input")] == ["i0", "i1", "i2", "all"]
    assert ["checked" in one for one in page.find("input")] == [True, False, False, False]
    alts = [one["alt"] for one in page.find("img")]
    assert alts[0] == "class cat, cat.jpg"
    assert alts[3:6] == ["class cat, original", *[f"class cat, version {n}: grey" for n in (1, 2)]]


def test_short_words_stand_below_a_picture_and_long_ones_are_folded_away():
    assert not make_page(steps=("a" * 48,)).find("details")
    page = make_page(steps=("a" * 40, "b" * 40))
    assert len(page.find("details")) == 2
    assert page.text.count(f"{'a' * 40}; {'b' * 40}") == 2 * VERSIONS


def test_targets_are_shown_of_policies_that_mix_and_of_no_others():
    assert make_page(policy="mixup").text.count("62 % cat38 % dog") == 2 * VERSIONS
    assert "62 %" not in make_page(policy="light").text


def test_shares_are_said_a_line_each_and_numbers_are_called_classes():
    assert show_targets((("cat", 0.62), ("dog", 0.38))) == "62 % cat<br>38 % dog"
    assert show_targets((("7", 0.996), ("<b>", 0.004))) == "100 % class 7"
    assert show_targets((("<b>", 1.0),)) == "100 % &lt;b&gt;"


def test_cost_is_in_milliseconds_and_nothing_where_the_host_does_nothing():
    assert make_page(policies=2).text.count("2.23 ms") == 2
    assert make_page(policy="flip-crop").text.count("0 ms") == 2 + 1  # and in the explanation


@pytest.mark.parametrize(
    ("flip", "words"), [(False, "not mirrored, here or in a run, unless"), (True, "all the same")]
)
def test_a_policy_that_mirrors_asymmetric_classes_says_so(flip: bool, words: str):
    text = make_page(flip=flip, asymmetric=True).text
    assert "these classes look like characters" in text
    assert words in text
    assert "characters" not in make_page(flip=flip).text


def test_what_is_done_where_is_said():
    assert describe_policy(Policy(), False) == ""
    flip_crop = "The device cuts a random square and mirrors half of the images."
    assert describe_policy(Policy(crop=True, flip=True), True) == flip_crop
    assert (
        describe_policy(Policy(crop=True, flip=True), False) == "The device cuts a random square."
    )
    blur = describe_policy(Policy(compose="blur-noise"), False)
    assert blur.startswith("The host draws OneOf (GaussianBlur, MotionBlur, ")
    assert "SomeOf (14 operations)" in describe_policy(POLICIES["randaugment"], True)
    own = describe_policy(Policy(compose="mine:make", mix="cutmix"), True)
    assert own.startswith("The host draws what mine:make returns and mixes by cutmix; the device")


def test_the_page_keeps_its_limit_even_of_noise(monkeypatch: pytest.MonkeyPatch):
    for module in (exhibits, gallery_page):
        monkeypatch.setattr(module, "PAGE_LIMIT", 300_000)
    steps, passed = ("w" * 60,) * 3, ["u"] * 99
    gallery = make_shown("hard:x", 4, "n" * 500, steps, NOISE, 3, True, True, passed)
    assert 150_000 < len(render_gallery(gallery).encode()) <= 300_000


def test_a_page_that_would_be_larger_is_refused():
    with pytest.raises(ValueError, match=f"bytes of {PAGE_LIMIT}"):
        make_page(images=8, steps=("w" * 40_000,), policies=6, pixels=NOISE[:8, :8])


def read_picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("budget", [900, 3000, 20_000])
def test_a_picture_keeps_its_budget(budget: int):
    uri = encode_picture(NOISE, 176, budget)
    assert len(base64.b64decode(uri.partition(",")[2])) <= budget
    assert re.match(r"data:image/webp;base64,[\w+/=]+$", uri)


def test_a_picture_is_made_smaller_but_not_larger():
    smooth = np.full((224, 224, 3), (200, 100, 50), np.uint8)
    assert read_picture(encode_picture(smooth, 176, 5000)).size == (176, 176)
    assert read_picture(encode_picture(smooth[:64, :64], 176, 5000)).size == (64, 64)


def test_a_tiny_picture_is_shown_without_loss():
    tiny = NOISE[:32, :32]
    assert np.array_equal(np.asarray(read_picture(encode_picture(tiny, 176, 5000))), tiny)
    assert "pixels" in {one.get("class") for one in make_page(pixels=tiny).find("img")}


def test_a_name_is_cut_to_length_and_shows_marks_that_are_not_seen():
    assert show_plain("abcdef", 6) == "abcdef"
    assert show_plain("abcdefg", 6) == "abcde…"
    assert show_plain("a\u202eb\nc", 6) == "a\ufffdb\ufffdc"
