"""Page: the pieces that the report is made of

Style, charts, tables and thumbnails as text, with nothing to fetch and no script to run. Charts
are drawn in the page's own colours, so they follow a reader's dark mode.
"""

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageOps

THUMBNAIL_SIDE = 96  # px
# The colours that charts are drawn in, and the page's own that take their place, light or dark.
CHART_COLOURS = {"#0072b2": "valid", "#d55e00": "train", "#5c6675": "soft", "#dfe3e9": "line"}
CHART_STYLE = {"text.color": "#5c6675", "axes.labelcolor": "#5c6675", "axes.edgecolor": "#dfe3e9"}
CHART_STYLE |= {"xtick.color": "#5c6675", "ytick.color": "#5c6675", "grid.color": "#dfe3e9"}
CHART_STYLE |= {"svg.fonttype": "none", "svg.hashsalt": "podium"}
REPORT_CSS = """
:root{color-scheme:light dark;--page:#f3f5f8;--card:#fff;--ink:#18202c;--soft:#5c6675;
--line:#dfe3e9;--valid:#0072b2;--train:#d55e00;--hit:0 114 178;--miss:213 94 0;--warn:#fff4dd}
@media(prefers-color-scheme:dark){:root{--page:#0f1319;--card:#181e27;--ink:#e7ebf1;--soft:#9ba7b7;
--line:#2d3643;--valid:#56b4e9;--train:#f0934a;--hit:26 122 186;--miss:205 92 10;--warn:#2e2613}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:72rem;margin:auto;padding:clamp(.75rem,3vw,2.5rem);overflow-wrap:break-word}
h1{font-size:2.4rem;line-height:1.1;margin:0;letter-spacing:-.02em}h2{font-size:1.15rem;margin:0}
h1 span{font-size:.85rem;letter-spacing:0;padding:.3em .8em;border-radius:2em;vertical-align:middle;
background:rgb(var(--hit)/.14);color:var(--valid);display:inline-block}ul{margin:0;padding-left:1.2em}
small,p,summary{color:var(--soft);font-size:.85rem}p{margin:.1rem 0 1rem}summary{padding:.6rem 0}
section,.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:clamp(.8rem,2.5vw,1.5rem)}section{margin-top:1rem}
.warn{background:var(--warn);border-color:#e69f00}.grid{display:grid;gap:.75rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--w)),1fr))}.tiles{--w:11.6rem}
.tile{padding:.8rem 1rem;display:flex;flex-direction:column;min-width:0}.tile b{font-size:1.4rem;
line-height:1.25}.tile:first-child{grid-column:span 2}.tile:first-child b{font-size:2.2rem;
color:var(--valid)}@media(max-width:40rem){.tiles{--w:8.3rem}.tile b{font-size:1.15rem}}
.chart{width:100%;height:auto;display:block}.chart *{stroke-linejoin:round}
.chart text{font-family:inherit!important}.wide{overflow:auto;max-height:44rem}
table{border-collapse:collapse;width:100%}th{color:var(--soft);font-size:.85rem}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line)}
td{white-space:nowrap}td:first-child,.words td{white-space:normal;overflow-wrap:anywhere;
min-width:4.2rem}.last :last-child{text-align:left}
tr>:first-child,.words *{text-align:left}.heat{width:auto}
.heat *{padding:0;border:0;text-align:center;min-width:0!important}.heat i{display:grid;
place-items:center;height:1.9rem;width:clamp(1.55rem,3vw,2.3rem);margin:1px;border-radius:6px;
font-size:.8rem}.heat b{font-weight:500;color:var(--ink);display:block;max-width:7.5rem;
max-height:7.5rem;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;padding:.2rem .35rem}
.heat th{vertical-align:bottom}.heat td:first-child b{text-align:left}
.heat .tall{writing-mode:vertical-rl;text-align:right;margin:auto}
@media(max-width:40rem){.heat b{max-width:5.5rem}th,td{padding:.35rem .25rem}}
.hit,.miss{font-style:normal;background:rgb(var(--c)/var(--a))}
.hit{--c:var(--hit)}.miss{--c:var(--miss)}.on{color:#fff}.bar{display:block;border-radius:4px;
background:linear-gradient(90deg,rgb(var(--hit)/.3) var(--w),#0000 0);padding:0 .4em;
text-align:left;min-width:5.5em}.pair{display:flex;flex-wrap:wrap;gap:.5rem 3rem;align-items:center}
.pair>.wide{max-width:100%}.pair ul{flex:1 1 16rem}
figure{margin:0;font-size:.85rem;line-height:1.35;text-align:center}.thumb{width:96px;height:96px;
margin:0 auto .3rem;object-fit:contain;border-radius:8px;display:grid;place-items:center;
background:var(--page);color:var(--soft)}.pixels{image-rendering:pixelated}
"""


def render_section(title: str, hint: str, body: str) -> str:
    """A card with a heading and a line on how to read it; nothing if the body is empty."""
    hint = f'<p class="hint">{hint}</p>'
    return f"<section><h2>{title}</h2>{hint}{body}</section>\n" if body else ""


def render_list(lines: Iterable[object] | Mapping[str, object]) -> str:
    """A list of plain texts, or of the names and values of a mapping."""
    if isinstance(lines, Mapping):
        lines = [f"{name} {value}" for name, value in lines.items()]
    items = "".join(f"<li>{html.escape(str(line))}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already; a narrow screen scrolls it."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f'<div class="wide"><table class="{kind}"><tr>{top}\n{body}</table></div>'


def format_figure(value: object, style: str) -> str:
    """Formats a number: style is a format such as ".4f" or ".1%", or "s" for seconds."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if style == "s":
        hours, minutes = divmod(round(value / 60), 60)
        long = f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
        return long if value >= 90 else f"{value:.1f} s"
    return f"{value:{style}}"


def export_chart(figure: Figure, prefix: str, label: str) -> str:
    """Turns a figure into inline SVG in the page's colours; its ids start with the prefix."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<svg) | (width|height)="[\d.]+pt"', " ", svg)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg.replace("xlink:href", "href"))
    for colour, name in CHART_COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{label}"', 1)


def render_heatmap(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Counts [C, C] as a table: blue by share of the row, orange by share of the worst mistake."""
    worst = max(1, int((counts - np.diag(np.diag(counts))).max()))
    rows = []
    for truth, row in enumerate(counts.tolist()):
        cells = [f"<b>{classes[truth]}</b>"]
        for guess, count in enumerate(row):
            share = count / max(1, sum(row)) if guess == truth else 0.15 + 0.75 * count / worst
            kind = ("hit" if guess == truth else "miss") + (" on" if share > 0.5 else "")
            shade = f' class="{kind}" style="--a:{share:.2f}"' if count else ""
            cells.append(f"<i{shade}>{count or ''}</i>")
        rows.append(cells)
    tall = ' class="tall"' if max(map(len, classes)) > 2 else ""
    return render_table(["", *(f"<b{tall}>{name}</b>" for name in classes)], rows, "heat")


def draw_thumbnail(path: object) -> Image.Image | None:
    """An image upright, on white and at most 96 px a side; None if it cannot be read."""
    try:
        with Image.open(str(path)) as file:
            file.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":  # 16-bit and float: from darkest to brightest
                grey = np.asarray(image, np.float64)
                grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-9) * 255
                image = Image.fromarray(grey.astype(np.uint8))
            image = image.convert("RGBA")
    except Exception:  # a broken file may raise anything, and one image must not cost the page
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def render_thumbnail(path: object) -> str:
    """An image as a data URI, or a placeholder."""
    flat = draw_thumbnail(path)
    if flat is None:
        return '<div class="thumb">unreadable</div>'
    tiny = max(flat.size) <= THUMBNAIL_SIDE // 2
    data = io.BytesIO()
    flat.save(data, "PNG" if tiny else "JPEG")
    kind, text = "png" if tiny else "jpeg", base64.b64encode(data.getvalue()).decode()
    style = "thumb pixels" if tiny else "thumb"
    return f'<img class="{style}" alt="" src="data:image/{kind};base64,{text}">'
