"""The gallery's page: policies one below the other, each on the image that a reader picks.

Which image is shown is a matter of CSS; a browser that cannot do it shows all of them.
"""

import base64
import html
import io
from collections.abc import Sequence

import cv2
from PIL import Image as Picture

from podium.composes import COMPOSES
from podium.page import REPORT_CSS, render_list, render_section
from podium.policies import Policy
from workbench.exhibits import (
    PAGE_LIMIT,
    VERSIONS,
    Gallery,
    Original,
    Shown,
    Targets,
    Version,
    picture_budget,
)
from workbench.gallery_text import ADVICE, GALLERY_CSS, HINTS
from workbench.preview import Image

PICTURE_SIDE, THUMB_SIDE = 176, 56  # px at most
TINY = 48  # px; smaller images are shown as squares, without loss
QUALITIES = (80, 65, 50, 35, 20)  # of WebP, tried in this order
SHORT = 48  # characters that a caption may have; longer ones are folded away
NAME_LIMIT = 28  # characters of a class or a file
FETCH_NOTHING = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_gallery(gallery: Gallery) -> str:
    """The page, of at most PAGE_LIMIT bytes.

    Raises ValueError if it is larger, which only absurdly long names can bring about.
    """
    count = len(gallery.originals)
    budget = picture_budget(len(gallery.policies) * count * (VERSIONS + 1))
    rules = "".join(
        f"main:has(#i{one}:checked) .row:not(.r{one}){{display:none}}" for one in range(count)
    )
    sections = "".join(render_policy(one, gallery, budget) for one in gallery.policies)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Podium gallery</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{FETCH_NOTHING}">'
        f"<style>{REPORT_CSS}{GALLERY_CSS}{rules}</style><main>\n{render_top(gallery)}"
        f"{render_picker(gallery.originals)}{sections}</main></html>\n"
    )
    if len(page.encode()) > PAGE_LIMIT:
        raise ValueError(f"the page has {len(page.encode())} bytes of {PAGE_LIMIT}")
    return page


def render_top(gallery: Gallery) -> str:
    """What the page shows, how to choose, and the policies with their cost."""
    what = (
        f"{len(gallery.policies)} policies on {len(gallery.originals)} training images of "
        f"{gallery.classes} classes, at {gallery.side} px as the network sees them; "
        f"drawn with seed {gallery.seed}."
    )
    index = "".join(
        f'<li><a href="#p{place}">{show_policy_name(one.name)}'
        f'<span class="cost">{show_cost(one)}</span></a></li>'
        for place, one in enumerate(gallery.policies)
    )
    hint = (
        f"Time that an image takes on one core of this machine at {gallery.side} px, the median of "
        f"{len(gallery.originals) * VERSIONS}; cuts and mirrors are made on the device and are "
        f"not counted: 0 ms."
    )
    passed = render_list(show_plain(one, NAME_LIMIT) for one in gallery.unreadable[:20])
    return (
        f"<h1>Gallery of policies</h1><p>{what}</p>"
        + render_section("How to choose", "What to look for, and what decides.", ADVICE)
        + render_section("What each costs", hint, f'<ul class="index">{index}</ul>')
        + render_section("Cannot be read", "Drawn, and passed over.", passed)
    )


def render_picker(originals: Sequence[Original]) -> str:
    """A choice of the image that is shown, which stays in sight."""
    picks = list[str]()
    for place, one in enumerate(originals):
        checked = " checked" if place == 0 else ""
        picture = encode_picture(one.pixels, THUMB_SIDE, 3000)
        picks.append(
            f'<label><input type="radio" name="image" id="i{place}"{checked}>'
            f'<img alt="{show_classes(one)}, {show_name(one.name)}" '
            f'src="{picture}"></label>'
        )
    picks.append('<label><input type="radio" name="image" id="all"><span>all</span></label>')
    return (
        f"<fieldset><legend>Image to compare the policies on</legend>"
        f'<div class="picks">{"".join(picks)}</div></fieldset>\n'
    )


def render_policy(shown: Shown, gallery: Gallery, budget: float) -> str:
    """One policy: what it does, its cost, and its versions of each image."""
    place = gallery.policies.index(shown)
    fate = "mirrored all the same, as" if shown.flip else "not mirrored, here or in a run, unless"
    note = (
        f'<p class="note">Mirrors, but these classes look like characters, which a mirror makes '
        f"others of: {fate} augment.flip is yes.</p>"
    )
    note *= shown.asymmetric
    rows = "".join(
        render_row(number, original, versions, bool(shown.policy.mix), budget)
        for number, (original, versions) in enumerate(
            zip(gallery.originals, shown.rows, strict=True)
        )
    )
    hint = HINTS.get(shown.name, "A Compose of your own.")
    return (
        f'<section id="p{place}"><div class="head"><h2>{show_policy_name(shown.name)}</h2>'
        f'<span class="cost">{show_cost(shown)}</span></div><p class="does">{hint} '
        f"{describe_policy(shown.policy, shown.flip)}</p>{note}{rows}</section>\n"
    )


def describe_policy(policy: Policy, flip: bool) -> str:
    """What is done where, in a sentence."""
    device = ["cuts a random square"] * policy.crop + ["mirrors half of the images"] * flip
    host = [f"draws {describe_compose(policy.compose)}"] * bool(policy.compose)
    host += [f"mixes by {policy.mix}"] * bool(policy.mix)
    sides = [("host", host), ("device", device)]
    said = "; the ".join(f"{side} {' and '.join(does)}" for side, does in sides if does)
    return f"The {said}." if said else ""


def describe_compose(name: str) -> str:
    """The transforms of a Compose, as albumentations calls them; of many the number."""
    parts = list[str]()
    for transform, options in COMPOSES.get(name, ()):
        inner = [one for one, _ in options.get("transforms", ())]
        listed = ", ".join(inner) if len(inner) < 6 else f"{len(inner)} operations"
        parts.append(f"{transform} ({listed})" if inner else transform)
    return ", ".join(parts) or f"what {show_name(name, 60)} returns"


def render_row(
    number: int, original: Original, versions: Sequence[Version], mixed: bool, budget: float
) -> str:
    """An image and its versions; what was drawn stands below each, or folded away below all."""
    texts = ["; ".join(one.made.steps) or "as it is" for one in versions]
    short = max(map(len, texts)) <= SHORT
    name = show_classes(original)
    figures = [show_figure(original.pixels, "own", f"{name}, original", "<b>original</b>", budget)]
    for place, (one, text) in enumerate(zip(versions, texts, strict=True), 1):
        caption = f"<b>{place}</b>" + (f" {html.escape(text)}" if short else "")
        if mixed:
            caption += f'<span class="mix">{show_targets(one.targets)}</span>'
        alt = f"{name}, version {place}: {html.escape(text)}"
        figures.append(show_figure(one.made.image, "", alt, caption, budget))
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    folded = f'<details><summary>What was drawn</summary><ol class="drawn">{items}</ol></details>'
    return (
        f'<div class="row r{number}"><h3>{name} · {show_name(original.name)}</h3>'
        f'<div class="six">{"".join(figures)}</div>{"" if short else folded}</div>'
    )


def show_figure(image: Image, kind: str, alt: str, caption: str, budget: float) -> str:
    """A picture with its caption, both HTML already."""
    tiny = ' class="pixels"' if len(image) <= TINY else ""
    return (
        f'<figure class="{kind}"><img{tiny} alt="{alt}" '
        f'src="{encode_picture(image, PICTURE_SIDE, budget)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def show_targets(targets: Targets) -> str:
    """Classes and their shares, a line each: "62 % cat", "38 % dog"; less than 0.5 % is left out.

    A class that is a number says that it is a class.
    """
    return "<br>".join(
        f"{share * 100:.0f} % {'class ' * name.isdecimal()}{show_name(name)}"
        for name, share in targets
        if share >= 0.005
    )


def show_cost(shown: Shown) -> str:
    """What an image costs the host."""
    works = shown.policy.compose or shown.policy.mix
    return f"{shown.cost:.2f} ms" if works else "0 ms"


def show_policy_name(name: str) -> str:
    """A policy's name, which may be broken after its colon."""
    return show_name(name, 60).replace(":", ":<wbr>")


def show_classes(original: Original) -> str:
    """What an image shows: "class cat", "classes cat, dog"."""
    kind = "class" if len(original.classes) == 1 else "classes"
    return f"{kind} {', '.join(map(show_name, original.classes))}"


def show_name(name: str, limit: int = NAME_LIMIT) -> str:
    """A name that others have chosen, as HTML of limited length."""
    return html.escape(show_plain(name, limit))


def show_plain(name: str, limit: int) -> str:
    """A name without what is not seen (marks of direction among it), cut to a length."""
    seen = "".join(one if one.isprintable() else "\ufffd" for one in name)
    return seen if len(seen) <= limit else seen[: limit - 1] + "…"


def encode_picture(image: Image, side: int, budget: float) -> str:
    """An image [S, S, 3] as a data URI of at most `budget` bytes before base64, if it can be."""
    tiny = len(image) <= TINY
    if len(image) > side:
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    for options in [{"lossless": True}] * tiny + [{"quality": one} for one in QUALITIES]:
        data = io.BytesIO()
        Picture.fromarray(image).save(data, "WEBP", **options)
        if data.tell() <= budget:
            break
    else:
        if side > 32:
            return encode_picture(image, side * 3 // 4, budget)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
